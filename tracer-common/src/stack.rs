//! Python stacks: what the kernel side walks by, and the records it sends.

use crate::plain_data;

/// Frames of a stack that are kept, from the leaf on.
pub const MAX_FRAMES: usize = 128;
/// Interpreters (PEP 684, PEP 734) whose thread lists the kernel side looks through.
pub const MAX_INTERPRETERS: usize = 8;
/// Stands for an offset that this version has no field for.
pub const NO_FIELD: u32 = u32::MAX;

/// Why a wait has no stack on one of its sides. Stack ids are larger than any of these numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum NoStack {
    /// There was no moment to walk at: nobody woke the waiter, or the side doesn't exist.
    #[default]
    NotTaken = 0,
    /// No interpreter, or one whose layout is not known.
    NoInterpreter = 1,
    /// The thread has no `PyThreadState`: a thread that never ran Python, or a very new one.
    NoThreadState = 2,
    /// The thread has a `PyThreadState` and runs no Python code.
    NoFrames = 3,
    /// Short waits were many: only so many of them are walked a second.
    Limited = 4,
    /// The ring buffer was full.
    RingFull = 5,
    /// The stack is known to the kernel side, and its record never came.
    Lost = 6,
    /// The first frame could not be read.
    Unreadable = 7,
}

impl NoStack {
    /// How many reasons there are. Real stack ids are at least this.
    pub const COUNT: u32 = 8;
    /// Every reason, in the order of its number.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::NotTaken,
        Self::NoInterpreter,
        Self::NoThreadState,
        Self::NoFrames,
        Self::Limited,
        Self::RingFull,
        Self::Lost,
        Self::Unreadable,
    ];

    /// The reason with this number, if it is one.
    #[must_use]
    pub const fn from_u32(n: u32) -> Option<Self> {
        if n < Self::COUNT { Some(Self::ALL[n as usize]) } else { None }
    }

    /// The name in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotTaken => "not_taken",
            Self::NoInterpreter => "no_interpreter",
            Self::NoThreadState => "no_thread_state",
            Self::NoFrames => "no_frames",
            Self::Limited => "limited",
            Self::RingFull => "ring_full",
            Self::Lost => "lost",
            Self::Unreadable => "unreadable",
        }
    }
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum WalkEnd {
    /// At the outermost frame.
    #[default]
    Complete = 0,
    /// After [`MAX_FRAMES`] frames: the outer ones are missing.
    Truncated = 1,
    /// A frame could not be read.
    FrameFault = 2,
    /// A frame pointer that can't be one.
    BadFrame = 3,
    /// A frame's executable is no code object.
    NotCode = 4,
    /// A code object could not be read.
    CodeFault = 5,
}

impl WalkEnd {
    /// How many ends there are.
    pub const COUNT: usize = 6;
    /// Every end, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Complete,
        Self::Truncated,
        Self::FrameFault,
        Self::BadFrame,
        Self::NotCode,
        Self::CodeFault,
    ];

    /// The end with this number, if it is one.
    #[must_use]
    pub const fn from_u32(n: u32) -> Option<Self> {
        if (n as usize) < Self::COUNT { Some(Self::ALL[n as usize]) } else { None }
    }
}

/// Offsets in a `_PyInterpreterFrame`. One byte each: then the verifier knows their range without a
/// mask, which a walk would pay for at every frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FrameOffsets {
    /// `previous`.
    pub previous: u8,
    /// `f_code` or `f_executable`.
    pub executable: u8,
    /// `prev_instr` or `instr_ptr`.
    pub instruction: u8,
    /// `owner`.
    pub owner: u8,
    /// `tlbc_index` (free-threaded 3.14 and later), else [`NO_FRAME_FIELD`].
    pub tlbc_index: u8,
    /// No offset: frames with this `owner` or a larger one are no Python code but shims and
    /// interpreter entries.
    pub first_shim_owner: u8,
    /// `localsplus`.
    pub locals: u8,
    /// Which of [`FrameOffsets::COMPILED`] this is, from 1 on; 0: none of them.
    pub compiled: u8,
}

impl FrameOffsets {
    /// Layouts that the kernel side has a copy of its frame loop for, with the offsets as constants in
    /// its instructions: some 18 of a frame's 87 went into looking for its fields. Any other goes through
    /// the loop that reads them from the configuration.
    pub const COMPILED: [Self; 4] = [
        Self::compile(1, [48, 32, 56, 69], NO_FRAME_FIELD), // 3.11
        Self::compile(2, [8, 0, 56, 70], NO_FRAME_FIELD),   // 3.12, 3.13, free-threaded 3.13
        Self::compile(3, [8, 0, 56, 74], NO_FRAME_FIELD),   // 3.14, 3.15
        Self::compile(4, [8, 0, 56, 78], 72),               // free-threaded 3.14, 3.15
    ];

    const fn compile(compiled: u8, offsets: [u8; 4], tlbc_index: u8) -> Self {
        let [previous, executable, instruction, owner] = offsets;
        let first_shim_owner = FIRST_SHIM_OWNER;
        let locals = 0; // which the loop does not use
        Self {
            previous,
            executable,
            instruction,
            owner,
            tlbc_index,
            first_shim_owner,
            locals,
            compiled,
        }
    }

    /// These offsets, marked with their number in [`FrameOffsets::COMPILED`] if they are there.
    #[must_use]
    pub fn marked(self) -> Self {
        let alike = |known: &&Self| **known == Self { locals: 0, compiled: known.compiled, ..self };
        Self {
            compiled: Self::COMPILED.iter().find(alike).map_or(0, |known| known.compiled),
            ..self
        }
    }
}

