//! The two sides of a wait: who waited where, and who was in the way.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use tracer_common::NoStack;
use tracer_common::event::{WAIT_HOLDER_ENDED_EARLY, WAIT_HOLDER_MOVED};

use super::shard::REST;
use super::sums::Sums;
use super::tally::{Room, Tally, WaitSums, YieldSums};
use crate::trace::records::{SideStack, Wait, YieldRun};
use crate::units::{LockIndex, StackIndex, ThreadIndex};

/// How the other side of a wait is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The runtime's own record of who holds the lock.
    Owner,
    /// The same, but the holder ran on while its stack was read.
    OwnerUnverified,
    /// Who woke the waiter, and so let go of the lock.
    Waker,
    /// Nobody was seen.
    None,
}

impl Source {
    /// The name in JSON and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::OwnerUnverified => "owner_unverified",
            Self::Waker => "waker",
            Self::None => "none",
        }
    }
}

/// Who was in the way of a wait, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherSide {
    /// The thread; none if nobody was seen.
    pub thread: Option<ThreadIndex>,
    /// Where it was when the waiter was woken, or while it held the lock.
    pub stack: SideStack,
    /// How that is known.
    pub source: Source,
}

/// Stands for all stacks that found no room: no record has this index, so that they count as lost.
pub(super) const REST_STACK: SideStack = SideStack::Stack(StackIndex(REST));

impl OtherSide {
    /// What finds no room.
    const REST: Self =
        Self { thread: Some(ThreadIndex(REST)), stack: REST_STACK, source: Source::None };

    /// The same place, whoever it was.
    fn somebody(self) -> Self {
        Self { thread: self.thread.map(|_| ThreadIndex(REST)), ..self }
    }

    /// The other side of a wait: the owner if the lock has one that was seen standing still, or
    /// moving if `unverified`; else the waker.
    #[must_use]
    pub fn of(wait: &Wait, unverified: bool) -> Self {
        let verified = wait.flags & (WAIT_HOLDER_MOVED | WAIT_HOLDER_ENDED_EARLY) == 0;
        let (thread, stack, source) = match (wait.holder, wait.waker) {
            // Of most owners only the name is known; who then wakes the waiter was walked letting go.
            (Some(owner), waker)
                if verified
                    && wait.holder_stack == SideStack::default()
                    && waker == Some(owner) =>
            {
                (Some(owner), wait.waker_stack, Source::Owner)
            }
            (Some(owner), _) if verified => (Some(owner), wait.holder_stack, Source::Owner),
            (Some(owner), _) if unverified => {
                (Some(owner), wait.holder_stack, Source::OwnerUnverified)
            }
            (_, Some(waker)) => (Some(waker), wait.waker_stack, Source::Waker),
            (_, None) => (None, SideStack::Missing(NoStack::NotTaken), Source::None),
        };
        Self { thread, stack, source }
    }
}

/// Who waited, for what, and where.
pub type Waiting = (ThreadIndex, LockIndex, SideStack);

/// Waits of one waiter that one thread was in the way of.
pub(super) type Met = (ThreadIndex, ThreadIndex, LockIndex, Source);

/// What is added up beside locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// [`Summary::pairs`](super::Summary::pairs).
    pub pairs: bool,
    /// [`Summary::links`](super::Summary::links), the largest table.
    pub links: bool,
    /// [`Summary::waiting`](super::Summary::waiting), `holding` and `links` by thread: else all
    /// threads together are one there, whose record can't be read.
    pub threads: bool,
    /// [`Summary::graph`](super::Summary::graph), and how long locks were held.
    pub graph: bool,
    /// Owners count as holders also where they moved while they were looked at.
    pub unverified: bool,
}

impl Default for Want {
    /// Everything, of owners that stood still.
    fn default() -> Self {
        Self { pairs: true, links: true, threads: true, graph: true, unverified: false }
    }
}

/// Different keys of each table, over all locks.
const MAX_CELLS: usize = 1 << 19;
const MAX_WAITING: usize = 1 << 19;
const MAX_HOLDING: usize = 1 << 19;
const MAX_PAIRS: usize = 1 << 18;
const MAX_LINKS: usize = 1 << 18;
/// The same for runs of yields: by thread, and by stack.
const MAX_YIELDERS: usize = 1 << 18;
const MAX_YIELDING: usize = 1 << 18;

/// The room that the tables of several locks share.
#[derive(Debug)]
pub(super) struct SideRoom {
    cells: Room,
    waiting: Room,
    holding: Room,
    pairs: Room,
    links: Room,
    yielders: Room,
    yielding: Room,
}

