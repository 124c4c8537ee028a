//! `cargo xtask bench`: benchmarks that need an interpreter.

use anyhow::Result;

use crate::{interpreters, process, setup};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench perturbation
  cargo xtask bench accuracy -- --docs         rewrites the tables of docs/accuracy.md
  cargo xtask bench analysis
  cargo xtask bench perturbation -- --help     what the benchmark itself takes")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// How much tracing slows the traced program down, against other tracers
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
        Bench::Perturbation { rest } => ("perturbation", rest, &["3.14t"]),
        Bench::Analysis { rest } => return analysis(rest),
        Bench::Sample { rest } => ("sample", rest, &["3.14t"]),
        Bench::Walk { rest } => ("walk", rest, interpreters::ALL),
        // All that can be had without building one.
        Bench::Accuracy { rest } => ("accuracy", rest, &[]),
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
