//! Stop-the-world pauses: who asked for them, how long it took until all had stopped, who was the last
//! to stop, and for how long the world then stood still.
//!
//! Who stops the world waits for an event that the last thread to stop sets: that thread is its waker.
//! Who is stopped waits until the same requester lets go: the requester is its waker. So waits tell
//! all of it (`stop_the_world` and `start_the_world`, `Python/pystate.c`).

mod fold;

pub(super) use self::fold::PauseFold;
use crate::trace::records::SideStack;
use crate::units::{Ns, ThreadIndex};

/// All pauses of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    /// By who asked and where, the most time to stop and stopped first.
    pub requesters: Vec<PauseSums>,
    /// Pauses of requesters that found no room.
    pub left_out: u64,
}

/// Pauses that one thread asked for at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PauseSums {
    /// Who asked.
    pub requester: ThreadIndex,
    /// Where: its stack while it waited for the others to stop, else when it let them go on.
    pub stack: SideStack,
    /// It was the garbage collector.
    pub collecting: bool,
    /// Pauses.
    pub pauses: u64,
    /// Of those, the ones in which the requester was seen waiting for others to stop.
    pub awaited: u64,
    /// From the requester's beginning to wait until all had stopped.
    pub to_stop: Ns,
    /// The longest of those.
    pub max_to_stop: Ns,
    /// From then on until the last thread was let go.
    pub stopped: Ns,
    /// The longest of those.
    pub max_stopped: Ns,
    /// Threads that stood still, over all pauses.
    pub threads: u64,
    /// How long they did, together.
    pub paused: Ns,
    /// Who stopped last, the most time to stop first.
    pub late: Vec<Late>,
}

/// A thread that was the last to stop, at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// The thread; none: it did not say that it stopped, but left the interpreter, and the requester
    /// found that when it looked, as it does each millisecond.
    pub thread: Option<ThreadIndex>,
    /// Where it stopped.
    pub stack: SideStack,
    /// In how many pauses.
    pub pauses: u64,
    /// Of those, the ones in which it did not wake the requester, but was the last to stand still.
    pub inferred: u64,
    /// How long those took to stop.
    pub to_stop: Ns,
}
