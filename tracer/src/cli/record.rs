//! `lockwatt record`: attach or start, record, say what came of it.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};

use super::duration::{parse, parse_with_unit};
use super::energy::{EnergyArgs, Ready};
use crate::cpython::{Detected, Namer, detect};
use crate::fault::{self, Fault};
use crate::kernel::{self, Privileges};
use crate::probe::{
    DEFAULT_MAX_EVENTS_PER_SEC, DEFAULT_RING_BYTES, DEFAULT_SAMPLE_HZ, Group, Groups, Hooks,
    MAX_PROCESSES, MAX_SAMPLE_HZ, Settings, measure,
};
use crate::record::{Finished, Found, Output, Session, StopWhen, attach_all, look_at};
use crate::render::escape;
use crate::render::text::plural;
use crate::target::{Launched, Process};
use crate::trace::TimeUnit;
use crate::trace::processes::Came;
use crate::trace::records::{Meta, Options, Target};
use crate::units::{Ns, Pid};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The process to attach to; can be given more than once
    #[arg(short, long, value_name = "PID", required_unless_present = "command")]
    pid: Vec<u32>,

    /// Trace children too: those that the process has, and from their birth those that it forks
    /// (multiprocessing, pre-fork servers, subprocesses), each with an interpreter of its own
    #[arg(long)]
    follow: bool,

    /// End after this long (10s, 500ms, 2m); without it at Ctrl-C or at the end of all targets
    #[arg(short, long, value_name = "TIME", value_parser = parse)]
    duration: Option<Duration>,

    /// The trace file; `-` is standard output [default: lockwatt-PID.lockwatt]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Overwrite the trace file if it exists
    #[arg(short, long)]
    force: bool,

    /// Waits shorter than this are summed up by kind only, without lock and thread; 0 records all
    #[arg(long, value_name = "TIME", default_value = "10us", value_parser = parse_with_unit)]
    min_wait: Duration,

    /// What to hook: `sched` is cheap; `syscall` counts every futex and sched_yield call as well
    #[arg(long, value_enum, default_value_t)]
    hooks: Hooks,

    /// Samples of what runs, per second and CPU, to see spinning on the CPU; 0 takes none
    #[arg(long, value_name = "HZ", default_value_t = DEFAULT_SAMPLE_HZ, value_parser = sample_hz)]
    sample_hz: u32,

    /// Name the C functions that Python code waits in, and the modules that own futexes
    #[arg(long)]
    native: bool,

    /// Also probe libc's locks (`pthread`, or `usdt`) and the interpreter's slow paths (`cpython`): uncontended
    /// acquisitions and hold times. Each hit costs the target microseconds, and so changes the
    /// contention that is measured; what it came to is in the summary
    #[arg(long, value_enum, value_name = "GROUPS", value_delimiter = ',')]
    uprobes: Vec<Group>,

    /// Size of the buffer between kernel and recorder, in KiB: a power of two
    #[arg(long, value_name = "KIB", default_value_t = DEFAULT_RING_BYTES / 1024,
          value_parser = buffer_kib)]
    buffer: u32,

    /// No more waits than this get a record of their own, per second; the others are counted, with
    /// their time, by kind. 0: no limit
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_EVENTS_PER_SEC)]
    max_events_per_sec: u64,

    /// Room for so many processes at a time
    #[arg(long, value_name = "N", default_value_t = MAX_PROCESSES, hide = true,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PROCESSES)))]
    max_processes: u32,

    /// Store times to the nanosecond instead of in units of 32 ns; traces are a quarter larger
    #[arg(long)]
    exact_times: bool,

    /// Have the kernel count how long lockwatt's programs run, all the time: each run then takes a
    /// little longer. Without it that is estimated, from 20 ms in each 5 s (and counted all the same
    /// if `kernel.bpf_stats_enabled` is on)
    #[arg(long)]
    self_stats: bool,

    #[command(flatten)]
    energy: EnergyArgs,

    /// No live line and no summary
    #[arg(short, long)]
    quiet: bool,

    /// A command to start and trace, after `--`
    #[arg(last = true, value_name = "CMD", conflicts_with = "pid")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "\
EXAMPLES
  lockwatt record -p 4242                        until Ctrl-C, into lockwatt-4242.lockwatt
  lockwatt record -p 4242 -d 10s -o t.lockwatt   for ten seconds
  lockwatt record --min-wait 0 -p 4242           with a record for every wait, however short
  lockwatt record --sample-hz 1999 -p 4242       finer figures of time spent spinning
  lockwatt record --native -p 4242               with the C functions above the Python ones
  lockwatt record --uprobes pthread -p 4242      with every use of libc's locks, at a price
  lockwatt record -- python3 app.py --port 80    a command, from its first instruction
  lockwatt record --follow -p 4242               a pre-fork server's master with its workers
  lockwatt record --follow -- python3 pool.py    a command and all that it forks
  lockwatt record -p 4242 -p 4243                two processes in one trace
  lockwatt record --energy powercap -p 4242      with joules, or not at all
  lockwatt record -p 4242 -o - | ssh host 'cat > t.lockwatt'";

