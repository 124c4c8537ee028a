//! A walk and nothing else, for `cargo xtask bench walk`. No recording attaches it: interrupts are on
//! at `sys_enter`, so a program of the scheduler's hooks could come in between and use its scratch.

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::globals::target_tgid;
use crate::pystack;
use crate::registers::SYS_SCHED_YIELD;
use crate::task::{Task, now};

/// Prototype (`include/trace/events/syscalls.h`): `sys_enter(struct pt_regs *regs, long id)`.
#[btf_tracepoint(function = "sys_enter")]
fn lw_walk(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<u64>(1) != SYS_SCHED_YIELD {
        return 0;
    }
    // SAFETY: a helper without arguments.
    let current = Task(unsafe { bpf_get_current_task_btf() }.cast());
    if current.tgid() == target_tgid() {
        pystack::of_task(current, now());
    }
    0
}
