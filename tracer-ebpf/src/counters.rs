//! Bumping the per-CPU counters.

use aya_ebpf::maps::PerCpuArray;
use tracer_common::counter::lock_slot;
use tracer_common::{DropReason, FutexIdentity, Shape, ShapeTotals, Stat, SyscallTotals};

use crate::maps::{BELOW, BELOW_LOCKS, DROPS, STATS, SYSCALLS};
use crate::process;

/// Counts one loss.
#[inline(always)]
pub(crate) fn lost(reason: DropReason) {
    add(&DROPS, reason as u32, 1);
}

/// Adds to a counter.
#[inline(always)]
pub(crate) fn count(stat: Stat, n: u64) {
    add(&STATS, stat as u32, n);
}

/// Changes this CPU's totals of the system-call hooks.
#[inline(always)]
pub(crate) fn syscalls(change: impl FnOnce(&mut SyscallTotals)) {
    if let Some(totals) = SYSCALLS.get_ptr_mut(0) {
        // SAFETY: a live per-CPU map value; an interrupt's program may add at the same time, but
        // these run in system-call context only.
        change(unsafe { &mut *totals });
    }
}

/// Adds a wait to per-shape totals.
#[inline(always)]
pub(crate) fn add_to_shape(
    map: &PerCpuArray<ShapeTotals>,
    id: &FutexIdentity,
    blocked: u64,
    runq: u64,
) {
    if let Some(totals) = map.get_ptr_mut(id.shape) {
        // SAFETY: a live per-CPU map value; written only from `sched_switch` and thread exit,
        // which don't nest on one CPU.
        add_wait(unsafe { &mut *totals }, blocked, runq);
    }
}

/// Adds a wait below the threshold: to its lock's totals if its shape says too little, else (or if
/// the lock's place is taken) to those of its shape.
#[inline(always)]
pub(crate) fn add_below(id: &FutexIdentity, blocked: u64, runq: u64) {
    const PARKED: u32 = Shape::Parked as u32;
    const SEMAPHORE: u32 = Shape::Semaphore as u32;
    let lock = match id.shape {
        PARKED => id.lock,
        SEMAPHORE => id.uaddr,
        _ => 0,
    };
    // After a fork the same address is another lock.
    if lock != 0
        && !process::several()
        && let Some(slot) = BELOW_LOCKS.get_ptr_mut(lock_slot(lock))
    {
        // SAFETY: as above.
        let slot = unsafe { &mut *slot };
        if slot.lock == 0 {
            slot.lock = lock;
            slot.shape = id.shape;
        }
        if slot.lock == lock && slot.shape == id.shape {
            add_wait(&mut slot.totals, blocked, runq);
            return;
        }
    }
    add_to_shape(&BELOW, id, blocked, runq);
}

#[inline(always)]
fn add_wait(totals: &mut ShapeTotals, blocked: u64, runq: u64) {
    let total = blocked + runq;
    totals.waits += 1;
    totals.blocked_ns += blocked;
    totals.runq_ns += runq;
    if total > totals.max_ns {
        totals.max_ns = total;
    }
}

#[inline(always)]
fn add(map: &PerCpuArray<u64>, index: u32, n: u64) {
    if let Some(value) = map.get_ptr_mut(index) {
        // SAFETY: a live per-CPU map value of this CPU.
        unsafe { *value += n };
    }
}
