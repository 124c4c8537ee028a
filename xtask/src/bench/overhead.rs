//! `cargo xtask bench overhead`: what a program loses while it is looked at, by lockwatt and by others.
//!
//! One process per workload. Each tracer comes and goes between two untraced stretches, in turns over
//! several rounds; a stretch is compared with the geometric mean of its two neighbours, because
//! programs (free-threaded ones above all) and machines drift.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::load::{self, Load, Rates};
use super::table::{self, Row};
use super::tools::{self, Target};
use crate::{interpreters, process, workspace};

/// After a tracer has gone.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
#[group(id = "overhead")]
#[command(after_help = "Examples:
  cargo xtask bench overhead --quick                        three rounds of half-second stretches
  cargo xtask bench overhead --only token --tool lockwatt   one workload, some tracers
  cargo xtask bench overhead --docs                         all of it, into docs/benchmarks.md

A workload or tracer is meant by any part of its name (--only 'dict_storm 3.14t'). Needs root.")]
pub(crate) struct Arguments {
    /// Only workloads with this in their name; can be given more than once
    #[arg(long, value_name = "WORKLOAD")]
    only: Vec<String>,
    /// Only tracers with this in their name; can be given more than once
    #[arg(long, value_name = "TOOL")]
    tool: Vec<String>,
    /// Rounds: each tracer comes once in each
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of a stretch in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1500)]
    stretch: u64,
    /// Three rounds of half a second
    #[arg(long)]
    quick: bool,
    /// Put the tables into docs/benchmarks.md, instead of those of the same workloads
    #[arg(long)]
    docs: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let chosen = |name: &str, of: &[String]| {
        of.is_empty() || of.iter().any(|part| name.contains(part.as_str()))
    };
    let loads: Vec<_> =
        load::ALL.iter().filter(|load| chosen(&load.title(), &arguments.only)).collect();
    if loads.is_empty() {
        let all: Vec<_> = load::ALL.iter().map(Load::title).collect();
        bail!("no such workload; there are: {}", all.join(", "));
    }
    let tools: Vec<_> =
        tools::ALL.iter().filter(|tool| chosen(tool.name, &arguments.tool)).collect();
    if tools.is_empty() {
        let all: Vec<_> = tools::ALL.iter().map(|tool| tool.name).collect();
        bail!("no such tool; there are: {}", all.join(", "));
    }
    let (rounds, stretch) =
        if arguments.quick { (3, 500) } else { (arguments.rounds.max(1), arguments.stretch) };
    // One that is there may be of older sources.
    process::show("the build", &mut process::cargo(["build", "--release", "-p", "tracer"]))?;
    let mut versions: Vec<_> = loads.iter().map(|load| load.python).collect();
    versions.sort_unstable();
    versions.dedup();
    let pythons = interpreters::find(&versions)?;
    for load in loads {
        let Some(python) = pythons.get(load.python) else {
            println!("{}: no Python {} here: cargo xtask interpreters", load.title(), load.python);
            continue;
        };
        let bench = Bench { load, python, tools: &tools, rounds, stretch };
        let section = bench.run()?;
        println!("{section}");
        if arguments.docs {
            table::into_docs(&load.title(), &section)?;
        }
    }
    Ok(())
}

struct Bench<'a> {
    load: &'a Load,
    python: &'a PathBuf,
    tools: &'a [&'a tools::Tool],
    rounds: u32,
    stretch: u64,
}

impl Bench<'_> {
    fn run(&self) -> Result<String> {
        let folder = workspace::lockwatt().with_file_name("../bench-overhead");
        std::fs::create_dir_all(&folder).context("making a folder for outputs")?;
        let folder = folder.canonicalize()?;
        let stretch = Duration::from_millis(self.stretch);
        let program = self.load.start(self.python, &folder)?;
        let target = Target {
            pid: program.pid(),
            python: self.python,
            version: self.load.python,
            folder: &folder,
            threads: self.load.threads,
        };
        let mut rows: Vec<_> = self.tools.iter().map(|tool| Row::new(tool.name)).collect();
        let mut quiet = Row::new("no tracer, against no tracer");
        let mut before = program.rates(stretch)?;
        let mut levels = vec![before];
        for round in 1..=self.rounds {
            for (tool, row) in self.tools.iter().zip(&mut rows) {
                if row.missing.is_some() {
                    continue; // it will not come
                }
                eprint!("\r{} {round}/{}: {:<30}", self.load.title(), self.rounds, tool.name);
                row.missing = tool.missing(&target);
                if row.missing.is_some() {
                    continue;
                }
                let measured = tool.start(&target).and_then(|mut running| {
                    let traced = program.rates(stretch)?;
                    running.check()?;
                    Ok((traced, running.stop()))
                });
                let traced = match measured {
                    Ok((traced, said)) => {
                        row.hear(&said, &folder);
                        traced
                    }
                    Err(error) => {
                        row.fail(format!("{error:#}"));
                        // Whatever it left behind is not to be the next one's neighbour.
                        std::thread::sleep(SETTLE);
                        before = program.rates(stretch)?;
                        levels.push(before);
                        continue;
                    }
                };
                std::thread::sleep(SETTLE);
                let after = program.rates(stretch)?;
                row.add(traced, middle(before, after));
                levels.push(after);
                before = after;
            }
            let again = program.rates(stretch)?;
            quiet.add(again, before);
            before = again;
        }
        eprintln!();
        rows.insert(0, quiet);
        let mut operations: Vec<_> = levels.iter().map(|rates| rates.operations).collect();
        let mut switches: Vec<_> = levels.iter().map(|rates| rates.switches).collect();
        let disturbed = match levels.iter().filter(|rates| rates.disturbed()).count() {
            0 => String::new(),
            n => format!("; **others were at work in {n} of {} untraced stretches**", levels.len()),
        };
        let head = format!(
            "{}; untraced {} operations/s and {} voluntary switches/s; {} rounds of {} ms stretches",
            self.load.place(),
            table::thousands(table::median(&mut operations)),
            table::thousands(table::median(&mut switches)),
            self.rounds,
            self.stretch,
        ) + &disturbed;
        Ok(table::section(&self.load.title(), &head, &rows))
    }
}

/// What the program would have done in between.
fn middle(before: Rates, after: Rates) -> Rates {
    Rates {
        operations: (before.operations * after.operations).sqrt(),
        switches: (before.switches * after.switches).sqrt(),
        others: before.others.max(after.others),
    }
}
