//! `cargo xtask test`: what CI runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::process::{self, Refusal};
use crate::steps::Steps;
use crate::{interpreters, setup, workspace};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                      all of it (root)
  cargo xtask test --pure               only what needs no root
  cargo xtask test -- e2e --nocapture   arguments for the tests, as after `cargo test --`

Tests come in four rings: pure functions, the command line over stored traces, loading and attaching \
the kernel programs, and end to end on live interpreters. The last two need root.")]
pub(crate) struct Arguments {
    /// Only the tests that need no root
    #[arg(long)]
    pure: bool,
    /// Passed on to the tests
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Versions that not every machine can have: without one, its tests say that they did not run.
const OPTIONAL: [&str; 2] = ["3.12", "3.13t"];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.pure && !workspace::is_root()? {
        return Err(Refusal::not_permitted(
            "test rings 3 and 4 load programs into the kernel, which needs root: run as root, or \
             run the other rings with `cargo xtask test --pure`",
        )
        .into());
    }
    let mut steps = Steps::of("cargo xtask test");
    let outcome = run_steps(&mut steps, arguments);
    steps.summarize();
    outcome
}

fn run_steps(steps: &mut Steps, arguments: &Arguments) -> Result<()> {
    steps.step("setup", "what building and testing need", setup::quietly)?;
    let pythons = steps.step("interpreters", &interpreters::ALL.join(" "), find_interpreters)?;
    steps.command("format", &mut process::cargo(["fmt", "--all", "--check"]))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.command("clippy", &mut process::cargo(lints))?;

    let mut test = process::cargo(["test", "--workspace"]);
    if arguments.pure {
        test.args(["--lib", "--test", "cli*", "--test", "pure*"]);
    }
    if !arguments.rest.is_empty() {
        test.arg("--").args(&arguments.rest);
    }
    test.envs(pythons.iter().map(|(version, path)| (interpreters::variable(version), path)));
    steps.command("tests", &mut test)
}

/// A version that can't be had is no reason to stop here, and none to skip: its tests will fail.
fn find_interpreters() -> Result<BTreeMap<String, PathBuf>> {
    let found = interpreters::find(&[])?;
    for version in interpreters::ALL {
        match found.get(*version) {
            Some(path) => println!("{version:<6} {}", path.display()),
            None if OPTIONAL.contains(version) => println!("{version:<6} NOT HAD: NOT TESTED"),
            None => println!("{version:<6} NOT HAD: the end-to-end tests on it will fail"),
        }
    }
    Ok(found)
}
