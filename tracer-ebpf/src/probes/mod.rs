//! The programs, by what they hook.

mod lifecycle;
mod sched;
mod syscall;
mod uprobe;
