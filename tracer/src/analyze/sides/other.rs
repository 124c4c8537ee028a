//! Who was in the way of a wait, where, and how that is known.

use tracer_common::NoStack;
use tracer_common::event::{WAIT_HOLDER_ENDED_EARLY, WAIT_HOLDER_MOVED};

use crate::trace::records::{SideStack, Wait};
use crate::units::ThreadIndex;

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
    pub(super) const ALL: [Self; 4] = [Self::Owner, Self::OwnerUnverified, Self::Waker, Self::None];

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

impl OtherSide {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{LockIndex, Monotonic, Ns, StackIndex};

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
