//! From the leaf frame to the outermost one.

use tracer_common::stack::{FrameOffsets, MAX_FRAMES, NO_FRAME_FIELD};
use tracer_common::{NoStack, StackConfig, WalkEnd};

use super::code::{Code, HASH_FACTOR};
use super::scratch::{
    FRAME_BYTES, Walk, code_word, frame_byte, frame_half_word, frame_word, has_frame, load_frame,
    read_values,
};
use super::{code, prepare};
use crate::process;

/// Frames looked at, shims among them, before the walk is given up.
const MAX_STEPS: usize = 136;
/// User addresses are below this (47 bits), and the first page is never mapped.
const USER_END: u64 = 1 << 47;
const FIRST_PAGE: u64 = 4096;
/// A frame inside the thread state is the one below all others (`_PyThreadStateImpl.base_frame`,
/// 3.15, `Include/internal/pycore_tstate.h`), which nobody runs: not worth a look at its page.
const THREAD_STATE_BYTES: u64 = 1024;
/// How far above the stack pointer a thread's C stack may go: what `ulimit -s` mostly is.
const C_STACK_BYTES: u64 = 8 << 20;
/// Tag bits of a `_PyStackRef` (3.14 and later); code objects are aligned, so earlier versions have
/// zeros there (`Include/internal/pycore_stackref.h`).
const TAG_BITS: u64 = 3;

/// Walks from the frame at `first` on: fills in the scratch's frames, their count and the stack's id.
#[inline(always)]
pub(super) fn walk_frames(config: &StackConfig, first: u64) -> WalkEnd {
    super::end(match config.frame.compiled {
        1 => lw_frames_1(first),
        2 => lw_frames_2(first),
        3 => lw_frames_3(first),
        4 => lw_frames_4(first),
        _ => lw_frames(first),
    })
}

// What `lw_window` found: the frame is in the window, it is an entry frame, or (from `ENDED` on) the
// number of a `WalkEnd`.
const IN_WINDOW: u64 = 0;
const ENTRY: u64 = 1;
const ENDED: u64 = 2;

/// Reads a frame that is not in the window into it; an entry frame leaves the window as it is.
///
/// Not in the loop, which is verified once per step: all of its branches would be as well.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lw_window(frame: u64) -> u64 {
    let Ok((config, walk)) = prepare() else { return ENDED + WalkEnd::FrameFault as u64 };
    // SAFETY: this CPU's value.
    let (thread, sp) = unsafe { ((*walk).thread_address, (*walk).user_sp) };
    if frame == 0 || frame.wrapping_sub(thread) < THREAD_STATE_BYTES {
        return ENDED + WalkEnd::Complete as u64;
    }
    if frame & 7 != 0 || frame.wrapping_sub(FIRST_PAGE) >= USER_END - FIRST_PAGE {
        return ENDED + WalkEnd::BadFrame as u64;
    }
    // Where C calls Python, an entry frame lies on the C stack (3.12 and later,
    // `_PyEval_EvalFrameDefault`): it is looked at by itself, and the window stays.
    if frame.wrapping_sub(sp) < C_STACK_BYTES
        && read_values(walk, frame, FRAME_BYTES as u32)
        && code_word(walk, u32::from(config.frame.owner)) as u8 >= config.frame.first_shim_owner
    {
        // SAFETY: as above.
        unsafe { (*walk).beyond_entry = code_word(walk, u32::from(config.frame.previous)) };
        return ENTRY;
    }
    if load_frame(walk, frame) { IN_WINDOW } else { ENDED + WalkEnd::FrameFault as u64 }
}

const _: () = assert!(FrameOffsets::COMPILED.len() == 4, "one loop for each");

macro_rules! loops {
    ($($name:ident: $compiled:literal;)+) => {$(
        /// Returns a [`WalkEnd`] number.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(first: u64) -> u64 {
            match prepare() {
                Ok((config, scratch)) => walk::<$compiled>(config, scratch, first) as u64,
                Err(_) => WalkEnd::FrameFault as u64,
            }
        }
    )+};
}

