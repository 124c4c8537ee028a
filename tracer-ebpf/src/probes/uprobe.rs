//! `--uprobes`: what libc's lock functions and the interpreter's slow paths are called for.
//!
//! Attached only on request. Every hit is an exception in the traced thread, which costs
//! microseconds and changes the contention (docs/hooks.md).
//!
//! A uprobe's program runs in the traced thread, which may be preempted in it: so what must be exact
//! is kept per thread, and has one writer.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_ebpf::macros::{map, uprobe, uretprobe};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use tracer_common::{UprobeLoss, UprobeThread, UseKey, UseKind, UseTotals};

use crate::globals::target_tgid;
use crate::registers::Registers;
use crate::task::now;

/// Lock, thread and kind -> what the thread did with it (u: a single entry without `--uprobes`). An
/// entry is written by its thread alone; user space takes those of dead threads.
#[map]
static USES: HashMap<UseKey, UseTotals> = HashMap::with_max_entries(1, 0);

/// Thread id -> the call under way that a uprobe saw begin, and hits (u: likewise).
#[map]
static UPROBE_THREADS: HashMap<u32, UprobeThread> = HashMap::with_max_entries(1, 0);

/// Not 0: the recording is over, count nothing more. Taking probes away is slow, the kernel waits for
/// each of them.
#[map]
static UPROBES_OFF: Array<u32> = Array::with_max_entries(1, 0);

/// Losses by [`UprobeLoss`]. Not atomic: of two at once on one CPU one may be missing.
#[map]
static UPROBE_LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(UprobeLoss::COUNT as u32, 0);

// include/uapi/asm-generic/errno.h
const ETIMEDOUT: i32 = 110;
/// A robust mutex whose owner died: the caller has it all the same.
const EOWNERDEAD: i32 = 130;

/// `__count` of glibc's `pthread_mutex_t` (`struct __pthread_mutex_s`,
/// `sysdeps/x86/nptl/bits/struct_mutex.h`): how often a recursive mutex is held, else 0 or 1.
const MUTEX_COUNT: u64 = 4;

/// `pthread_mutex_lock` and the like begin.
#[uprobe]
fn lw_u_mutex(ctx: ProbeContext) -> u32 {
    enter(&ctx, UseKind::Mutex)
}

/// `pthread_rwlock_rdlock`, `_wrlock` and the like begin.
#[uprobe]
fn lw_u_rwlock(ctx: ProbeContext) -> u32 {
    enter(&ctx, UseKind::Rwlock)
}

/// `sem_wait` and the like begin.
#[uprobe]
fn lw_u_sem(ctx: ProbeContext) -> u32 {
    enter(&ctx, UseKind::Semaphore)
}

/// `pthread_cond_wait` and the like begin: they unlock the mutex, without a call that can be seen.
#[uprobe]
fn lw_u_cond(ctx: ProbeContext) -> u32 {
    enter(&ctx, UseKind::Cond)
}

/// Any of these returns.
#[uretprobe]
fn lw_u_return(ctx: RetProbeContext) -> u32 {
    if let Some((tid, thread)) = thread_of_target() {
        thread.return_hits += 1;
        leave(tid, thread, ctx.ret::<u64>() as i32);
    }
    0
}

/// `pthread_mutex_unlock` begins.
#[uprobe]
fn lw_u_unlock(ctx: ProbeContext) -> u32 {
    released(&ctx, UseKind::Mutex)
}

/// `pthread_rwlock_unlock` begins.
#[uprobe]
fn lw_u_rwunlock(ctx: ProbeContext) -> u32 {
    released(&ctx, UseKind::Rwlock)
}

/// `sem_post` begins.
#[uprobe]
fn lw_u_post(ctx: ProbeContext) -> u32 {
    released(&ctx, UseKind::Semaphore)
}

/// `pthread_cond_signal` or `_broadcast` begins.
#[uprobe]
fn lw_u_signal(ctx: ProbeContext) -> u32 {
    released(&ctx, UseKind::Cond)
}

/// A function of the interpreter begins. Which, and where its lock is, says the probe's cookie
/// ([`UseKind::cookie`]).
#[uprobe]
fn lw_u_python(ctx: ProbeContext) -> u32 {
    let Some((tid, thread)) = thread_of_target() else { return 0 };
    thread.entry_hits += 1;
    // SAFETY: the helper takes the program's context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let [first, second, third] = Registers::function_arguments(ctx.as_ptr());
    let lock = match cookie >> 32 {
        1 => first,
        2 => second,
        3 => third,
        _ => 0,
    };
    if let Some(totals) = uses(tid, lock, cookie as u32) {
        totals.calls += 1;
    }
    0
}

/// A USDT probe of libc says that a lock was taken. Which kind of lock, and which register has it,
/// says the cookie ([`UseKind::cookie`], with the register's number).
#[uprobe]
fn lw_u_acquired(ctx: ProbeContext) -> u32 {
    let Some((tid, lock, what)) = usdt(&ctx) else { return 0 };
    acquired(tid, lock, what);
    0
}

/// A USDT probe of libc says that a lock is let go.
#[uprobe]
fn lw_u_released(ctx: ProbeContext) -> u32 {
    let Some((tid, lock, what)) = usdt(&ctx) else { return 0 };
    if what == UseKind::Mutex as u32 {
        release(tid, lock, UseKind::Mutex);
    } else {
        release(tid, lock, UseKind::Rwlock);
    }
    0
}

