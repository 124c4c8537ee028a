//! What a blocked thread's innermost frames hold: the first local variables, and the object whose
//! semaphore it waits for. The twins of the kernel side's `subjects` and `lock_object`, for threads
//! that were blocked before the recording, or still are at its end.

use tracer_common::SUBJECTS;

use super::Interpreter;
use super::block::{Block, pointer};
use super::frame_fields::FRAME_BYTES;
use super::walk::{TAG, first_frame};
use crate::target::Memory;
use crate::units::Address;

/// Frames looked at, shims among them.
const MAX_STEPS: usize = 6;
/// Values looked at.
const MAX_VALUES: u32 = 16;
/// A function with more local variables is taken for garbage.
const MAX_LOCALS: u32 = 1 << 16;

/// The first local variables of the innermost Python frames, leaf first; 0 where there is none.
#[must_use]
pub fn first_locals(memory: &Memory, python: &Interpreter, thread: Address) -> [u64; SUBJECTS] {
    let mut found = [0; SUBJECTS];
    // What can't be read stays 0.
    let _ = fill(memory, python, thread, &mut found);
    found
}

fn fill(
    memory: &Memory,
    python: &Interpreter,
    thread: Address,
    found: &mut [u64; SUBJECTS],
) -> Option<()> {
    let layout = python.frames.as_ref().ok()?;
    let mut next = first_frame(memory, layout, thread)?;
    let mut slots = found.iter_mut();
    for _ in 0..MAX_STEPS {
        let frame = pointer(next)?;
        let block = Block::read(memory, frame, FRAME_BYTES)?;
        next = block.word(layout.frame.previous)?;
        if block.byte(layout.frame.owner)? < layout.frame.first_shim_owner {
            *slots.next()? = memory.word(frame.field(layout.frame.locals)?)? & !TAG;
        }
    }
    None
}

/// The object that owns a semaphore which the thread waits for: it, or a method bound to it, is on the
/// value stack of the innermost frame.
#[must_use]
pub fn lock_object(
    memory: &Memory,
    python: &Interpreter,
    thread: Address,
    semaphore: Address,
) -> Option<Address> {
    let layout = python.frames.as_ref().ok()?;
    let frame = pointer(first_frame(memory, layout, thread)?)?;
    let code = pointer(memory.word(frame.field(layout.frame.executable)?)? & !TAG)?;
    // `co_stacksize`, `co_firstlineno` and `co_nlocalsplus` are neighbours in all versions
    // (`Include/cpython/code.h`).
    let first_line = layout.code.first_line;
    let stack_size = memory.half_word(code.field(first_line.checked_sub(4)?)?)?;
    let locals = memory.half_word(code.field(first_line + 4)?)?;
    if locals > MAX_LOCALS {
        return None;
    }
    let values = frame.field(layout.frame.locals)?.field(8 * u64::from(locals))?;
    // Type, then what the object holds first: a semaphore, or a builtin method's definition, which
    // `m_self` follows (`PyCFunctionObject`).
    let header = python.layout.object_header;
    let owns =
        |object: Address| object.field(header).and_then(|at| memory.word(at)) == Some(semaphore.0);
    (0..stack_size.min(MAX_VALUES)).find_map(|n| {
        let value = pointer(memory.word(values.field(8 * u64::from(n))?)? & !TAG)?;
        if owns(value) {
            return Some(value);
        }
        let bound_to = memory.word(value.field(header + 8)?).and_then(pointer)?;
        owns(bound_to).then_some(bound_to)
    })
}
