//! How a block of waits is stored: one column per field and, within a column, all lowest bytes,
//! then all second bytes, and so on.
//!
//! The high bytes of times vary little and compress to nearly nothing, the low ones are noise and
//! don't disturb them: 7 to 8 bytes per wait of a lock storm, where rows of varints take 9 to 10
//! (`docs/trace-format.md`). A column of zeros takes no bytes at all.
//!
//! Times are kept small: each wait's end is its distance from the previous wait's end (waits are
//! recorded in the order of their ends, nearly), and its start is known by the time that was
//! neither blocked nor runnable, mostly 0. All arithmetic wraps, so that any wait survives.

use serde::{Deserialize, Serialize, Serializer};
use tracer_common::NoStack;

use super::format::MAX_ITEMS;
use super::records::{SideStack, Wait};
use crate::units::{LockIndex, Monotonic, Ns, StackIndex, ThreadIndex};

/// Payload of a chunk of waits, to be written. Each column is one byte string of as many planes as
/// its values have bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitBlock {
    /// What the first wait's end is counted from, in nanoseconds of `CLOCK_MONOTONIC`.
    base: u64,
    /// How many waits.
    count: u32,
    threads: Planes,
    locks: Planes,
    /// End minus the previous wait's end, zigzag.
    ends: Planes,
    blocked: Planes,
    runq: Planes,
    /// `end − start − blocked − runq`, zigzag.
    gaps: Planes,
    episodes: Planes,
    flags: Planes,
    /// The waker's index plus one; 0: none.
    wakers: Planes,
    /// [`SideStack::to_u64`], as the other stacks.
    waiter_stacks: Planes,
    waker_stacks: Planes,
    /// The holder's index plus one; 0: none.
    holders: Planes,
    holder_stacks: Planes,
}

/// A column, written as a byte string in one piece. (`Vec<u8>` means the same to postcard, byte by
/// byte.)
#[derive(Clone, Debug, PartialEq, Eq)]
struct Planes(Vec<u8>);

impl Serialize for Planes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// The same as it is read: the columns stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct WaitColumns<'a> {
    base: u64,
    count: u32,
    threads: &'a [u8],
    locks: &'a [u8],
    ends: &'a [u8],
    blocked: &'a [u8],
    runq: &'a [u8],
    gaps: &'a [u8],
    episodes: &'a [u8],
    flags: &'a [u8],
    wakers: &'a [u8],
    waiter_stacks: &'a [u8],
    waker_stacks: &'a [u8],
    holders: &'a [u8],
    holder_stacks: &'a [u8],
}

impl SideStack {
    /// As it is stored: the number of the reason, or the stack's index after all reasons.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        match self {
            Self::Missing(reason) => u64::from(reason as u32),
            Self::Stack(index) => u64::from(index.0) + u64::from(NoStack::COUNT),
        }
    }

    /// What is stored as `n`; none if nothing is.
    #[must_use]
    pub fn from_u64(n: u64) -> Option<Self> {
        match n.checked_sub(u64::from(NoStack::COUNT)) {
            Some(index) => u32::try_from(index).ok().map(|n| Self::Stack(StackIndex(n))),
            None => u32::try_from(n).ok().and_then(NoStack::from_u32).map(Self::Missing),
        }
    }
}

impl From<SideStack> for u64 {
    fn from(side: SideStack) -> Self {
        side.to_u64()
    }
}

impl TryFrom<u64> for SideStack {
    type Error = &'static str;

    fn try_from(n: u64) -> Result<Self, Self::Error> {
        Self::from_u64(n).ok_or("no stack's number")
    }
}

