//! The part of a thread's state that a million switches a second look at: one cache line, found
//! without hashing. In a storm of yields that halves what a switch costs.

use tracer_common::QuickState;
use tracer_common::thread::{QUICK_SLOTS, Spin};

use crate::maps::QUICK;
use crate::registers::Registers;

#[inline(always)]
fn slot(tid: u32) -> Option<&'static mut QuickState> {
    let slot = QUICK.get_ptr_mut(tid & (QUICK_SLOTS - 1))?;
    // SAFETY: a live map value, and a slot is written by the CPU that switches its thread only.
    Some(unsafe { &mut *slot })
}

/// A thread's slot, if it has one.
#[inline(always)]
fn of(tid: u32) -> Option<&'static mut QuickState> {
    slot(tid).filter(|slot| slot.tid == tid)
}

/// Gives a new thread a slot, if its place is free.
#[inline(always)]
pub(crate) fn claim(tid: u32) {
    if let Some(slot) = slot(tid).filter(|slot| slot.tid == 0 || slot.tid == tid) {
        slot.asleep = 0;
        slot.sp = 0;
        slot.yields = 0;
        slot.tid = tid;
    }
}

/// Takes it back from one that ends.
#[inline(always)]
pub(crate) fn release(tid: u32) {
    if let Some(slot) = of(tid) {
        slot.tid = 0;
    }
}

/// Whether the thread's next switch-in ends a futex wait; `None` if it has no slot.
#[inline(always)]
pub(crate) fn is_asleep(tid: u32) -> Option<bool> {
    of(tid).map(|slot| slot.asleep != 0)
}

/// The thread falls asleep in a futex wait, or is back.
#[inline(always)]
pub(crate) fn set_asleep(tid: u32, asleep: bool) {
    if let Some(slot) = of(tid) {
        slot.asleep = u32::from(asleep);
    }
}

/// Counts a yield if it is one more of the spin under way.
#[inline(always)]
pub(crate) fn counts_yield(tid: u32, registers: Registers) -> bool {
    let Some(slot) = of(tid) else { return false };
    let same = slot.sp == registers.sp() && registers.callee_saved(slot.register) == slot.lock;
    if same {
        slot.yields += 1;
    }
    same
}

/// From now on yields of this spin are counted here.
#[inline(always)]
pub(crate) fn begin_spin(tid: u32, spin: &Spin) {
    if let Some(slot) = of(tid).filter(|_| spin.register != 0) {
        slot.sp = spin.sp;
        slot.lock = spin.lock;
        slot.register = spin.register;
    }
}

/// The spin is over: the yields that were counted here.
#[inline(always)]
pub(crate) fn end_spin(tid: u32) -> u64 {
    let Some(slot) = of(tid) else { return 0 };
    let yields = slot.yields;
    slot.yields = 0;
    slot.sp = 0;
    yields
}
