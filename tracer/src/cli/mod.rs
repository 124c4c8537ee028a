//! The command line: one file per command.

mod calibrate;
mod compare;
mod doctor;
mod duration;
mod energy;
mod flamegraph;
mod record;
mod report;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{fault, target};

#[derive(Debug, Parser)]
#[command(
    name = "lockwatt",
    version,
    about = "Which lock, at which line, held by whom, how long did we wait, and what did it cost?",
    long_about = "Attaches to a running CPython (no restart, no change to the program), records \
                  why its threads wait, and reports which lock cost how much.",
    after_help = EXAMPLES,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
EXAMPLES
  sudo lockwatt record -p 4242 -d 10s -o t.lockwatt   attach to a process for ten seconds
  sudo lockwatt record -- python app.py               trace a command from its start
  lockwatt report t.lockwatt                          which lock, how much (no root needed)
  lockwatt flamegraph t.lockwatt -o t.svg             draw it
  sudo lockwatt doctor                                what this machine allows

EXIT CODES
  0 done   1 failed   2 usage   3 not permitted   4 target not traceable (no CPython, gone)
  record -- COMMAND passes the command's own code on; 125 if lockwatt itself failed,
  126 or 127 if the command could not be run, 128+N if signal N ended it";

#[derive(Debug, Subcommand)]
enum Command {
    /// Record the waits of a process or a command into a trace file
    Record(record::Args),
    /// Report which locks cost how much, from a trace file
    Report(report::Args),
    /// Draw a flame graph of the waits, from a trace file
    Flamegraph(flamegraph::Args),
    /// Run two commands in turns and show what differs: time, energy, contention
    Compare(compare::Args),
    /// Measure what the idle machine uses, for `record --idle calibrated`
    Calibrate(calibrate::Args),
    /// Show what this kernel and this user allow, and which hooks would be used
    Doctor(doctor::Args),
}

/// Runs the binary: arguments in, exit code out.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == target::GATE) {
        return target::gate(&arguments[2..]);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe is none either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { fault::USAGE } else { fault::DONE });
        }
    };
    let outcome = match cli.command {
        Command::Record(args) => return record::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Flamegraph(args) => flamegraph::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::from(fault::DONE),
        Err(error) => fault::report(&error),
    }
}
