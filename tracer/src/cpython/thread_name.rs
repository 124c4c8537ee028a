//! What Python calls a thread: `threading.Thread.name`.

use tracer_common::RawFrame;

use super::attributes::Attributes;
use super::block::pointer;
use super::walk::{TAG, outermost};
use super::{CodeNames, Interpreter, Resolved, read_str};
use crate::target::Memory;
use crate::units::Address;

/// `threading.py`: the first function of every `threading.Thread`; its first local is the thread.
const FIRST_FUNCTION: &str = "Thread._bootstrap";

/// The name of the `threading.Thread` that the thread with its `PyThreadState` at `state` runs, as
/// it is now: at most 1,024 characters and a `…`.
///
/// `None` if it runs none (the main thread, threads of `_thread.start_new_thread` and of C code),
/// has not begun or has ended, or anything on the way can't be read. The thread may run meanwhile:
/// only its outermost frame matters, which stays as long as the thread does.
#[must_use]
pub fn thread_name(
    memory: &Memory,
    python: &Interpreter,
    names: &mut CodeNames,
    state: Address,
) -> Option<String> {
    let layout = python.frames.as_ref().ok()?;
    let (raw, frame) = outermost(memory, python, state)?;
    if !is_first_function(memory, python, names, &raw) {
        return None;
    }
    let thread = memory.word(frame.field(layout.frame.locals)?)?;
    let attributes = Attributes::new(memory, python)?;
    let name = attributes.get(pointer(thread & !TAG)?, "_name")?;
    read_str(memory, &layout.strings, name)
}

fn is_first_function(
    memory: &Memory,
    python: &Interpreter,
    names: &mut CodeNames,
    frame: &RawFrame,
) -> bool {
    match names.resolve(memory, python, frame) {
        Resolved::Place(place) => place.function == FIRST_FUNCTION,
        Resolved::Shim | Resolved::Gone => false,
    }
}
