//! `--hooks syscall`: exact accounting of futex and `sched_yield` calls.
//!
//! Dearer than the scheduler hooks, and it disturbs: work between a waiter's decision to park and
//! the kernel's check of the futex word lengthens that race (docs/hooks.md has the numbers).
//!
//! Prototypes (`include/trace/events/syscalls.h`): `sys_enter(struct pt_regs *regs, long id)`,
//! `sys_exit(struct pt_regs *regs, long ret)`. Not the `syscalls:sys_enter_futex` events: programs
//! on those are perf-attached, and `trace_call_bpf` (`kernel/trace/bpf_trace.c`) silently skips
//! them now and then; 1 to 12 % of a lock storm's enter events went missing on 6.18, none here.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::ThreadState;

use super::energy;
use crate::counters::syscalls;
use crate::globals::{energy_samples, target_tgid};
use crate::identify::{self, is_wait, wait_of};
use crate::registers::{
    Registers, SYS_FUTEX, SYS_FUTEX_WAIT, SYS_FUTEX_WAITV, SYS_FUTEX_WAKE, SYS_SCHED_YIELD,
};
use crate::spin;
use crate::task::{Task, now};
use crate::{process, states};

const FUTEX_WAKE: u32 = 1;
const FUTEX_WAKE_BITSET: u32 = 10;
const FUTEX_COMMAND: u32 = 127;

const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
const ETIMEDOUT: i64 = -110;
/// `ERESTARTSYS` to `ERESTART_RESTARTBLOCK`: a signal, the call is restarted or becomes `EINTR`.
const RESTARTS: core::ops::RangeInclusive<i64> = -516..=-512;

/// Calls further apart than this are not of one wait for a lock. Between two yields of one spin lies a
/// user-mode loop of a few instructions, and next to nothing on the way from the last one to the park;
/// but who finds a lock taken again soon after it had it was away for little more.
const SPIN_GAP_NS: u64 = 2_000;

