//! The interpreter's own list of its threads, read from outside.

use rustc_hash::FxHashSet;

use super::block::{Block, pointer};
use super::frame_fields::{FrameLayout, THREAD_BYTES};
use super::{Interpreter, Layout};
use crate::target::Memory;
use crate::units::Address;

/// A chain of interpreters longer than this is cut.
const MAX_CHAIN: usize = 1024;

/// Thread states beyond this many are not looked at.
const MAX_THREADS: usize = 65_536;

/// The interpreter states that there are now, newest first: the main interpreter is the last one
/// (`PyInterpreterState_New`, `Python/pystate.c`, puts new ones at the head). Empty if there is
/// none yet; at most 1,024.
#[must_use]
pub fn interpreters(memory: &Memory, runtime: Address, layout: &Layout) -> Vec<Address> {
    let mut found = Vec::new();
    let mut at = runtime.field(layout.interpreters_head);
    while let Some(interpreter) = at.and_then(|at| memory.word(at)).and_then(pointer) {
        if found.len() == MAX_CHAIN || found.contains(&interpreter) {
            break;
        }
        found.push(interpreter);
        at = interpreter.field(layout.interpreter_next);
    }
    found
}

/// Every `PyThreadState` of every interpreter that there is now, with its thread's id as the
/// target's own PID namespace numbers it ([`crate::target::ns_tid`] makes that of a host's id).
/// Of one interpreter, newest first.
///
/// A thread has one thread state per interpreter that it ran in, so an id can appear more than
/// once. Thread states that no thread has taken yet are left out. Empty without a frame layout. At
/// most 65,536; never endless, even if the lists change or are damaged while they are read.
#[must_use]
pub fn thread_states(memory: &Memory, python: &Interpreter) -> Vec<(u32, Address)> {
    let Ok(layout) = &python.frames else { return Vec::new() };
    let mut all = Vec::new();
    for interpreter in interpreters(memory, python.runtime, &python.layout) {
        all.extend(list(memory, layout, interpreter));
        if all.len() >= MAX_THREADS {
            break;
        }
    }
    all.truncate(MAX_THREADS);
    all.retain(|&(id, _)| id != 0);
    all
}

/// `thread_id` of a `PyThreadState`: the thread's `pthread_self()`, which an RLock keeps as its owner.
/// It precedes `native_thread_id` in all versions (`struct _ts`, Include/cpython/pystate.h).
#[must_use]
pub fn thread_ident(memory: &Memory, python: &Interpreter, thread: Address) -> Option<u64> {
    let native_id = python.frames.as_ref().ok()?.thread.native_id;
    memory.word(thread.field(native_id.checked_sub(8)?)?)
}

/// The thread list of one interpreter; an id of 0: no thread has taken it yet.
pub(super) fn list(
    memory: &Memory,
    layout: &FrameLayout,
    interpreter: Address,
) -> Vec<(u32, Address)> {
    let mut found = Vec::new();
    let mut seen = FxHashSet::default();
    let mut next =
        interpreter.field(layout.interpreter.threads_head).and_then(|at| memory.word(at));
    while let Some(thread) = next.and_then(pointer) {
        if found.len() == MAX_THREADS || !seen.insert(thread) {
            break;
        }
        let Some(block) = Block::read(memory, thread, THREAD_BYTES) else { break };
        // One that was freed meanwhile leads nowhere: its memory may be anybody's.
        if block.word(layout.thread.interpreter) != Some(interpreter.0) {
            break;
        }
        // An unsigned long in which Linux keeps a pid_t.
        let id = block.word(layout.thread.native_id).and_then(|id| u32::try_from(id).ok());
        found.push((id.unwrap_or(0), thread));
        next = block.word(layout.thread.next);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, THREAD_ID};
    use super::*;

    #[test]
    fn damaged_lists_end() {
        let mut fake = Fake::new(1);
        let only = vec![(THREAD_ID, fake.thread())];
        assert_eq!(thread_states(&fake.memory(), &fake.python()), only);
        for next in [fake.thread().0, 7, 0x10_0000, u64::MAX - 7, fake.code()] {
            fake.next_thread(next);
            assert_eq!(thread_states(&fake.memory(), &fake.python()), only, "{next:#x}");
        }
        let python = Interpreter {
            frames: Err(super::super::LayoutError::UnknownVersion(String::new())),
            ..fake.python()
        };
        assert_eq!(thread_states(&fake.memory(), &python), []);
    }
}
