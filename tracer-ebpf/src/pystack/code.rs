//! What a walk must know of each code object: that it is one, where its instructions begin, and
//! what tells it from a later one at its address. Read once and cached per CPU.
//!
//! An answer may go stale: code objects are freed and their memory reused, and so are the copies of
//! their bytecode that threads of a free-threaded build run. 3.14 and later count both
//! (`code_object_generation`, `tlbc_generation`); before that, answers are believed for a moment.

use tracer_common::stack::{NO_FIELD, code_check};
use tracer_common::{StackConfig, WalkEnd};

use super::scratch::{Walk, code_half_word, code_word, read_code, thread_word};
use super::{end, prepare};
use crate::process;
use crate::user_memory::word;

/// Slots of the cache, a power of two. It is part of the scratch, whose size the kernel limits to
/// 32 KiB (`PCPU_MIN_UNIT_SIZE`): a map of its own would cost a lookup per frame.
pub(super) const CODE_SLOTS: usize = 512;
/// Without generations: answers are believed for up to 2^27 ns, 134 ms.
const BELIEVED_NS_BITS: u32 = 27;
/// A generation is believed for 1 ms: it lies on a page that nobody else reads.
const GENERATION_BELIEVED_NS: u64 = 1_000_000;
/// An odd number of as good as random bits: 2^64 over the golden ratio.
pub(super) const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Another one.
const NUMBER_FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

/// A cached answer.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CodeEntry {
    /// [`key`] of the code object, mixed with the generation; 0: empty.
    key: u64,
    base: u64,
    /// [`Code::check`] above, the number of code units below.
    check: u64,
}

/// Lower half of a [`CodeEntry::check`].
const UNITS: u64 = u32::MAX as u64;

/// Before a walk of the thread in `walk`: which answers are still good?
#[inline(always)]
pub(super) fn begin(config: &StackConfig, walk: *mut Walk, now: u64) {
    // SAFETY: this CPU's value (`prepare`).
    let known = unsafe { &mut (*walk).generation };
    let generation = if config.code_generation == NO_FIELD {
        now >> BELIEVED_NS_BITS
    } else {
        let interpreter = thread_word(walk, config.thread_interpreter);
        // A late look costs little: user space finds out that a code object is another, and an
        // instruction outside of the thread's copy of it is looked up anew (`load`).
        if known.interpreter == process::tag(interpreter) && now < known.believed_until_ns {
            return;
        }
        let at = |offset: u32| word(interpreter.wrapping_add(u64::from(offset)));
        let codes = at(config.code_generation).unwrap_or(now);
        if config.tlbc_generation == NO_FIELD {
            codes
        } else {
            codes ^ at(config.tlbc_generation).unwrap_or(now) << 40
        }
    };
    known.interpreter = process::tag(thread_word(walk, config.thread_interpreter));
    known.believed_until_ns = now + GENERATION_BELIEVED_NS;
    // Spread over all bits, it can be mixed with a key: one comparison for both. The same address is
    // another code object in another process.
    let memory = u64::from(process::number()).wrapping_mul(NUMBER_FACTOR);
    known.mixed = (generation ^ memory).wrapping_mul(HASH_FACTOR);
}

/// What cached answers must have been given under to be believed.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Generation {
    /// Spread over all bits.
    pub(super) mixed: u64,
    /// Whose it is.
    interpreter: u64,
    /// Until then.
    believed_until_ns: u64,
}

/// What a frame's place is told by.
#[derive(Clone, Copy)]
pub(super) struct Code {
    /// Where the instructions begin.
    pub(super) base: u64,
    /// What tells the code object from a later one at its address, in the upper half.
    pub(super) check: u64,
}

/// A code object and a thread's copy of its bytecode: addresses have 47 bits, the lowest 3 of them 0,
/// which leaves 19 bits for the copy's index, one per thread of the process.
#[inline(always)]
fn key(address: u64, tlbc: u32) -> u64 {
    address << 16 | u64::from(tlbc)
}