fn buffer_kib(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(kib) if kib.is_power_of_two() && (4..=1 << 20).contains(&kib) => Ok(kib),
        _ => Err("give a power of two from 4 to 1048576 (KiB)".to_owned()),
    }
}

fn sample_hz(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(hz) if hz <= MAX_SAMPLE_HZ => Ok(hz),
        _ => Err(format!("give 0 (no sampler) to {MAX_SAMPLE_HZ} samples per second and CPU")),
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> ExitCode {
    if Groups::new(&args.uprobes).overlap() {
        let words =
            "--uprobes pthread and usdt would count the same acquisitions: give one of them";
        return fault::report(&Fault::Usage(words.to_owned()).into());
    }
    if several(args) && !args.uprobes.is_empty() {
        let words = "--uprobes hooks one process: leave out --follow, and give one PID";
        return fault::report(&Fault::Usage(words.to_owned()).into());
    }
    match args.pid.split_first() {
        Some((&first, others)) => match record_processes(args, Pid(first), others) {
            Ok(()) => ExitCode::from(fault::DONE),
            Err(error) => fault::report(&error),
        },
        None => match record_command(args) {
            Ok(code) => code,
            Err(error) => {
                let _ = fault::report(&error);
                ExitCode::from(fault::OWN_FAILURE)
            }
        },
    }
}

/// More than one process can be in the trace.
fn several(args: &Args) -> bool {
    args.follow || args.pid.len() > 1
}

fn record_processes(args: &Args, pid: Pid, others: &[u32]) -> Result<()> {
    let process = Process::open(pid)?;
    Privileges::read()?.check()?;
    let energy = args.energy.prepare()?;
    let mut meta = new_meta(args, pid);
    let mut namer = Namer::new(pid);
    describe(&process, &mut meta.target);
    match detect(&process)? {
        Detected::Interpreter(python) => {
            meta.target.python = Some(python.version.to_string());
            meta.target.free_threaded = Some(python.layout.free_threaded);
            if let Err(why) = &python.frames {
                note(args, &format!("{why}; there will be no Python stacks"));
                meta.target.stackless_because = Some(why.to_string());
            }
            namer.set_interpreter(pid, Some(*python));
        }
        Detected::NotYet => {} // the session goes on looking
        Detected::UnknownLayout { version, why } => {
            note(args, &format!("{why}; waits are recorded as plain futexes"));
            meta.target.python = version.map(|version| version.to_string());
            meta.target.unnamed_because = Some(why.to_string());
        }
        // Its children may be.
        Detected::NotCPython if args.follow => {
            meta.target.unnamed_because = Some(format!("{} is no CPython", meta.target.exe));
        }
        Detected::NotCPython => {
            let exe = match meta.target.exe.as_str() {
                "" => "without an executable: a kernel thread, or ending".to_owned(),
                exe => escape::whole(exe),
            };
            return Err(Fault::NotTraceable(format!(
                "process {} ({exe}) is no CPython: it has no `_PyRuntime`",
                pid.0
            ))
            .into());
        }
    }
    let others = look_at_others(args, pid, others)?;
    let output = Output::open(args.output.as_deref(), args.force, pid)?;
    let path = output.path.clone();
    let stop = StopWhen { after: args.duration, own_child: false, quiet: args.quiet };
    let targets = Targets { namer, came: Came::Attached, others };
    let finished = record(args, meta, targets, energy, output, stop, || Ok(()))?;
    summarize(args, path.as_deref(), &finished);
    Ok(())
}

/// The other processes that were asked for.
fn look_at_others(args: &Args, first: Pid, others: &[u32]) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for pid in others.iter().copied().map(Pid) {
        if pid == first || found.iter().any(|one| one.pid == pid) {
            continue;
        }
        let process = Process::open(pid)?;
        // Numbers are given at the attach.
        let one = look_at(pid, 0).filter(|one| one.recorded || args.follow).ok_or_else(|| {
            let exe = escape::whole(&process.exe());
            Fault::NotTraceable(format!("process {} ({exe}) is no CPython", pid.0))
        })?;
        found.push(one);
    }
    Ok(found)
}

/// What is recorded.
struct Targets {
    /// Knows the first one's interpreter.
    namer: Namer,
    came: Came,
    others: Vec<Found>,
}

fn record_command(args: &Args) -> Result<ExitCode> {
    Privileges::read()?.check()?;
    let energy = args.energy.prepare()?;
    let Launched { mut child, gate } =
        Launched::start(&args.command).context("cannot start a process")?;
    let pid = Pid(child.id());
    let recorded = (|| {
        let meta = new_meta(args, pid);
        let output = Output::open(args.output.as_deref(), args.force, pid)?;
        let path = output.path.clone();
        let stop = StopWhen { after: args.duration, own_child: true, quiet: args.quiet };
        let open = || gate.open().context("the command was gone before it began");
        let targets = Targets { namer: Namer::new(pid), came: Came::Started, others: Vec::new() };
        let finished = record(args, meta, targets, energy, output, stop, open)?;
        anyhow::Ok((path, finished))
    })();
    // Whatever became of the recording, the command is left to run to its end.
    let code = match recorded {
        Ok((path, finished)) => {
            if finished.reason != "target_exited" {
                note(args, "the recording is over; the command goes on");
            }
            summarize(args, path.as_deref(), &finished);
            child.wait().map(code_of)
        }
        Err(error) => {
            let _ = fault::report(&error);
            child.wait().map(|_| fault::OWN_FAILURE)
        }
    };
    Ok(ExitCode::from(code.context("cannot wait for the command")?))
}

