//! What a program loses while it is looked at: voluntary context switches per second of a storm,
//! which `/proc` counts without any tracer, and the operations that a load counts itself, traced
//! against untraced, in one process.
//!
//! The recorder is at work all the time; the hooks, which are what disturbs, come and go. Each round
//! is one traced stretch between two untraced ones. Two untraced stretches that follow
//! each other, the last of a round and the first of the next, show how far equal ones scatter.

use std::time::Duration;

use anyhow::{Result, ensure};
use tracer::probe::{DEFAULT_SAMPLE_HZ, Hooks};

#[path = "perturbation/hooks.rs"]
mod hooks;
#[path = "perturbation/median.rs"]
mod median;
#[path = "perturbation/program.rs"]
mod program;

use median::{median, median_interval};
use program::{Program, Rates};

/// After hooks have come or gone, which patches the kernel's text.
const SETTLE: Duration = Duration::from_millis(20);

#[derive(clap::Parser)]
#[command(
    about = "Voluntary context switches and operations of a program, traced against untraced"
)]
struct Args {
    /// Rounds of one traced stretch between two untraced ones
    #[arg(long, default_value_t = 300)]
    rounds: usize,
    /// Length of a stretch in milliseconds
    #[arg(long, default_value_t = 100)]
    stretch: u64,
    /// Which workload of scripts/workloads
    #[arg(long, default_value = "dict_storm")]
    workload: String,
    /// One of scripts/bench/loads.py instead, which counts its operations
    #[arg(long, value_name = "NAME", conflicts_with = "workload")]
    load: Option<String>,
    /// Threads of the program
    #[arg(long, default_value_t = 6)]
    threads: u32,
    /// The interpreter's version
    #[arg(long, default_value = "3.14t")]
    python: String,
    /// CPUs of the program; run this under taskset as well to keep the recorder off them
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Hooks to trace with
    #[arg(long, value_enum, default_value_t)]
    hooks: Hooks,
    /// A storm either blocks or spins, for seconds or for good: start anew until it blocks this
    /// often a second
    #[arg(long, default_value_t = 3000.0)]
    min_rate: f64,
    /// Trace without walking Python stacks
    #[arg(long)]
    without_stacks: bool,
    /// CPU-clock samples per second and CPU while tracing; 0: no sampler
    #[arg(long, default_value_t = DEFAULT_SAMPLE_HZ)]
    sample_hz: u32,
    /// Print every stretch
    #[arg(short, long)]
    verbose: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Fewer voluntary switches a second are no rate.
const FEW: f64 = 20.0;

/// What a rate was by, of one kind of stretch.
#[derive(Default)]
struct Ratios {
    switches: Vec<f64>,
    operations: Vec<f64>,
}

impl Ratios {
    /// What hardly happens without a tracer says nothing.
    fn add(&mut self, looked_at: Rates, otherwise: Rates) {
        if otherwise.switches >= FEW {
            self.switches.push(looked_at.switches / otherwise.switches);
        }
        if let (Some(looked_at), Some(otherwise)) = (looked_at.operations, otherwise.operations)
            && otherwise > 0.0
        {
            self.operations.push(looked_at / otherwise);
        }
    }
}

/// Programs drift, and flip between blocking and spinning for seconds at a time: the geometric mean of
/// the neighbours is what it would have done unwatched.
fn between(before: Rates, after: Rates) -> Rates {
    Rates {
        switches: (before.switches * after.switches).sqrt(),
        operations: before.operations.zip(after.operations).map(|(a, b)| (a * b).sqrt()),
    }
}

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    let stretch = Duration::from_millis(args.stretch);
    let program = Program::start_blocking(&args)?;
    let (mut hooks, recorder) = hooks::record(program.pid(), &args)?;
    let (mut traced, mut untraced) = (Ratios::default(), Ratios::default());
    let (mut switches, mut operations) = (Vec::new(), Vec::new());
    let mut last: Option<Rates> = None;
    for round in 0..args.rounds {
        let quiet = || {
            std::thread::sleep(SETTLE);
            program.rates(stretch)
        };
        let before = quiet()?;
        if let Some(last) = last {
            untraced.add(before, last);
        }
        let looked_at = hooks.traced(&program, stretch)?;
        let after = quiet()?;
        traced.add(looked_at, between(before, after));
        switches.push(before.switches);
        operations.extend(before.operations);
        last = Some(after);
        if args.verbose {
            let [a, b, c] = [before, looked_at, after].map(|rates| rates.switches);
            eprintln!("{a:.0} [{b:.0}] {c:.0}");
        } else {
            eprint!("\rround {}/{}  ", round + 1, args.rounds);
        }
    }
    eprintln!();
    drop(program);
    let finished = recorder.join().map_err(|_| anyhow::anyhow!("the recorder panicked"))??;
    ensure!(finished.totals.drops.is_empty(), "losses: {:?}", finished.totals.drops);
    let totals = &finished.totals;
    let below = totals.below.values().map(|sums| sums.waits).sum::<u64>();
    let waits = totals.events + totals.short_waits + below;
    // What a switch is traced as is tested elsewhere; that they are traced at all is to be seen here.
    // (A load may also sleep elsewhere than at a lock.)
    ensure!(
        args.load.is_some() || waits * 10 > hooks.seen * 9,
        "{waits} waits recorded of {} switches",
        hooks.seen
    );
    println!(
        "{} on {}, {} threads, {} rounds of {} ms stretches, --hooks {}{}{}; untraced median {:.0} \
         voluntary switches/s{}; {waits} waits recorded of {} switches",
        args.load.as_ref().unwrap_or(&args.workload),
        args.python,
        args.threads,
        args.rounds,
        args.stretch,
        args.hooks.name(),
        if args.without_stacks { ", no stacks" } else { "" },
        if args.sample_hz == 0 { String::new() } else { format!(", {} samples/s", args.sample_hz) },
        median(&mut switches),
        if operations.is_empty() {
            String::new()
        } else {
            format!(", {:.0} operations/s", median(&mut operations))
        },
        hooks.seen
    );
    show("voluntary switches", &mut traced.switches, &mut untraced.switches);
    show("operations", &mut traced.operations, &mut untraced.operations);
    Ok(())
}

fn show(what: &str, traced: &mut [f64], untraced: &mut [f64]) {
    for (name, ratios) in [("traced / untraced", traced), ("untraced / untraced", untraced)] {
        if ratios.is_empty() {
            continue;
        }
        let middle = median(ratios);
        let (low, high) = median_interval(ratios);
        println!(
            "{what:18} {name:19} median {middle:.4}   95 % interval of the median {low:.4} to {high:.4}"
        );
    }
}
