//! `cargo xtask bench`: benchmarks that need an interpreter.

use anyhow::Result;

use crate::{interpreters, process, setup};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench perturbation
  cargo xtask bench accuracy -- --docs         rewrites the tables of docs/accuracy.md
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
