//! Birth, exec and death of the target's threads.
//!
//! Prototypes (`include/trace/events/sched.h`): `sched_process_fork(parent, child)`,
//! `sched_process_exec(p, old_pid, bprm)`, `sched_process_exit(p, ...)`.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::warn;
use tracer_common::{DropReason, EVENT_EXEC, EVENT_THREAD_EXIT, EVENT_THREAD_NEW, Stat};

use crate::counters::{count, lost};
use crate::emit::Origin;
use crate::globals::{follow_forks, target_tgid};
use crate::maps::THREADS;
use crate::task::{Task, now};
use crate::{emit, episode, process, pystack, short, spin, states};

/// A thread of the target begins, or a process that is a child of a traced one.
#[btf_tracepoint(function = "sched_process_fork")]
fn lw_fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task(ctx.arg(0)), Task(ctx.arg(1)));
    let origin = match origin_of(&ctx, parent, child) {
        Birth::Traced(origin) => origin,
        Birth::NotFollowed => {
            count(Stat::ForkedChildren, 1);
            return 0;
        }
        Birth::Foreign => return 0,
    };
    let tid = child.pid();
    if THREADS.get_ptr(tid).is_some() {
        lost(DropReason::ThreadOverwritten);
    }
    if !states::add(tid, origin.tgid) {
        lost(DropReason::ThreadTableFull);
        warn!(&ctx, "thread {} is not traced: the table of threads is full", tid);
    }
    emit::thread(EVENT_THREAD_NEW, tid, now(), origin);
    0
}

/// What a fork is to the recording.
enum Birth {
    /// A thread, or a process with its first thread, that is traced.
    Traced(Origin),
    /// A process whose parent is traced.
    NotFollowed,
    /// Nothing.
    Foreign,
}

#[inline(always)]
fn origin_of(ctx: &BtfTracePointContext, parent: Task, child: Task) -> Birth {
    let (parent, child) = (parent.tgid(), child.tgid());
    if !process::several() {
        let target = target_tgid();
        return match (child == target, parent == target) {
            (true, _) => Birth::Traced(Origin::default()),
            (false, true) => Birth::NotFollowed,
            (false, false) => Birth::Foreign,
        };
    }
    let Some(known) = process::of(parent) else { return Birth::Foreign };
    if child == parent {
        let number = known.number;
        return Birth::Traced(Origin { tgid: child, number, parent: 0 });
    }
    if follow_forks() == 0 {
        return Birth::NotFollowed;
    }
    let number = process::next_number().filter(|&number| process::add_child(child, known, number));
    let Some(number) = number else {
        lost(DropReason::ProcessTableFull);
        warn!(ctx, "process {} is not traced: the table of processes is full", child);
        return Birth::Foreign;
    };
    Birth::Traced(Origin { tgid: child, number, parent })
}

/// The target replaced itself: the thread that did goes on as the leader.
#[btf_tracepoint(function = "sched_process_exec")]
fn lw_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if let Some(mut origin) = origin_now(task) {
        if let Some(state) = states::of(task.pid()) {
            short::flush(state); // from now on there are other locks at the same addresses
        }
        if process::several() {
            // Should there be no number, the old one's names are taken for the new one's.
            origin.number = process::next_number().unwrap_or(origin.number);
            process::renew(origin.tgid, origin.number);
        }
        emit::thread(EVENT_EXEC, task.pid(), now(), origin);
    }
    0
}

/// Of which traced process a task is; `None`: of none.
#[inline(always)]
fn origin_now(task: Task) -> Option<Origin> {
    let tgid = task.tgid();
    if !process::several() {
        return (tgid == target_tgid()).then_some(Origin::default());
    }
    process::of(tgid).map(|known| Origin { tgid, number: known.number, parent: 0 })
}

/// A thread of the target ends. Its state stays in the map for user space to read and remove.
#[btf_tracepoint(function = "sched_process_exit")]
fn lw_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if let Some(origin) = origin_now(task) {
        let (tid, now) = (task.pid(), now());
        episode::lw_back_unseen(tid, now, task.exec_ns());
        if let Some(state) = states::of(tid) {
            episode::close(tid, state, 0);
            // A little behind: up to date at the last tick or switch.
            state.exit_exec_ns = task.exec_ns();
            spin::flush(tid, state, now, state.exit_exec_ns);
            short::flush(state);
        }
        states::retire(tid);
        pystack::forget(tid);
        emit::thread(EVENT_THREAD_EXIT, tid, now, origin);
    }
    0
}
