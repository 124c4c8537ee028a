//! `cargo xtask COMMAND`: everything around lockwatt's code, from a bare machine to a benchmark.
//!
//! It depends on nothing of the tracer, because it must run before the eBPF toolchain exists.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod demo;
mod interpreters;
mod process;
mod setup;
mod steps;
mod suite;
mod workspace;

/// Sets up, demonstrates, tests and measures lockwatt.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:
  cargo xtask demo                    from nothing to a flame graph of a contended Python program
  cargo xtask test                    everything that CI runs (root)
  cargo xtask test --pure             only what needs no root
  cargo xtask setup --check           what is missing on this machine?

Exit codes: 0 done, 1 failed, 2 usage, 3 not permitted (needs root)."
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what building and testing need: the eBPF toolchain, compilers, Python's tools
    Setup(setup::Arguments),
    /// Brings CPython builds to trace into the cache and prints where they are
    Interpreters(interpreters::Arguments),
    /// Sets up, builds, records a contended Python program, and shows the report and flame graph
    Demo(demo::Arguments),
    /// Sets up and runs formatting, lints and every test
    Test(suite::Arguments),
    /// Runs a benchmark
    Bench(bench::Arguments),
    /// Writes a large synthetic trace
    GenTrace(bench::GenTrace),
    /// Says what the bytes of a trace are spent on: kinds of chunks, and columns of its waits
    TraceSize(bench::TraceSize),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Interpreters(arguments) => interpreters::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => suite::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::GenTrace(arguments) => bench::gen_trace(&arguments),
        Task::TraceSize(arguments) => bench::trace_size(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(
                error.downcast_ref::<process::Refusal>().map_or(1, process::Refusal::exit_code),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_command_line_can_be_parsed() {
        // clap looks for names that are used twice in debug builds only, and at the first use.
        super::Arguments::command().debug_assert();
    }
}
