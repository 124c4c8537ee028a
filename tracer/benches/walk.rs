//! What walking a Python stack costs in the kernel: nanoseconds per walk by the kernel's own
//! statistics, per interpreter and depth.
//!
//! By default threads hand a token back and forth at a given depth, so every waking walks two stacks,
//! one of them mostly in the other CPU's cache. `--how turns`: two threads yield one CPU to each other
//! in a loop, and each's own stack is walked each time. `--how alone`: a thread yields to nobody, and
//! walks itself at the system call. The same programs with stacks switched off, in turns on the same
//! threads, are what is subtracted.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::sys::{Stats, enable_stats};
use tracer::cpython::{Detected, Interpreter, Namer, detect};
use tracer::probe::{self, Hooks, Loaded, Maps, Settings};
use tracer::record::attach;
use tracer::target::Process;
use tracer::units::{Ns, Pid};
use tracer_common::StackConfig;

#[derive(clap::Parser)]
#[command(about = "Nanoseconds per walk of a Python stack, by the kernel's statistics")]
struct Args {
    /// Depths of recursion; the threads have four or five frames more
    #[arg(long, value_delimiter = ',', default_values_t = [1, 15, 55, 115])]
    depth: Vec<u32>,
    /// Stretches with stacks and without, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a stretch in milliseconds
    #[arg(long, default_value_t = 300)]
    stretch: u64,
    /// Processes started anew for each depth: where memory lies differs, and with it the cost
    #[arg(long, default_value_t = 5)]
    processes: usize,
    /// Who is walked, and when
    #[arg(long, value_enum, default_value_t)]
    how: How,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum How {
    /// Wakers and those whom they wake, at hand-offs of a token
    #[default]
    Handoff,
    /// Two threads themselves, as they give one CPU to each other
    Turns,
    /// One thread itself, at a system call that returns at once: the caches are warm
    Alone,
}

impl How {
    /// The program of `scripts/workloads`, and its options.
    fn load(self) -> &'static [&'static str] {
        match self {
            Self::Handoff => &["short_storm.py"],
            Self::Turns => &["yield_in_turns.py"],
            Self::Alone => &["yield_in_turns.py", "--threads", "1"],
        }
    }

    /// The programs that walk.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Handoff | Self::Turns => &["lw_waking", "lw_switch"],
            Self::Alone => &["lw_walk"],
        }
    }
}

const VERSIONS: [&str; 8] = ["3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t", "3.15", "3.15t"];
struct Load(Child);

impl Load {
    fn start(python: &Path, depth: u32, how: How) -> Result<Self> {
        let workloads = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/workloads");
        let (script, options) = how.load().split_first().context("no load")?;
        let mut child = Command::new(python)
            .arg(workloads.join(script))
            .args(options)
            .args(["--depth", &depth.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.contains("pid"), "the load did not start");
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self(child))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Time, runs and walks over one stretch.
fn stretch(loaded: &Loaded, maps: &Maps, args: &Args) -> Result<(f64, f64, f64)> {
    let read = || {
        let (mut time, mut runs) = (Ns(0), 0);
        for program in args.how.programs() {
            let (its_time, its_runs) = loaded.run_time(program).context("it is not loaded")?;
            time += its_time;
            runs += its_runs;
        }
        let walks = maps.stats().get("stacks_walked").copied().unwrap_or(0);
        anyhow::Ok((time.0, runs, walks))
    };
    let before = read()?;
    std::thread::sleep(Duration::from_millis(args.stretch));
    let after = read()?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let difference = |a: u64, b: u64| (b - a) as f64;
    Ok((
        difference(before.0, after.0),
        difference(before.1, after.1),
        difference(before.2, after.2),
    ))
}

/// Median nanoseconds per walk, and the program's without walks.
fn measure(
    python: &Interpreter,
    loaded: &Loaded,
    maps: &mut Maps,
    args: &Args,
) -> Result<(f64, f64)> {
    let config = python.stack_config().context("no stacks: the layout is not known")?;
    let (mut costs, mut bases) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        maps.set_stacks(&StackConfig::default())?;
        let (time, runs, _) = stretch(loaded, maps, args)?;
        ensure!(runs > 0.0, "the programs did not run");
        let base = time / runs;
        maps.set_stacks(&config)?;
        let (time, runs, walks) = stretch(loaded, maps, args)?;
        ensure!(walks > 100.0, "only {walks} walks");
        costs.push((time - base * runs) / walks);
        bases.push(base);
    }
    Ok((median(&mut costs), median(&mut bases)))
}

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    let _statistics = enable_stats(Stats::RunTime).context("the kernel's BPF statistics")?;
    println!(
        "ns per walk beyond the program without walks; {} processes, \
         of each the median of {} pairs of {} ms",
        args.processes, args.rounds, args.stretch
    );
    println!(
        "{:8}{:>8}{:>10}{:>10}{:>10}{:>12}",
        "python", "depth", "lowest", "median", "highest", "ns without"
    );
    for version in VERSIONS {
        let variable = format!("LOCKWATT_PYTHON_{}", version.replace('.', "_").to_uppercase());
        let Some(path) = std::env::var_os(&variable).map(PathBuf::from) else {
            println!("{version:8} not measured: {variable} is not set");
            continue;
        };
        for &depth in &args.depth {
            let (mut costs, mut bases) = (Vec::new(), Vec::new());
            for _ in 0..args.processes {
                let (cost, base) = of_process(&path, depth, &args).context(version)?;
                costs.push(cost);
                bases.push(base);
            }
            let (middle, base) = (median(&mut costs), median(&mut bases));
            let (low, high) = (costs[0], costs[costs.len() - 1]);
            println!("{version:8}{depth:>8}{low:>10.0}{middle:>10.0}{high:>10.0}{base:>12.0}");
        }
    }
    Ok(())
}

/// Nanoseconds per walk and the program's without walks, in a process of its own.
fn of_process(path: &Path, depth: u32, args: &Args) -> Result<(f64, f64)> {
    let load = Load::start(path, depth, args.how)?;
    let pid = Pid(load.0.id());
    let Detected::Interpreter(python) = detect(&Process::open(pid)?)? else {
        anyhow::bail!("no CPython")
    };
    let mut namer = Namer::new(pid);
    namer.set_interpreter(pid, Some((*python).clone()));
    let mut settings = Settings::new(pid, Ns(0), Hooks::Sched);
    settings.short_walk_every = Ns(1);
    if args.how == How::Alone {
        let (loaded, mut maps) = probe::load(&settings)?.attach_alone(&probe::WALK)?;
        return measure(&python, &loaded, &mut maps, args);
    }
    let mut attached = attach(&settings, &namer)?;
    measure(&python, &attached.loaded, &mut attached.maps, args)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 { f64::NAN } else { (values[(n - 1) / 2] + values[n / 2]) / 2.0 }
}
