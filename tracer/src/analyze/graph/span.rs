//! A wait as the graph sees it: how long a thread stood in a lock's queue, and who let it go on.

use tracer_common::event::WAIT_CLIPPED_END;

use crate::analyze::brief::Brief;
use crate::analyze::{OtherSide, Source};
use crate::trace::records::{SideStack, Wait};
use crate::units::{LockIndex, Monotonic, ThreadIndex};

/// A thread in the queue of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) thread: ThreadIndex,
    pub(super) lock: LockIndex,
    /// In the queue from here …
    pub(super) from: Monotonic,
    /// … until it was woken. Never longer than the wait's own total.
    pub(super) to: Monotonic,
    /// When it ran again: from then on it can have the lock.
    pub(super) end: Monotonic,
    /// Who had the lock by the runtime's own record, if that is known.
    pub(super) owner: Option<(ThreadIndex, Source)>,
    /// Who woke it.
    pub(super) waker: Option<ThreadIndex>,
    pub(super) waiter_stack: SideStack,
    pub(super) waker_stack: SideStack,
    /// Not over when the recording was: it has not got the lock.
    pub(super) unfinished: bool,
    /// The part before `from` is in the sums already.
    pub(super) carried: bool,
}

impl Span {
    /// Of a wait, and of who was in its way.
    pub(super) fn of(wait: &Wait, other: OtherSide) -> Self {
        let (from, to) = Brief::from(wait).queued();
        Self {
            thread: wait.thread,
            lock: wait.lock,
            from: Monotonic(from),
            to: Monotonic(to),
            end: wait.end,
            owner: match other.source {
                Source::Owner | Source::OwnerUnverified => {
                    other.thread.map(|owner| (owner, other.source))
                }
                Source::Waker | Source::None => None,
            },
            waker: wait.waker.filter(|&waker| waker != wait.thread),
            waiter_stack: wait.waiter_stack,
            waker_stack: wait.waker_stack,
            unfinished: wait.flags & WAIT_CLIPPED_END != 0,
            carried: false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::units::Ns;

    /// A wait of `thread` for `lock`, woken at `to` by `waker` and running at `end`.
    pub(in crate::analyze::graph) fn wait(
        thread: u32,
        lock: u32,
        (from, to, end): (u64, u64, u64),
        waker: Option<u32>,
    ) -> Wait {
        Wait {
            thread: ThreadIndex(thread),
            lock: LockIndex(lock),
            start: Monotonic(from),
            end: Monotonic(end),
            blocked: Ns(to - from),
            runq: Ns(end - to),
            episodes: 1,
            flags: 0,
            waker: waker.map(ThreadIndex),
            waiter_stack: SideStack::default(),
            waker_stack: SideStack::default(),
            holder: None,
            holder_stack: SideStack::default(),
        }
    }

    /// The span of [`wait`].
    pub(in crate::analyze::graph) fn span(
        thread: u32,
        lock: u32,
        times: (u64, u64, u64),
        waker: Option<u32>,
    ) -> Span {
        let wait = wait(thread, lock, times, waker);
        Span::of(&wait, OtherSide::of(&wait, false))
    }

    #[test]
    fn a_span_is_never_longer_than_its_wait() {
        let plain = span(1, 0, (100, 150, 160), Some(2));
        assert_eq!((plain.from, plain.to, plain.end), (Monotonic(100), Monotonic(150), plain.end));
        // On the CPU between stitched episodes: 100 ns of 190 were waited.
        let mut stitched = wait(1, 0, (100, 190, 200), None);
        (stitched.blocked, stitched.runq) = (Ns(90), Ns(10));
        let of = |wait: &Wait| Span::of(wait, OtherSide::of(wait, false));
        assert_eq!(of(&stitched).from, Monotonic(100));
        stitched.blocked = Ns(30);
        assert_eq!((of(&stitched).from, of(&stitched).to), (Monotonic(150), Monotonic(190)));
        // Times that can't be.
        let hostile = Wait { start: Monotonic(500), end: Monotonic(3), runq: Ns(9), ..stitched };
        let hostile = of(&hostile);
        assert_eq!((hostile.from, hostile.to), (Monotonic(0), Monotonic(0)));
        assert_eq!(span(1, 0, (1, 2, 3), Some(1)).waker, None, "nobody wakes itself");
    }
}
