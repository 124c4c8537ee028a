//! Per-thread state of the kernel side, one map value per thread of the target.
//!
//! Written only by the CPU that switches the thread in or out, but for `wake_ns`, `waker_tid` and the
//! stacks, which the waker's CPU writes while the thread is off its CPU or about to leave it.

use crate::{FutexIdentity, SUBJECTS, ShapeTotals, plain_data};

/// Not seen yet, or back from a futex wait. Other switch-ins are not looked at by default, so the
/// other reasons stay until the next switch-out.
pub const WHY_RUNNING: u32 = 0;
/// Off the CPU: blocked in a futex wait.
pub const WHY_FUTEX: u32 = 1;
/// Off the CPU: gave it away in `sched_yield` (`--hooks syscall` only).
pub const WHY_YIELD: u32 = 2;
/// Off the CPU: blocked in something else.
pub const WHY_OTHER: u32 = 3;
/// Off the CPU: preempted.
pub const WHY_PREEMPTED: u32 = 4;

/// One or more blocked episodes that make one wait.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Chain {
    /// What is waited for; episodes join a chain only if this agrees.
    pub id: FutexIdentity,
    /// Switch-out of the first episode.
    pub start_ns: u64,
    /// Switch-in of the last episode.
    pub end_ns: u64,
    /// Sum over the episodes.
    pub blocked_ns: u64,
    /// Sum over the episodes.
    pub runq_ns: u64,
    /// Episodes so far; 0 = no chain.
    pub episodes: u32,
    /// `WAIT_*` flags so far.
    pub flags: u32,
}

/// Consecutive `sched_yield` calls from one place for one lock.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Spin {
    /// Stack pointer at the call: the same loop has the same.
    pub sp: u64,
    /// Return address of the call; 0 if it could not be read.
    pub ret: u64,
    /// Value of the register that holds the lock there; 0 while that isn't learned.
    pub lock: u64,
    /// Yields since the last flush; 0 = no spin.
    pub yields: u64,
    /// Switch-out of the first of them; 0 with `--hooks syscall`, which times each yield.
    pub start_ns: u64,
    /// The thread's `sum_exec_runtime` at that moment.
    pub start_exec_ns: u64,
    /// Nanoseconds off the CPU in them (`--hooks syscall` only).
    pub yielded_ns: u64,
    /// Nanoseconds on the CPU in and between them (`--hooks syscall` only).
    pub spin_ns: u64,
    /// When the running `sched_yield` or futex call began, or the last one ended; 0: that was not to
    /// wait (`--hooks syscall` only).
    pub mark_ns: u64,
    /// Python stack at the first of the yields: an id, or a [`crate::NoStack`] number.
    pub stack: u64,
    /// Callee-saved registers at the last yield, to learn from: rbx, rbp, r12 to r15.
    pub registers: [u64; SPIN_REGISTERS],
    /// 1-based index of the learned register, 0 = not learned.
    pub register: u32,
    /// Nanoseconds from such a call's end to the beginning of the futex wait under way, if the thread
    /// went straight from one to the other; else 0 (`--hooks syscall` only).
    pub gap_ns: u16,
    /// 1 if the last yield was the first of its spin (`--hooks syscall` only).
    pub is_first: u16,
}

/// Callee-saved registers of x86_64 that can hold the lock across a call (System V ABI).
pub const SPIN_REGISTERS: usize = 6;

/// A system call under way, from `sys_enter` (`--hooks syscall`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SyscallState {
    /// The futex word's user address.
    pub uaddr: u64,
    /// User stack pointer at the call. Of a call that wakes, which has no use for it: the lock, as far
    /// as the arguments say.
    pub sp: u64,
    /// The `op` argument (`FUTEX_WAIT_BITSET` for `futex_wait` and `futex_waitv`).
    pub op: u32,
    /// The `val` argument.
    pub val: u32,
    /// 1 while inside a futex call.
    pub active: u32,
    /// 1 while inside `sched_yield`.
    pub yielding: u32,
}

/// Locks of which a thread adds up its waits below the threshold: it may wait for its own lock and for
/// the GIL in turns.
pub const SHORT_LOCKS: usize = 4;

/// Waits below the threshold of one thread for one lock, of which no record has told yet.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ShortSums {
    /// The lock; where there is none the futex. No waits: nobody's.
    pub lock: u64,
    /// A [`crate::Shape`] number.
    pub shape: u32,
    /// Always 0.
    pub _pad: u32,
    /// Switch-out of the first, in `CLOCK_MONOTONIC` nanoseconds.
    pub since_ns: u64,
    /// The waits.
    pub totals: ShapeTotals,
}

/// The place that a lock takes among them if all have others.
#[must_use]
#[inline(always)]
pub const fn short_slot(lock: u64) -> usize {
    // As `counter::lock_slot`: the highest bits of the product.
    (lock.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62) as usize
}

const _: () = assert!(SHORT_LOCKS == 4, "short_slot has two bits");

/// A semaphore whose object is known, as the thread found it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct KnownSemaphore {
    /// [`FutexIdentity::uaddr`]; 0: none is known.
    pub uaddr: u64,
    /// [`FutexIdentity::object`]; it had no owner.
    pub object: u64,
    /// [`FutexIdentity::object_type`].
    pub object_type: u64,
    /// Believed before this time.
    pub until_ns: u64,
}

