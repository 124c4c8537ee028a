//! The part of a thread's state that a million switches a second look at: one cache line, found
//! without hashing. In a storm of yields that halves what a switch costs.

use tracer_common::QuickState;
use tracer_common::thread::{ASLEEP, ASLEEP_TOLD, QUICK_SLOTS, SPINS, Spin, ThreadState};

use crate::maps::QUICK;
use crate::pystack;
use crate::registers::Registers;

#[inline(always)]
fn slot(tid: u32) -> Option<&'static mut QuickState> {
    let slot = QUICK.get_ptr_mut(tid & (QUICK_SLOTS - 1))?;
    // SAFETY: a live map value. A slot is written by the CPU that switches its thread, and a waking by
    // the waker's CPU, as whole aligned words.
    Some(unsafe { &mut *slot })
}

/// A thread's slot, if it has one.
#[inline(always)]
pub(crate) fn of(tid: u32) -> Option<&'static mut QuickState> {
    slot(tid).filter(|slot| slot.tid == tid)
}

/// Where a thread's slot is, if it has one.
#[inline(always)]
pub(crate) fn place(tid: u32) -> Option<u32> {
    of(tid).map(|_| tid & (QUICK_SLOTS - 1))
}

/// Where a new thread's slot would be, if that place is free.
#[inline(always)]
pub(crate) fn free_place(tid: u32) -> Option<u32> {
    slot(tid).filter(|slot| slot.tid == 0 || slot.tid == tid).map(|_| tid & (QUICK_SLOTS - 1))
}

/// Gives a new thread the slot at its place, which is free.
#[inline(always)]
pub(crate) fn claim(tid: u32) {
    if let Some(slot) = slot(tid) {
        *slot = QuickState { tid, ..QuickState::default() };
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
    of(tid).map(|slot| slot.asleep & (ASLEEP | ASLEEP_TOLD) != 0)
}

/// Whether the thread, which is about to be preempted, has nothing to book then.
#[inline(always)]
pub(crate) fn only_runs(tid: u32) -> bool {
    of(tid).is_some_and(|slot| slot.asleep == 0)
}

/// The thread falls asleep in the futex wait that `state` has.
#[inline(always)]
pub(crate) fn fall_asleep(tid: u32, state: &mut ThreadState) {
    let Some(slot) = of(tid) else { return };
    take_wake(slot, state);
    slot.asleep = if pystack::is_told(&state.current) { ASLEEP_TOLD } else { ASLEEP };
    slot.uaddr = state.current.uaddr;
    slot.out_ns = state.out_ns;
}

/// It is back on a CPU.
#[inline(always)]
pub(crate) fn awake(tid: u32, state: &mut ThreadState) {
    let Some(slot) = of(tid) else { return };
    take_wake(slot, state);
    slot.asleep = 0;
    slot.uaddr = 0;
}

#[inline(always)]
fn take_wake(slot: &mut QuickState, state: &mut ThreadState) {
    if slot.wake_ns != 0 {
        state.wake_ns = slot.wake_ns;
        state.waker_tid = slot.waker_tid;
        slot.wake_ns = 0;
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

/// From now on yields of this spin are counted here, if its register is known.
#[inline(always)]
pub(crate) fn begin_spin(tid: u32, spin: &Spin) {
    let Some(slot) = of(tid) else { return };
    slot.asleep = SPINS;
    if spin.register != 0 {
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
    slot.asleep &= !SPINS;
    yields
}
