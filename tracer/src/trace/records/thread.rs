//! Threads, and the locks that they seem to have at the end.

use serde::{Deserialize, Serialize};

use crate::units::{Address, Monotonic, Ns, ProcessIndex, ThreadIndex, Tid};

/// A thread of the target. Snapshots: a later record of the same index replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadRecord {
    /// Its number in this trace, from 0.
    pub index: ThreadIndex,
    /// Its id on the host.
    pub tid: Tid,
    /// Its process.
    pub process: ProcessIndex,
    /// Its name in the kernel (comm).
    pub name: String,
    /// Its name in Python (`threading.Thread.name`), if that was read.
    pub python_name: Option<String>,
    /// When it was born, if during the recording.
    pub born: Option<Monotonic>,
    /// When it ended, if during the recording.
    pub ended: Option<Monotonic>,
    /// Time on a CPU during the recording.
    pub oncpu: Ns,
    /// Switch-outs into a blocked futex wait, before any stitching.
    pub futex_switches: u64,
    /// Switch-outs from `sched_yield`.
    pub yield_switches: u64,
}

/// A lock that a thread seems to have which was blocked when the recording ended: read from its
/// frames, because the lock itself does not say who has it. An inference, not a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeldRecord {
    /// Who seems to have it.
    pub thread: ThreadIndex,
    /// The lock object (`id(lock)`).
    pub object: Address,
    /// What is waited on in it, as [`LockRecord::lock`](super::LockRecord::lock); 0 if that is not
    /// known.
    pub lock: Address,
    /// What says so.
    pub how: HeldHow,
    /// Which of the thread's Python frames says so; 0 is the leaf. They are those of the waiter's
    /// stack of the wait that was under way.
    pub depth: u32,
}

/// What says that a thread has a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldHow {
    /// The frame is inside a `with` block of it: its `__exit__` waits on the frame's stack.
    With,
    /// The frame's code has called its `acquire`, and not its `release` since.
    Acquire,
    /// Something that this version doesn't know, and does not believe.
    #[default]
    #[serde(other)]
    Other,
}
