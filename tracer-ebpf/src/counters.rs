//! Bumping the per-CPU counters.

use aya_ebpf::maps::PerCpuArray;
use tracer_common::counter::lock_slot;
use tracer_common::thread::Chain;
use tracer_common::{DropReason, Shape, ShapeTotals, Stat, SyscallTotals};

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
pub(crate) fn add_to_shape(map: &PerCpuArray<ShapeTotals>, chain: &Chain) {
    if let Some(totals) = map.get_ptr_mut(chain.id.shape) {
        // SAFETY: a live per-CPU map value; written only from `sched_switch` and thread exit,
        // which don't nest on one CPU.
        add_chain(unsafe { &mut *totals }, chain);
    }
}

/// Adds a wait below the threshold: to its lock's totals if its shape says too little, else (or if
/// the lock's place is taken) to those of its shape.
#[inline(always)]
pub(crate) fn add_below(chain: &Chain) {
    const PARKED: u32 = Shape::Parked as u32;
    const SEMAPHORE: u32 = Shape::Semaphore as u32;
    let lock = match chain.id.shape {
        PARKED => chain.id.lock,
        SEMAPHORE => chain.id.uaddr,
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
            slot.shape = chain.id.shape;
        }
        if slot.lock == lock && slot.shape == chain.id.shape {
            add_chain(&mut slot.totals, chain);
            return;
        }
    }
    add_to_shape(&BELOW, chain);
}

#[inline(always)]
fn add_chain(totals: &mut ShapeTotals, chain: &Chain) {
    let total = chain.blocked_ns + chain.runq_ns;
    totals.waits += 1;
    totals.blocked_ns += chain.blocked_ns;
    totals.runq_ns += chain.runq_ns;
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
