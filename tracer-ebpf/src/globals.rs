//! Read-only globals that user space sets before loading. The verifier knows their values, so a
//! branch on one costs nothing and a kernel field can be read at an offset held in one.

use core::ptr::read_volatile;

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident, $symbol:ident: $type:ty = $default:expr;)+) => {$(
        #[unsafe(no_mangle)]
        static $symbol: $type = $default;

        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name() -> $type {
            // SAFETY: a plain read of an initialised static; volatile because the loader replaces
            // the value in the object's .rodata after the compiler is done with it.
            unsafe { read_volatile(&raw const $symbol) }
        }
    )+};
}

globals! {
    /// The traced process (thread group), as the host numbers it; 0: those in `PROCESSES`.
    target_tgid, TARGET_TGID: u32 = 0;
    /// 1 if the children of traced processes are traced as well (`--follow`).
    follow_forks, FOLLOW_FORKS: u32 = 0;
    /// Waits below this many nanoseconds get no event of their own.
    min_wait_ns, MIN_WAIT_NS: u64 = 10_000;
    /// 1 if the system-call tracepoints are attached as well (`--hooks syscall`).
    syscall_hooks, SYSCALL_HOOKS: u32 = 0;
    /// Walks for a reason that can be very frequent are so far apart, per CPU and reason: at some
    /// microseconds each that is a few per cent of a CPU at most.
    short_walk_every_ns, SHORT_WALK_EVERY_NS: u64 = 4_000_000;
    /// 1 if the waiters' native stacks are wanted (`--native`).
    native_stacks, NATIVE_STACKS: u32 = 0;
    /// What a wait's record takes of the limit (`tracer_common::rate::cost`); 0: there is none.
    rate_cost, RATE_COST: u64 = 0;
    /// How much of that may be taken at once (`tracer_common::rate::depth`).
    rate_depth, RATE_DEPTH: u64 = 0;
    /// Bytes in the ring buffer from which the reader is woken at once.
    wake_bytes, WAKE_BYTES: u64 = 0;
    /// Offset of `pid` in `struct task_struct`.
    task_pid, TASK_PID: u32 = 0;
    /// Offset of `tgid` in `struct task_struct`.
    task_tgid, TASK_TGID: u32 = 0;
    /// Offset of `__state` in `struct task_struct`.
    task_state, TASK_STATE: u32 = 0;
    /// PID namespaces between the host's and the target's: 0 if it is in the host's.
    namespace_level, NAMESPACE_LEVEL: u32 = 0;
    /// Offset of `thread_pid` in `struct task_struct`.
    task_thread_pid, TASK_THREAD_PID: u32 = 0;
    /// Offset of `numbers` in `struct pid`.
    pid_numbers, PID_NUMBERS: u32 = 0;
    /// Offset of `level` in `struct pid`.
    pid_level, PID_LEVEL: u32 = 0;
    /// 1 if there is an energy counter: samples are counted by thread as well.
    energy_samples, ENERGY_ON: u32 = 0;
    /// lockwatt's own process, as the host numbers it.
    own_tgid, OWN_TGID: u32 = 0;
    /// Offset of `flags` in `struct task_struct`.
    task_flags, TASK_FLAGS: u32 = 0;
    /// Offset of `se.sum_exec_runtime` in `struct task_struct`.
    task_exec, TASK_EXEC: u32 = 0;
}