impl SideRoom {
    /// The part of one of `shards`.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            cells: Room::new(MAX_CELLS / shards),
            waiting: Room::new(MAX_WAITING / shards),
            holding: Room::new(MAX_HOLDING / shards),
            pairs: Room::new(MAX_PAIRS / shards),
            links: Room::new(MAX_LINKS / shards),
            yielders: Room::new(MAX_YIELDERS / shards),
            yielding: Room::new(MAX_YIELDING / shards),
        }
    }

    pub(super) fn crowded(&self) -> Crowded {
        Crowded {
            cells: self.cells.crowded,
            waiting: self.waiting.crowded,
            holding: self.holding.crowded,
            pairs: self.pairs.crowded,
            links: self.links.crowded,
            yielders: self.yielders.crowded,
            yielding: self.yielding.crowded,
        }
    }
}

type Place = (ThreadIndex, SideStack);

/// The sums of one lock by each side, and by both.
///
/// Room is bounded. What finds none loses its threads or its stacks, never its lock.
#[derive(Debug, Default)]
pub(super) struct SideSums {
    cells: Tally<ThreadIndex, WaitSums>,
    waiting: Tally<Place, WaitSums>,
    holding: Tally<OtherSide, WaitSums>,
    pairs: Tally<(ThreadIndex, ThreadIndex, Source), WaitSums>,
    links: Tally<(Place, OtherSide), WaitSums>,
    yielders: Tally<ThreadIndex, YieldSums>,
    yielding: Tally<SideStack, YieldSums>,
}

/// [`SideSums`] of all locks, in order.
#[derive(Debug, Default)]
pub(super) struct SortedSides {
    /// Runs of yields too.
    pub(super) cells: BTreeMap<(ThreadIndex, LockIndex), Sums>,
    pub(super) waiting: BTreeMap<Waiting, Sums>,
    pub(super) holding: BTreeMap<(LockIndex, OtherSide), Sums>,
    pub(super) pairs: BTreeMap<Met, Sums>,
    pub(super) links: BTreeMap<(Waiting, OtherSide), Sums>,
    /// Runs of yields only.
    pub(super) yielding: BTreeMap<(LockIndex, SideStack), Sums>,
}

/// Waits, and runs of yields, that found no room in a table under all that tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowded {
    /// By thread and lock: the thread is missing.
    pub cells: u64,
    /// By thread, lock and stack: the stack, then the thread is missing.
    pub waiting: u64,
    /// By lock and who was in the way: the thread, then the stack is missing.
    pub holding: u64,
    /// By who waited for whom: both threads are missing.
    pub pairs: u64,
    /// By all of that: both threads, then the stacks are missing.
    pub links: u64,
    /// Runs of yields by thread and lock: the thread is missing.
    pub yielders: u64,
    /// Runs of yields by lock and stack: the stack is missing.
    pub yielding: u64,
}

impl AddAssign for Crowded {
    fn add_assign(&mut self, other: Self) {
        self.cells += other.cells;
        self.waiting += other.waiting;
        self.holding += other.holding;
        self.pairs += other.pairs;
        self.links += other.links;
        self.yielders += other.yielders;
        self.yielding += other.yielding;
    }
}

impl SideSums {
    /// Adds waits for the lock.
    pub(super) fn add(&mut self, room: &mut SideRoom, want: Want, waits: &[Wait]) {
        let rest = ThreadIndex(REST);
        // Table by table, so that each is near while it is used.
        for wait in waits {
            let sums = WaitSums::of(wait);
            self.cells.add(&mut room.cells, sums, wait.thread, || rest, || rest);
        }
        for wait in waits {
            let thread = if want.threads { wait.thread } else { rest };
            let key = (thread, wait.waiter_stack);
            let (coarser, rest) = ((thread, REST_STACK), (rest, REST_STACK));
            self.waiting.add(&mut room.waiting, WaitSums::of(wait), key, || coarser, || rest);
        }
        for wait in waits {
            let other = OtherSide::of(wait, want.unverified);
            let key = if want.threads { other } else { other.somebody() };
            let (sums, coarser) = (WaitSums::of(wait), || other.somebody());
            self.holding.add(&mut room.holding, sums, key, coarser, || OtherSide::REST);
        }
        for wait in waits.iter().filter(|_| want.pairs) {
            let OtherSide { thread, source, .. } = OtherSide::of(wait, want.unverified);
            if let Some(holder) = thread {
                let (key, coarser) = ((wait.thread, holder, source), (rest, rest, source));
                self.pairs.add(&mut room.pairs, WaitSums::of(wait), key, || coarser, || coarser);
            }
        }
        for wait in waits.iter().filter(|_| want.links) {
            let other = OtherSide::of(wait, want.unverified);
            let coarser = ((rest, wait.waiter_stack), other.somebody());
            let key = ((wait.thread, wait.waiter_stack), other);
            self.links.add(
                &mut room.links,
                WaitSums::of(wait),
                if want.threads { key } else { coarser },
                || coarser,
                || ((rest, REST_STACK), OtherSide::REST),
            );
        }
    }

