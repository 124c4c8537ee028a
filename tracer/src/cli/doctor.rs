//! `lockwatt doctor`: what this kernel and this user allow, and what would be used.

use std::io::Write;

use anyhow::Result;

use crate::cpython::{Detected, detect};
use crate::energy::{SourceError, survey};
use crate::fault::Fault;
use crate::kernel::{self, Privileges, btf};
use crate::probe::{
    DEFAULT_SAMPLE_HZ, Group, Hooks, Library, ProgramSpec, Role, Settings, load, measure,
};
use crate::render::escape;
use crate::render::text::plural;
use crate::target::Process;
use crate::trace::records::ProgramState;
use crate::units::{Ns, Pid};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  sudo lockwatt doctor            load and attach every program once, and show what happened
  sudo lockwatt doctor -p 4242    the same, and whether that process can be traced

Exits 0 if a default recording is possible here, 1 if the kernel is in the way, 3 if a permission
is missing, 4 if the process can't be traced.")]
pub(super) struct Args {
    /// A process to look at as well
    #[arg(short, long, value_name = "PID")]
    pid: Option<u32>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "kernel       {} {}", kernel::release(), kernel::machine())?;
    let offsets = btf::task_offsets();
    match &offsets {
        Ok(_) => writeln!(out, "BTF          {}", btf::VMLINUX)?,
        Err(error) => writeln!(out, "BTF          MISSING: {error}")?,
    }
    energy(&mut out)?;
    let privileges = Privileges::read()?;
    let missing = privileges.missing();
    if missing.is_empty() {
        writeln!(out, "privileges   enough")?;
    } else {
        writeln!(out, "privileges   MISSING: {}", missing.join(", "))?;
    }
    let kernel_verdict = if missing.is_empty() {
        programs(&mut out)?
    } else {
        privileges.check().map_err(Into::into)
    };
    let process_verdict = args.pid.map_or(Ok(()), |pid| process(&mut out, Pid(pid)));
    out.flush()?;
    kernel_verdict.and(process_verdict)
}

/// Every energy counter, and whether it counts.
fn energy(out: &mut impl Write) -> Result<()> {
    let mut title = "energy";
    let mut live = None;
    for (name, found) in survey() {
        let words = match found {
            Ok(what) if live.is_none() => {
                live = Some(name);
                format!("ok   {}", escape::whole(&what))
            }
            Ok(what) => format!("ok   {} (not needed here)", escape::whole(&what)),
            Err(why @ SourceError::Dead { .. }) => {
                format!("DOES NOT COUNT  {}", escape::whole(&why.to_string()))
            }
            Err(why) => format!("none {}", escape::whole(&why.to_string())),
        };
        writeln!(out, "{title:<12} {name:<9} {words}")?;
        title = "";
    }
    if live.is_none() {
        writeln!(out, "             no live counter: times are recorded, and no joules")?;
    }
    Ok(())
}

/// Loads and attaches every program, alone, against this very process.
fn programs(out: &mut impl Write) -> Result<Result<()>> {
    let own = Pid(std::process::id());
    let settings =
        Settings { sample_hz: DEFAULT_SAMPLE_HZ, ..Settings::new(own, Ns(0), Hooks::Syscall) };
    let prepared = match load(&settings) {
        Ok(prepared) => prepared,
        Err(error) => {
            writeln!(out, "programs     NONE: {error}")?;
            return Ok(Err(error.into()));
        }
    };
    let results = prepared.attach_each();
    writeln!(out, "programs")?;
    for (spec, state) in &results {
        let verdict = match (&state.reason, spec.role) {
            (Some(reason), _) => format!("OFF  {reason}"),
            (None, Role::Fallback) if works(&results, "lw_switch") => {
                "ok   (stands in for lw_switch; not needed here)".to_owned()
            }
            (None, _) => "ok".to_owned(),
        };
        writeln!(out, "  {:14} {:28} {verdict}", spec.name, state.hook)?;
        writeln!(out, "  {:14} {}", "", spec.purpose)?;
    }
    uprobes(out, own)?;
    let usable = |names: &[&str]| names.iter().all(|name| works(&results, name));
    let life = usable(&["lw_fork", "lw_exit", "lw_exec", "lw_waking"]);
    let calls = usable(&["lw_sys_enter", "lw_sys_exit"]);
    let sched = life && works(&results, "lw_switch");
    let syscall = life && calls && (sched || works(&results, "lw_switch_sys"));
    let word = |yes| if yes { "works" } else { "does not work here" };
    writeln!(out, "--hooks sched    {} (the default)", word(sched))?;
    writeln!(out, "--hooks syscall  {}", word(syscall))?;
    writeln!(out, "--sample-hz      {}", word(works(&results, "lw_sample")))?;
    Ok(if sched {
        Ok(())
    } else if syscall {
        Err(anyhow::anyhow!("the default hooks do not work here: use `--hooks syscall`"))
    } else {
        Err(anyhow::anyhow!("this kernel takes neither form of lockwatt's hooks"))
    })
}

