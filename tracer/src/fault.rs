//! Failures that decide the exit code, and the codes themselves.

use std::process::ExitCode;

/// 0: done.
pub const DONE: u8 = 0;
/// 1: failed.
pub const FAILED: u8 = 1;
/// 2: wrong usage (clap uses the same).
pub const USAGE: u8 = 2;
/// 3: not permitted.
pub const NOT_PERMITTED: u8 = 3;
/// 4: the target can't be traced: no CPython, or gone.
pub const NOT_TRACEABLE: u8 = 4;
/// 125: with `record -- COMMAND`, lockwatt itself failed.
pub const OWN_FAILURE: u8 = 125;

/// An error that has an exit code of its own. Everything else is [`FAILED`].
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A capability or permission is missing.
    #[error("{0}")]
    NotPermitted(String),
    /// The target is not a CPython, or is gone.
    #[error("{0}")]
    NotTraceable(String),
    /// The options contradict each other or the world.
    #[error("{0}")]
    Usage(String),
}

/// The exit code that an error calls for.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|cause| cause.downcast_ref::<Fault>()).map_or(
        FAILED,
        |fault| match fault {
            Fault::NotPermitted(_) => NOT_PERMITTED,
            Fault::NotTraceable(_) => NOT_TRACEABLE,
            Fault::Usage(_) => USAGE,
        },
    )
}

/// True if the error is a closed standard output (`lockwatt report … | head`): that is success.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Prints an error as one line on standard error and gives its exit code.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::from(DONE);
    }
    eprintln!("lockwatt: {error:#}");
    ExitCode::from(exit_code(error))
}
