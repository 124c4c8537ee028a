//! What user space tells the kernel side about the target's interpreter.

use crate::plain_data;

/// GILs that the kernel side can recognise: one per interpreter (PEP 684).
pub const MAX_GILS: usize = 8;

/// Where the interpreter keeps what a futex wait is recognised by. Lives in the `INTERPRETER` map:
/// a target that lockwatt starts itself has no interpreter yet when the programs are attached.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct InterpreterConfig {
    /// 1 once the rest is filled in; until then every wait has the shape its arguments give.
    pub valid: u32,
    /// 1 for a free-threaded build.
    pub free_threaded: u32,
    /// 1 if the interpreter has a parking lot (3.13 and later).
    pub parking_lot: u32,
    /// Used entries of `gils`.
    pub gil_count: u32,
    /// User addresses of `struct _gil_runtime_state`.
    pub gils: [u64; MAX_GILS],
    /// Offset in it of `cond`, with `mutex` right behind it up to `gil_switch_cond`.
    pub gil_cond: u32,
    /// Offset of `switch_cond`, with `switch_mutex` right behind it up to `gil_end`.
    pub gil_switch_cond: u32,
    /// The struct's size.
    pub gil_end: u32,
    /// Offset of `ob_type` in an object.
    pub ob_type: u32,
    /// Offset of the `PyMutex` in a `threading.Lock` (size of the object header).
    pub lock_mutex: u32,
    /// Always 0.
    pub _pad: u32,
    /// User address of the main interpreter's `gc.collecting`; 0: not known.
    pub gc_collecting: u64,
    /// User address of `PyType_Type`; 0 if it is not known.
    pub type_type: u64,
}

/// Offsets of the running kernel's `struct task_struct`, from its BTF.
///
/// Handed over as read-only globals before loading, so that the verifier knows them and the
/// fields can be read directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOffsets {
    /// `pid`: the thread id.
    pub pid: u32,
    /// `tgid`: the process id.
    pub tgid: u32,
    /// `__state` (5.14 and later) or `state`.
    pub state: u32,
    /// `se.sum_exec_runtime`: nanoseconds on a CPU so far, up to date at a switch.
    pub sum_exec_runtime: u32,
    /// `thread_pid`.
    pub thread_pid: u32,
    /// `numbers` in `struct pid`.
    pub pid_numbers: u32,
    /// `level` in `struct pid`.
    pub pid_level: u32,
    /// `flags`.
    pub flags: u32,
}

plain_data!(InterpreterConfig = 120);