/// What `--uprobes` would hook in a process, and in this very one what a hit costs.
fn uprobes(out: &mut impl Write, pid: Pid) -> Result<()> {
    let own = pid.0 == std::process::id();
    let Ok(process) = Process::open(pid) else { return Ok(()) };
    for group in Group::ALL {
        if own && group == Group::Cpython {
            continue; // lockwatt is no interpreter
        }
        let name = group.name();
        let libraries = match Library::of(&process, group) {
            Ok(libraries) => libraries,
            Err(reason) => {
                writeln!(out, "--uprobes {name:8} nothing to hook: {reason}")?;
                continue;
            }
        };
        let missing = Library::missing(&libraries, group);
        for library in &libraries {
            let path = escape::whole(&library.path().to_string_lossy());
            let (n, what) = match group {
                Group::Usdt => (library.hooked_usdt(), "USDT probe"),
                Group::Pthread | Group::Cpython => (library.hooked(), "function"),
            };
            writeln!(out, "--uprobes {name:8} {} of {path}", plural(n as u64, what))?;
            if group == Group::Usdt && n > 0 {
                let names = escape::whole(&library.lock_usdt().join(" "));
                writeln!(out, "{:18} it has: {names}", "")?;
            }
        }
        if !missing.is_empty() {
            writeln!(out, "{:18} not there: {}", "", missing.join(", "))?;
        }
    }
    if own {
        match measure() {
            Ok(cost) => writeln!(
                out,
                "{:18} a hit costs {} at an entry, {} more at a return (measured now)",
                "", cost.entry, cost.at_return
            )?,
            Err(reason) => writeln!(out, "--uprobes          DO NOT WORK HERE: {reason}")?,
        }
    }
    Ok(())
}

fn works(results: &[(ProgramSpec, ProgramState)], name: &str) -> bool {
    results.iter().any(|(spec, state)| spec.name == name && state.attached)
}

fn process(out: &mut impl Write, pid: Pid) -> Result<()> {
    let process = Process::open(pid)?;
    writeln!(out, "process      {} {}", pid.0, escape::whole(&process.exe()))?;
    let (line, verdict) = match detect(&process)? {
        Detected::Interpreter(python) => {
            let build = if python.layout.free_threaded { "free-threaded" } else { "with the GIL" };
            let file = escape::whole(&python.file);
            (format!("CPython {} {build}, in {file}: locks get names", python.version), Ok(()))
        }
        Detected::NotYet => ("a CPython that is still starting".to_owned(), Ok(())),
        Detected::UnknownLayout { why, .. } => (format!("{why}; waits get no names"), Ok(())),
        Detected::NotCPython => {
            let what = "no CPython: it has no `_PyRuntime`".to_owned();
            (what.clone(), Err(Fault::NotTraceable(format!("process {} is {what}", pid.0)).into()))
        }
    };
    writeln!(out, "interpreter  {line}")?;
    uprobes(out, pid)?;
    verdict
}