/// What is known of a code object (its address) and a thread's copy of its bytecode (the index), in which
/// a frame is at `instruction`.
#[inline(always)]
pub(super) fn load(
    walk: *mut Walk,
    (address, tlbc): (u64, u32),
    instruction: u64,
    generation: u64,
) -> Result<Code, WalkEnd> {
    let key = key(address, tlbc);
    let entry = entry(walk, key);
    // SAFETY: this CPU's value, read again after `lw_code` has written it.
    let CodeEntry { key: found, base, check } = unsafe { *entry };
    // An instruction elsewhere than in the copy known says that there is another by now.
    if found == key ^ generation
        && (tlbc == 0 || instruction.wrapping_sub(base) >> 1 < check & UNITS)
    {
        return Ok(Code { base, check: check & !UNITS });
    }
    let ended = lw_code(address, tlbc);
    if ended != 0 {
        return Err(end(ended));
    }
    // SAFETY: as above.
    let CodeEntry { base, check, .. } = unsafe { *entry };
    Ok(Code { base, check: check & !UNITS })
}

/// Where a key's answer is.
#[inline(always)]
fn entry(walk: *mut Walk, key: u64) -> *mut CodeEntry {
    let slot = (key.wrapping_mul(HASH_FACTOR) >> (u64::BITS - CODE_SLOTS.ilog2())) as usize;
    // SAFETY: this CPU's value. The slot has no more bits than the array's length.
    unsafe { (&raw mut (*walk).codes).cast::<CodeEntry>().add(slot) }
}

/// Reads a code object and caches the answer; returns a [`WalkEnd`] number, 0 if it is one.
///
/// Not in the loop over frames, which is verified once per step: all of its branches would be as well.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lw_code(address: u64, tlbc: u32) -> u64 {
    let Ok((config, walk)) = prepare() else { return WalkEnd::CodeFault as u64 };
    let key = key(address, tlbc);
    // SAFETY: this CPU's value; programs don't nest on a CPU (`prepare`), and nothing else uses `codes`
    // meanwhile.
    let entry = unsafe { &mut *entry(walk, key) };
    entry.key = 0;
    if let Err(ended) = fill(config, walk, entry, address, tlbc) {
        return ended as u64;
    }
    // SAFETY: this CPU's value.
    entry.key = key ^ unsafe { (*walk).generation.mixed };
    0
}

#[inline(always)]
fn fill(
    config: &StackConfig,
    walk: *mut Walk,
    entry: &mut CodeEntry,
    address: u64,
    tlbc: u32,
) -> Result<(), WalkEnd> {
    if address == 0 {
        return Err(WalkEnd::NotCode); // a frame that was cleared
    }
    let copies = config.code_tlbc != NO_FIELD;
    if !read_code(walk, address, copies) {
        return Err(WalkEnd::CodeFault);
    }
    if code_word(walk, config.ob_type) != config.code_type {
        return Err(WalkEnd::NotCode);
    }
    let qualname = code_word(walk, config.code_qualname);
    let check = code_check(qualname, code_half_word(walk, config.code_first_line));
    // `ob_size` follows the header: code units (`PyVarObject`, `Include/cpython/code.h`).
    let units = code_word(walk, config.ob_type.wrapping_add(8)) & UNITS;
    entry.check = u64::from(check) << 32 | units;
    entry.base = address.wrapping_add(u64::from(config.code_adaptive));
    // struct _PyCodeArray { Py_ssize_t size; char *entries[]; }: entry 0 is the code object's own
    // bytecode (`Include/cpython/code.h`).
    if copies && tlbc != 0 {
        let array = code_word(walk, config.code_tlbc);
        let size = word(array).ok_or(WalkEnd::CodeFault)?;
        if u64::from(tlbc) < size {
            let at = array.wrapping_add(8 + 8 * u64::from(tlbc));
            let copy = word(at).ok_or(WalkEnd::CodeFault)?;
            if copy != 0 {
                entry.base = copy;
            }
        }
    }
    Ok(())
}