#[inline(always)]
fn usdt(ctx: &ProbeContext) -> Option<(u32, u64, u32)> {
    let (tid, thread) = thread_of_target()?;
    thread.entry_hits += 1;
    // SAFETY: the helper takes the program's context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let register = (cookie >> 32).wrapping_sub(1);
    Some((tid, Registers::by_number(ctx.as_ptr(), register)?, cookie as u32))
}

/// The current thread's id and state, if it is one of the target's.
#[inline(always)]
fn thread_of_target() -> Option<(u32, &'static mut UprobeThread)> {
    let id = bpf_get_current_pid_tgid();
    if (id >> 32) as u32 != target_tgid() || UPROBES_OFF.get(0).is_some_and(|&off| off != 0) {
        return None;
    }
    let tid = id as u32;
    let thread = match UPROBE_THREADS.get_ptr_mut(tid) {
        Some(thread) => thread,
        None => {
            // Fails only if the table is full, which the lookup that follows shows.
            let _ = UPROBE_THREADS.insert(tid, UprobeThread::default(), 0);
            let Some(thread) = UPROBE_THREADS.get_ptr_mut(tid) else {
                lost(UprobeLoss::ThreadTableFull);
                return None;
            };
            thread
        }
    };
    // SAFETY: a live map value that only the current thread writes.
    Some((tid, unsafe { &mut *thread }))
}

#[inline(always)]
fn enter(ctx: &ProbeContext, what: UseKind) -> u32 {
    let Some((tid, thread)) = thread_of_target() else { return 0 };
    thread.entry_hits += 1;
    let lock = ctx.arg::<u64>(0).unwrap_or(0);
    let mut mutex = 0;
    if matches!(what, UseKind::Cond) {
        mutex = ctx.arg::<u64>(1).unwrap_or(0);
        release(tid, mutex, UseKind::Mutex);
    }
    (thread.lock, thread.mutex, thread.what) = (lock, mutex, what as u64);
    0
}

#[inline(always)]
fn leave(tid: u32, thread: &mut UprobeThread, result: i32) {
    let (lock, mutex, what) = (thread.lock, thread.mutex, thread.what as u32);
    thread.what = 0;
    if what == UseKind::Cond as u32 {
        if let Some(totals) = uses(tid, lock, what) {
            totals.calls += 1;
        }
        // Only these returns have given the mutex up and taken it again.
        if matches!(result, 0 | ETIMEDOUT | EOWNERDEAD) {
            acquired(tid, mutex, UseKind::Mutex as u32);
        }
    } else if what == 0 {
        lost(UprobeLoss::ReturnUnmatched);
    } else if result == 0 || result == EOWNERDEAD {
        acquired(tid, lock, what);
    } else if let Some(totals) = uses(tid, lock, what) {
        totals.failed += 1;
    }
}

#[inline(always)]
fn acquired(tid: u32, lock: u64, what: u32) {
    let nested = what == UseKind::Mutex as u32 && is_nested(lock);
    let Some(totals) = uses(tid, lock, what) else { return };
    totals.acquisitions += 1;
    if what == UseKind::Rwlock as u32 {
        totals.depth += 1;
        if totals.depth > 1 {
            return;
        }
    }
    if !nested {
        totals.since_ns = now();
    }
}

#[inline(always)]
fn released(ctx: &ProbeContext, what: UseKind) -> u32 {
    let Some((tid, thread)) = thread_of_target() else { return 0 };
    thread.entry_hits += 1;
    release(tid, ctx.arg::<u64>(0).unwrap_or(0), what);
    0
}

#[inline(always)]
fn release(tid: u32, lock: u64, what: UseKind) {
    let now = now();
    let nested = matches!(what, UseKind::Mutex) && is_nested(lock);
    let Some(totals) = uses(tid, lock, what as u32) else { return };
    totals.releases += 1;
    if matches!(what, UseKind::Rwlock) && totals.depth > 0 {
        totals.depth -= 1;
        if totals.depth > 0 {
            return;
        }
    }
    // A hold that began before the recording, or that another thread began, has no beginning.
    if nested || totals.since_ns == 0 {
        return;
    }
    let held = now.saturating_sub(totals.since_ns);
    totals.since_ns = 0;
    totals.holds += 1;
    totals.held_ns += held;
    if held > totals.max_held_ns {
        totals.max_held_ns = held;
    }
}

/// The thread holds a recursive mutex more than once: an outer hold goes on.
#[inline(always)]
fn is_nested(mutex: u64) -> bool {
    // SAFETY: the helper checks the address and faults softly.
    match unsafe { bpf_probe_read_user((mutex + MUTEX_COUNT) as *const u32) } {
        Ok(count) => count > 1,
        Err(_) => {
            lost(UprobeLoss::MutexFault);
            false
        }
    }
}

#[inline(always)]
fn uses(tid: u32, lock: u64, what: u32) -> Option<&'static mut UseTotals> {
    let key = UseKey { lock, tid, what };
    let totals = match USES.get_ptr_mut(key) {
        Some(totals) => totals,
        None => {
            // Fails only if the table is full, which the lookup that follows shows.
            let _ = USES.insert(key, UseTotals::default(), 0);
            let Some(totals) = USES.get_ptr_mut(key) else {
                lost(UprobeLoss::UseTableFull);
                return None;
            };
            totals
        }
    };
    // SAFETY: a live map value that only the current thread writes.
    Some(unsafe { &mut *totals })
}

#[inline(always)]
fn lost(reason: UprobeLoss) {
    if let Some(value) = UPROBE_LOSSES.get_ptr_mut(reason as u32) {
        // SAFETY: a live per-CPU map value of this CPU.
        unsafe { *value += 1 };
    }
}
