//! How a block of waits is stored: lock by lock, in the order of their ends, one column
//! ([`super::planes`]) for each field.
//!
//! Most waits for a lock are ended by the thread that got it before: then the waker is known, and so
//! is how long that thread had the lock, which varies less than anything else would. Such waits are
//! *handed on*; the others have columns of their own for what can't be told from the wait before
//! (`docs/trace-format.md`, with what it saves). Times are in units ([`super::time_unit`]). All
//! arithmetic wraps, so that any wait survives.

use serde::Deserialize;
use tracer_common::NoStack;

use super::format::MAX_ITEMS;
use super::planes::{PIECE, Payload, Planes, fits, unpack, unzigzag, zigzag};
use super::records::{SideStack, Wait};
use super::time_unit::{NoTimeUnit, TimeUnit};
use super::waits_v1::FlatColumns;
use crate::units::{LockIndex, Monotonic, Ns, StackIndex, ThreadIndex};

/// Payload of a chunk of waits, to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WaitBlock {
    /// Times are in units of `1 << shift` ns.
    shift: u8,
    /// What the end of each lock's first wait is counted from, in units of `CLOCK_MONOTONIC`.
    base: u64,
    /// How many waits.
    count: u32,
    /// How many locks.
    runs: u32,
    /// Each lock's index minus that of the one before.
    locks: Planes,
    /// How many waits each lock has.
    lengths: Planes,
    /// A bit for each wait, the first one lowest in the first byte: it was handed on.
    handed: Planes,
    threads: Planes,
    /// Of those handed on: how long the thread before had the lock, `end − runq − its end`, zigzag.
    holds: Planes,
    /// Of the others: end minus the end of the wait before, zigzag.
    ends: Planes,
    blocked_handed: Planes,
    blocked: Planes,
    runq: Planes,
    /// `end − start − blocked − runq`, zigzag.
    gaps: Planes,
    episodes: Planes,
    flags: Planes,
    /// Of the others: the waker's index plus one; 0: none.
    wakers: Planes,
    /// [`SideStack::to_u64`], as the other stacks.
    waiter_stacks: Planes,
    /// Of those handed on: minus the number of the stack with which the waker had waited, zigzag.
    waker_stacks_handed: Planes,
    /// Of the others.
    waker_stacks: Planes,
    /// The holder's index plus one; 0: none.
    holders: Planes,
    holder_stacks: Planes,
}

/// The same as it is read: the columns stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct WaitColumns<'a> {
    shift: u8,
    base: u64,
    count: u32,
    runs: u32,
    locks: &'a [u8],
    lengths: &'a [u8],
    handed: &'a [u8],
    threads: &'a [u8],
    holds: &'a [u8],
    ends: &'a [u8],
    blocked_handed: &'a [u8],
    blocked: &'a [u8],
    runq: &'a [u8],
    gaps: &'a [u8],
    episodes: &'a [u8],
    flags: &'a [u8],
    wakers: &'a [u8],
    waiter_stacks: &'a [u8],
    waker_stacks_handed: &'a [u8],
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

/// The thread that the wait before was of gave its lock to this one.
fn is_handed(before: Option<&Wait>, wait: &Wait) -> bool {
    before.is_some_and(|before| before.lock == wait.lock && wait.waker == Some(before.thread))
}

