//! A wait as it is added up: in one line of the cache, so that whoever adds up waits of one lock
//! fetches no more than those.

use tracer_common::NoStack;
use tracer_common::event::WAIT_CLIPPED_END;

use super::OtherSide;
use crate::trace::records::{SideStack, Wait};
use crate::units::{LockIndex, Monotonic, Ns, StackIndex, ThreadIndex};

/// Marks that the trace knows nothing of, above all its flags.
const HAS_WAKER: u32 = 1 << 30;
const HAS_HOLDER: u32 = 1 << 31;

/// A side's stack in four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StackCode(pub(super) u32);

impl StackCode {
    /// All stacks that found no room: no record has such an index, so that they count as lost.
    pub(super) const REST: Self = Self(u32::MAX);
}

impl From<SideStack> for StackCode {
    /// The last eight indices that four bytes hold, which no recorder comes to, are the rest too.
    #[inline]
    fn from(side: SideStack) -> Self {
        match side {
            SideStack::Missing(reason) => Self(reason as u32),
            SideStack::Stack(index) => Self(index.0.saturating_add(NoStack::COUNT)),
        }
    }
}

impl From<StackCode> for SideStack {
    #[inline]
    fn from(code: StackCode) -> Self {
        match code.0.checked_sub(NoStack::COUNT) {
            _ if code == StackCode::REST => super::sides::REST_STACK,
            Some(index) => Self::Stack(StackIndex(index)),
            None => Self::Missing(NoStack::from_u32(code.0).unwrap_or(NoStack::NotTaken)),
        }
    }
}

/// A wait without the number of its episodes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Brief {
    start: u64,
    pub(super) end: u64,
    pub(super) blocked: u64,
    pub(super) runq: u64,
    pub(super) thread: u32,
    lock: u32,
    pub(super) waiter_stack: StackCode,
    waker: u32,
    waker_stack: StackCode,
    holder: u32,
    holder_stack: StackCode,
    marks: u32,
}

impl From<&Wait> for Brief {
    #[inline]
    fn from(wait: &Wait) -> Self {
        let mut marks = wait.flags & !(HAS_WAKER | HAS_HOLDER);
        if wait.waker.is_some() {
            marks |= HAS_WAKER;
        }
        if wait.holder.is_some() {
            marks |= HAS_HOLDER;
        }
        Self {
            start: wait.start.0,
            end: wait.end.0,
            blocked: wait.blocked.0,
            runq: wait.runq.0,
            thread: wait.thread.0,
            lock: wait.lock.0,
            waiter_stack: wait.waiter_stack.into(),
            waker: wait.waker.unwrap_or_default().0,
            waker_stack: wait.waker_stack.into(),
            holder: wait.holder.unwrap_or_default().0,
            holder_stack: wait.holder_stack.into(),
            marks,
        }
    }
}

impl Brief {
    /// As it was, but for the episodes.
    #[inline]
    pub(super) fn wait(&self) -> Wait {
        let thread = |has: u32, index| (self.marks & has != 0).then_some(ThreadIndex(index));
        Wait {
            thread: ThreadIndex(self.thread),
            lock: self.lock(),
            start: Monotonic(self.start),
            end: Monotonic(self.end),
            blocked: Ns(self.blocked),
            runq: Ns(self.runq),
            episodes: 1,
            flags: self.marks & !(HAS_WAKER | HAS_HOLDER),
            waker: thread(HAS_WAKER, self.waker),
            waiter_stack: self.waiter_stack.into(),
            waker_stack: self.waker_stack.into(),
            holder: thread(HAS_HOLDER, self.holder),
            holder_stack: self.holder_stack.into(),
        }
    }

    /// For what was waited.
    #[inline]
    pub(super) fn lock(&self) -> LockIndex {
        LockIndex(self.lock)
    }

    /// Blocked and run-queue time together.
    #[inline]
    pub(super) fn total(&self) -> u64 {
        self.blocked.saturating_add(self.runq)
    }

    /// What else there is between its beginning and its end ([`Wait::awake`]).
    #[inline]
    pub(super) fn awake(&self) -> u64 {
        self.end.saturating_sub(self.start).saturating_sub(self.total())
    }

    /// From when to when the thread stood in the queue: until it was woken, and never longer than
    /// the wait's own total.
    ///
    /// The waking is at the wait's end less all its run-queue time: exact for a wait of one
    /// episode, too early by the run-queue time of the earlier ones if several were stitched.
    #[inline]
    pub(super) fn queued(&self) -> (u64, u64) {
        let to = self.end.saturating_sub(self.runq);
        (to - to.saturating_sub(self.start).min(self.total()), to)
    }

    /// Who woke it; nobody wakes itself.
    #[inline]
    pub(super) fn waker(&self) -> Option<u32> {
        (self.marks & HAS_WAKER != 0 && self.waker != self.thread).then_some(self.waker)
    }

    /// Where that was.
    #[inline]
    pub(super) fn waker_stack(&self) -> StackCode {
        self.waker_stack
    }

    /// Not over when the recording was.
    #[inline]
    pub(super) fn unfinished(&self) -> bool {
        self.marks & WAIT_CLIPPED_END != 0
    }

    /// Who was in the way.
    #[inline]
    pub(super) fn other(&self, unverified: bool) -> OtherSide {
        OtherSide::of(&self.wait(), unverified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_comes_back_from_one_line() {
        assert_eq!(size_of::<Brief>(), 64);
        let wait = Wait {
            thread: ThreadIndex(1),
            lock: LockIndex(u32::MAX),
            start: Monotonic(3),
            end: Monotonic(u64::MAX),
            blocked: Ns(u64::MAX - 5),
            runq: Ns(6),
            episodes: 1,
            flags: WAIT_CLIPPED_END | 0x80,
            waker: Some(ThreadIndex(0)),
            waiter_stack: SideStack::Stack(StackIndex(0)),
            waker_stack: SideStack::Missing(NoStack::Lost),
            holder: None,
            holder_stack: SideStack::Stack(StackIndex(u32::MAX)),
        };
        for wait in [wait, Wait { waker: None, holder: Some(ThreadIndex(7)), flags: 0, ..wait }] {
            assert_eq!(Brief::from(&wait).wait(), wait);
        }
        for reason in NoStack::ALL {
            let side = SideStack::Missing(reason);
            assert_eq!(SideStack::from(StackCode::from(side)), side);
        }
        let last = SideStack::Stack(StackIndex(u32::MAX - 9));
        assert_eq!(SideStack::from(StackCode::from(last)), last);
        let beyond = SideStack::Stack(StackIndex(u32::MAX - 8));
        assert_eq!(StackCode::from(beyond), StackCode::REST);
    }
}