/// As shells do it: 128 + N for a command that signal N ended.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(fault::OWN_FAILURE)
}

fn record(
    args: &Args,
    mut meta: Meta,
    targets: Targets,
    energy: Ready,
    output: Output,
    stop: StopWhen,
    ready: impl FnOnce() -> Result<()>,
) -> Result<Finished> {
    let mut settings = Settings::new(meta.target.pid, meta.options.min_wait, args.hooks);
    settings.several = several(args);
    settings.follow = args.follow;
    settings.max_processes = args.max_processes;
    settings.native = args.native;
    settings.max_events_per_sec = args.max_events_per_sec;
    settings.uprobes = Groups::new(&args.uprobes);
    settings.sample_hz = args.sample_hz;
    settings.ring_bytes = args.buffer * 1024;
    settings.energy = energy.source.is_some();
    if !args.uprobes.is_empty() {
        match measure() {
            Ok(cost) => meta.uprobe_cost = Some(cost),
            Err(why) => {
                note(args, &format!("what a uprobe costs here could not be measured: {why}"));
                meta.uprobe_cost_unknown_because = Some(why);
            }
        }
    }
    let Targets { namer, came, others } = targets;
    let attached = match attach_all(&settings, &namer, came, others) {
        Ok(attached) => attached,
        Err(error) => {
            output.discard();
            return Err(not_permitted(error));
        }
    };
    let refused = attached.loaded.programs.iter().find(|state| state.name == "lw_sample");
    if let Some(reason) = refused.and_then(|state| state.reason.as_deref()) {
        note(args, &format!("spinning on the CPU will not be seen: no sampler: {reason}"));
    }
    let path = output.path.as_deref().map_or("-".to_owned(), |path| path.display().to_string());
    let mut session = Session::begin(attached, namer, meta, output.file)
        .with_context(|| format!("{path}: cannot begin the trace"))?;
    session
        .begin_energy(energy.source, &energy.record)
        .with_context(|| format!("{path}: cannot record energy"))?;
    if args.self_stats
        && let Err(why) = session.count_run_time()
    {
        note(args, &format!("{why:#}: what the programs cost will not be known"));
    }
    session.run(stop, ready).with_context(|| format!("{path}: the recording failed"))
}

/// The kernel's plain "operation not permitted" with what to do about it.
fn not_permitted(error: anyhow::Error) -> anyhow::Error {
    let refused = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    });
    if refused {
        Fault::NotPermitted(format!("{error:#}: `lockwatt doctor` shows what is missing")).into()
    } else {
        error
    }
}

fn new_meta(args: &Args, pid: Pid) -> Meta {
    Meta {
        lockwatt: env!("CARGO_PKG_VERSION").to_owned(),
        target: Target { pid, ..Target::default() },
        kernel: kernel::release(),
        machine: kernel::machine(),
        cpus: std::thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        options: Options {
            max_events_per_sec: (args.max_events_per_sec != 0).then_some(args.max_events_per_sec),
            min_wait: Ns(u64::try_from(args.min_wait.as_nanos()).unwrap_or(u64::MAX)),
            hooks: args.hooks.name().to_owned(),
            native: args.native,
            follow: args.follow,
            time_unit: if args.exact_times { TimeUnit::EXACT } else { TimeUnit::RECORDED },
            uprobes: Groups::new(&args.uprobes).names(),
            sample_hz: (args.sample_hz != 0).then_some(args.sample_hz),
        },
        ..Meta::default()
    }
}

fn describe(process: &Process, target: &mut Target) {
    target.exe = process.exe();
    target.cmdline = process.cmdline();
}

fn note(args: &Args, text: &str) {
    if !args.quiet {
        eprintln!("lockwatt: {text}");
    }
}

/// What came of it, on standard error, and where to look further.
fn summarize(args: &Args, path: Option<&Path>, finished: &Finished) {
    if args.quiet {
        return;
    }
    if let Some(why) = &finished.meta.target.unnamed_because
        && !several(args)
    {
        note(args, &format!("locks have no names: {}", escape::whole(why)));
    }
    let Some(path) = path.filter(|path| path.is_file()) else {
        let waits = plural(finished.totals.events, "wait");
        note(args, &format!("{waits} with a record in {}", finished.duration));
        return;
    };
    match super::report::short_summary(path) {
        Ok(text) => eprint!("{text}"),
        Err(error) => note(args, &format!("{}: {error:#}", path.display())),
    }
    let file = path.display();
    eprintln!("\n  lockwatt report {file}\n  lockwatt flamegraph {file} -o flamegraph.svg");
}
