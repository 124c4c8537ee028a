//! The first local variables of a waiter's innermost frames: `self`, if they are methods.
//!
//! Condition variables, events, queues and barriers of Python are written in Python, on a fresh lock
//! for each wait. Only the frames tell what is really waited for, and their `self` which one.

use tracer_common::SUBJECTS;

use super::prepare;
use super::scratch::{frame_byte, frame_word, has_frame, load_frame};

/// Frames looked at, shims among them.
const MAX_STEPS: usize = 6;
/// Tag bits of a `_PyStackRef` (3.14 and later).
const TAG_BITS: u64 = 3;

/// Fills in the scratch's subjects, from the frame at `first` on. Returns 0: what can't be read stays
/// 0, and the walk that follows says why.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn lw_subjects(first: u64) -> u64 {
    let Ok((config, walk)) = prepare() else { return 0 };
    let mut frame = first;
    // Their count is in the map, where the verifier doesn't know it (as in `frames`).
    // SAFETY: this CPU's value (`prepare`).
    let read = unsafe { &raw mut (*walk).subjects_read };
    // SAFETY: as above; volatile, so that it is not kept in a register.
    unsafe { read.write_volatile(0) };
    for _ in 0..MAX_STEPS {
        if frame == 0 || !has_frame(walk, frame) && !load_frame(walk, frame) {
            return 0;
        }
        if frame_byte(walk, frame, config.frame.owner) < config.frame.first_shim_owner {
            // SAFETY: as above.
            let n = unsafe { read.read_volatile() } as usize;
            if n >= SUBJECTS {
                return 0;
            }
            let subject = frame_word(walk, frame, config.frame.locals) & !TAG_BITS;
            // SAFETY: this CPU's value; the index is masked to the array's length.
            unsafe {
                *(&raw mut (*walk).subjects).cast::<u64>().add(n & (SUBJECTS - 1)) = subject;
                read.write_volatile(n as u32 + 1);
            }
        }
        frame = frame_word(walk, frame, config.frame.previous);
    }
    0
}
