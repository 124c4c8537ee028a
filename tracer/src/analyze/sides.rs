//! The two sides of a wait: who waited where, and who was in the way.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use tracer_common::NoStack;
use tracer_common::event::{WAIT_HOLDER_ENDED_EARLY, WAIT_HOLDER_MOVED};

use super::brief::{Brief, StackCode};
use super::shard::REST;
use super::sums::Sums;
use super::tally::{Room, Tally, WaitSums, YieldSums};
use crate::trace::records::{ShortWaits, SideStack, Wait, YieldRun};
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
    /// All of them, in their order.
    const ALL: [Self; 4] = [Self::Owner, Self::OwnerUnverified, Self::Waker, Self::None];

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

    /// In few bytes, to be found fast. That nobody was seen, the source says.
    #[inline]
    fn key(self) -> OtherKey {
        let thread = self.thread.unwrap_or_default();
        OtherKey { place: place(thread.0, self.stack.into()), source: self.source }
    }

    /// The same place, whoever it was.
    #[inline]
    fn somebody(self) -> Self {
        Self { thread: self.thread.map(|_| ThreadIndex(REST)), ..self }
    }

    /// The other side of a wait: the owner if the lock has one that was seen standing still, or
    /// moving if `unverified`; else the waker.
    #[must_use]
    #[inline]
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
    /// [`EnergySummary::counterfactual`](super::energy::EnergySummary::counterfactual), which needs
    /// the graph.
    pub counterfactual: bool,
    /// Owners count as holders also where they moved while they were looked at.
    pub unverified: bool,
}

impl Default for Want {
    /// Everything but what is only on request, of owners that stood still.
    fn default() -> Self {
        Self {
            pairs: true,
            links: true,
            threads: true,
            graph: true,
            counterfactual: false,
            unverified: false,
        }
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
    by_thread: ByThread,
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
            by_thread: ByThread::default(),
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

/// A thread and a stack in eight bytes.
type Place = u64;

#[inline]
fn place(thread: u32, stack: StackCode) -> Place {
    u64::from(thread) << 32 | u64::from(stack.0)
}

fn from_place(place: Place) -> (ThreadIndex, SideStack) {
    let [a, b, c, d, stack @ ..] = place.to_be_bytes();
    let thread = ThreadIndex(u32::from_be_bytes([a, b, c, d]));
    (thread, StackCode(u32::from_be_bytes(stack)).into())
}

/// All places that found no room.
const REST_PLACE: Place = u64::MAX;

/// An [`OtherSide`] to be found fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OtherKey {
    place: Place,
    source: Source,
}

impl OtherKey {
    const REST: Self = Self { place: REST_PLACE, source: Source::None };

    fn other(self) -> OtherSide {
        if self == Self::REST {
            return OtherSide::REST;
        }
        let (thread, stack) = from_place(self.place);
        let thread = (self.source != Source::None).then_some(thread);
        OtherSide { thread, stack, source: self.source }
    }
}

/// The sums of one lock by each side, and by both.
///
/// Room is bounded. What finds none loses its threads or its stacks, never its lock.
#[derive(Debug, Default)]
pub(super) struct SideSums {
    cells: Tally<u32, WaitSums>,
    waiting: Tally<Place, WaitSums>,
    holding: Tally<OtherKey, WaitSums>,
    /// Waiter and holder in one.
    pairs: Tally<(u64, Source), WaitSums>,
    /// Pairs that found no room, by source.
    more_pairs: [WaitSums; Source::ALL.len()],
    links: Tally<(Place, OtherKey), WaitSums>,
    yielders: Tally<ThreadIndex, YieldSums>,
    yielding: Tally<SideStack, YieldSums>,
}

/// Threads up to this index have a place of their own while the waits of one lock are added up.
const FEW_THREADS: usize = 1 << 12;

/// Sums by thread of the lock at hand, and which threads have any.
#[derive(Debug)]
struct ByThread {
    sums: Vec<WaitSums>,
    some: Vec<u32>,
}

impl Default for ByThread {
    fn default() -> Self {
        Self { sums: vec![WaitSums::default(); FEW_THREADS], some: Vec::new() }
    }
}

impl ByThread {
    /// Adds a wait, if its thread has a place.
    #[inline]
    fn add(&mut self, wait: &Brief) -> bool {
        let Some(sums) = self.sums.get_mut(wait.thread as usize) else { return false };
        if sums.waits() == 0 {
            self.some.push(wait.thread);
        }
        *sums += WaitSums::of(wait);
        true
    }
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
    /// Adds waits for the lock. When there are no more for now, [`Self::settle`].
    pub(super) fn add(&mut self, room: &mut SideRoom, want: Want, waits: &[Brief]) {
        // Table by table, so that each is near while it is used.
        for wait in waits {
            if !room.by_thread.add(wait) {
                let sums = WaitSums::of(wait);
                self.cells.add(&mut room.cells, sums, wait.thread, || REST, || REST);
            }
        }
        for wait in waits {
            let thread = if want.threads { wait.thread } else { REST };
            let key = place(thread, wait.waiter_stack);
            let coarser = place(thread, StackCode::REST);
            let sums = WaitSums::of(wait);
            self.waiting.add(&mut room.waiting, sums, key, || coarser, || REST_PLACE);
        }
        for wait in waits {
            let other = wait.other(want.unverified);
            let somebody = other.somebody().key();
            let key = if want.threads { other.key() } else { somebody };
            let sums = WaitSums::of(wait);
            self.holding.add(&mut room.holding, sums, key, || somebody, || OtherKey::REST);
        }
        if want.pairs {
            for wait in waits {
                let OtherSide { thread, source, .. } = wait.other(want.unverified);
                let Some(ThreadIndex(holder)) = thread else { continue };
                let key = (u64::from(wait.thread) << 32 | u64::from(holder), source);
                let sums = WaitSums::of(wait);
                if let Some(sums) = self.pairs.add_if_room(&mut room.pairs, sums, key) {
                    room.pairs.crowded += 1;
                    self.more_pairs[source as usize] += sums;
                }
            }
        }
        for wait in waits.iter().filter(|_| want.links) {
            let other = wait.other(want.unverified);
            let coarser = (place(REST, wait.waiter_stack), other.somebody().key());
            let key = (place(wait.thread, wait.waiter_stack), other.key());
            self.links.add(
                &mut room.links,
                WaitSums::of(wait),
                if want.threads { key } else { coarser },
                || coarser,
                || (REST_PLACE, OtherKey::REST),
            );
        }
    }

