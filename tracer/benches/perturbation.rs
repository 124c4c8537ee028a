//! How much contention survives being looked at: voluntary context switches per second of a storm,
//! which `/proc` counts without any tracer, traced against untraced, in one process.
//!
//! The recorder is at work all the time; the hooks, which are what disturbs, come and go. Each round
//! is one traced stretch between two untraced ones. Two untraced stretches that follow
//! each other, the last of a round and the first of the next, show how far equal ones scatter.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{BtfTracePoint, PerfEvent, Program};
use aya::util::online_cpus;
use tracer::cpython::{Detected, Namer, detect};
use tracer::probe::{DEFAULT_SAMPLE_HZ, Hooks, Settings};
use tracer::record::{Attached, Finished, Session, StopWhen, attach};
use tracer::target::{Process, tids};
use tracer::trace::TimeUnit;
use tracer::trace::records::{Meta, Options, Target};
use tracer::units::{Ns, Pid};
use tracer_common::StackConfig;

/// After hooks have come or gone, which patches the kernel's text.
const SETTLE: Duration = Duration::from_millis(20);
/// The programs that come and go.
const HOT: [&str; 6] =
    ["lw_switch", "lw_switch_sys", "lw_waking", "lw_sys_enter", "lw_sys_exit", "lw_sample"];

#[derive(clap::Parser)]
#[command(about = "Voluntary context switches of a storm, traced against untraced")]
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
    /// Threads of the workload
    #[arg(long, default_value_t = 6)]
    threads: u32,
    /// Hooks to trace with
    #[arg(long, value_enum, default_value_t)]
    hooks: Hooks,
    /// The storm either blocks or spins, for seconds or for good: start anew until it blocks this
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

struct Storm(Child);

impl Storm {
    fn start(args: &Args) -> Result<Self> {
        let python = std::env::var("LOCKWATT_PYTHON_3_14T")
            .context("LOCKWATT_PYTHON_3_14T is not set: run `cargo xtask bench perturbation`")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../scripts/workloads")
            .join(format!("{}.py", args.workload));
        let mut child = Command::new(python)
            .arg(script)
            .args(["--threads", &args.threads.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.contains("pid"), "{} did not start", args.workload);
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self(child))
    }

    fn start_blocking(args: &Args) -> Result<Self> {
        const TRIES: u32 = 40;
        for _ in 0..TRIES {
            let storm = Self::start(args)?;
            if rate(storm.pid(), Duration::from_millis(500))? >= args.min_rate {
                return Ok(storm);
            }
        }
        anyhow::bail!("{} never blocked {} times a second", args.workload, args.min_rate)
    }

