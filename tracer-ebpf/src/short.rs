//! Waits below the threshold, added up by thread and lock.
//!
//! Most waits of a busy lock are short. Each thread adds its own up in its state, by lock, which costs
//! a few additions; when one of them has its stacks walked (`pystack::worth_it`), one record tells of
//! all since the last such one, and so the short waits have a place too. Of a lock whose place in the
//! state another one takes before that, they go to the totals by lock and shape, without a place.

use tracer_common::thread::{ShortSums, ThreadState, short_slot};
use tracer_common::{NoStack, ShapeTotals};

use crate::counters::{add_below, add_waits, lock_of, one};
use crate::emit;

/// A wait for `state.current` that ended at `now` and was below the threshold.
#[inline(always)]
pub(crate) fn add(
    tid: u32,
    state: &mut ThreadState,
    waker_tid: u32,
    blocked: u64,
    runq: u64,
    now: u64,
) {
    let (lock, shape) = (lock_of(&state.current), state.current.shape);
    let at = place(state, lock, shape);
    let slot = &mut state.short[at];
    if slot.lock != lock || slot.shape != shape {
        spill(slot);
        slot.lock = lock;
        slot.shape = shape;
    }
    if slot.totals.waits == 0 {
        slot.since_ns = state.out_ns;
    }
    add_waits(&mut slot.totals, &one(blocked, runq));
    if was_walked(state.waiter_stack) && emit::short(tid, state, at, waker_tid, now) {
        state.short[at].totals = ShapeTotals::default();
    }
}

/// Where the lock's sums are; else a place that is free; else one that has to make room.
///
/// Not its hash alone: a thread that waits for two locks in turns would have both at one place now and
/// then, and never add anything up.
#[inline(always)]
fn place(state: &ThreadState, lock: u64, shape: u32) -> usize {
    let mut free = short_slot(lock);
    for (at, slot) in state.short.iter().enumerate() {
        if slot.lock == lock && slot.shape == shape {
            return at;
        }
        if slot.totals.waits == 0 {
            free = at;
        }
    }
    free
}

/// A walk was tried, whatever came of it.
#[inline(always)]
fn was_walked(stack: u64) -> bool {
    stack != NoStack::NotTaken as u64 && stack != NoStack::Limited as u64
}

/// Puts what was added up into the totals.
#[inline(always)]
fn spill(slot: &mut ShortSums) {
    if slot.totals.waits != 0 {
        add_below(slot.lock, slot.shape, &slot.totals);
        slot.totals = ShapeTotals::default();
    }
}

/// The same of all locks: the thread, or its program, ends.
#[inline(always)]
pub(crate) fn flush(state: &mut ThreadState) {
    for slot in &mut state.short {
        spill(slot);
    }
}
