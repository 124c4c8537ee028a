//! What a walk must know of each code object: that it is one, where its instructions begin, and
//! what tells it from a later one at its address. Read once and cached per CPU.
//!
//! An answer may go stale: code objects are freed and their memory reused, and so are the copies of
//! their bytecode that threads of a free-threaded build run. 3.14 and later count both
//! (`code_object_generation`, `tlbc_generation`); before that, answers are believed for a moment.

use tracer_common::stack::{NO_FIELD, code_check};
use tracer_common::{StackConfig, WalkEnd};

use super::scratch::{Walk, code_half_word, code_word, read_code, thread_word};
use crate::user_memory::word;

/// Slots of the cache, a power of two. It is part of the scratch, whose size the kernel limits to
/// 32 KiB (`PCPU_MIN_UNIT_SIZE`): a map of its own would cost a lookup per frame.
pub(super) const CODE_SLOTS: usize = 512;
/// Without generations: answers are believed for up to 2^27 ns, 134 ms.
const BELIEVED_NS_BITS: u32 = 27;

/// A cached answer.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CodeEntry {
    code: u64,
    generation: u64,
    base: u64,
    check: u32,
    tlbc: u32,
}

/// Before a walk of the thread in `walk`: which answers are still good?
#[inline(always)]
pub(super) fn begin(config: &StackConfig, walk: *mut Walk, now: u64) {
    let generation = if config.code_generation == NO_FIELD {
        now >> BELIEVED_NS_BITS
    } else {
        let interpreter = thread_word(walk, config.thread_interpreter);
        let at = |offset: u32| word(interpreter.wrapping_add(u64::from(offset)));
        let codes = at(config.code_generation).unwrap_or(now);
        if config.tlbc_generation == NO_FIELD {
            codes
        } else {
            codes ^ at(config.tlbc_generation).unwrap_or(now) << 40
        }
    };
    // SAFETY: this CPU's value (`prepare`).
    unsafe { (*walk).generation = generation };
}

/// What a frame's place is told by.
#[derive(Clone, Copy)]
pub(super) struct Code {
    /// Where the instructions begin.
    pub(super) base: u64,
    /// What tells the code object from a later one at its address.
    pub(super) check: u32,
}

/// What is known of a code object and a thread's copy of its bytecode.
#[inline(always)]
pub(super) fn load(
    config: &StackConfig,
    walk: *mut Walk,
    address: u64,
    tlbc: u32,
    generation: u64,
) -> Result<Code, WalkEnd> {
    if address == 0 {
        return Err(WalkEnd::NotCode); // a frame that was cleared
    }
    let mixed = address >> 4 ^ address >> 13 ^ u64::from(tlbc) * 37;
    let slot = mixed as usize & (CODE_SLOTS - 1);
    // SAFETY: this CPU's value; programs don't nest on a CPU (`prepare`). The slot is masked to the
    // array's length, and the two references don't overlap: `codes` is used through `entry` only.
    let (entry, walk) = unsafe {
        let codes = (&raw mut (*walk).codes).cast::<CodeEntry>();
        (&mut *codes.add(slot), walk)
    };
    if entry.code != address || entry.tlbc != tlbc || entry.generation != generation {
        entry.code = 0;
        fill(config, walk, entry, address, tlbc)?;
        entry.generation = generation;
        entry.code = address;
    }
    Ok(Code { base: entry.base, check: entry.check })
}

#[inline(always)]
fn fill(
    config: &StackConfig,
    walk: *mut Walk,
    entry: &mut CodeEntry,
    address: u64,
    tlbc: u32,
) -> Result<(), WalkEnd> {
    let copies = config.code_tlbc != NO_FIELD;
    if !read_code(walk, address, copies) {
        return Err(WalkEnd::CodeFault);
    }
    if code_word(walk, config.ob_type) != config.code_type {
        return Err(WalkEnd::NotCode);
    }
    let qualname = code_word(walk, config.code_qualname);
    entry.check = code_check(qualname, code_half_word(walk, config.code_first_line));
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
    entry.tlbc = tlbc;
    Ok(())
}
