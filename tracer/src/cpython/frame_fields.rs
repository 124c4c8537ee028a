//! Where an interpreter keeps threads, frames, code objects and strings: the offsets themselves.
//! `frame_layout` is where they come from.

use super::attributes::AttributeLayout;
use super::text::StringLayout;

/// Bytes that are read of a frame at once.
pub const FRAME_BYTES: u64 = 80;
/// Bytes that may be read of a code object at once.
pub const CODE_BYTES: u64 = 256;
/// Bytes that may be read of a thread state at once.
pub const THREAD_BYTES: u64 = 256;

/// Offsets in bytes, unless they say otherwise. Every one was checked to be sane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    /// In an interpreter state.
    pub interpreter: InterpreterFields,
    /// In a thread state.
    pub thread: ThreadFields,
    /// In a frame.
    pub frame: FrameFields,
    /// In a code object.
    pub code: CodeFields,
    /// In `str` and `bytes` objects.
    pub strings: StringLayout,
    /// `ob_type` in an object.
    pub ob_type: u64,
    /// How an object's attributes are found, which only the names of threads need: `None` if that
    /// is not known.
    pub attributes: Option<AttributeLayout>,
}

/// Offsets in `PyInterpreterState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterpreterFields {
    /// `threads.head`.
    pub threads_head: u64,
    /// `_code_object_generation` (3.14 and later): counts up when a code object is freed.
    pub code_generation: Option<u64>,
    /// `tlbc_indices.tlbc_generation` (free-threaded 3.14 and later).
    pub tlbc_generation: Option<u64>,
}

/// Offsets in `PyThreadState`, all within its first [`THREAD_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadFields {
    /// `next`.
    pub next: u64,
    /// `interp`.
    pub interpreter: u64,
    /// `native_thread_id`.
    pub native_id: u64,
    /// `current_frame`, or `cframe` if `cframe_current` is a field.
    pub frame: u64,
    /// `current_frame` in the `_PyCFrame` that `cframe` points to (3.11, 3.12).
    pub cframe_current: Option<u64>,
}

/// Offsets in `_PyInterpreterFrame`, all but `locals` within its first [`FRAME_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFields {
    /// `previous`.
    pub previous: u64,
    /// `f_code` or `f_executable`; since 3.14 the low two bits are a tag (`_PyStackRef`).
    pub executable: u64,
    /// `prev_instr` or `instr_ptr`.
    pub instruction: u64,
    /// `owner`, one byte.
    pub owner: u64,
    /// `tlbc_index`, 4 bytes (free-threaded 3.14 and later).
    pub tlbc_index: Option<u64>,
    /// `localsplus`: the local variables, a pointer each, tagged as `executable` is.
    pub locals: u64,
    /// Not an offset: frames with this owner or a larger one are no Python code.
    pub first_shim_owner: u8,
}

/// Offsets in `PyCodeObject`, all but `adaptive` within its first [`CODE_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeFields {
    /// `co_filename`.
    pub filename: u64,
    /// `co_name`.
    pub name: u64,
    /// `co_qualname`.
    pub qualname: u64,
    /// `co_linetable`.
    pub line_table: u64,
    /// `co_firstlineno`, 4 bytes.
    pub first_line: u64,
    /// `co_code_adaptive`: the instructions themselves.
    pub adaptive: u64,
    /// `co_tlbc`: a pointer to the threads' own copies of the instructions (free-threaded 3.14 and
    /// later).
    pub tlbc: Option<u64>,
}