/// Everything known of one thread.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ThreadState {
    /// Last switch-in (`--hooks syscall` only).
    pub in_ns: u64,
    /// Last switch-out that was no yield; 0 = none seen.
    pub out_ns: u64,
    /// `sum_exec_runtime` at the last switch-out into a futex wait.
    pub out_exec_ns: u64,
    /// Waking of the blocked wait under way, or of the next one; 0 = none yet.
    pub wake_ns: u64,
    /// `sum_exec_runtime` at exit; 0 before.
    pub exit_exec_ns: u64,
    /// Switch-outs into a blocked futex wait, before any stitching.
    pub futex_switches: u64,
    /// Switch-outs from `sched_yield`, up to the last flush of the spin.
    pub yield_switches: u64,
    /// A `WHY_*` number.
    pub why: u32,
    /// Who woke the thread by a futex wake on its futex; 0 = somebody or something else.
    pub waker_tid: u32,
    /// In a recording of several processes: the thread's process. Else 0.
    pub tgid: u32,
    /// Always 0.
    pub _pad: u32,
    /// What the blocked wait under way waits for.
    pub current: FutexIdentity,
    /// The semaphore that the thread last looked at.
    pub known: KnownSemaphore,
    /// The wait that may still go on.
    pub chain: Chain,
    /// The waiter's Python stack in `chain`, or in the wait that begins: an id, or a
    /// [`crate::NoStack`] number.
    pub waiter_stack: u64,
    /// The waiter's native stack, likewise.
    pub native_stack: u64,
    /// The waker's Python stack at the last waking.
    pub waker_stack: u64,
    /// The GIL holder's at the last link of `chain`.
    pub holder_stack: u64,
    /// That holder, as its own PID namespace numbers it; 0 if it is not known.
    pub holder_ns_tid: u32,
    /// `WAIT_HOLDER_*` flags of that stack.
    pub holder_flags: u32,
    /// First local variables of the innermost frames of `waiter_stack`, leaf first; 0: not read.
    pub subjects: [u64; SUBJECTS],
    /// The spin that may still go on.
    pub spin: Spin,
    /// The system call under way.
    pub syscall: SyscallState,
    /// Waits below the threshold, by lock, in no order.
    pub short: [ShortSums; SHORT_LOCKS],
}

/// Slots of [`QuickState`], a power of two.
pub const QUICK_SLOTS: u32 = 8192;

/// Asleep in a futex wait.
pub const ASLEEP: u32 = 1;
/// The same, for a lock that says what it is without a stack.
pub const ASLEEP_TOLD: u32 = 2;
/// Awake, and with yields that are not booked yet. A thread that is neither asleep nor spins has
/// nothing that a preemption could change.
pub const SPINS: u32 = 4;

/// What the most frequent switches look at, of one thread: a cache line in a table without hashing,
/// at the thread's id modulo [`QUICK_SLOTS`]. A thread whose place is taken does without.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct QuickState {
    /// Whose it is; 0: nobody's.
    pub tid: u32,
    /// [`ASLEEP`] or [`ASLEEP_TOLD`]: its next switch-in ends a futex wait. [`SPINS`]: it does not. 0:
    /// neither.
    pub asleep: u32,
    /// [`Spin::sp`] of the spin under way; 0: none, or its register is not learned.
    pub sp: u64,
    /// [`Spin::lock`].
    pub lock: u64,
    /// Yields of that spin that [`Spin::yields`] has not yet.
    pub yields: u64,
    /// [`Spin::register`].
    pub register: u32,
    /// [`ThreadState::waker_tid`] of `wake_ns`.
    pub waker_tid: u32,
    /// What is slept on; 0: nothing, or not known.
    pub uaddr: u64,
    /// [`ThreadState::out_ns`] of that sleep; 0: it began before the recording.
    pub out_ns: u64,
    /// A waking that [`ThreadState::wake_ns`] has not yet; 0: none. Written by the waker's CPU.
    pub wake_ns: u64,
}

/// A wait that was under way when the recording began, as user space found it in `/proc`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct InitialWait {
    /// What is waited for.
    pub id: FutexIdentity,
    /// The recording's start.
    pub start_ns: u64,
}

/// What is known of one place that calls `sched_yield`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SpinSite {
    /// How often each register was found to hold the lock: its value was named by the park that
    /// followed, or was the only one that looks like a `PyMutex`.
    pub votes: [u64; SPIN_REGISTERS],
    /// 1-based index of the register that holds the lock, 0 = not learned.
    pub register: u64,
    /// How often the values were looked at.
    pub looks: u64,
    /// Where the stub that was called goes on after its system call.
    pub stub: u64,
}

/// What yields are added up by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SpinKey {
    /// The lock's address.
    pub lock: u64,
    /// See [`Spin::stack`].
    pub stack: u64,
}

/// Yields tied to one lock and stack, per CPU.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SpinTotals {
    /// `sched_yield` calls (with default hooks those that gave up the CPU).
    pub yields: u64,
    /// Nanoseconds off the CPU in them.
    pub yielded_ns: u64,
    /// Nanoseconds on the CPU in and between them (`--hooks syscall` only).
    pub spin_ns: u64,
    /// What would be the type pointer of the object around the lock, read when it was first seen.
    pub object_type: u64,
}

plain_data!(
    Chain = 104,
    Spin = 136,
    SpinKey = 16,
    SyscallState = 32,
    ShortSums = 56,
    ThreadState = 736,
    InitialWait = 72,
    QuickState = 64,
    SpinSite = 72,
    SpinTotals = 32,
);
