//! Records of the ring buffer. Each begins with its `EVENT_*` number (u32) and a thread id (u32).

use crate::{FutexIdentity, plain_data};

/// A finished wait: [`WaitEvent`].
pub const EVENT_WAIT: u32 = 1;
/// A thread of the target, or a process with its first thread, was born: [`ThreadEvent`].
pub const EVENT_THREAD_NEW: u32 = 2;
/// A thread of the target is exiting: [`ThreadEvent`].
pub const EVENT_THREAD_EXIT: u32 = 3;
/// The target called `execve`: [`ThreadEvent`].
pub const EVENT_EXEC: u32 = 4;
/// A stack that was not sent before: [`crate::stack::StackEvent`].
pub const EVENT_STACK: u32 = 5;

/// A waiter's native stack: [`crate::stack::NativeEvent`].
pub const EVENT_NATIVE: u32 = 6;

/// A long run of yields of one thread for one lock: [`SpinEvent`].
pub const EVENT_SPIN: u32 = 7;

/// Waits below the threshold of one thread for one lock, added up: [`ShortEvent`].
pub const EVENT_SHORT: u32 = 8;

/// The wait was under way when the recording began: its start is the recording's.
pub const WAIT_CLIPPED_START: u32 = 1 << 0;
/// The wait was under way when the recording ended: its end is the recording's.
pub const WAIT_CLIPPED_END: u32 = 1 << 1;
/// An episode was woken before it had left the CPU: its blocked time is 0.
pub const WAIT_WOKEN_BEFORE_SLEEP: u32 = 1 << 2;
/// No waking was seen for an episode: all of it is charged to blocked time, none to run-queue.
pub const WAIT_WAKE_UNSEEN: u32 = 1 << 3;
/// The holder's stack may be wrong: it ran on while it was read.
pub const WAIT_HOLDER_MOVED: u32 = 1 << 4;
/// The holder's stack is incomplete: it changed while it was read.
pub const WAIT_HOLDER_ENDED_EARLY: u32 = 1 << 5;
/// The waiter's stack was not walked: it is that of a wait like it (set by the recorder).
pub const WAIT_WAITER_ESTIMATED: u32 = 1 << 6;
/// The same of the waker's.
pub const WAIT_WAKER_ESTIMATED: u32 = 1 << 7;

/// One wait of one thread on one futex: one or more blocked episodes, stitched.
///
/// All times are `CLOCK_MONOTONIC` nanoseconds (`bpf_ktime_get_ns`).
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct WaitEvent {
    /// [`EVENT_WAIT`].
    pub event: u32,
    /// The waiter, as the host numbers it.
    pub tid: u32,
    /// Switch-out of the first episode.
    pub start_ns: u64,
    /// Switch-in of the last episode.
    pub end_ns: u64,
    /// Switch-out to waking, summed over the episodes.
    pub blocked_ns: u64,
    /// Waking to switch-in, summed over the episodes.
    pub runq_ns: u64,
    /// See [`FutexIdentity::uaddr`].
    pub uaddr: u64,
    /// See [`FutexIdentity::lock`].
    pub lock: u64,
    /// See [`FutexIdentity::park_arg`].
    pub park_arg: u64,
    /// See [`FutexIdentity::object_type`].
    pub object_type: u64,
    /// See [`FutexIdentity::op`].
    pub op: u32,
    /// See [`FutexIdentity::val`].
    pub val: u32,
    /// A [`crate::Shape`] number.
    pub shape: u32,
    /// `WAIT_*` flags, of any episode.
    pub flags: u32,
    /// Blocked episodes in this wait.
    pub episodes: u32,
    /// The thread whose `FUTEX_WAKE` on this futex ended the wait; 0 if none did (timeout, signal).
    pub waker_tid: u32,
    /// Id of the waiter's Python stack, or a [`crate::NoStack`] number.
    pub waiter_stack: u64,
    /// Id of the waiter's native stack (`--native`), or a [`crate::NoStack`] number.
    pub native_stack: u64,
    /// The same as `waiter_stack` of the waker's, at the moment of the waking.
    pub waker_stack: u64,
    /// The same of the GIL's holder's, at the last link of a chain.
    pub holder_stack: u64,
    /// The holder's thread, as its own PID namespace numbers it; 0 if it is not known.
    pub holder_ns_tid: u32,
    /// See [`FutexIdentity::marks`].
    pub marks: u32,
    /// See [`FutexIdentity::object`].
    pub object: u64,
    /// See [`FutexIdentity::owner`].
    pub owner: u64,
    /// First local variables of the innermost Python frames of `waiter_stack`, leaf first: `self`, if
    /// they are methods. 0: not read.
    pub subjects: [u64; SUBJECTS],
}

/// Waits below the threshold of one thread for one lock, added up until one of them had its stacks
/// walked. They are in no other sum.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct ShortEvent {
    /// [`EVENT_SHORT`], and the last of them: what it waited for, who woke it, the stacks. Its times
    /// are those of all: the first one's start, the last one's end, and their sums.
    pub wait: WaitEvent,
    /// How many.
    pub waits: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

/// Frames whose first local variable is read: enough to get from `Condition.wait` to the barrier or
/// queue that uses the condition.
pub const SUBJECTS: usize = 4;

impl WaitEvent {
    /// The identity part of the record.
    #[must_use]
    pub fn identity(&self) -> FutexIdentity {
        FutexIdentity {
            uaddr: self.uaddr,
            lock: self.lock,
            park_arg: self.park_arg,
            object_type: self.object_type,
            op: self.op,
            val: self.val,
            shape: self.shape,
            marks: self.marks,
            object: self.object,
            owner: self.owner,
        }
    }
}

/// A run of yields for one lock that took long enough to be told by itself. What is told here is in
/// no [`crate::SpinTotals`].
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct SpinEvent {
    /// [`EVENT_SPIN`].
    pub event: u32,
    /// Who yielded, as the host numbers it.
    pub tid: u32,
    /// Switch-out of the first yield, in `CLOCK_MONOTONIC` nanoseconds.
    pub start_ns: u64,
    /// When something else followed.
    pub end_ns: u64,
    /// Nanoseconds off the CPU between them.
    pub yielded_ns: u64,
    /// Yields that gave the CPU away.
    pub yields: u64,
    /// The lock.
    pub lock: u64,
    /// As [`FutexIdentity::object_type`]; 0 if it could not be read.
    pub object_type: u64,
    /// Python stack at the first of the yields: an id, or a [`crate::NoStack`] number.
    pub stack: u64,
}

/// A change in the life of a thread.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct ThreadEvent {
    /// `EVENT_THREAD_NEW`, `EVENT_THREAD_EXIT` or `EVENT_EXEC`.
    pub event: u32,
    /// The thread, as the host numbers it.
    pub tid: u32,
    /// When, in `CLOCK_MONOTONIC` nanoseconds.
    pub time_ns: u64,
    /// The thread's kernel name (comm), NUL padded.
    pub comm: [u8; 16],
    /// In a recording of several processes: the thread's process. Else 0.
    pub tgid: u32,
    /// Likewise: see [`crate::ProcessState::number`], for an exec that of the new memory.
    pub number: u32,
    /// A process that is born: the one that forked it. Else 0.
    pub parent: u32,
    /// Always 0.
    pub _pad: u32,
}

plain_data!(WaitEvent = 184, ShortEvent = 200, SpinEvent = 64, ThreadEvent = 48);
