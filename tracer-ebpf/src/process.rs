//! Which processes are traced, and what is known of each.
//!
//! By default there is one, and the verifier knows its id: every branch on [`several`] goes away.
//! Else they are in a table. They can have the same things at the same addresses (after a fork), so
//! what is kept by address is kept by memory as well.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_common::process;
use tracer_common::{InterpreterConfig, ProcessState, SpinCode, StackConfig};

use crate::globals::target_tgid;
use crate::maps::{INTERPRETER, NUMBERS, PROCESSES, SPIN_CODE, STACK_CONFIG};
use crate::task::Task;

/// More than one process can be traced.
#[inline(always)]
pub(crate) fn several() -> bool {
    target_tgid() == 0
}

/// Whether the task's process is recorded. `target` is [`target_tgid`]; `ONE` says that it is the only
/// one: in the programs that run at every switch not even an unused branch is compiled in, since it
/// makes others out of the rest.
#[inline(always)]
pub(crate) fn includes<const ONE: bool>(target: u32, task: Task) -> bool {
    includes_process::<ONE>(target, task.tgid())
}

/// The same of a process by its id.
#[inline(always)]
pub(crate) fn includes_process<const ONE: bool>(target: u32, tgid: u32) -> bool {
    if ONE || target != 0 {
        return tgid == target;
    }
    of(tgid).is_some_and(|process| process.recorded != 0)
}

/// The two tasks are of one process, or all processes are one.
#[inline(always)]
pub(crate) fn same<const ONE: bool>(a: Task, b: Task) -> bool {
    ONE || !several() || a.tgid() == b.tgid()
}

/// What is known of a process, in a recording of several.
#[inline(always)]
pub(crate) fn of(tgid: u32) -> Option<&'static ProcessState> {
    if tgid == 0 {
        return None; // idle tasks, the most frequent of all
    }
    // SAFETY: a live map value. User space replaces it as a whole; what changes while it is read
    // makes a walk fail, as anything else that moves does.
    unsafe { PROCESSES.get(tgid) }
}

/// The process whose memory is the current one, in a recording of several.
#[inline(always)]
fn current() -> Option<&'static ProcessState> {
    of((bpf_get_current_pid_tgid() >> 32) as u32)
}

/// Where the interpreter in the current memory keeps its locks.
#[inline(always)]
pub(crate) fn interpreter() -> Option<&'static InterpreterConfig> {
    if several() {
        return current().map(|process| &process.interpreter);
    }
    INTERPRETER.get(0)
}

/// Where the interpreter in the current memory keeps its stacks.
#[inline(always)]
pub(crate) fn stack_config() -> Option<&'static StackConfig> {
    if several() {
        return current().map(|process| &process.stacks);
    }
    STACK_CONFIG.get(0)
}

/// A function that spins, in the current memory.
#[inline(always)]
pub(crate) fn spin_code(slot: u32) -> Option<&'static SpinCode> {
    if several() {
        return current()?.spin_code.get(slot as usize);
    }
    SPIN_CODE.get(slot)
}

/// The number of the current memory; 0 if there is only one.
#[inline(always)]
pub(crate) fn number() -> u32 {
    if several() { current().map_or(0, |process| process.number) } else { 0 }
}

/// An address in the current memory, as a key.
#[inline(always)]
pub(crate) fn tag(address: u64) -> u64 {
    if several() { process::tag(number(), address) } else { address }
}

/// The address in such a key.
#[inline(always)]
pub(crate) fn untag(tagged: u64) -> u64 {
    if several() { process::untag(tagged) } else { tagged }
}

/// A number that no other memory has; `None` if user space has run out of them.
#[inline(always)]
pub(crate) fn next_number() -> Option<u32> {
    NUMBERS.pop().ok().flatten()
}

/// Adds a child that has its parent's memory, or a copy of it; false if there is no room.
#[inline(always)]
pub(crate) fn add_child(tgid: u32, parent: &ProcessState, number: u32) -> bool {
    if PROCESSES.insert(tgid, parent, 0).is_err() {
        return false;
    }
    let Some(child) = PROCESSES.get_ptr_mut(tgid) else { return false };
    // SAFETY: a live map value; the child has not run yet.
    unsafe { (*child).number = number };
    true
}

/// The process replaced its memory: nothing is known of it any more.
#[inline(always)]
pub(crate) fn renew(tgid: u32, number: u32) {
    let Some(process) = PROCESSES.get_ptr_mut(tgid) else { return };
    // SAFETY: a live map value. The task that replaces its memory is the only one of its process.
    let process = unsafe { &mut *process };
    process.recorded = 0;
    process.number = number;
    process.interpreter.valid = 0;
    process.stacks.valid = 0;
    for code in &mut process.spin_code {
        code.end = code.start;
    }
}
