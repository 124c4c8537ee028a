//! A run of named steps, with the time that each took.

use std::io::{self, IsTerminal};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;

/// The steps of one task so far.
pub(crate) struct Steps {
    task: &'static str,
    ended: Vec<(&'static str, Duration, bool)>,
}

impl Steps {
    pub(crate) fn of(task: &'static str) -> Self {
        Self { task, ended: Vec::new() }
    }

    /// Does one step, after a headline that says what it does.
    pub(crate) fn step<T>(
        &mut self,
        name: &'static str,
        does: &str,
        action: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        headline(name, does);
        let started = Instant::now();
        let outcome = action();
        self.ended.push((name, started.elapsed(), outcome.is_ok()));
        outcome
    }

    /// A step that is one command, its output shown.
    pub(crate) fn command(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        let does = process::shown(command);
        self.step(name, &does, || process::show(name, command))
    }

    /// Prints the time per step.
    pub(crate) fn summarize(&self) {
        let failed = self.ended.iter().any(|(_, _, well)| !well);
        let total: Duration = self.ended.iter().map(|(_, time, _)| *time).sum();
        println!();
        for (name, time, well) in &self.ended {
            let mark = if *well { "ok" } else { "FAILED" };
            println!("  {name:<14} {:>7.1} s  {mark}", time.as_secs_f64());
        }
        let verdict = if failed { "FAILED" } else { "ok" };
        println!("{}: {verdict} in {:.1} s", self.task, total.as_secs_f64());
    }
}

/// A line that stands out among the output of commands, but not in colour codes in a CI log.
fn headline(name: &str, does: &str) {
    if io::stdout().is_terminal() {
        println!("\n\x1b[1m==> {name}\x1b[0m: {does}");
    } else {
        println!("\n==> {name}: {does}");
    }
}
