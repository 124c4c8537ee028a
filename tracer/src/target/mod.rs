//! The traced process, from outside: is it there, what does it map, what do its threads do?

mod descendants;
mod elf;
mod functions;
mod hookable;
mod launch;
mod memory;
mod namespace;
mod process;
mod threads;

pub use descendants::descendants;
pub use elf::{ElfError, Image, Section, UnwindTables};
pub use functions::function_at;
pub use hookable::{Function, Functions, Usdt};
pub use launch::{GATE, Launched, gate};
pub use memory::Memory;
pub use namespace::pid_namespace_level;
pub use process::{MappedFile, Process};
pub use threads::{BlockedFutex, blocked_futex, comm, exec_time, ns_tid, tids};