    fn pid(&self) -> Pid {
        Pid(self.0.id())
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn voluntary_switches(pid: Pid) -> Result<u64> {
    let mut sum = 0;
    for tid in tids(pid)? {
        let status = std::fs::read_to_string(format!("/proc/{}/task/{}/status", pid.0, tid.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.context("no voluntary_ctxt_switches")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// Voluntary switches per second over one stretch.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(pid: Pid, stretch: Duration) -> Result<f64> {
    let (begin, before) = (Instant::now(), voluntary_switches(pid)?);
    std::thread::sleep(stretch);
    let after = voluntary_switches(pid)?;
    Ok((after - before) as f64 / begin.elapsed().as_secs_f64())
}

/// The hooks of a recording, taken in hand: the recorder goes on, and they come and go.
///
/// To attach what is loaded takes milliseconds, where a recording's beginning and end take a second:
/// so there are ten times the rounds, and the neighbours of a stretch are close by.
struct Switch {
    tracepoints: Vec<BtfTracePoint>,
    sampler: Option<PerfEvent>,
    sample_hz: u32,
    /// Voluntary switches while they were attached.
    seen: u64,
}

impl Switch {
    /// Detaches the programs and keeps them.
    fn take(attached: &mut Attached, args: &Args) -> Result<Self> {
        let (mut tracepoints, mut sampler) = (Vec::new(), None);
        for (name, program) in attached.loaded.ebpf_mut().programs_mut() {
            match program {
                Program::BtfTracePoint(program) if HOT.contains(&name) => {
                    let Ok(info) = program.info() else { continue }; // the form not in use
                    // SAFETY: the type is known to be right: it is that of the program itself.
                    tracepoints.push(unsafe {
                        BtfTracePoint::from_program_info(info, name.to_owned().into())
                    }?);
                    program.unload()?;
                }
                Program::PerfEvent(program) if args.sample_hz != 0 => {
                    let again =
                        PerfEvent::from_program_info(program.info()?, name.to_owned().into())?;
                    sampler = Some(again);
                    program.unload()?;
                }
                _ => {}
            }
        }
        ensure!(tracepoints.len() >= 2, "the hooks are not loaded");
        Ok(Self { tracepoints, sampler, sample_hz: args.sample_hz, seen: 0 })
    }

    /// Traces for one stretch; the rate in it.
    fn traced_rate(&mut self, pid: Pid, stretch: Duration) -> Result<f64> {
        let mut links = Vec::new();
        for program in &mut self.tracepoints {
            let link = program.attach()?;
            links.push(program.take_link(link)?);
        }
        let mut clocks = Vec::new();
        if let Some(sampler) = &mut self.sampler {
            let clock = PerfEventConfig::Software(SoftwareEvent::CpuClock);
            let policy = SamplePolicy::Frequency(u64::from(self.sample_hz));
            for cpu in online_cpus().map_err(|(_, error)| error)? {
                let scope = PerfEventScope::AllProcessesOneCpu { cpu };
                let link = sampler.attach(clock, scope, policy, false)?;
                clocks.push(sampler.take_link(link)?);
            }
        }
        let before = voluntary_switches(pid)?;
        std::thread::sleep(SETTLE);
        let rate = rate(pid, stretch)?;
        self.seen += voluntary_switches(pid)? - before;
        Ok(rate)
    }
}

/// A recording in a thread of its own, which ends with the storm.
fn record(pid: Pid, args: &Args) -> Result<(Switch, std::thread::JoinHandle<Result<Finished>>)> {
    let mut namer = Namer::new(pid);
    let Detected::Interpreter(python) = detect(&Process::open(pid)?)? else {
        anyhow::bail!("the workload is no CPython")
    };
    namer.set_interpreter(pid, Some(*python));
    let min_wait = Ns(10_000);
    let meta = Meta {
        target: Target { pid, ..Target::default() },
        options: Options {
            min_wait,
            hooks: args.hooks.name().to_owned(),
            time_unit: TimeUnit::RECORDED,
            sample_hz: (args.sample_hz != 0).then_some(args.sample_hz),
            ..Options::default()
        },
        ..Meta::default()
    };
    let settings =
        Settings { sample_hz: args.sample_hz, ..Settings::new(pid, min_wait, args.hooks) };
    let mut attached = attach(&settings, &namer)?;
    if args.without_stacks {
        attached.maps.set_stacks(&StackConfig::default())?;
    }
    let switch = Switch::take(&mut attached, args)?;
    let (ready, is_ready) = mpsc::channel();
    // It ends with the storm.
    let stop = StopWhen { after: None, own_child: false, quiet: true };
    let file = tempfile::tempfile()?;
    let recorder = std::thread::spawn(move || {
        let session = Session::begin(attached, namer, meta, file)?;
        session.run(stop, move || ready.send(()).context("nobody waits"))
    });
    is_ready.recv().context("the recorder did not start")?;
    Ok((switch, recorder))
}

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    let stretch = Duration::from_millis(args.stretch);
    let storm = Storm::start_blocking(&args)?;
    let pid = storm.pid();
    let (mut switch, recorder) = record(pid, &args)?;
    let (mut traced, mut untraced, mut levels) = (Vec::new(), Vec::new(), Vec::new());
    let mut last: Option<f64> = None;
    for round in 0..args.rounds {
        let quiet = || {
            std::thread::sleep(SETTLE);
            rate(pid, stretch)
        };
        let before = quiet()?;
        if let Some(last) = last {
            untraced.push(before / last);
        }
        let looked_at = switch.traced_rate(pid, stretch)?;
        let after = quiet()?;
        // The storm drifts, and flips between blocking and spinning for seconds at a time: the
        // geometric mean of the neighbours is what it would have done unwatched.
        traced.push(looked_at / (before * after).sqrt());
        levels.push(before);
        last = Some(after);
        if args.verbose {
            eprintln!("{before:.0} [{looked_at:.0}] {after:.0}");
        } else {
            eprint!("\rround {}/{}  ", round + 1, args.rounds);
        }
    }
    eprintln!();
    drop(storm);
    let finished = recorder.join().map_err(|_| anyhow::anyhow!("the recorder panicked"))??;
    ensure!(finished.totals.drops.is_empty(), "losses: {:?}", finished.totals.drops);
    let totals = &finished.totals;
    let below = totals.below.values().map(|sums| sums.waits).sum::<u64>();
    let waits = totals.events + totals.short_waits + below;
    // What a switch is traced as is tested elsewhere; that they are traced at all is to be seen here.
    ensure!(waits * 10 > switch.seen * 9, "{waits} waits recorded of {} switches", switch.seen);
    println!(
        "{} of {} threads, {} rounds of {} ms stretches, --hooks {}{}{}; untraced median {:.0} \
         voluntary switches/s; {waits} waits recorded of {} switches",
        args.workload,
        args.threads,
        args.rounds,
        args.stretch,
        args.hooks.name(),
        if args.without_stacks { ", no stacks" } else { "" },
        if args.sample_hz == 0 { String::new() } else { format!(", {} samples/s", args.sample_hz) },
        median(&mut levels),
        switch.seen
    );
    for (name, ratios) in
        [("traced / untraced", &mut traced), ("untraced / untraced", &mut untraced)]
    {
        let middle = median(ratios);
        let (low, high) = median_interval(ratios);
        println!(
            "{name:20} median {middle:.3}   95 % interval of the median {low:.3} to {high:.3}"
        );
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 { f64::NAN } else { (values[(n - 1) / 2] + values[n / 2]) / 2.0 }
}

/// Distribution-free 95 % interval of the median, from order statistics: the ranks between which
/// a binomial(n, 1/2) falls with that probability. `values` are sorted.
fn median_interval(values: &[f64]) -> (f64, f64) {
    let n = values.len();
    let mut term = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX)); // P(X = 0)
    let (mut below, mut rank) = (0.0, 0);
    while below + term <= 0.025 && rank < n / 2 {
        below += term;
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        {
            term *= (n - rank) as f64 / (rank + 1) as f64;
        }
        rank += 1;
    }
    // `rank` values may lie below the interval on each side.
    let low = rank.saturating_sub(1).min(n.saturating_sub(1));
    (values[low], values[n - 1 - low])
}
