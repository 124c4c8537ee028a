//! The state of each thread: at the place of its quick slot, without hashing, or in a hash table if
//! another thread has that place.
//!
//! A hand-off of a lock looks for two of them, at its one switch: hashing would be paid for twice.

use tracer_common::ThreadState;

use crate::maps::{STATES, THREADS, ZERO_STATE};
use crate::quick;

/// A thread's state, if it is traced.
#[inline(always)]
pub(crate) fn of(tid: u32) -> Option<&'static mut ThreadState> {
    let state = match quick::place(tid) {
        Some(place) => STATES.get_ptr_mut(place),
        None => THREADS.get_ptr_mut(tid),
    };
    // SAFETY: a live map value. It is written by the CPU that switches the thread, one at a time;
    // what the waker's CPU writes are whole aligned words.
    state.map(|state| unsafe { &mut *state })
}

/// A new thread, of the process `tgid` in a recording of several; false if there is no room.
#[inline(always)]
pub(crate) fn add(tid: u32, tgid: u32) -> bool {
    // The hash table has all threads, whether their state is there or not: user space goes through it.
    // SAFETY: nobody ever writes the zero state.
    if ZERO_STATE.get(0).is_none_or(|zero| THREADS.insert(tid, zero, 0).is_err()) {
        return false;
    }
    // Nobody sees the place before it has a slot.
    if let Some(state) = quick::free_place(tid).and_then(|place| STATES.get_ptr_mut(place)) {
        // SAFETY: a live map value; the thread has not run yet.
        unsafe { *state = ThreadState::default() };
        quick::claim(tid);
    }
    if let Some(state) = of(tid) {
        state.tgid = tgid;
    }
    true
}

/// A thread ends, and with it its place: its state goes into the hash table, for user space to read
/// and remove.
#[inline(always)]
pub(crate) fn retire(tid: u32) {
    let Some(place) = quick::place(tid) else { return };
    if let (Some(state), Some(last)) = (STATES.get_ptr(place), THREADS.get_ptr_mut(tid)) {
        // SAFETY: live map values of two maps; the thread is the current one, and runs no more.
        unsafe { *last = *state };
    }
    quick::release(tid);
}