impl WaitBlock {
    /// The block that holds the first [`MAX_ITEMS`] of `waits`, with times in this unit.
    pub(super) fn new(waits: &[Wait], unit: TimeUnit) -> Self {
        debug_assert!(waits.len() <= MAX_ITEMS);
        let mut waits = waits[..waits.len().min(MAX_ITEMS)].to_vec();
        // Equal ends stay in their order, and so do those that only rounding makes equal.
        waits.sort_by_key(|wait| (wait.lock, wait.end));
        waits.iter_mut().for_each(|wait| *wait = unit.wait(wait));
        let waits = waits.as_slice();
        let base = waits.iter().map(|wait| wait.end.0).min().unwrap_or(0);
        let before = |n: usize| n.checked_sub(1).and_then(|n| waits.get(n));
        let (mut handed, mut others) = (Vec::new(), Vec::new());
        let mut bits = vec![0u64; waits.len().div_ceil(8)];
        for (n, wait) in waits.iter().enumerate() {
            match before(n) {
                Some(before) if is_handed(Some(before), wait) => {
                    handed.push((before, wait));
                    bits[n / 8] |= 1 << (n % 8);
                }
                before => others.push((before.filter(|before| before.lock == wait.lock), wait)),
            }
        }
        let runs: Vec<&[Wait]> = waits.chunk_by(|a, b| a.lock == b.lock).collect();
        let mut last = 0;
        Self {
            shift: unit.shift(),
            base: unit.units(base),
            count: u32::try_from(waits.len()).unwrap_or_default(),
            runs: u32::try_from(runs.len()).unwrap_or_default(),
            locks: Planes::of(&runs, |run| {
                let lock = run.first().map_or(0, |wait| u64::from(wait.lock.0));
                lock - std::mem::replace(&mut last, lock)
            }),
            lengths: Planes::of(&runs, |run| run.len() as u64),
            handed: Planes::pack(&bits),
            threads: Planes::of(waits, |w| u64::from(w.thread.0)),
            holds: Planes::of(&handed, |(before, w)| {
                unit.signed_units(w.end.0.wrapping_sub(w.runq.0).wrapping_sub(before.end.0))
            }),
            ends: Planes::of(&others, |(before, w)| {
                unit.signed_units(w.end.0.wrapping_sub(before.map_or(base, |before| before.end.0)))
            }),
            blocked_handed: Planes::of(&handed, |(_, w)| unit.units(w.blocked.0)),
            blocked: Planes::of(&others, |(_, w)| unit.units(w.blocked.0)),
            runq: Planes::of(waits, |w| unit.units(w.runq.0)),
            gaps: Planes::of(waits, |w| {
                let spent = w.end.0.wrapping_sub(w.start.0);
                unit.signed_units(spent.wrapping_sub(w.blocked.0).wrapping_sub(w.runq.0))
            }),
            episodes: Planes::of(waits, |w| u64::from(w.episodes)),
            flags: Planes::of(waits, |w| u64::from(w.flags)),
            wakers: Planes::of(&others, |(_, w)| w.waker.map_or(0, |t| u64::from(t.0) + 1)),
            waiter_stacks: Planes::of(waits, |w| w.waiter_stack.to_u64()),
            waker_stacks_handed: Planes::of(&handed, |(before, w)| {
                zigzag(w.waker_stack.to_u64().wrapping_sub(before.waiter_stack.to_u64()))
            }),
            waker_stacks: Planes::of(&others, |(_, w)| w.waker_stack.to_u64()),
            holders: Planes::of(waits, |w| w.holder.map_or(0, |t| u64::from(t.0) + 1)),
            holder_stacks: Planes::of(waits, |w| w.holder_stack.to_u64()),
        }
    }

    /// As postcard writes it.
    pub(super) fn payload(&self) -> Payload {
        let mut payload = Payload::default();
        payload.raw.push(self.shift);
        payload.number(self.base);
        payload.number(u64::from(self.count));
        payload.number(u64::from(self.runs));
        for column in [
            &self.locks,
            &self.lengths,
            &self.handed,
            &self.threads,
            &self.holds,
            &self.ends,
            &self.blocked_handed,
            &self.blocked,
            &self.runq,
            &self.gaps,
            &self.episodes,
            &self.flags,
            &self.wakers,
            &self.waiter_stacks,
            &self.waker_stacks_handed,
            &self.waker_stacks,
            &self.holders,
            &self.holder_stacks,
        ] {
            payload.column(column);
        }
        payload
    }
}

