//! Bumping the per-CPU counters.

use aya_ebpf::maps::PerCpuArray;
use tracer_common::counter::lock_slot;
use tracer_common::{
    DropReason, FutexIdentity, LockTotals, Shape, ShapeTotals, Stat, SyscallTotals,
};

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

/// Adds waits to per-shape totals.
#[inline(always)]
fn add_to_shape(map: &PerCpuArray<ShapeTotals>, shape: u32, waits: &ShapeTotals) {
    if let Some(totals) = map.get_ptr_mut(shape) {
        // SAFETY: a live per-CPU map value; written only from `sched_switch` and thread exit,
        // which don't nest on one CPU.
        add_waits(unsafe { &mut *totals }, waits);
    }
}

/// Waits are told apart by this: the lock, where there is none the futex.
#[inline(always)]
pub(crate) fn lock_of(id: &FutexIdentity) -> u64 {
    if id.lock != 0 && id.shape != Shape::Semaphore as u32 { id.lock } else { id.uaddr }
}

/// Adds waits below the threshold.
#[inline(always)]
pub(crate) fn add_below(lock: u64, shape: u32, waits: &ShapeTotals) {
    add_without_record(&BELOW_LOCKS, &BELOW, lock, shape, waits);
}

/// Adds waits without a record: to their lock's totals if its shape says too little, else (or if the
/// lock's place is taken) to those of its shape.
#[inline(always)]
pub(crate) fn add_without_record(
    locks: &PerCpuArray<LockTotals>,
    shapes: &PerCpuArray<ShapeTotals>,
    lock: u64,
    shape: u32,
    waits: &ShapeTotals,
) {
    const BY_LOCK: [u32; 2] = [Shape::Parked as u32, Shape::Semaphore as u32];
    // After a fork the same address is another lock.
    if lock != 0
        && BY_LOCK.contains(&shape)
        && !process::several()
        && let Some(slot) = locks.get_ptr_mut(lock_slot(lock))
    {
        // SAFETY: as above.
        let slot = unsafe { &mut *slot };
        if slot.lock == 0 {
            slot.lock = lock;
            slot.shape = shape;
        }
        if slot.lock == lock && slot.shape == shape {
            add_waits(&mut slot.totals, waits);
            return;
        }
    }
    add_to_shape(shapes, shape, waits);
}

/// One wait, as totals.
#[inline(always)]
pub(crate) fn one(blocked_ns: u64, runq_ns: u64) -> ShapeTotals {
    ShapeTotals { waits: 1, blocked_ns, runq_ns, max_ns: blocked_ns + runq_ns }
}

/// Adds totals to others.
#[inline(always)]
pub(crate) fn add_waits(totals: &mut ShapeTotals, more: &ShapeTotals) {
    totals.waits += more.waits;
    totals.blocked_ns += more.blocked_ns;
    totals.runq_ns += more.runq_ns;
    if more.max_ns > totals.max_ns {
        totals.max_ns = more.max_ns;
    }
}

#[inline(always)]
fn add(map: &PerCpuArray<u64>, index: u32, n: u64) {
    if let Some(value) = map.get_ptr_mut(index) {
        // SAFETY: a live per-CPU map value of this CPU.
        unsafe { *value += n };
    }
}