impl WaitBlock {
    /// The block that holds the first [`MAX_ITEMS`] of `waits`.
    #[must_use]
    pub fn new(waits: &[Wait]) -> Self {
        debug_assert!(waits.len() <= MAX_ITEMS);
        let waits = &waits[..waits.len().min(MAX_ITEMS)];
        let base = waits.first().map_or(0, |w| w.start.0);
        let mut previous = base;
        Self {
            base,
            count: u32::try_from(waits.len()).unwrap_or_default(),
            ends: pack(waits, |w| {
                let delta = w.end.0.wrapping_sub(previous);
                previous = w.end.0;
                zigzag(delta)
            }),
            threads: pack(waits, |w| u64::from(w.thread.0)),
            locks: pack(waits, |w| u64::from(w.lock.0)),
            blocked: pack(waits, |w| w.blocked.0),
            runq: pack(waits, |w| w.runq.0),
            gaps: pack(waits, |w| {
                let spent = w.end.0.wrapping_sub(w.start.0);
                zigzag(spent.wrapping_sub(w.blocked.0).wrapping_sub(w.runq.0))
            }),
            episodes: pack(waits, |w| u64::from(w.episodes)),
            flags: pack(waits, |w| u64::from(w.flags)),
            wakers: pack(waits, |w| w.waker.map_or(0, |t| u64::from(t.0) + 1)),
            waiter_stacks: pack(waits, |w| w.waiter_stack.to_u64()),
            waker_stacks: pack(waits, |w| w.waker_stack.to_u64()),
            holders: pack(waits, |w| w.holder.map_or(0, |t| u64::from(t.0) + 1)),
            holder_stacks: pack(waits, |w| w.holder_stack.to_u64()),
        }
    }
}

/// Waits that are decoded at a time: with all their columns they stay in the nearest caches.
const PIECE: usize = 256;

impl WaitColumns<'_> {
    /// How many waits.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The columns fit together and every value fits its field: then all waits can be decoded.
    #[must_use]
    pub fn fit(&self) -> bool {
        let n = self.count();
        let index = |value: u64| value <= u64::from(u32::MAX);
        let optional = |value: u64| value <= u64::from(u32::MAX) + 1;
        let side = |value| SideStack::from_u64(value).is_some();
        n <= MAX_ITEMS
            && [self.threads, self.locks, self.episodes, self.flags]
                .into_iter()
                .all(|column| fits(column, n, index))
            && [self.ends, self.blocked, self.runq, self.gaps]
                .into_iter()
                .all(|column| fits(column, n, |_| true))
            && [self.wakers, self.holders].into_iter().all(|column| fits(column, n, optional))
            && [self.waiter_stacks, self.waker_stacks, self.holder_stacks]
                .into_iter()
                .all(|column| fits(column, n, side))
    }

    /// The lock of every wait, in order, instead of what was in `locks`.
    pub fn locks(&self, locks: &mut Vec<u32>) {
        let n = self.count().min(MAX_ITEMS);
        let mut values = [0; PIECE];
        locks.clear();
        for from in (0..n).step_by(PIECE) {
            let values = &mut values[..PIECE.min(n - from)];
            unpack(self.locks, n, from, values);
            locks.extend(values.iter().map(|&value| low(value)));
        }
    }

    /// Shows every wait, in order, if they [`Self::fit`]; else shows some nonsense.
    pub fn for_each(&self, mut visit: impl FnMut(&Wait)) {
        let n = self.count().min(MAX_ITEMS);
        let mut end = self.base;
        let mut columns = Box::new([[0; PIECE]; 13]);
        for from in (0..n).step_by(PIECE) {
            let len = PIECE.min(n - from);
            let sources = [
                self.threads,
                self.locks,
                self.ends,
                self.blocked,
                self.runq,
                self.gaps,
                self.episodes,
                self.flags,
                self.wakers,
                self.waiter_stacks,
                self.waker_stacks,
                self.holders,
                self.holder_stacks,
            ];
            for (column, source) in columns.iter_mut().zip(sources) {
                unpack(source, n, from, &mut column[..len]);
            }
            for i in 0..len {
                let of = |column: usize| columns[column][i];
                end = end.wrapping_add(unzigzag(of(2)));
                let (blocked, runq) = (of(3), of(4));
                let spent = unzigzag(of(5)).wrapping_add(blocked).wrapping_add(runq);
                visit(&Wait {
                    thread: ThreadIndex(low(of(0))),
                    lock: LockIndex(low(of(1))),
                    start: Monotonic(end.wrapping_sub(spent)),
                    end: Monotonic(end),
                    blocked: Ns(blocked),
                    runq: Ns(runq),
                    episodes: low(of(6)),
                    flags: low(of(7)),
                    waker: optional_thread(of(8)),
                    waiter_stack: SideStack::from_u64(of(9)).unwrap_or_default(),
                    waker_stack: SideStack::from_u64(of(10)).unwrap_or_default(),
                    holder: optional_thread(of(11)),
                    holder_stack: SideStack::from_u64(of(12)).unwrap_or_default(),
                });
            }
        }
    }
}

/// A value that [`WaitColumns::fit`] has looked at.
#[expect(clippy::cast_possible_truncation, reason = "checked for the whole column")]
fn low(value: u64) -> u32 {
    value as u32
}

