//! The tracers that are compared, each as its users run it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{process, workspace};

/// One tracer, in one of its uses.
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// From its start until its hooks are there, generously.
    pub(super) warm_up: Duration,
    /// How to get it, on Debian.
    install: &'static str,
    command: fn(&Target<'_>) -> Command,
}

/// What a tracer is pointed at.
pub(super) struct Target<'a> {
    pub(super) pid: u32,
    pub(super) python: &'a Path,
    pub(super) version: &'a str,
    /// A folder for its output.
    pub(super) folder: &'a Path,
    /// Its threads: on a busy machine a tracer gets its share of the CPUs.
    pub(super) threads: u32,
}

const fn tool(
    name: &'static str,
    milliseconds: u64,
    install: &'static str,
    command: fn(&Target<'_>) -> Command,
) -> Tool {
    Tool { name, warm_up: Duration::from_millis(milliseconds), install, command }
}

/// For a tracer to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
const BUILD: &str = "cargo build --release";
const BPFTRACE: &str = "apt-get install bpftrace";
const PERF: &str = "apt-get install linux-perf";
const LIBBPF: &str = "apt-get install libbpf-tools";
const PY_SPY: &str = "python3 -m venv ~/.cache/lockwatt/py-spy && \
                      ~/.cache/lockwatt/py-spy/bin/pip install py-spy";
const OWN_SAMPLER: &str = "only a program on Python 3.15 can be looked at with it";

/// All of them.
pub(super) const ALL: &[Tool] = &[
    tool("lockwatt", 1500, BUILD, |target| lockwatt(target, &[])),
    tool("lockwatt --min-wait 0", 1500, BUILD, |target| lockwatt(target, &["--min-wait", "0"])),
    tool("lockwatt --uprobes pthread", 2500, BUILD, |target| {
        lockwatt(target, &["--uprobes", "pthread"])
    }),
    tool("bpftrace futex histogram", 2500, BPFTRACE, |t| bpftrace(t, "futex_histogram.bt")),
    tool("bpftrace futex ustack", 2500, BPFTRACE, |target| bpftrace(target, "futex_ustack.bt")),
    tool("offcputime", 1500, LIBBPF, |target| {
        let mut command = process::command("offcputime");
        command.args(["-p", &target.pid.to_string()]);
        command
    }),
    tool("perf trace -s -e futex", 1000, PERF, |target| {
        let mut command = process::command("perf");
        command.args(["trace", "-s", "-e", "futex", "-p", &target.pid.to_string()]);
        command
    }),
    tool("perf record -g", 1000, PERF, |target| {
        let mut command = process::command("perf");
        command.args(["record", "-g", "-e", "syscalls:sys_enter_futex,sched:sched_switch"]);
        command.args(["-p", &target.pid.to_string(), "-o"]).arg(target.folder.join("perf.data"));
        command
    }),
    tool("py-spy record", 1500, PY_SPY, |target| {
        let mut command = process::command(py_spy());
        command.args(["record", "-d", "600", "-p", &target.pid.to_string(), "-o"]);
        command.arg(target.folder.join("py-spy.svg"));
        command
    }),
    tool("profiling.sampling", 1500, OWN_SAMPLER, |target| {
        let mut command = process::command(target.python);
        command.args(["-m", "profiling.sampling", "attach", "-a", "-d", "600", "--collapsed"]);
        command.arg("-o").arg(target.folder.join("sampled.txt")).arg(target.pid.to_string());
        command
    }),
];

fn lockwatt(target: &Target<'_>, options: &[&str]) -> Command {
    let mut command = process::command(release("lockwatt"));
    command.args(["record", "--force", "-p", &target.pid.to_string(), "-o"]);
    command.arg(target.folder.join("t.lockwatt")).args(options);
    command
}

fn bpftrace(target: &Target<'_>, script: &str) -> Command {
    let mut command = process::command("bpftrace");
    command.arg(workspace::root().join("scripts/bench").join(script));
    command.arg(target.pid.to_string());
    command
}

/// Where `cargo build --release` puts it.
pub(super) fn release(program: &str) -> PathBuf {
    let debug = workspace::lockwatt();
    debug.with_file_name("..").join("release").join(program)
}

fn py_spy() -> PathBuf {
    let own = workspace::cache().map(|cache| cache.join("py-spy/bin/py-spy"));
    own.ok().filter(|path| path.is_file()).unwrap_or_else(|| "py-spy".into())
}

impl Tool {
    /// Why it can't look at a target, and what to do about it; none if it can.
    pub(super) fn missing(&self, target: &Target<'_>) -> Option<String> {
        if self.name == "profiling.sampling" {
            return (target.version != "3.15").then(|| OWN_SAMPLER.to_owned());
        }
        let command = (self.command)(target);
        let program = Path::new(command.get_program());
        let there = program.is_file()
            || program.to_str().is_some_and(workspace::on_path)
            || Path::new("/usr/sbin").join(program).is_file();
        (!there).then(|| format!("not installed: {}", self.install))
    }

    /// Starts it, and returns once it looks.
    pub(super) fn start(&self, target: &Target<'_>) -> Result<Running> {
        let mut command = (self.command)(target);
        let said = target.folder.join("said");
        let out = std::fs::File::create(&said)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        // An attached lockwatt begins its file.
        let trace = self.name.starts_with("lockwatt").then(|| target.folder.join("t.lockwatt"));
        if let Some(trace) = &trace {
            let _ = std::fs::remove_file(trace);
        }
        let child = command.spawn().with_context(|| format!("starting {}", self.name))?;
        let mut running = Running { child, said };
        let (begin, busy) = (Instant::now(), self.warm_up * (1 + target.threads / 4));
        loop {
            std::thread::sleep(Duration::from_millis(100));
            running.check()?;
            let attached = match &trace {
                Some(trace) => std::fs::metadata(trace).is_ok_and(|file| file.len() > 16),
                None => begin.elapsed() >= busy,
            };
            if attached {
                break;
            }
            anyhow::ensure!(begin.elapsed() < PATIENCE, "{} did not attach", self.name);
        }
        // What the attach itself left to do.
        std::thread::sleep(Duration::from_millis(500));
        Ok(running)
    }
}

/// A tracer at work. It is told to end when this goes.
pub(super) struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    /// It still works; else its last words are the error.
    pub(super) fn check(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            anyhow::bail!("ended at once: {}", self.last_words());
        }
        Ok(())
    }

    /// Ends it as Ctrl-C does; what it said.
    pub(super) fn stop(mut self) -> String {
        self.interrupt();
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    fn interrupt(&mut self) {
        let pid = self.child.id().to_string();
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
            } else if begin.elapsed().as_secs().is_multiple_of(5) {
                // Once more each few seconds: perf trace may miss the first one.
                process::succeeds(Command::new("sh").args(["-c", "kill -INT \"$1\"", "sh", &pid]));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.said).unwrap_or_default();
        last_words(&said).chars().take(160).collect()
    }
}

/// What it said of an error (py-spy puts a backtrace behind that), else its last line.
fn last_words(said: &str) -> &str {
    let mut lines = said.lines().filter(|line| !line.trim().is_empty());
    let error = lines.clone().find(|line| line.trim_start().starts_with("Error"));
    error.or_else(|| lines.next_back()).unwrap_or("(nothing)")
}

impl Drop for Running {
    fn drop(&mut self) {
        self.interrupt();
    }
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn an_error_is_told_without_its_backtrace() {
        let said = "Sampling\nError: no interpreter\n\nStack backtrace:\n   7: thread_start\n";
        assert_eq!(last_words(said), "Error: no interpreter");
        assert_eq!(last_words("one\ntwo\n\n"), "two");
        assert_eq!(last_words(""), "(nothing)");
    }
}