    /// Adds a run of yields for the lock. It has a thread and no other side.
    pub(super) fn add_yields(&mut self, room: &mut SideRoom, run: &YieldRun) {
        let (sums, rest) = (YieldSums::of(run), ThreadIndex(REST));
        self.yielders.add(&mut room.yielders, sums, run.thread, || rest, || rest);
        self.yielding.add(&mut room.yielding, sums, run.stack, || REST_STACK, || REST_STACK);
    }

    pub(super) fn sorted(locks: impl Iterator<Item = (LockIndex, Self)>) -> SortedSides {
        let (mut cells, mut waiting, mut holding) = (Vec::new(), Vec::new(), Vec::new());
        let (mut pairs, mut links) = (Vec::new(), Vec::new());
        let (mut yielders, mut yielding) = (Vec::new(), Vec::new());
        for (lock, sides) in locks {
            let all = sides.cells.into_entries();
            cells.extend(all.map(|(thread, sums)| ((thread, lock), sums)));
            let all = sides.waiting.into_entries();
            waiting.extend(all.map(|((thread, stack), sums)| ((thread, lock, stack), sums)));
            let all = sides.holding.into_entries();
            holding.extend(all.map(|(other, sums)| ((lock, other), sums)));
            let all = sides.pairs.into_entries();
            pairs.extend(
                all.map(|((waiter, holder, source), sums)| ((waiter, holder, lock, source), sums)),
            );
            let all = sides.links.into_entries();
            links.extend(
                all.map(|(((thread, stack), other), sums)| (((thread, lock, stack), other), sums)),
            );
            let all = sides.yielders.into_entries();
            yielders.extend(all.map(|(thread, sums)| ((thread, lock), sums)));
            let all = sides.yielding.into_entries();
            yielding.extend(all.map(|(stack, sums)| ((lock, stack), sums)));
        }
        let mut cells = together(cells);
        for (cell, sums) in together(yielders) {
            *cells.entry(cell).or_default() += sums;
        }
        SortedSides {
            cells,
            waiting: together(waiting),
            holding: together(holding),
            pairs: together(pairs),
            links: together(links),
            yielding: together(yielding),
        }
    }
}

/// In order. Locks that found no room have the same keys in several shards.
fn together<K: Copy + Ord, V: Copy + AddAssign + Into<Sums>>(
    mut sums: Vec<(K, V)>,
) -> BTreeMap<K, Sums> {
    sums.sort_unstable_by_key(|(key, _)| *key);
    sums.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 += later.1;
        }
        same
    });
    sums.into_iter().map(|(key, sums)| (key, sums.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Monotonic, Ns};

    #[test]
    fn an_owner_that_stood_still_comes_first_then_the_waker() {
        let stack = |n| SideStack::Stack(StackIndex(n));
        let wait = |flags, holder: bool, waker: bool| Wait {
            thread: ThreadIndex(0),
            lock: LockIndex(0),
            start: Monotonic(0),
            end: Monotonic(1),
            blocked: Ns(1),
            runq: Ns(0),
            episodes: 1,
            flags,
            waker: waker.then_some(ThreadIndex(1)),
            waiter_stack: stack(0),
            waker_stack: stack(1),
            holder: holder.then_some(ThreadIndex(2)),
            holder_stack: stack(2),
        };
        let source = |wait: Wait, unverified| OtherSide::of(&wait, unverified).source;
        for moved in [WAIT_HOLDER_MOVED, WAIT_HOLDER_ENDED_EARLY] {
            assert_eq!(source(wait(moved, true, true), false), Source::Waker);
            assert_eq!(source(wait(moved, true, false), false), Source::None);
            assert_eq!(source(wait(moved, true, true), true), Source::OwnerUnverified);
        }
        assert_eq!(source(wait(0, true, true), false), Source::Owner);
        assert_eq!(source(wait(0, false, true), true), Source::Waker);
        let nobody = OtherSide::of(&wait(0, false, false), true);
        assert_eq!((nobody.thread, nobody.stack), (None, SideStack::default()));
        let owner = OtherSide::of(&wait(0, true, true), false);
        assert_eq!((owner.thread, owner.stack), (Some(ThreadIndex(2)), stack(2)));
    }
}
