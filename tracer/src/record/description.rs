//! What the trace says of a process.

use crate::cpython::Detected;
use crate::trace::records::Target;

/// Fills in what was found out about a process, whose executable is filled in already.
pub fn describe(target: &mut Target, detected: &Detected) {
    match detected {
        Detected::Interpreter(python) => {
            target.python = Some(python.version.to_string());
            target.free_threaded = Some(python.layout.free_threaded);
            target.stackless_because = python.frames.as_ref().err().map(ToString::to_string);
        }
        Detected::NotYet => {}
        Detected::UnknownLayout { version, why } => {
            target.python = version.as_ref().map(ToString::to_string);
            target.unnamed_because = Some(why.to_string());
        }
        Detected::NotCPython => {
            target.python = None;
            target.free_threaded = None;
            target.unnamed_because = Some(format!("{} is no CPython", target.exe));
        }
    }
}
