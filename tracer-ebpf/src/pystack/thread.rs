//! From a thread to its `PyThreadState`.
//!
//! User space fills in the threads that it finds. A thread born later is looked for in the
//! interpreters' lists, which have the newest first; what is found is checked before each use.

use tracer_common::stack::{MAX_INTERPRETERS, NO_FIELD};
use tracer_common::{DropReason, StackConfig, ThreadStateAddress};

use super::prepare;
use super::scratch::{Walk, read_thread, thread_word};
use crate::counters::lost;
use crate::maps::THREAD_STATES;
use crate::user_memory::word;

/// Thread states looked at in one search.
const MAX_SEARCHED: usize = 64;
/// A thread that was looked for in vain is not looked for again for so long.
const RETRY_NS: u64 = 10_000_000;

/// Reads the thread state of a thread (its id on the host, and in its own PID namespace) into the
/// scratch. Returns its address, 0 if there is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn lw_thread(tid: u32, ns_tid: u32, now: u64) -> u64 {
    match prepare() {
        Ok((config, walk)) if load(config, walk, tid, ns_tid, now) => {
            // SAFETY: this CPU's value.
            unsafe { (*walk).thread_address }
        }
        _ => 0,
    }
}

#[inline(always)]
fn load(config: &StackConfig, walk: *mut Walk, tid: u32, ns_tid: u32, now: u64) -> bool {
    // SAFETY: the value is copied at once; user space replaces whole values.
    if let Some(known) = unsafe { THREAD_STATES.get(tid) } {
        let ThreadStateAddress { address, retry_ns, .. } = *known;
        if address == 0 {
            if now < retry_ns {
                return false;
            }
        } else if read_thread(walk, address) && is_of(config, walk, ns_tid) {
            return true;
        }
    }
    let found = search(config, walk, ns_tid);
    let address = if found {
        // SAFETY: this CPU's value.
        unsafe { (*walk).thread_address }
    } else {
        0
    };
    let state = ThreadStateAddress { address, retry_ns: now + RETRY_NS, ns_tid, _pad: 0 };
    if THREAD_STATES.insert(tid, &state, 0).is_err() {
        lost(DropReason::ThreadStateTableFull);
    }
    found
}

/// Forgets a thread that ends: its id, and the memory of its state, may come again.
#[inline(always)]
pub(crate) fn forget(tid: u32) {
    // It may never have been there.
    let _ = THREAD_STATES.remove(tid);
}

/// The leaf frame of the thread in the scratch, 0 if it has none; `None` if it can't be read.
#[inline(always)]
pub(super) fn current_frame(config: &StackConfig, walk: *mut Walk) -> Option<u64> {
    let frame = thread_word(walk, config.thread_frame);
    if config.cframe_current == NO_FIELD || frame == 0 {
        return Some(frame);
    }
    word(frame.wrapping_add(u64::from(config.cframe_current))) // 3.11, 3.12: through a _PyCFrame
}

#[inline(always)]
fn is_of(config: &StackConfig, walk: *mut Walk, ns_tid: u32) -> bool {
    thread_word(walk, config.thread_native_id) == u64::from(ns_tid)
}

#[inline(always)]
fn search(config: &StackConfig, walk: *mut Walk, ns_tid: u32) -> bool {
    // Where the search stands is in the map, where the verifier doesn't know it (as in `frames`).
    // SAFETY: this CPU's value.
    let list = unsafe { &raw mut (*walk).lists_searched };
    // SAFETY: as above; volatile, so that it is not kept in a register.
    unsafe { list.write_volatile(0) };
    let mut thread = 0;
    for _ in 0..MAX_SEARCHED + MAX_INTERPRETERS {
        if thread == 0 {
            // SAFETY: as above.
            let n = unsafe { list.read_volatile() };
            if n >= config.interpreter_count {
                return false;
            }
            // SAFETY: as above.
            unsafe { list.write_volatile(n + 1) };
            let head = config.interpreters[n as usize & (MAX_INTERPRETERS - 1)]
                .wrapping_add(u64::from(config.threads_head));
            thread = word(head).unwrap_or(0);
            continue;
        }
        if !read_thread(walk, thread) {
            return false;
        }
        if is_of(config, walk, ns_tid) {
            return true;
        }
        thread = thread_word(walk, config.thread_next);
    }
    false
}
