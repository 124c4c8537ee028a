//! A thread's Python stack, walked from outside: the same walk as the kernel side's, for threads
//! that stay where they are.

use tracer_common::stack::{MAX_FRAMES, code_check};
use tracer_common::{RawFrame, WalkEnd};

use super::Interpreter;
use super::block::{Block, pointer};
use super::frame_fields::{FRAME_BYTES, FrameLayout};
use crate::target::Memory;
use crate::units::Address;

/// Frames that are looked at, with those that are no Python code.
const MAX_STEPS: usize = MAX_FRAMES + 8;

/// Frames that are passed on the way to the outermost one.
const MAX_DEPTH: usize = 100_000;

/// The low bits of a `_PyStackRef` are a tag (`Include/internal/pycore_stackref.h`, 3.14 and
/// later); a code object is 8-aligned.
pub(super) const TAG: u64 = 3;

/// Frames (leaf first, at most [`MAX_FRAMES`]), and how the walk ended.
pub type Walk = (Vec<RawFrame>, WalkEnd);

/// Walks the stack of the thread whose `PyThreadState` is at `thread`
/// ([`super::thread_states`] has them).
///
/// Nothing stops the thread: unless it is blocked, and stays so for the whole walk, the frames may
/// be of different moments. `None` without a frame layout. A thread that runs no Python code has
/// no frames and [`WalkEnd::Complete`].
#[must_use]
pub fn walk(memory: &Memory, python: &Interpreter, thread: Address) -> Option<Walk> {
    let layout = python.frames.as_ref().ok()?;
    let mut frames = Vec::new();
    let Some(first) = first_frame(memory, layout, thread) else {
        return Some((frames, WalkEnd::FrameFault));
    };
    let end = follow(memory, layout, python.code_type, first, &mut frames);
    Some((frames, end))
}

/// The word that points to the leaf frame; 0: there is none.
pub(super) fn first_frame(memory: &Memory, layout: &FrameLayout, thread: Address) -> Option<u64> {
    let word = memory.word(thread.field(layout.thread.frame)?)?;
    match layout.thread.cframe_current {
        Some(current) => memory.word(pointer(word)?.field(current)?),
        None => Some(word),
    }
}

/// The outermost frame with Python code: what is kept of it, and its address. Goes beyond
/// [`MAX_FRAMES`]; `None` if the stack is empty, too deep or can't be read to its end.
pub(super) fn outermost(
    memory: &Memory,
    python: &Interpreter,
    thread: Address,
) -> Option<(RawFrame, Address)> {
    let layout = python.frames.as_ref().ok()?;
    let mut next = first_frame(memory, layout, thread)?;
    let mut last = None;
    for _ in 0..MAX_DEPTH {
        if next == 0 {
            let (address, block) = last?;
            let raw = raw_frame(memory, layout, python.code_type, &block).ok()?;
            return Some((raw, address));
        }
        let frame = pointer(next)?;
        let block = Block::read(memory, frame, FRAME_BYTES)?;
        next = block.word(layout.frame.previous)?;
        if block.byte(layout.frame.owner)? < layout.frame.first_shim_owner {
            last = Some((frame, block));
        }
    }
    None
}

/// A frame with Python code.
pub(super) struct Step {
    /// Where it is.
    pub(super) frame: Address,
    /// What is kept of it.
    pub(super) raw: RawFrame,
}

/// Visits the frames that [`walk`] returns, leaf first.
pub(super) fn each_frame(
    memory: &Memory,
    python: &Interpreter,
    thread: Address,
    mut visit: impl FnMut(Step),
) {
    let Ok(layout) = &python.frames else { return };
    let Some(mut next) = first_frame(memory, layout, thread) else { return };
    let mut frames = 0;
    for _ in 0..MAX_STEPS {
        let Some(frame) = pointer(next) else { return };
        let Some(block) = Block::read(memory, frame, FRAME_BYTES) else { return };
        let (Some(owner), Some(previous)) =
            (block.byte(layout.frame.owner), block.word(layout.frame.previous))
        else {
            return;
        };
        next = previous;
        if owner >= layout.frame.first_shim_owner {
            continue;
        }
        let Ok(raw) = raw_frame(memory, layout, python.code_type, &block) else { return };
        if frames == MAX_FRAMES {
            return;
        }
        frames += 1;
        visit(Step { frame, raw });
    }
}

fn follow(
    memory: &Memory,
    layout: &FrameLayout,
    code_type: Address,
    first: u64,
    frames: &mut Vec<RawFrame>,
) -> WalkEnd {
    let fields = &layout.frame;
    let mut next = first;
    for _ in 0..MAX_STEPS {
        if next == 0 {
            return WalkEnd::Complete;
        }
        let Some(frame) = pointer(next) else { return WalkEnd::BadFrame };
        let Some(block) = Block::read(memory, frame, FRAME_BYTES) else {
            return WalkEnd::FrameFault;
        };
        let (Some(owner), Some(previous)) = (block.byte(fields.owner), block.word(fields.previous))
        else {
            return WalkEnd::FrameFault; // never: the layout's offsets are within the block
        };
        next = previous;
        if owner >= fields.first_shim_owner {
            continue;
        }
        if frames.len() == MAX_FRAMES {
            return WalkEnd::Truncated;
        }
        match raw_frame(memory, layout, code_type, &block) {
            Ok(raw) => frames.push(raw),
            Err(end) => return end,
        }
    }
    WalkEnd::Truncated
}

