//! The two sides of a wait: who waited where, and who was in the way.

use std::collections::BTreeMap;

use tracer_common::NoStack;
use tracer_common::event::{WAIT_HOLDER_ENDED_EARLY, WAIT_HOLDER_MOVED};

use super::shard::REST;
use super::sums::Sums;
use super::tally::{Tally, WaitSums};
use crate::trace::records::{SideStack, Wait};
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
    /// [`Summary::graph`](super::Summary::graph), and how long locks were held.
    pub graph: bool,
    /// Owners count as holders also where they moved while they were looked at.
    pub unverified: bool,
}

impl Default for Want {
    /// Everything, of owners that stood still.
    fn default() -> Self {
        Self { pairs: true, links: true, graph: true, unverified: false }
    }
}

/// Different keys of each table, over all shards.
const MAX_WAITING: usize = 1 << 19;
const MAX_HOLDING: usize = 1 << 19;
const MAX_PAIRS: usize = 1 << 18;
const MAX_LINKS: usize = 1 << 18;

/// The sums by each side, and by both.
///
/// Each is bounded on its own. What finds no room loses its stacks or its threads, never its lock.
#[derive(Debug)]
pub(super) struct SideSums {
    want: Want,
    waiting: Tally<Waiting>,
    holding: Tally<(LockIndex, OtherSide)>,
    pairs: Tally<Met>,
    links: Tally<(Waiting, OtherSide)>,
}

/// [`SideSums`], in order.
#[derive(Debug, Default)]
pub(super) struct SortedSides {
    pub(super) waiting: BTreeMap<Waiting, Sums>,
    pub(super) holding: BTreeMap<(LockIndex, OtherSide), Sums>,
    pub(super) pairs: BTreeMap<Met, Sums>,
    pub(super) links: BTreeMap<(Waiting, OtherSide), Sums>,
    pub(super) crowded: Crowded,
}

/// Waits that found no room in a table under all that tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowded {
    /// By thread, lock and stack: the stack, then the thread is missing.
    pub waiting: u64,
    /// By lock and who was in the way: the thread, then the stack is missing.
    pub holding: u64,
    /// By who waited for whom: both threads are missing.
    pub pairs: u64,
    /// By all of that: both threads, then the stacks are missing.
    pub links: u64,
}

impl SideSums {
    /// The part of one of `shards`.
    pub(super) fn new(want: Want, shards: usize) -> Self {
        Self {
            want,
            waiting: Tally::new(MAX_WAITING / shards),
            holding: Tally::new(MAX_HOLDING / shards),
            pairs: Tally::new(MAX_PAIRS / shards),
            links: Tally::new(MAX_LINKS / shards),
        }
    }

    /// Adds a wait for `lock`, as far as there was room for it.
    pub(super) fn add(&mut self, lock: LockIndex, wait: &Wait, other: OtherSide) {
        let sums = WaitSums::of(wait);
        let (thread, stack) = (wait.thread, wait.waiter_stack);
        let rest = ThreadIndex(REST);
        self.waiting.add(
            &sums,
            (thread, lock, stack),
            || (thread, lock, REST_STACK),
            || (rest, lock, REST_STACK),
        );
        let somebody = OtherSide { thread: other.thread.map(|_| rest), ..other };
        self.holding.add(&sums, (lock, other), || (lock, somebody), || (lock, OtherSide::REST));
        if self.want.pairs
            && let Some(holder) = other.thread
        {
            let source = other.source;
            self.pairs.add(
                &sums,
                (thread, holder, lock, source),
                || (rest, rest, lock, source),
                || (rest, rest, LockIndex(REST), source),
            );
        }
        if self.want.links {
            self.links.add(
                &sums,
                ((thread, lock, stack), other),
                || ((rest, lock, stack), somebody),
                || ((rest, lock, REST_STACK), OtherSide::REST),
            );
        }
    }

    pub(super) fn sorted(shards: impl Iterator<Item = Self>) -> SortedSides {
        let mut all = SortedSides::default();
        let (mut waiting, mut holding) = (Vec::new(), Vec::new());
        let (mut pairs, mut links) = (Vec::new(), Vec::new());
        for shard in shards {
            all.crowded.waiting += shard.waiting.crowded();
            all.crowded.holding += shard.holding.crowded();
            all.crowded.pairs += shard.pairs.crowded();
            all.crowded.links += shard.links.crowded();
            waiting.extend(shard.waiting.into_sums());
            holding.extend(shard.holding.into_sums());
            pairs.extend(shard.pairs.into_sums());
            links.extend(shard.links.into_sums());
        }
        all.waiting = together(waiting);
        all.holding = together(holding);
        all.pairs = together(pairs);
        all.links = together(links);
        all
    }
}

/// In order. What found no room may have the same key in several shards.
fn together<K: Copy + Ord>(mut sums: Vec<(K, Sums)>) -> BTreeMap<K, Sums> {
    sums.sort_unstable_by_key(|(key, _)| *key);
    sums.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 += later.1;
        }
        same
    });
    sums.into_iter().collect()
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