#[btf_tracepoint(function = "sys_enter")]
fn lw_sys_enter(ctx: BtfTracePointContext) -> i32 {
    let registers = Registers::from_argument(ctx.arg(0));
    match ctx.arg::<u64>(1) {
        SYS_FUTEX | SYS_FUTEX_WAIT | SYS_FUTEX_WAITV | SYS_FUTEX_WAKE => {
            let now = now();
            if let Some(state) = current_state() {
                enter_futex(state, registers, now);
            }
        }
        SYS_SCHED_YIELD => {
            // Before the table is looked into, which after a while in user mode is slow: what
            // passes until here is missing in the time measured.
            let now = now();
            if let Some(state) = current_state() {
                enter_yield(state, registers, now);
            }
        }
        _ => {}
    }
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn lw_sys_exit(ctx: BtfTracePointContext) -> i32 {
    match Registers::from_argument(ctx.arg(0)).syscall() {
        SYS_FUTEX | SYS_FUTEX_WAIT | SYS_FUTEX_WAITV | SYS_FUTEX_WAKE => {
            if let Some(state) = current_state() {
                leave_futex(state, Registers::from_argument(ctx.arg(0)), ctx.arg(1));
            }
        }
        SYS_SCHED_YIELD => {
            if let Some(state) = current_state() {
                leave_yield(state);
            }
        }
        _ => {}
    }
    0
}

#[inline(always)]
fn enter_futex(state: &mut ThreadState, registers: Registers, now: u64) {
    let syscall = &mut state.syscall;
    let gap = now.saturating_sub(state.spin.mark_ns);
    state.spin.gap_ns = if gap < SPIN_GAP_NS { gap as u16 } else { 0 };
    state.spin.mark_ns = now;
    syscall.sp = registers.sp();
    if let Some(wait) = wait_of(registers) {
        syscall.uaddr = wait.uaddr;
        syscall.op = wait.op;
        syscall.val = wait.val;
    } else {
        syscall.uaddr = registers.argument::<0>();
        // futex_wake has no op: it is a wake by its number.
        let futex = registers.syscall() == SYS_FUTEX;
        syscall.op = if futex { registers.argument::<1>() as u32 } else { FUTEX_WAKE };
        state.spin.gap_ns = 0;
        // Once it has woken somebody its word may be gone. Of a wait nothing is read here: the lock may
        // come free meanwhile.
        syscall.sp = if energy_samples() == 0 { 0 } else { identify::lock_of_call(registers) };
    }
    syscall.active = 1;
}

#[inline(always)]
fn enter_yield(state: &mut ThreadState, registers: Registers, now: u64) {
    let gap = now.saturating_sub(state.spin.mark_ns);
    let spinning = state.spin.yields != 0;
    // SAFETY: a helper without arguments.
    let current = Task(unsafe { bpf_get_current_task_btf() }.cast());
    spin::on_yield(state, registers, current);
    // on_yield begins anew, with one yield, if the place or the lock is another.
    if spinning && state.spin.yields > 1 && gap < SPIN_GAP_NS {
        // The way into the spin's first call and out of its last one can't be seen from here. Together
        // they are one more of what lies between two of them.
        let spun = if state.spin.is_first != 0 { 2 * gap } else { gap };
        state.spin.is_first = 0;
        state.spin.spin_ns += spun;
        energy::spun(current.pid(), state.spin.lock, spun);
    } else {
        state.spin.is_first = 1;
    }
    state.spin.mark_ns = now;
    state.syscall.yielding = 1;
    syscalls(|totals| totals.yields += 1);
}

#[inline(always)]
fn leave_yield(state: &mut ThreadState) {
    if state.syscall.yielding != 0 {
        let now = now();
        // On the CPU since the call, or since the last switch-in if it gave the CPU away.
        let since = state.spin.mark_ns.max(state.in_ns);
        let spun = now.saturating_sub(since);
        state.spin.spin_ns += spun;
        energy::spun(bpf_get_current_pid_tgid() as u32, state.spin.lock, spun);
        state.spin.mark_ns = now;
        state.syscall.yielding = 0;
    }
}

#[inline(always)]
fn leave_futex(state: &mut ThreadState, registers: Registers, result: i64) {
    if state.syscall.active == 0 {
        return;
    }
    state.syscall.active = 0;
    let op = state.syscall.op;
    at_lock(state, registers);
    syscalls(|totals| {
        if is_wait(op) {
            match result {
                EAGAIN => totals.waits_again += 1,
                ETIMEDOUT => totals.waits_timed_out += 1,
                EINTR => totals.waits_interrupted += 1,
                _ if RESTARTS.contains(&result) => totals.waits_interrupted += 1,
                _ if result >= 0 => totals.waits_woken += 1,
                _ => totals.waits_failed += 1,
            }
        } else if matches!(op & FUTEX_COMMAND, FUTEX_WAKE | FUTEX_WAKE_BITSET) {
            if result > 0 {
                totals.wakes += 1;
            } else {
                totals.wakes_empty += 1;
            }
        }
    });
}

/// The current thread leaves a futex call: the time in it since its beginning, or the last switch-in.
#[inline(always)]
fn at_lock(state: &mut ThreadState, registers: Registers) {
    let now = now();
    let begun = state.spin.mark_ns;
    let waited = is_wait(state.syscall.op);
    state.spin.mark_ns = if waited { now } else { 0 };
    if energy_samples() == 0 {
        return;
    }
    let slept = state.in_ns > begun && state.current.uaddr == state.syscall.uaddr;
    let lock = if !waited {
        state.syscall.sp
    } else if slept {
        state.current.lock
    } else {
        identify::lock_of_call(registers)
    };
    let spent = now.saturating_sub(begun.max(state.in_ns));
    let tid = bpf_get_current_pid_tgid() as u32;
    energy::spun(tid, lock, spent + energy::straight(state, lock));
}

#[inline(always)]
fn current_state() -> Option<&'static mut ThreadState> {
    let id = bpf_get_current_pid_tgid();
    if !process::includes_process::<false>(target_tgid(), (id >> 32) as u32) {
        return None;
    }
    // A thread that the table lacks is counted at its next switch.
    states::of(id as u32)
}