impl WaitColumns<'_> {
    /// How many waits.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// What times are in.
    ///
    /// # Errors
    /// [`NoTimeUnit`] if that can't be: no wait may be shown then.
    pub fn unit(&self) -> Result<TimeUnit, NoTimeUnit> {
        TimeUnit::from_shift(self.shift)
    }

    /// How many of them were handed on.
    fn handed_count(&self) -> usize {
        self.handed.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// The columns fit together and every value fits its field: then all waits can be decoded.
    #[must_use]
    pub fn fit(&self) -> bool {
        let (n, runs, handed) = (self.count(), self.runs as usize, self.handed_count());
        if n > MAX_ITEMS || runs > n || handed > n {
            return false;
        }
        let others = n - handed;
        let index = |value: u64| value <= u64::from(u32::MAX);
        let optional = |value: u64| value <= u64::from(u32::MAX) + 1;
        let side = |value| SideStack::from_u64(value).is_some();
        let any = |_| true;
        (self.handed.is_empty() || self.handed.len() == n.div_ceil(8))
            && [self.locks, self.lengths].into_iter().all(|column| fits(column, runs, index))
            && [self.threads, self.episodes, self.flags]
                .into_iter()
                .all(|column| fits(column, n, index))
            && [self.runq, self.gaps].into_iter().all(|column| fits(column, n, any))
            && [self.holds, self.blocked_handed, self.waker_stacks_handed]
                .into_iter()
                .all(|column| fits(column, handed, any))
            && [self.ends, self.blocked].into_iter().all(|column| fits(column, others, any))
            && fits(self.wakers, others, optional)
            && fits(self.holders, n, optional)
            && fits(self.waker_stacks, others, side)
            && [self.waiter_stacks, self.holder_stacks]
                .into_iter()
                .all(|column| fits(column, n, side))
            && self.runs_fit()
    }

    /// Each lock has waits and a higher index than the one before, their waits are all there are, and
    /// no first wait for a lock was handed on.
    fn runs_fit(&self) -> bool {
        let (mut waits, mut last) = (0u64, None);
        let fit = self.runs().all(|(lock, length)| {
            let first = usize::try_from(waits).unwrap_or(usize::MAX);
            let fits = length > 0 && last.is_none_or(|last| last < lock) && !self.is_handed(first);
            (waits, last) = (waits.saturating_add(length), Some(lock));
            fits && lock <= u64::from(u32::MAX)
        });
        fit && waits == u64::from(self.count)
    }

    /// The index of each lock, in order, and how many waits it has.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let runs = (self.runs as usize).min(MAX_ITEMS);
        let (mut deltas, mut lengths) = (vec![0; runs], vec![0; runs]);
        unpack(self.locks, runs, 0, &mut deltas);
        unpack(self.lengths, runs, 0, &mut lengths);
        let mut lock = 0u64;
        deltas.into_iter().zip(lengths).map(move |(delta, length)| {
            lock = lock.saturating_add(delta);
            (lock, length)
        })
    }

    fn is_handed(&self, n: usize) -> bool {
        self.handed.get(n / 8).is_some_and(|byte| byte & (1 << (n % 8)) != 0)
    }

    /// Shows every wait, lock by lock, if they [`Self::fit`]; else shows some nonsense.
    pub fn for_each(&self, mut visit: impl FnMut(&Wait)) {
        let n = self.count().min(MAX_ITEMS);
        let unit = self.unit().unwrap_or_default();
        let base = unit.ns(self.base);
        let handed = self.handed_count().min(n);
        let others = n - handed;
        let mut runs = self.runs();
        let (mut lock, mut left) = (0, 0);
        let (mut end, mut before, mut before_stack) = (base, 0, 0);
        let mut all = Box::new([[0; PIECE]; 8]);
        let mut of_handed = Box::new([[0; PIECE]; 3]);
        let mut of_others = Box::new([[0; PIECE]; 4]);
        let (mut handed_from, mut others_from) = (0, 0);
        for from in (0..n).step_by(PIECE) {
            let len = PIECE.min(n - from);
            let sources = [
                self.threads,
                self.runq,
                self.gaps,
                self.episodes,
                self.flags,
                self.waiter_stacks,
                self.holders,
                self.holder_stacks,
            ];
            for (column, source) in all.iter_mut().zip(sources) {
                unpack(source, n, from, &mut column[..len]);
            }
            let here = (from..from + len).filter(|&n| self.is_handed(n)).count();
            let sources = [self.holds, self.blocked_handed, self.waker_stacks_handed];
            for (column, source) in of_handed.iter_mut().zip(sources) {
                unpack(source, handed, handed_from, &mut column[..here]);
            }
            handed_from += here;
            let here = len - here;
            let sources = [self.ends, self.blocked, self.wakers, self.waker_stacks];
            for (column, source) in of_others.iter_mut().zip(sources) {
                unpack(source, others, others_from, &mut column[..here]);
            }
            others_from += here;
            let (mut next_handed, mut next_other) = (0, 0);
            for i in 0..len {
                if left == 0 {
                    (lock, left) = runs.next().unwrap_or((lock, u64::MAX));
                    end = base;
                }
                left -= 1;
                let of = |column: usize| all[column][i];
                let runq = unit.ns(of(1));
                let (blocked, waker, waker_stack);
                if self.is_handed(from + i) {
                    let of = |column: usize| of_handed[column][next_handed];
                    end = end.wrapping_add(unit.signed_ns(of(0))).wrapping_add(runq);
                    blocked = unit.ns(of(1));
                    waker = Some(ThreadIndex(low(before)));
                    waker_stack = unzigzag(of(2)).wrapping_add(before_stack);
                    next_handed += 1;
                } else {
                    let of = |column: usize| of_others[column][next_other];
                    end = end.wrapping_add(unit.signed_ns(of(0)));
                    blocked = unit.ns(of(1));
                    waker = optional_thread(of(2));
                    waker_stack = of(3);
                    next_other += 1;
                }
                (before, before_stack) = (of(0), of(5));
                let spent = unit.signed_ns(of(2)).wrapping_add(blocked).wrapping_add(runq);
                visit(&Wait {
                    thread: ThreadIndex(low(before)),
                    lock: LockIndex(low(lock)),
                    start: Monotonic(end.wrapping_sub(spent)),
                    end: Monotonic(end),
                    blocked: Ns(blocked),
                    runq: Ns(runq),
                    episodes: low(of(3)),
                    flags: low(of(4)),
                    waker,
                    waiter_stack: SideStack::from_u64(before_stack).unwrap_or_default(),
                    waker_stack: SideStack::from_u64(waker_stack).unwrap_or_default(),
                    holder: optional_thread(of(6)),
                    holder_stack: SideStack::from_u64(of(7)).unwrap_or_default(),
                });
            }
        }
    }
}

