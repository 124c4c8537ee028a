//! The programs, by what they hook.

mod lifecycle;
mod sample;
mod sched;
mod syscall;
mod uprobe;
mod walk;