/// What is kept of a frame.
fn raw_frame(
    memory: &Memory,
    layout: &FrameLayout,
    code_type: Address,
    frame: &Block,
) -> Result<RawFrame, WalkEnd> {
    let (fields, code_fields) = (&layout.frame, &layout.code);
    let executable = frame.word(fields.executable).ok_or(WalkEnd::FrameFault)?;
    let instruction = frame.word(fields.instruction).ok_or(WalkEnd::FrameFault)?;
    let code = pointer(executable & !TAG).ok_or(WalkEnd::NotCode)?;
    let needed = [
        layout.ob_type,
        code_fields.qualname,
        code_fields.first_line,
        code_fields.tlbc.unwrap_or(0),
    ];
    let length = needed.into_iter().max().unwrap_or(0) + 8;
    let block = Block::read(memory, code, length).ok_or(WalkEnd::CodeFault)?;
    if block.word(layout.ob_type) != Some(code_type.0) {
        return Err(WalkEnd::NotCode);
    }
    let qualname = block.word(code_fields.qualname).ok_or(WalkEnd::CodeFault)?;
    let first_line = block.half_word(code_fields.first_line).ok_or(WalkEnd::CodeFault)?;
    let mut base = code.0.wrapping_add(code_fields.adaptive);
    // A free-threaded build's thread runs its own copy of the instructions: `co_tlbc` points to
    // `_PyCodeArray { Py_ssize_t size; char *entries[]; }` (Include/cpython/code.h). Entry 0 is the
    // code object's own.
    if let (Some(index), Some(tlbc)) = (fields.tlbc_index, code_fields.tlbc) {
        let index = u64::from(frame.half_word(index).ok_or(WalkEnd::FrameFault)?);
        if index != 0 {
            let copies = block.word(tlbc).and_then(pointer).ok_or(WalkEnd::CodeFault)?;
            let size = memory.word(copies).ok_or(WalkEnd::CodeFault)?;
            if index < size {
                let entry = copies.field(8 + 8 * index).and_then(|at| memory.word(at));
                base = entry.ok_or(WalkEnd::CodeFault)?;
            }
        }
    }
    Ok(RawFrame {
        code: code.0,
        // 3.11 and 3.12 point before the first instruction until a frame begins: that wraps, and
        // has no line.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "no code is larger; garbage has no line"
        )]
        lasti: (instruction.wrapping_sub(base) >> 1) as u32,
        check: code_check(qualname, first_line),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const UNMAPPED: u64 = 0x10_0000;

    fn end(fake: &Fake) -> (usize, WalkEnd) {
        let (frames, end) = walk(&fake.memory(), &fake.python(), fake.thread()).expect("a layout");
        (frames.len(), end)
    }

    #[test]
    fn own_frames_of_the_interpreter_are_passed_over() {
        let mut fake = Fake::new(5);
        fake.frame(1).owner(3);
        fake.frame(4).owner(4);
        assert_eq!(end(&fake), (3, WalkEnd::Complete));
        let (frames, _) = walk(&fake.memory(), &fake.python(), fake.thread()).expect("a layout");
        assert_eq!(frames.iter().map(|frame| frame.lasti).collect::<Vec<_>>(), [0, 2, 3]);
        let (raw, address) =
            outermost(&fake.memory(), &fake.python(), fake.thread()).expect("a frame");
        assert_eq!((raw, address.0), (frames[2], fake.frame_address(3)));
    }

    #[test]
    fn the_limits_are_exact() {
        assert_eq!(end(&Fake::new(0)), (0, WalkEnd::Complete));
        assert_eq!(end(&Fake::new(MAX_FRAMES)), (MAX_FRAMES, WalkEnd::Complete));
        assert_eq!(end(&Fake::new(MAX_FRAMES + 1)), (MAX_FRAMES, WalkEnd::Truncated));
        let mut shim_last = Fake::new(MAX_FRAMES + 1);
        shim_last.frame(MAX_FRAMES).owner(3);
        assert_eq!(end(&shim_last), (MAX_FRAMES, WalkEnd::Complete));
    }

    #[test]
    fn circles_end() {
        let mut fake = Fake::new(3);
        let first = fake.frame_address(0);
        fake.frame(2).previous(first);
        assert_eq!(end(&fake), (MAX_FRAMES, WalkEnd::Truncated));
        assert_eq!(outermost(&fake.memory(), &fake.python(), fake.thread()), None);
        for n in 0..3 {
            fake.frame(n).owner(3);
        }
        assert_eq!(end(&fake), (0, WalkEnd::Truncated));
    }

    #[test]
    fn what_can_t_be_is_named() {
        let broken = |change: &dyn Fn(&mut Fake)| {
            let mut fake = Fake::new(3);
            change(&mut fake);
            end(&fake)
        };
        for bad in [7, 8, 0x1_0001, 1 << 47, u64::MAX - 7] {
            let found = broken(&|fake| fake.frame(1).previous(bad));
            assert_eq!(found, (2, WalkEnd::BadFrame), "{bad:#x}");
        }
        let found = broken(&|fake| fake.frame(1).previous(UNMAPPED));
        assert_eq!(found, (2, WalkEnd::FrameFault));
        assert_eq!(broken(&|fake| fake.frame(2).executable(0)), (2, WalkEnd::NotCode));
        assert_eq!(broken(&|fake| fake.frame(0).executable(UNMAPPED)), (0, WalkEnd::CodeFault));
        let found = broken(&|fake| {
            let itself = fake.frame_address(1);
            fake.frame(1).executable(itself);
        });
        assert_eq!(found, (1, WalkEnd::NotCode));
        let tagged = broken(&|fake| {
            let code = fake.code();
            fake.frame(1).executable(code | 1);
        });
        assert_eq!(tagged, (3, WalkEnd::Complete));
    }
}
