//! Are threads and frames where this version should keep them? Asked of the live process before
//! anything is said about its stacks: not every patch release was looked at, and builds are
//! patched.

use std::time::Duration;

use rustc_hash::FxHashSet;
use tracer_common::{RawFrame, WalkEnd};

use super::thread_states::list;
use super::{CodeNames, Interpreter, LayoutError, Resolved, walk};
use crate::target::{Memory, ns_tid, tids};
use crate::units::Pid;

/// A running thread's frames change while they are read. One that calls and returns all the time
/// looks wrong four times in ten on a quiet machine, and more often where others take the reader's
/// CPU between two reads: 0.4 to the tenth refused right layouts, to the hundredth it never does.
const WRONG_LOOKS: u32 = 100;
/// Looks that show nothing, of a process that starts: it will be asked again.
const EMPTY_LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(2);

/// Threads whose frames are walked in one look.
const MAX_WALKS: usize = 64;

/// What one look shows.
enum Look {
    /// As it should be.
    Good,
    /// Nothing there yet to judge by.
    Nothing,
    /// Not as it should be: what is not where it should be.
    Wrong(&'static str),
}

/// Checks `python.frames` against the live process: its thread lists hold ids of its threads, and
/// the frames of one of them lead from code object to code object to the end. Takes one or a few
/// looks where the layout is right, 0.2 s where it is wrong; [`super::detect()`] has done this once.
///
/// True if that is so; false if there was nothing to check: no frame layout, or a process so young
/// that it has no thread state or runs no Python code yet (then ask again later).
///
/// # Errors
/// [`LayoutError::NoSymbol`] without `PyCode_Type`, [`LayoutError::NotThere`] if the process keeps
/// these things elsewhere: its frames can't be read.
pub fn verify(memory: &Memory, pid: Pid, python: &Interpreter) -> Result<bool, LayoutError> {
    let version = || python.version.to_string();
    if python.frames.is_err() {
        return Ok(false);
    }
    if python.code_type.0 == 0 {
        return Err(LayoutError::NoSymbol { version: version(), symbol: "PyCode_Type" });
    }
    // A running thread can look wrong, or idle, for a moment: one good look is enough, and only what
    // looks wrong every time is wrong.
    let (mut wrong, mut empty) = (0, 0);
    loop {
        match look_at(memory, pid, python) {
            Look::Good => return Ok(true),
            Look::Nothing => empty += 1,
            Look::Wrong(what) => {
                wrong += 1;
                if wrong == WRONG_LOOKS && empty == 0 {
                    return Err(LayoutError::NotThere { version: version(), what });
                }
            }
        }
        if empty == EMPTY_LOOKS || wrong == WRONG_LOOKS {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}

fn look_at(memory: &Memory, pid: Pid, python: &Interpreter) -> Look {
    let Ok(layout) = &python.frames else { return Look::Nothing };
    let mut states = Vec::new();
    let mut empty = true;
    for &interpreter in &python.interpreters {
        let head = interpreter.field(layout.interpreter.threads_head);
        empty &= head.and_then(|at| memory.word(at)) == Some(0);
        states.extend(list(memory, layout, interpreter));
    }
    // The first thread state is born without an id (`bind_tstate`, Python/pystate.c).
    if empty || matches!(states.as_slice(), [(0, _)]) {
        return Look::Nothing;
    }
    let Ok(tids) = tids(pid) else { return Look::Nothing }; // it has ended
    let ids: FxHashSet<u32> = tids.into_iter().filter_map(|tid| ns_tid(pid, tid)).collect();
    states.retain(|(id, _)| ids.contains(id));
    if states.is_empty() {
        return Look::Wrong("thread ids are");
    }
    let mut names = CodeNames::new();
    let mut frameless = true;
    for (_, state) in states.into_iter().take(MAX_WALKS) {
        let Some((frames, end)) = walk(memory, python, state) else { return Look::Nothing };
        let ended = matches!(end, WalkEnd::Complete | WalkEnd::Truncated);
        frameless &= ended && frames.is_empty();
        let named = believable(memory, python, &mut names, &frames);
        if ended && named {
            return Look::Good;
        }
    }
    if frameless { Look::Nothing } else { Look::Wrong("frames are") }
}

/// Every frame is of code with a name, and some of them have lines.
fn believable(
    memory: &Memory,
    python: &Interpreter,
    names: &mut CodeNames,
    frames: &[RawFrame],
) -> bool {
    let mut lines = false;
    for frame in frames {
        match names.resolve(memory, python, frame) {
            Resolved::Place(place) if place.function.is_empty() => return false,
            Resolved::Place(place) => lines |= place.line.is_some(),
            Resolved::Shim => {}
            Resolved::Gone => return false,
        }
    }
    lines
}