/// A block of waits of any version.
#[derive(Clone, Copy, Debug)]
pub enum Waits<'a> {
    /// In the order of the file.
    Flat(FlatColumns<'a>),
    /// Lock by lock; their order is that of their ends, for equal ends that in which they stand.
    ByLock(WaitColumns<'a>),
}

impl Waits<'_> {
    /// How many waits.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Flat(columns) => columns.count(),
            Self::ByLock(columns) => columns.count(),
        }
    }

    /// All of them in their order.
    #[must_use]
    pub fn in_order(&self) -> Vec<Wait> {
        let mut waits = Vec::with_capacity(self.count());
        match self {
            Self::Flat(columns) => columns.for_each(|wait| waits.push(*wait)),
            Self::ByLock(columns) => {
                let mut by_lock = Vec::with_capacity(self.count());
                columns.for_each(|wait| by_lock.push(*wait));
                let mut order: Vec<_> =
                    by_lock.iter().enumerate().map(|(n, wait)| (wait.end, n)).collect();
                order.sort_unstable();
                waits.extend(order.into_iter().map(|(_, n)| by_lock[n]));
            }
        }
        waits
    }
}

/// A value that was looked at together with its column.
#[expect(clippy::cast_possible_truncation, reason = "checked for the whole column")]
pub(super) fn low(value: u64) -> u32 {
    value as u32
}

