//! Birth, exec and death of the target's threads.
//!
//! Prototypes (`include/trace/events/sched.h`): `sched_process_fork(parent, child)`,
//! `sched_process_exec(p, old_pid, bprm)`, `sched_process_exit(p, ...)`.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::warn;
use tracer_common::{
    DropReason, EVENT_EXEC, EVENT_THREAD_EXIT, EVENT_THREAD_NEW, Stat, ThreadState,
};

use crate::counters::{count, lost};
use crate::globals::target_tgid;
use crate::maps::{THREADS, ZERO_STATE};
use crate::task::{Task, now};
use crate::{emit, episode, pystack, quick, spin};

/// A thread of the target begins.
#[btf_tracepoint(function = "sched_process_fork")]
fn lw_fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task(ctx.arg(0)), Task(ctx.arg(1)));
    if child.tgid() == target_tgid() {
        let tid = child.pid();
        if THREADS.get_ptr(tid).is_some() {
            lost(DropReason::ThreadOverwritten);
        }
        if !insert(tid) {
            lost(DropReason::ThreadTableFull);
            warn!(&ctx, "thread {} is not traced: the table of threads is full", tid);
        }
        quick::claim(tid);
        emit::thread(EVENT_THREAD_NEW, tid, now());
    } else if parent.tgid() == target_tgid() {
        count(Stat::ForkedChildren, 1);
    }
    0
}

/// The target replaced itself: the thread that did goes on as the leader.
#[btf_tracepoint(function = "sched_process_exec")]
fn lw_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if task.tgid() == target_tgid() {
        emit::thread(EVENT_EXEC, task.pid(), now());
    }
    0
}

/// A thread of the target ends. Its state stays in the map for user space to read and remove.
#[btf_tracepoint(function = "sched_process_exit")]
fn lw_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if task.tgid() == target_tgid() {
        let (tid, now) = (task.pid(), now());
        if let Some(state) = THREADS.get_ptr_mut(tid) {
            // SAFETY: a live map value of the current task, which is on this CPU.
            let state: &mut ThreadState = unsafe { &mut *state };
            episode::close(tid, state, 0);
            // A little behind: up to date at the last tick or switch.
            state.exit_exec_ns = task.exec_ns();
            spin::flush(tid, state, now, state.exit_exec_ns);
        }
        quick::release(tid);
        pystack::forget(tid);
        emit::thread(EVENT_THREAD_EXIT, tid, now);
    }
    0
}

#[inline(always)]
fn insert(tid: u32) -> bool {
    // SAFETY: nobody ever writes the zero state.
    ZERO_STATE.get(0).is_some_and(|zero| THREADS.insert(tid, zero, 0).is_ok())
}
