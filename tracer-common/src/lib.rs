//! What lockwatt's kernel programs and its user side say to each other: records of the ring
//! buffer, values of the maps, and the numbers (event ids, drop reasons, wait shapes) both name.
//!
//! Everything here is plain data: `#[repr(C)]`, no implicit padding, no `bool`, `usize` or enum on
//! the wire, sizes asserted. Ids have fixed numbers that are never reused.
#![no_std]

pub mod config;
pub mod counter;
pub mod energy;
pub mod event;
pub mod process;
pub mod rate;
pub mod sample;
pub mod shape;
pub mod stack;
pub mod thread;
pub mod uprobe;

pub use config::{InterpreterConfig, MAX_GILS};
pub use counter::{DropReason, LockTotals, ShapeTotals, Stat, SyscallTotals};
pub use event::{
    EVENT_EXEC, EVENT_NATIVE, EVENT_SHORT, EVENT_SPIN, EVENT_STACK, EVENT_THREAD_EXIT,
    EVENT_THREAD_NEW, EVENT_WAIT, SUBJECTS, ShortEvent, SpinEvent, WaitEvent,
};
pub use process::ProcessState;
pub use sample::{LockSamples, SampleTotals, SpinCode};
pub use shape::{FutexIdentity, Shape};
pub use stack::{
    LockObject, NativeEvent, NoStack, RawFrame, StackConfig, StackEvent, ThreadStateAddress,
    WalkEnd,
};
pub use thread::{InitialWait, QuickState, ShortSums, SpinKey, SpinSite, SpinTotals, ThreadState};
pub use uprobe::{UprobeLoss, UprobeThread, UseKey, UseKind, UseTotals};

/// Marks plain `#[repr(C)]` data as readable from and writable to BPF maps.
macro_rules! plain_data {
    ($($name:ty = $size:expr),+ $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        const _: () = assert!(core::mem::align_of::<$name>() == 8);
        // SAFETY: `#[repr(C)]`, `Copy`, only integers (and arrays of them), no implicit padding
        // (the size assert above counts the fields), so every bit pattern is a value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    )+};
}
pub(crate) use plain_data;