pub(super) fn optional_thread(value: u64) -> Option<ThreadIndex> {
    value.checked_sub(1).map(|index| ThreadIndex(low(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn wait(thread: u32, lock: u32, end: u64, waker: Option<u32>) -> Wait {
        Wait {
            thread: ThreadIndex(thread),
            lock: LockIndex(lock),
            start: Monotonic(end.wrapping_sub(50)),
            end: Monotonic(end),
            blocked: Ns(40),
            runq: Ns(10),
            episodes: 1,
            flags: 0,
            waker: waker.map(ThreadIndex),
            waiter_stack: SideStack::Stack(StackIndex(thread)),
            waker_stack: waker.map_or(SideStack::default(), |n| SideStack::Stack(StackIndex(n))),
            holder: None,
            holder_stack: SideStack::default(),
        }
    }

    #[test]
    fn a_lock_handed_on_takes_no_bytes_for_who_and_where() {
        let handed: Vec<_> =
            (1..100).map(|n| wait(n, 3, u64::from(n) * 100, Some(n - 1))).collect();
        let block = WaitBlock::new(&handed, TimeUnit::EXACT);
        assert_eq!(block.waker_stacks_handed, Planes::pack(&[0; 98]));
        assert_eq!(block.wakers, Planes::pack(&[1]), "of the first alone");
        let raw = block.payload().raw;
        let columns: WaitColumns<'_> = postcard::from_bytes(&raw).unwrap();
        assert!(columns.fit());
        assert_eq!(columns.handed_count(), 98);
        assert_eq!(Waits::ByLock(columns).in_order(), handed);
    }

    #[test]
    fn order_within_a_unit_is_kept() {
        // Two waits for a lock that end within one unit: the later one stays the later one.
        let waits = [wait(1, 3, 3_219, None), wait(2, 3, 3_201, None)];
        let raw = WaitBlock::new(&waits, TimeUnit::RECORDED).payload().raw;
        let columns: WaitColumns<'_> = postcard::from_bytes(&raw).unwrap();
        assert!(columns.fit());
        let read = Waits::ByLock(columns).in_order();
        assert_eq!(read.iter().map(|wait| wait.end.0).collect::<Vec<_>>(), [3_200, 3_200]);
        assert_eq!(read, [waits[1], waits[0]].map(|wait| TimeUnit::RECORDED.wait(&wait)));
    }

    #[test]
    fn blocks_that_do_not_fit_are_refused() {
        let waits = [wait(1, 3, 100, None), wait(2, 3, 200, Some(1)), wait(1, 5, 150, None)];
        let right = WaitBlock::new(&waits, TimeUnit::EXACT);
        let fit = |block: &WaitBlock| {
            let raw = block.payload().raw;
            postcard::from_bytes::<WaitColumns<'_>>(&raw).unwrap().fit()
        };
        assert!(fit(&right));
        assert!(!fit(&WaitBlock { count: u32::MAX, ..right.clone() }), "too many");
        assert!(!fit(&WaitBlock { runs: 1, ..right.clone() }), "lengths of one run");
        let lengths = Planes::pack(&[2, 2]);
        assert!(!fit(&WaitBlock { lengths, ..right.clone() }), "more than there are");
        let lengths = Planes::pack(&[3, 0]);
        assert!(!fit(&WaitBlock { lengths, ..right.clone() }), "a lock without waits");
        assert!(!fit(&WaitBlock { locks: Planes::pack(&[3, 0]), ..right.clone() }), "a lock twice");
        let handed = Planes::pack(&[0b001]);
        assert!(!fit(&WaitBlock { handed, ..right.clone() }), "the first one handed on by nobody");
        assert!(
            !fit(&WaitBlock { handed: Planes::pack(&[0b010, 1]), ..right.clone() }),
            "too many bits"
        );
        assert!(!fit(&WaitBlock { ends: Planes::pack(&[1, 2, 3]), ..right }), "another's column");
    }
}
