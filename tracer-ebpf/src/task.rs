//! Fields of `struct task_struct`, read directly at offsets that the verifier knows.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;

use crate::globals::{
    namespace_level, pid_level, pid_numbers, task_exec, task_flags, task_pid, task_state,
    task_tgid, task_thread_pid,
};
use crate::process;

/// A trusted task pointer: a `tp_btf` argument, or current.
#[derive(Clone, Copy)]
pub(crate) struct Task(pub(crate) *const c_void);

impl Task {
    /// Thread id on the host.
    #[inline(always)]
    pub(crate) fn pid(self) -> u32 {
        self.field(task_pid())
    }

    /// Process id on the host.
    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        self.field(task_tgid())
    }

    /// Scheduler state. By the time `sched_switch` fires a waker may have changed it: from 5.18 on
    /// the tracepoint's own argument is exact.
    #[inline(always)]
    pub(crate) fn state(self) -> u32 {
        self.field(task_state())
    }

    /// `PF_*` flags.
    #[inline(always)]
    pub(crate) fn flags(self) -> u32 {
        self.field(task_flags())
    }

    /// Nanoseconds on a CPU so far. Up to date for both tasks of a `sched_switch`: picking the
    /// next task puts the previous one (`update_curr`, `kernel/sched/fair.c`).
    #[inline(always)]
    pub(crate) fn exec_ns(self) -> u64 {
        self.field(task_exec())
    }

    /// Thread id in the target's own PID namespace; 0 if it can't be read. What CPython stores as
    /// `native_thread_id` (`gettid()`, `Python/thread_pthread.h`).
    #[inline(always)]
    pub(crate) fn namespace_tid(self) -> u32 {
        if process::several() {
            return self.innermost_tid();
        }
        if namespace_level() == 0 {
            return self.pid();
        }
        // `task_pid_nr_ns` of `kernel/pid.c`: task->thread_pid->numbers[level].nr, `struct upid`
        // being 16 bytes with `nr` first. Rare, so a probe read may do.
        let numbers = u64::from(pid_numbers()) + 16 * u64::from(namespace_level());
        let pid: u64 = self.field(task_thread_pid());
        // SAFETY: the helper checks the address and faults softly.
        unsafe { bpf_probe_read_kernel((pid + numbers) as *const u32) }.unwrap_or(0)
    }

    /// The same where each process can have a namespace of its own: that in which the task was born
    /// (`task_active_pid_ns`) is at `struct pid.level`.
    #[inline(always)]
    fn innermost_tid(self) -> u32 {
        let pid: u64 = self.field(task_thread_pid());
        let level = pid + u64::from(pid_level());
        // SAFETY: the helper checks the address and faults softly.
        let level = unsafe { bpf_probe_read_kernel(level as *const u32) }.unwrap_or(0);
        if level == 0 {
            return self.pid();
        }
        let number = pid + u64::from(pid_numbers()) + 16 * u64::from(level);
        // SAFETY: as above.
        unsafe { bpf_probe_read_kernel(number as *const u32) }.unwrap_or(0)
    }

    #[inline(always)]
    fn field<T: Copy>(self, offset: u32) -> T {
        // SAFETY: a trusted pointer, and a constant offset that the verifier checks against the
        // struct's BTF.
        unsafe { *self.0.cast::<u8>().add(offset as usize).cast::<T>() }
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { aya_ebpf::helpers::generated::bpf_ktime_get_ns() }
}