    /// Takes what was kept by thread: the next waits are for another lock.
    pub(super) fn settle(&mut self, room: &mut SideRoom) {
        for thread in room.by_thread.some.drain(..) {
            let sums = std::mem::take(&mut room.by_thread.sums[thread as usize]);
            let (cells, waits) = (&mut room.cells, sums.waits());
            self.cells.add_many(cells, waits, sums, thread, || REST, || REST);
        }
    }

    /// Adds waits below the threshold for the lock: as if all had been where the last one was, and had
    /// been ended by the same thread.
    pub(super) fn add_short(&mut self, room: &mut SideRoom, want: Want, short: &ShortWaits) {
        let (sums, waits) = (WaitSums::of_short(short), short.waits);
        let thread = short.thread.0;
        self.cells.add_many(&mut room.cells, waits, sums, thread, || REST, || REST);
        let stack = StackCode::from(short.waiter_stack);
        let nobody = place(REST, stack);
        let waiter = if want.threads { place(thread, stack) } else { nobody };
        let coarser = place(if want.threads { thread } else { REST }, StackCode::REST);
        self.waiting.add_many(&mut room.waiting, waits, sums, waiter, || coarser, || REST_PLACE);
        let other = match short.waker {
            Some(waker) => {
                let (thread, stack) = (Some(waker), short.waker_stack);
                OtherSide { thread, stack, source: Source::Waker }
            }
            None => OtherSide {
                thread: None,
                stack: SideStack::Missing(NoStack::NotTaken),
                source: Source::None,
            },
        };
        let somebody = other.somebody().key();
        let key = if want.threads { other.key() } else { somebody };
        let rest = || OtherKey::REST;
        self.holding.add_many(&mut room.holding, waits, sums, key, || somebody, rest);
        if let Some(ThreadIndex(holder)) = other.thread.filter(|_| want.pairs) {
            let pair = (u64::from(thread) << 32 | u64::from(holder), other.source);
            if let Some(sums) = self.pairs.add_if_room(&mut room.pairs, sums, pair) {
                room.pairs.crowded += waits;
                self.more_pairs[other.source as usize] += sums;
            }
        }
        if want.links {
            let (link, coarser) = ((waiter, key), (nobody, somebody));
            let rest = || (REST_PLACE, OtherKey::REST);
            self.links.add_many(&mut room.links, waits, sums, link, || coarser, rest);
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
            cells.extend(all.map(|(thread, sums)| ((ThreadIndex(thread), lock), sums)));
            let all = sides.waiting.into_entries();
            waiting.extend(all.map(|(place, sums)| {
                let (thread, stack) = from_place(place);
                ((thread, lock, stack), sums)
            }));
            let all = sides.holding.into_entries();
            holding.extend(all.map(|(other, sums)| ((lock, other.other()), sums)));
            let all = sides.pairs.into_entries();
            let rest = Source::ALL.map(|source| (REST_PLACE, source)).into_iter();
            let rest = rest.zip(sides.more_pairs).filter(|(_, sums)| sums.waits() > 0);
            pairs.extend(all.chain(rest).map(|((pair, source), sums)| {
                let [waiter, holder] = [pair >> 32, pair & u64::from(u32::MAX)];
                let thread = |n| ThreadIndex(u32::try_from(n).unwrap_or(REST));
                ((thread(waiter), thread(holder), lock, source), sums)
            }));
            let all = sides.links.into_entries();
            links.extend(all.map(|((place, other), sums)| {
                let (thread, stack) = from_place(place);
                (((thread, lock, stack), other.other()), sums)
            }));
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