/// `FRAME_OWNED_BY_CSTACK` of 3.12 and 3.13, `FRAME_OWNED_BY_INTERPRETER` since 3.14
/// (`Include/internal/pycore_frame.h`); 3.11 has no owner that large. From this one on, a frame is
/// the interpreter's own and has no Python code.
pub const FIRST_SHIM_OWNER: u8 = 3;

/// A frame of this version has no such field.
pub const NO_FRAME_FIELD: u8 = u8::MAX;

/// Where the interpreter keeps threads, frames and code. Offsets in bytes. Lives in the
/// `STACK_CONFIG` map.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct StackConfig {
    /// 1 once the rest is filled in; until then no stack is walked.
    pub valid: u32,
    /// Used entries of `interpreters`.
    pub interpreter_count: u32,
    /// User addresses of the interpreter states.
    pub interpreters: [u64; MAX_INTERPRETERS],
    /// User address of `PyCode_Type`.
    pub code_type: u64,
    /// `threads.head` in an interpreter state.
    pub threads_head: u32,
    /// `code_object_generation` in an interpreter state (3.14 and later), else [`NO_FIELD`].
    pub code_generation: u32,
    /// `tlbc_generation` in an interpreter state (3.14 and later), else [`NO_FIELD`].
    pub tlbc_generation: u32,
    /// `next` in a thread state.
    pub thread_next: u32,
    /// `interp` in a thread state.
    pub thread_interpreter: u32,
    /// `native_thread_id` in a thread state.
    pub thread_native_id: u32,
    /// `current_frame` in a thread state, or `cframe` if `cframe_current` is a field.
    pub thread_frame: u32,
    /// `current_frame` in a `_PyCFrame` (3.11, 3.12), else [`NO_FIELD`].
    pub cframe_current: u32,
    /// Offsets in a frame.
    pub frame: FrameOffsets,
    /// `ob_type` in an object.
    pub ob_type: u32,
    /// `co_firstlineno` in a code object.
    pub code_first_line: u32,
    /// `co_qualname` in a code object.
    pub code_qualname: u32,
    /// `co_code_adaptive` in a code object.
    pub code_adaptive: u32,
    /// `co_tlbc` in a code object (free-threaded 3.14 and later), else [`NO_FIELD`].
    pub code_tlbc: u32,
    /// `last_holder` in a GIL struct.
    pub gil_holder: u32,
    /// `locked` in a GIL struct.
    pub gil_locked: u32,
    /// Always 0.
    pub _pad: u32,
}

/// A thread and its `PyThreadState`. Lives in the `THREAD_STATES` map, keyed by the host's id.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ThreadStateAddress {
    /// User address; 0: it was looked for in vain.
    pub address: u64,
    /// If it was looked for in vain: not again before this time.
    pub retry_ns: u64,
    /// The thread's id in the target's own PID namespace.
    pub ns_tid: u32,
    /// Always 0.
    pub _pad: u32,
}

/// The Python object that owns a semaphore. Lives in the `LOCK_OBJECTS` map, keyed by the semaphore.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct LockObject {
    /// Its user address; 0: it was looked for in vain.
    pub object: u64,
    /// If it was looked for in vain: not again before this time.
    pub retry_ns: u64,
}

/// A frame as it was walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct RawFrame {
    /// User address of the code object.
    pub code: u64,
    /// Index of the current instruction, in code units (2 bytes).
    pub lasti: u32,
    /// [`code_check`] of the code object when it was walked.
    pub check: u32,
}

/// A stack that has not been sent before; the frames follow, leaf first.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct StackEvent {
    /// [`crate::event::EVENT_STACK`].
    pub event: u32,
    /// A thread that has this stack.
    pub tid: u32,
    /// Its id: a hash of its frames and its end, at least [`NoStack::COUNT`].
    pub id: u64,
    /// Frames that follow.
    pub frames: u32,
    /// A [`WalkEnd`] number.
    pub end: u32,
}

/// Bytes of a native stack that are copied, from the stack pointer up.
pub const NATIVE_BYTES: usize = 2048;

/// A waiter's registers and the lower end of its native stack, for user space to unwind; the bytes
/// follow.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct NativeEvent {
    /// [`crate::event::EVENT_NATIVE`].
    pub event: u32,
    /// The waiter.
    pub tid: u32,
    /// What a wait names it by, at least [`NoStack::COUNT`]; no two have the same.
    pub id: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer: where the bytes begin.
    pub sp: u64,
    /// Frame pointer, if the code uses one.
    pub bp: u64,
    /// Bytes that follow.
    pub len: u64,
}

/// What tells a code object from a later one at the same address.
#[must_use]
#[inline(always)]
pub const fn code_check(qualname: u64, first_line: u32) -> u32 {
    let mixed = (qualname ^ ((first_line as u64) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

plain_data!(
    StackConfig = 152,
    ThreadStateAddress = 24,
    LockObject = 16,
    RawFrame = 16,
    StackEvent = 24,
    NativeEvent = 48,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiled_layout_is_known_by_its_offsets_and_any_other_is_not() {
        for (n, known) in (1..).zip(FrameOffsets::COMPILED) {
            let found = FrameOffsets { locals: 80, compiled: 0, ..known };
            assert_eq!(found.marked(), FrameOffsets { compiled: n, ..found });
            let other = FrameOffsets { owner: known.owner + 1, ..found };
            assert_eq!(other.marked().compiled, 0);
        }
    }
}