fn optional_thread(value: u64) -> Option<ThreadIndex> {
    value.checked_sub(1).map(|index| ThreadIndex(low(index)))
}

/// One field of all waits: their lowest bytes, then their second bytes, up to the highest byte
/// that is not 0 in all of them.
fn pack(waits: &[Wait], field: impl FnMut(&Wait) -> u64) -> Planes {
    let values: Vec<u64> = waits.iter().map(field).collect();
    let all = values.iter().fold(0, |all, value| all | value);
    let width = (u64::BITS - all.leading_zeros()).div_ceil(8) as usize;
    let mut out = Vec::with_capacity(width * values.len());
    for plane in 0..width {
        out.extend(values.iter().map(|value| value.to_le_bytes()[plane]));
    }
    Planes(out)
}

/// The column has whole planes for `n` values, and every value is one of those that are `right`.
fn fits(bytes: &[u8], n: usize, right: impl Fn(u64) -> bool) -> bool {
    if bytes.is_empty() {
        return true;
    }
    if n == 0 || !bytes.len().is_multiple_of(n) || bytes.len() / n > 8 {
        return false;
    }
    // Up to four bytes are any index, and any stack or reason but for unknown reasons: all are known.
    if bytes.len() / n <= 4 {
        return true;
    }
    let mut values = [0; PIECE];
    (0..n).step_by(PIECE).all(|from| {
        let values = &mut values[..PIECE.min(n - from)];
        unpack(bytes, n, from, values);
        values.iter().all(|&value| right(value))
    })
}

/// The values of a column from the one of number `from` on.
fn unpack(bytes: &[u8], n: usize, from: usize, values: &mut [u64]) {
    let mut planes = bytes.chunks_exact(n.max(1)).filter_map(|plane| plane.get(from..));
    match planes.next() {
        None => values.fill(0),
        Some(lowest) => {
            for (value, byte) in values.iter_mut().zip(lowest) {
                *value = u64::from(*byte);
            }
        }
    }
    for (plane, bytes) in (1..8).zip(planes) {
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value |= u64::from(*byte) << (8 * plane);
        }
    }
}

/// A difference as a small number, whatever its sign.
fn zigzag(difference: u64) -> u64 {
    let signed = difference.cast_signed();
    ((signed << 1) ^ (signed >> 63)).cast_unsigned()
}

fn unzigzag(n: u64) -> u64 {
    (n >> 1) ^ (n & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_either_sign_are_small() {
        for (difference, n) in [(0i64, 0), (-1, 1), (1, 2), (-2, 3), (i64::MIN, u64::MAX)] {
            assert_eq!(zigzag(difference.cast_unsigned()), n);
            assert_eq!(unzigzag(n).cast_signed(), difference);
        }
    }

    #[test]
    fn a_stack_and_every_reason_for_none_survive() {
        for reason in NoStack::ALL {
            let side = SideStack::Missing(reason);
            assert_eq!(SideStack::from_u64(side.to_u64()), Some(side));
        }
        for index in [0, 1, u32::MAX] {
            let side = SideStack::Stack(StackIndex(index));
            assert_eq!(SideStack::from_u64(side.to_u64()), Some(side));
        }
        assert_eq!(SideStack::default().to_u64(), 0, "no stacks, no bytes");
        assert_eq!(SideStack::from_u64(u64::MAX), None);
        assert_eq!(SideStack::from_u64(1 << 33), None);
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let values = |bytes: &[u8], n| {
            let mut values = [0; 3];
            unpack(bytes, n, 0, &mut values[..n]);
            values
        };
        assert_eq!(values(&[], 3), [0, 0, 0]);
        assert_eq!(values(&[1, 2, 3, 1, 0, 0], 3), [257, 2, 3]);
        let any = |_| true;
        assert!(fits(&[], 0, any) && fits(&[0; 8], 1, any));
        assert!(!fits(&[1, 2], 3, any));
        assert!(!fits(&[1], 0, any));
        assert!(!fits(&[0; 9], 1, any));
        let few = |value| value < 1 << 32;
        assert!(fits(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 0], 2, few));
        assert!(!fits(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 1], 2, few));
        let raw = postcard::to_stdvec(&WaitBlock { count: u32::MAX, ..WaitBlock::new(&[]) });
        let raw = raw.unwrap();
        let columns: WaitColumns<'_> = postcard::from_bytes(&raw).unwrap();
        assert!(!columns.fit());
    }
}
