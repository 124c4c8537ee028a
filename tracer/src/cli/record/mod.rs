//! `lockwatt record`: attach or start, record, say what came of it.

mod args;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context, Result};

pub(super) use self::args::Args;
use super::energy::Ready;
use crate::cpython::{Detected, Namer, detect};
use crate::fault::{self, Fault};
use crate::kernel::{self, Privileges};
use crate::probe::{Groups, measure};
use crate::record::{Finished, Found, Output, Session, StopWhen, attach_all, describe, look_at};
use crate::render::escape;
use crate::render::streamed::streamed;
use crate::target::{Launched, Process};
use crate::trace::processes::Came;
use crate::trace::records::{Meta, Target};
use crate::units::Pid;

/// Runs the command.
pub(super) fn run(args: &Args) -> ExitCode {
    if Groups::new(&args.uprobes).overlap() {
        let words =
            "--uprobes pthread and usdt would count the same acquisitions: give one of them";
        return fault::report(&Fault::Usage(words.to_owned()).into());
    }
    if args.several() && !args.uprobes.is_empty() {
        let words = "--uprobes hooks one process: leave out --follow, and give one PID";
        return fault::report(&Fault::Usage(words.to_owned()).into());
    }
    if let Err(fault) = args.energy.check() {
        return fault::report(&fault.into());
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

fn record_processes(args: &Args, pid: Pid, others: &[u32]) -> Result<()> {
    let process = Process::open(pid)?;
    Privileges::read()?.check()?;
    let energy = args.energy.prepare()?;
    let mut meta = new_meta(args, pid, energy.source.is_some());
    let mut namer = Namer::new(pid);
    meta.target.exe = process.exe();
    meta.target.cmdline = process.cmdline();
    let detected = detect(&process)?;
    describe(&mut meta.target, &detected);
    match detected {
        Detected::Interpreter(python) => {
            if let Err(why) = &python.frames {
                note(args, &format!("{why}; there will be no Python stacks"));
            }
            namer.set_interpreter(pid, Some(*python));
        }
        Detected::NotYet => {} // the session goes on looking
        Detected::UnknownLayout { why, .. } => {
            note(args, &format!("{why}; waits are recorded as plain futexes"));
        }
        Detected::NotCPython if args.follow => {} // its children may be
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
        let meta = new_meta(args, pid, energy.source.is_some());
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
    let settings = args.settings(meta.target.pid, energy.source.is_some());
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

fn new_meta(args: &Args, pid: Pid, energy: bool) -> Meta {
    Meta {
        lockwatt: env!("CARGO_PKG_VERSION").to_owned(),
        target: Target { pid, ..Target::default() },
        kernel: kernel::release(),
        machine: kernel::machine(),
        cpus: std::thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        options: args.options(energy),
        ..Meta::default()
    }
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
        && !args.several()
    {
        note(args, &format!("locks have no names: {}", escape::whole(why)));
    }
    let Some(path) = path.filter(|path| path.is_file()) else {
        // Who reads the trace at the other end of a pipe may not look.
        note(args, &streamed(&finished.totals, finished.meta.options.min_wait, finished.duration));
        return;
    };
    match super::report::short_summary(path) {
        Ok(text) => eprint!("{text}"),
        Err(error) => note(args, &format!("{}: {error:#}", path.display())),
    }
    let file = path.display();
    eprintln!("\n  lockwatt report {file}\n  lockwatt flamegraph {file} -o flamegraph.svg");
}
