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

use serde::{Deserialize, Serialize};
use tracer_common::NoStack;

use super::format::MAX_ITEMS;
use super::records::{SideStack, Wait};
use crate::units::{LockIndex, Monotonic, Ns, StackIndex, ThreadIndex};

/// Payload of a chunk of waits. Each column is one byte string of as many planes as its values have bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitBlock {
    /// What the first wait's end is counted from, in nanoseconds of `CLOCK_MONOTONIC`.
    base: u64,
    /// How many waits.
    count: u32,
    threads: Vec<u8>,
    locks: Vec<u8>,
    /// End minus the previous wait's end, zigzag.
    ends: Vec<u8>,
    blocked: Vec<u8>,
    runq: Vec<u8>,
    /// `end − start − blocked − runq`, zigzag.
    gaps: Vec<u8>,
    episodes: Vec<u8>,
    flags: Vec<u8>,
    /// The waker's index plus one; 0: none.
    wakers: Vec<u8>,
    /// [`SideStack::to_u64`], as the other stacks.
    waiter_stacks: Vec<u8>,
    waker_stacks: Vec<u8>,
    /// The holder's index plus one; 0: none.
    holders: Vec<u8>,
    holder_stacks: Vec<u8>,
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

    /// The waits in it; none if the columns don't fit together.
    #[must_use]
    pub fn waits(&self) -> Option<Vec<Wait>> {
        let n = self.count as usize;
        if n > MAX_ITEMS {
            return None;
        }
        let (threads, locks) = (unpack(&self.threads, n)?, unpack(&self.locks, n)?);
        let (ends, gaps) = (unpack(&self.ends, n)?, unpack(&self.gaps, n)?);
        let (blocked, runq) = (unpack(&self.blocked, n)?, unpack(&self.runq, n)?);
        let (episodes, flags) = (unpack(&self.episodes, n)?, unpack(&self.flags, n)?);
        let (wakers, holders) = (unpack(&self.wakers, n)?, unpack(&self.holders, n)?);
        let waiter_stacks = unpack(&self.waiter_stacks, n)?;
        let waker_stacks = unpack(&self.waker_stacks, n)?;
        let holder_stacks = unpack(&self.holder_stacks, n)?;
        let narrow = |n: u64| u32::try_from(n).ok();
        let thread = |n: u64| match n.checked_sub(1) {
            None => Some(None),
            Some(index) => narrow(index).map(|index| Some(ThreadIndex(index))),
        };
        let mut end = self.base;
        let mut out = Vec::with_capacity(n);
        for i in 0..n {
            end = end.wrapping_add(unzigzag(ends[i]));
            let spent = unzigzag(gaps[i]).wrapping_add(blocked[i]).wrapping_add(runq[i]);
            out.push(Wait {
                thread: ThreadIndex(narrow(threads[i])?),
                lock: LockIndex(narrow(locks[i])?),
                start: Monotonic(end.wrapping_sub(spent)),
                end: Monotonic(end),
                blocked: Ns(blocked[i]),
                runq: Ns(runq[i]),
                episodes: narrow(episodes[i])?,
                flags: narrow(flags[i])?,
                waker: thread(wakers[i])?,
                waiter_stack: SideStack::from_u64(waiter_stacks[i])?,
                waker_stack: SideStack::from_u64(waker_stacks[i])?,
                holder: thread(holders[i])?,
                holder_stack: SideStack::from_u64(holder_stacks[i])?,
            });
        }
        Some(out)
    }
}

/// One field of all waits: their lowest bytes, then their second bytes, up to the highest byte
/// that is not 0 in all of them.
fn pack(waits: &[Wait], field: impl FnMut(&Wait) -> u64) -> Vec<u8> {
    let values: Vec<u64> = waits.iter().map(field).collect();
    let all = values.iter().fold(0, |all, value| all | value);
    let width = (u64::BITS - all.leading_zeros()).div_ceil(8) as usize;
    let mut out = Vec::with_capacity(width * values.len());
    for plane in 0..width {
        out.extend(values.iter().map(|value| value.to_le_bytes()[plane]));
    }
    out
}

/// The `n` values of a column; none if its length doesn't fit `n`.
fn unpack(bytes: &[u8], n: usize) -> Option<Vec<u64>> {
    let mut values = vec![0u64; n];
    if bytes.is_empty() {
        return Some(values);
    }
    let planes = bytes.chunks_exact(if n == 0 { return None } else { n });
    if !planes.remainder().is_empty() || planes.len() > 8 {
        return None;
    }
    for (plane, bytes) in planes.enumerate() {
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value |= u64::from(*byte) << (8 * plane);
        }
    }
    Some(values)
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
        assert_eq!(unpack(&[], 3).unwrap(), [0, 0, 0]);
        assert_eq!(unpack(&[1, 2, 3, 1, 0, 0], 3).unwrap(), [257, 2, 3]);
        assert!(unpack(&[1, 2], 3).is_none());
        assert!(unpack(&[1], 0).is_none());
        assert!(unpack(&[0; 9], 1).is_none());
        let block = WaitBlock { count: u32::MAX, ..WaitBlock::new(&[]) };
        assert!(block.waits().is_none());
    }
}