loops! {
    lw_frames: 0;
    lw_frames_1: 1;
    lw_frames_2: 2;
    lw_frames_3: 3;
    lw_frames_4: 4;
}

/// The offsets of a compiled layout (from 1 on), known to the compiler; 0: those of the configuration.
#[inline(always)]
fn offsets<const COMPILED: usize>(config: &StackConfig) -> FrameOffsets {
    if COMPILED == 0 { config.frame } else { FrameOffsets::COMPILED[COMPILED - 1] }
}

#[inline(always)]
fn walk<const COMPILED: usize>(config: &StackConfig, walk: *mut Walk, first: u64) -> WalkEnd {
    let fields = offsets::<COMPILED>(config);
    let mut frame = first;
    // The same addresses mean other code in another process.
    let mut hash = HASH_FACTOR ^ u64::from(process::number()) << 24;
    let mut end = WalkEnd::Truncated;
    // The count lives in the map, where the verifier doesn't know it: shims are not counted, and
    // to follow every count it could have at every step takes more than a million instructions.
    // SAFETY: this CPU's value.
    unsafe { (*walk).event.frames = 0 };
    // SAFETY: as above.
    let generation = unsafe { (*walk).generation.mixed };
    for _ in 0..MAX_STEPS {
        // Most frames are in the window, and what it was read for need not be looked at again.
        if !has_frame(walk, frame) {
            match lw_window(frame) {
                IN_WINDOW => {}
                ENTRY => {
                    // SAFETY: as above.
                    frame = unsafe { (*walk).beyond_entry };
                    continue;
                }
                ended => {
                    end = super::end(ended - ENDED);
                    break;
                }
            }
        }
        let previous = frame_word(walk, frame, fields.previous);
        // Shims and interpreter entries are no Python code (`Include/internal/pycore_frame.h`,
        // `enum _frameowner`); neither are cleared frames' empty executables.
        if frame_byte(walk, frame, fields.owner) < fields.first_shim_owner {
            // SAFETY: as above; volatile, so that it is not kept in a register.
            let n = unsafe { (&raw const (*walk).event.frames).read_volatile() } as usize;
            if n >= MAX_FRAMES {
                break;
            }
            let address = frame_word(walk, frame, fields.executable) & !TAG_BITS;
            let instruction = frame_word(walk, frame, fields.instruction);
            let tlbc = if fields.tlbc_index == NO_FRAME_FIELD {
                0
            } else {
                frame_half_word(walk, frame, fields.tlbc_index)
            };
            let Code { base, check } =
                match code::load(walk, (address, tlbc), instruction, generation) {
                    Ok(code) => code,
                    Err(failed) => {
                        end = failed;
                        break;
                    }
                };
            // `RawFrame::lasti` and `check`, as they lie in memory.
            let place = check | instruction.wrapping_sub(base) >> 1 & u64::from(u32::MAX);
            // SAFETY: this CPU's value; the index is masked to the array's length, and a frame is two
            // aligned words.
            unsafe {
                let slot = (&raw mut (*walk).frames).cast::<[u64; 2]>().add(n & (MAX_FRAMES - 1));
                *slot = [address, place];
            }
            // Addresses have 47 bits: none is lost.
            hash = mix(hash, address << 15 ^ place);
            // SAFETY: as above.
            unsafe { (&raw mut (*walk).event.frames).write_volatile(n as u32 + 1) };
        }
        frame = previous;
    }
    // SAFETY: as above.
    let event = unsafe { &mut (*walk).event };
    let id = mix(hash, u64::from(event.frames) << 8 | end as u64);
    event.id = if id < u64::from(NoStack::COUNT) { id + u64::from(NoStack::COUNT) } else { id };
    end
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(HASH_FACTOR);
    mixed ^ mixed >> 29
}
