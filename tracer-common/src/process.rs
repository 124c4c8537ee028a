//! What the kernel side knows of each process, in a recording of several (`--follow`, or more than
//! one `-p`).

use crate::sample::SPIN_CODE_SLOTS;
use crate::{InterpreterConfig, SpinCode, StackConfig, plain_data};

/// One traced process. Lives in the `PROCESSES` map, keyed by the process id on the host.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ProcessState {
    /// Number of its memory: each process has one of its own, and another after an `exec`. Not 0.
    /// Given by user space, never twice.
    pub number: u32,
    /// 1: its waits are recorded; 0: it runs no CPython (so far), and only its children, its exec
    /// and its end are looked at.
    pub recorded: u32,
    /// Where its interpreter keeps its locks.
    pub interpreter: InterpreterConfig,
    /// Where its interpreter keeps threads, frames and code.
    pub stacks: StackConfig,
    /// Its functions that spin.
    pub spin_code: [SpinCode; SPIN_CODE_SLOTS as usize],
}

/// User addresses are below this bit (47 bits are used), so that above it the lowest bits of a
/// process's number fit: one word for the same address in different memories.
const TAG_SHIFT: u32 = 48;

/// An address, marked with the number of the process's memory that it is of. 0 leaves it as it is.
#[must_use]
#[inline(always)]
pub const fn tag(number: u32, address: u64) -> u64 {
    address | (number as u64) << TAG_SHIFT
}

/// The address that was marked.
#[must_use]
#[inline(always)]
pub const fn untag(tagged: u64) -> u64 {
    tagged & ((1 << TAG_SHIFT) - 1)
}

/// The lowest 16 bits of the number that an address was marked with.
#[must_use]
pub const fn tag_of(tagged: u64) -> u16 {
    (tagged >> TAG_SHIFT) as u16
}

plain_data!(ProcessState = 472);
