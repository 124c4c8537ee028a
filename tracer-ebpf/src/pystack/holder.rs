//! The Python stack of the GIL's holder, which may be running on another CPU while it is read.
//!
//! One page is copied at once, and the walk starts at the lower of the frames that were current
//! before and after the copy: it was live at both times. What moved meanwhile is marked.

use tracer_common::event::{WAIT_HOLDER_ENDED_EARLY, WAIT_HOLDER_MOVED};
use tracer_common::{NoStack, StackConfig, WalkEnd};

use super::scratch::{Walk, frame_word, load_frame, read_thread, thread_word};
use super::{code, frames, intern, prepare, thread};
use crate::maps::WALK;
use crate::task::Task;
use crate::user_memory::word;

/// Who held the GIL, and where.
pub(crate) struct Holder {
    /// Thread id in the target's own PID namespace; 0: nobody else held it, or nobody knows.
    pub(crate) ns_tid: u32,
    /// `WAIT_HOLDER_*` flags.
    pub(crate) flags: u32,
    /// The stack's id, or a [`NoStack`] number.
    pub(crate) stack: u64,
}

/// Who holds the GIL that `task`, the current one, waits for.
#[inline(always)]
pub(crate) fn of_holder(task: Task, gil: u64, now: u64) -> Holder {
    let stack = lw_holder_stack(task.pid(), task.namespace_tid(), gil, now);
    let (ns_tid, flags) = match WALK.get_ptr(0) {
        // SAFETY: this CPU's value, which the call has just filled in.
        Some(walk) => unsafe { ((*walk).holder_ns_tid, (*walk).holder_flags) },
        None => (0, 0),
    };
    Holder { ns_tid, flags, stack }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lw_holder_stack(tid: u32, ns_tid: u32, gil: u64, now: u64) -> u64 {
    let Ok((config, walk)) = prepare() else { return NoStack::NoInterpreter as u64 };
    // SAFETY: this CPU's value.
    let (holder_ns_tid, flags) = unsafe { (&mut (*walk).holder_ns_tid, &mut (*walk).holder_flags) };
    *holder_ns_tid = 0;
    *flags = 0;
    let own = thread::lw_thread(tid, ns_tid, now);
    let at = |offset: u32| word(gil.wrapping_add(u64::from(offset)));
    // `last_holder` stays after a release, and is the waiter itself after a forced switch
    // (`drop_gil_impl`, `take_gil`, `Python/ceval_gil.c`).
    let locked = at(config.gil_locked).is_some_and(|word| word as u32 == 1);
    let Some(state) = at(config.gil_holder).filter(|&state| locked && state != 0 && state != own)
    else {
        return NoStack::NotTaken as u64;
    };
    if !read_thread(walk, state) {
        return NoStack::NoThreadState as u64;
    }
    *holder_ns_tid = thread_word(walk, config.thread_native_id) as u32;
    let Some(first) = thread::current_frame(config, walk).filter(|&frame| frame != 0) else {
        return NoStack::NoFrames as u64;
    };
    // SAFETY: this CPU's value. What is in the window may be older than the holder's last move.
    unsafe {
        (*walk).window_frames = 0;
        (*walk).user_sp = 0; // its registers are elsewhere
    }
    if !load_frame(walk, first) || !read_thread(walk, state) {
        return NoStack::Unreadable as u64;
    }
    let Some(second) = thread::current_frame(config, walk).filter(|&frame| frame != 0) else {
        return NoStack::NoFrames as u64;
    };
    let same_place = first == second && stands(config, walk, first);
    if !same_place {
        *flags = WAIT_HOLDER_MOVED;
    }
    code::begin(config, walk, now);
    let end = frames::walk_frames(config, if first < second { first } else { second });
    if !matches!(end, WalkEnd::Complete | WalkEnd::Truncated) {
        *flags |= WAIT_HOLDER_ENDED_EARLY;
    }
    intern(walk, *holder_ns_tid, end)
}

/// The frame's instruction pointer is what it was when the page was copied.
#[inline(always)]
fn stands(config: &StackConfig, walk: *mut Walk, frame: u64) -> bool {
    let copied = frame_word(walk, frame, config.frame.instruction);
    word(frame.wrapping_add(u64::from(config.frame.instruction))) == Some(copied)
}
