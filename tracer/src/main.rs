//! The `lockwatt` binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracer::cli::main()
}
