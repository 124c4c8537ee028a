//! Starting a command so that it is traced from its first instruction.
//!
//! The child is this very binary in the hidden `gate` role: it waits on a pipe, then `exec`s the
//! command, so that its PID is known (and the programs are attached) before the command runs.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::fault::OWN_FAILURE;

/// The hidden argument that makes this binary a gate.
pub const GATE: &str = "__gate";

/// Codes of a command that can't be run, as `timeout` and shells use them.
const CANNOT_INVOKE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// A command that stands at the gate.
#[derive(Debug)]
pub struct Launched {
    /// The child; its PID stays the same through the `exec`.
    pub child: Child,
    /// What holds it back.
    pub gate: Gate,
}

/// Holds a command back until it is opened; dropped unopened, the command never runs.
#[derive(Debug)]
pub struct Gate(std::fs::File);

impl Launched {
    /// Starts the gate for `command` (program and arguments).
    ///
    /// # Errors
    /// If no pipe or process can be made.
    pub fn start(command: &[OsString]) -> std::io::Result<Self> {
        // Only the read end is inherited: if we die, the gate sees the end of the pipe.
        let (read, write) = rustix::pipe::pipe()?;
        fcntl_setfd(&write, FdFlags::CLOEXEC)?;
        let child = Command::new("/proc/self/exe")
            .arg0("lockwatt")
            .arg(GATE)
            .arg(read.as_raw_fd().to_string())
            .args(command)
            .spawn()?;
        Ok(Self { child, gate: Gate(write.into()) })
    }
}

impl Gate {
    /// Lets the command run.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn open(mut self) -> std::io::Result<()> {
        self.0.write_all(b"!")
    }
}

/// The gate itself: waits for the word, then becomes the command.
#[must_use]
pub fn gate(arguments: &[OsString]) -> ExitCode {
    let Some((fd, [program, rest @ ..])) = arguments
        .split_first()
        .and_then(|(fd, command)| Some((fd.to_str()?.parse::<RawFd>().ok()?, command)))
    else {
        return ExitCode::from(OWN_FAILURE);
    };
    if fd < 3 {
        return ExitCode::from(OWN_FAILURE);
    }
    // SAFETY: this process was started by `Launched::start`, which left this descriptor open for
    // it and for nobody else; a wrong number only makes the read fail.
    let mut pipe = unsafe { std::fs::File::from_raw_fd(fd) };
    let mut word = [0];
    if pipe.read_exact(&mut word).is_err() {
        return ExitCode::from(OWN_FAILURE); // the recorder gave up and has said why
    }
    drop(pipe);
    let error = Command::new(program).args(rest).exec();
    eprintln!("lockwatt: {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        CANNOT_INVOKE
    })
}
