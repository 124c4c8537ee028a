//! Waits and runs of yields that have a record, alone or with others.

use serde::{Deserialize, Serialize};

use super::SideStack;
use crate::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// One wait. `wait` = `blocked` + `runq`; the rest of `end − start` was spent on the CPU between
/// stitched episodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who waited.
    pub thread: ThreadIndex,
    /// For what.
    pub lock: LockIndex,
    /// First switch-out.
    pub start: Monotonic,
    /// Last switch-in.
    pub end: Monotonic,
    /// Switch-out to waking.
    pub blocked: Ns,
    /// Waking to switch-in.
    pub runq: Ns,
    /// Blocked episodes stitched into this wait.
    pub episodes: u32,
    /// `WAIT_*` flags of [`tracer_common::event`].
    pub flags: u32,
    /// Who ended it by a futex wake, if somebody did.
    pub waker: Option<ThreadIndex>,
    /// Where the waiter waited.
    pub waiter_stack: SideStack,
    /// Where the waker was when it let go.
    pub waker_stack: SideStack,
    /// Who held the GIL, if the runtime's own record of it could be read during the wait.
    pub holder: Option<ThreadIndex>,
    /// Where the holder was then; `WAIT_HOLDER_*` flags say how far it can be trusted.
    pub holder_stack: SideStack,
}

impl Wait {
    /// Blocked and run-queue time together.
    #[must_use]
    pub fn total(&self) -> Ns {
        self.blocked + self.runq
    }

    /// The rest of the time from its beginning to its end: between its sleeps, when the thread woke up
    /// by itself, looked, and went on waiting.
    #[must_use]
    pub fn awake(&self) -> Ns {
        Ns(self.end.since(self.start).0.saturating_sub(self.total().0))
    }
}

/// A run of yields of one thread for one lock, long enough to be told by itself. It is in no
/// [`SpinSums`](super::SpinSums).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct YieldRun {
    /// Who yielded.
    pub thread: ThreadIndex,
    /// For what.
    pub lock: LockIndex,
    /// First switch-out.
    pub start: Monotonic,
    /// When something else followed.
    pub end: Monotonic,
    /// Off the CPU in between; the rest it ran.
    pub yielded: Ns,
    /// Yields that gave the CPU away.
    pub yields: u64,
    /// Where the first of them was.
    pub stack: SideStack,
}

/// Waits below the threshold of one thread for one lock, added up. They are in no other sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortWaits {
    /// Who waited.
    pub thread: ThreadIndex,
    /// For what.
    pub lock: LockIndex,
    /// Switch-out of the first.
    pub start: Monotonic,
    /// Switch-in of the last.
    pub end: Monotonic,
    /// How many; at least one.
    pub waits: u64,
    /// Switch-out to waking, of all.
    pub blocked: Ns,
    /// Waking to switch-in, of all.
    pub runq: Ns,
    /// The longest.
    pub max: Ns,
    /// Who ended the last one by a futex wake.
    pub waker: Option<ThreadIndex>,
    /// Where the last one was. Of the others the place is not known.
    pub waiter_stack: SideStack,
    /// Where the waker of the last one was when it let go.
    pub waker_stack: SideStack,
}
