//! The two sides of a wait: who waited where, and who was in the way.

use std::collections::BTreeMap;

use tracer_common::NoStack;
use tracer_common::event::{WAIT_HOLDER_ENDED_EARLY, WAIT_HOLDER_MOVED};

use super::bounded::{Bounded, MAX_ENTRIES};
use super::fold::REST;
use super::sums::Sums;
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

/// The finest sums by each side, and by both.
///
/// Each is bounded on its own, and what finds no room is lost to its stack only, not to its lock.
#[derive(Debug)]
pub(super) struct SideSums {
    waiting: Bounded<Waiting, Sums>,
    holding: Bounded<(LockIndex, OtherSide), Sums>,
    links: Bounded<(Waiting, OtherSide), Sums>,
}

impl Default for SideSums {
    fn default() -> Self {
        Self {
            waiting: Bounded::new(MAX_ENTRIES),
            holding: Bounded::new(MAX_ENTRIES),
            links: Bounded::new(MAX_ENTRIES),
        }
    }
}

/// [`SideSums`], in order.
#[derive(Debug, Default)]
pub(super) struct SortedSides {
    pub(super) waiting: BTreeMap<Waiting, Sums>,
    pub(super) holding: BTreeMap<(LockIndex, OtherSide), Sums>,
    pub(super) links: BTreeMap<(Waiting, OtherSide), Sums>,
}

impl SideSums {
    /// Adds a wait, whose thread and lock are `cell`, as far as there was room for them.
    pub(super) fn add(&mut self, cell: (ThreadIndex, LockIndex), wait: &Wait, other: OtherSide) {
        let (thread, lock) = cell;
        let sums = Sums::from(wait);
        let rest = (thread, lock, REST_STACK);
        let waiting = (thread, lock, wait.waiter_stack);
        *self.waiting.get(waiting, rest).1 += sums;
        *self.holding.get((lock, other), (lock, OtherSide::REST)).1 += sums;
        *self.links.get((waiting, other), (rest, OtherSide::REST)).1 += sums;
    }

    pub(super) fn sorted(self) -> SortedSides {
        SortedSides {
            waiting: self.waiting.into_iter().collect(),
            holding: self.holding.into_iter().collect(),
            links: self.links.into_iter().collect(),
        }
    }
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
