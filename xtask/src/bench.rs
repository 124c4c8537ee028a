//! `cargo xtask bench`: what looking costs the program looked at, and benchmarks of parts.

mod load;
mod others;
mod overhead;
mod table;
mod tools;

use anyhow::Result;

use crate::{interpreters, process, setup};

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo xtask bench                            the overhead table: every workload and tracer
  cargo xtask bench --quick --only token       the same in little: as `bench overhead` takes it
  cargo xtask bench perturbation
  cargo xtask bench accuracy -- --docs         rewrites the tables of docs/accuracy.md
  cargo xtask bench analysis
  cargo xtask bench perturbation -- --help     what the benchmark itself takes"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    bench: Option<Bench>,
    #[command(flatten)]
    overhead: overhead::Arguments,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Throughput and voluntary switches of workloads, with and without each tracer (the default)
    Overhead(overhead::Arguments),
    /// How much contention survives lockwatt's hooks: one storm, paired stretches in one process
    Perturbation {
        /// Passed on to the benchmark
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// How right recorded waits are, against programs whose waits are known, per interpreter
    Accuracy {
        /// Passed on to the benchmark
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// What reading, adding up and drawing a trace costs (no root, no interpreter)
    Analysis {
        /// Passed on to the benchmark
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// What a sample of the CPU clock costs in the kernel
    Sample {
        /// Passed on to the benchmark
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// What walking a Python stack costs in the kernel, per interpreter and depth
    Walk {
        /// Passed on to the benchmark
        #[arg(last = true)]
        rest: Vec<String>,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (name, rest, versions): (_, _, &[&str]) = match &arguments.bench {
        None => return overhead::run(&arguments.overhead),
        Some(Bench::Overhead(arguments)) => return overhead::run(arguments),
        Some(Bench::Perturbation { rest }) => ("perturbation", rest, interpreters::ALL),
        Some(Bench::Analysis { rest }) => return analysis(rest),
        Some(Bench::Sample { rest }) => ("sample", rest, &["3.14t"]),
        Some(Bench::Walk { rest }) => ("walk", rest, interpreters::ALL),
        // All that can be had without building one.
        Some(Bench::Accuracy { rest }) => ("accuracy", rest, &[]),
    };
    setup::quietly()?;
    // The same profile as `cargo build`: what is measured is the kernel side, which is optimised
    // in every profile.
    let bench = ["bench", "--profile", "dev", "-p", "tracer", "--bench", name, "--"];
    let mut bench = process::cargo(bench);
    bench.args(rest);
    for (version, path) in interpreters::find(versions)? {
        bench.env(interpreters::variable(&version), path);
    }
    process::show("the benchmark", &mut bench)
}

/// In the release profile: it is the user side that is measured.
fn analysis(rest: &[String]) -> Result<()> {
    setup::quietly()?;
    let mut bench = process::cargo(["bench", "-p", "tracer", "--bench", "analysis", "--"]);
    process::show("the benchmark", bench.args(rest))
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask gen-trace -- --waits 100M -o big.lockwatt
  cargo xtask gen-trace -- --help                what the generator itself takes")]
pub(crate) struct GenTrace {
    /// Passed on to the generator
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn gen_trace(arguments: &GenTrace) -> Result<()> {
    setup::quietly()?;
    let run = ["run", "--release", "-p", "tracer", "--example", "gen_trace", "--"];
    process::show("the generator", process::cargo(run).args(&arguments.rest))
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask trace-size app.lockwatt
  cargo xtask trace-size app.lockwatt -- --time-unit 32    if its times were in units of 32 ns
  cargo xtask trace-size app.lockwatt -- --help            what the account itself takes")]
pub(crate) struct TraceSize {
    /// The trace
    file: std::path::PathBuf,
    /// Passed on to the account
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn trace_size(arguments: &TraceSize) -> Result<()> {
    setup::quietly()?;
    let run = ["run", "--release", "-p", "tracer", "--example", "trace_size", "--"];
    process::show("the account", process::cargo(run).arg(&arguments.file).args(&arguments.rest))
}
