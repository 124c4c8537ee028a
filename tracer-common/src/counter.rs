//! Counters that the kernel side keeps per CPU: what was lost and why, and what happened.

use crate::plain_data;

/// Why something that should have been recorded was not. Index into the `DROPS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DropReason {
    /// The ring buffer was full: a wait event was lost (its time is kept, per shape).
    RingFullWait = 0,
    /// The ring buffer was full: a thread's birth, death or exec was lost.
    RingFullThread = 1,
    /// The table of threads was full: all waits of a thread are missing.
    ThreadTableFull = 2,
    /// A thread of the target ran that the table doesn't have.
    ThreadUnknown = 3,
    /// A dead thread's totals were overwritten by a new one with its id before they were read.
    ThreadOverwritten = 4,
    /// The words before a futex on the stack could not be read: the wait has no lock.
    ParkWordsFault = 5,
    /// The word that would be the object's type could not be read: the wait has no type.
    ObjectTypeFault = 6,
    /// The return address of a `sched_yield` call could not be read.
    YieldStackFault = 7,
    /// The table of spun-on locks was full: yields went to the unattributed ones.
    SpinTableFull = 8,
    /// The saved registers of a task could not be had.
    NoRegisters = 9,
    /// The ring buffer was full: a stack was not sent, and the waits that have it have none.
    RingFullStack = 10,
    /// The table of thread states was full: a thread is searched for at each walk.
    ThreadStateTableFull = 11,
    /// A walk of a stack that stands still met a frame that could not be read.
    StackFrameFault = 12,
    /// Such a walk met a frame pointer that can't be one.
    StackBadFrame = 13,
    /// Such a walk met a frame without a code object.
    StackNotCode = 14,
    /// Such a walk met a code object that could not be read.
    StackCodeFault = 15,
    /// The ring buffer was full: a native stack was lost.
    RingFullNative = 16,
    /// A native stack could not be read.
    NativeStackFault = 17,
    /// The table of processes was full: a child, and all that it forks, is not traced.
    ProcessTableFull = 18,
    /// With an energy counter: a switch of a CPU was not seen, so that up to a sampling period of its time
    /// may have gone to the wrong thread.
    EnergySwitchUnseen = 19,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = 20;
    /// Every reason with its name in the trace and in every output, in the order of its number.
    pub const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::RingFullWait, "ring_full_wait"),
        (Self::RingFullThread, "ring_full_thread"),
        (Self::ThreadTableFull, "thread_table_full"),
        (Self::ThreadUnknown, "thread_unknown"),
        (Self::ThreadOverwritten, "thread_overwritten"),
        (Self::ParkWordsFault, "park_words_fault"),
        (Self::ObjectTypeFault, "object_type_fault"),
        (Self::YieldStackFault, "yield_stack_fault"),
        (Self::SpinTableFull, "spin_table_full"),
        (Self::NoRegisters, "no_registers"),
        (Self::RingFullStack, "ring_full_stack"),
        (Self::ThreadStateTableFull, "thread_state_table_full"),
        (Self::StackFrameFault, "stack_frame_fault"),
        (Self::StackBadFrame, "stack_bad_frame"),
        (Self::StackNotCode, "stack_not_code"),
        (Self::StackCodeFault, "stack_code_fault"),
        (Self::RingFullNative, "ring_full_native"),
        (Self::NativeStackFault, "native_stack_fault"),
        (Self::ProcessTableFull, "process_table_full"),
        (Self::EnergySwitchUnseen, "energy_switch_unseen"),
    ];
}

/// Things worth knowing that are no loss. Index into the `STATS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stat {
    /// A waiter was woken while it was still on its CPU, so that it never slept.
    WokenBeforeSleep = 0,
    /// An episode ended without a waking having been seen.
    WakeUnseen = 1,
    /// Yields that gave up the CPU and could not be tied to a lock.
    YieldsUnattributed = 2,
    /// Nanoseconds given away in those.
    YieldedUnattributedNs = 3,
    /// With `--hooks syscall`: the futex arguments from the saved registers and those from the
    /// system call's tracepoint differed.
    ArgumentsMismatch = 4,
    /// With `--hooks syscall`: both forms gave arguments, and they agreed.
    ArgumentsMatch = 5,
    /// Children forked by the target that are not followed.
    ForkedChildren = 6,
    /// Walks of Python stacks that stand still (waiters and wakers).
    StacksWalked = 7,
    /// Of those, stacks deeper than is kept.
    StacksTruncated = 8,
    /// A thread went off its CPU that was not seen to be back from its futex wait. When it was back is
    /// known from its time on the CPU since it went to sleep.
    SwitchInUnseen = 9,
}

impl Stat {
    /// How many there are.
    pub const COUNT: usize = 10;
    /// Every counter with its name, in the order of its number.
    pub const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::WokenBeforeSleep, "woken_before_sleep"),
        (Self::WakeUnseen, "wake_unseen"),
        (Self::YieldsUnattributed, "spins_unattributed"),
        (Self::YieldedUnattributedNs, "yielded_unattributed_ns"),
        (Self::ArgumentsMismatch, "arguments_mismatch"),
        (Self::ArgumentsMatch, "arguments_match"),
        (Self::ForkedChildren, "forked_children"),
        (Self::StacksWalked, "stacks_walked"),
        (Self::StacksTruncated, "stacks_truncated"),
        (Self::SwitchInUnseen, "switch_in_unseen"),
    ];
}

/// Sums over waits of one shape that have no event of their own (below `--min-wait`, or lost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ShapeTotals {
    /// Waits.
    pub waits: u64,
    /// Nanoseconds from switch-out to waking.
    pub blocked_ns: u64,
    /// Nanoseconds from waking to switch-in.
    pub runq_ns: u64,
    /// The longest of them, nanoseconds.
    pub max_ns: u64,
}

/// What the system-call hooks (`--hooks syscall`) count, per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SyscallTotals {
    /// Futex wait calls that returned 0 (woken).
    pub waits_woken: u64,
    /// Futex wait calls that returned `EAGAIN`: the word had changed, the thread never slept.
    pub waits_again: u64,
    /// Futex wait calls that returned `ETIMEDOUT`.
    pub waits_timed_out: u64,
    /// Futex wait calls that were interrupted by a signal.
    pub waits_interrupted: u64,
    /// Futex wait calls with any other result.
    pub waits_failed: u64,
    /// Futex wake calls that woke somebody.
    pub wakes: u64,
    /// Futex wake calls that found nobody.
    pub wakes_empty: u64,
    /// `sched_yield` calls, whether they gave up the CPU or not.
    pub yields: u64,
}

/// Slots of [`LockTotals`], a power of two.
pub const LOCK_SLOTS: u32 = 512;

/// The part of a shape's [`ShapeTotals`] that is of one lock. A lock has a slot of a table without
/// hashing; one whose place is taken does without, and counts for its shape alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LockTotals {
    /// The parked address, or the futex; 0: nobody's slot.
    pub lock: u64,
    /// A [`crate::Shape`] number.
    pub shape: u32,
    /// Always 0.
    pub _pad: u32,
    /// Its waits.
    pub totals: ShapeTotals,
}

/// The slot of a lock.
#[must_use]
#[inline(always)]
pub const fn lock_slot(lock: u64) -> u32 {
    // The high bits of a product with 2^64 / golden ratio: locks lie at multiples of 8 or 16.
    (lock.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as u32 & (LOCK_SLOTS - 1)
}

plain_data!(ShapeTotals = 32, LockTotals = 48, SyscallTotals = 64);
