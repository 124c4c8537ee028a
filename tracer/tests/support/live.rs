//! Live interpreters under load, and the binary run against them. Needs root; fails loudly
//! without it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

static ALONE: Mutex<()> = Mutex::new(());

/// One live test at a time: there are few CPUs, and two loads disturb each other's waits.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    let status = std::fs::read_to_string("/proc/self/status").expect("own status");
    assert!(
        status.lines().any(|line| line.starts_with("Uid:\t0\t")),
        "this test loads programs into the kernel and needs root: run `cargo xtask test` as root, \
         or `cargo xtask test --pure` for the tests that need none"
    );
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

/// The interpreter of a version: what `cargo xtask test` found, or fetched now.
pub(crate) fn python(version: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable(version)) {
        return path.into();
    }
    let output = Command::new(workspace().join("scripts/interpreters.sh"))
        .args(["--path", version])
        .output()
        .expect("scripts/interpreters.sh runs");
    assert!(
        output.status.success(),
        "no CPython {version} to test on: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("a path").trim().into()
}

fn variable(version: &str) -> String {
    format!("LOCKWATT_PYTHON_{}", version.replace('.', "_").to_uppercase())
}

/// Whether there is one of these, which is not fetched or built for it.
pub(crate) fn has_python(version: &str) -> bool {
    let all = || {
        let script = workspace().join("scripts/interpreters.sh");
        Command::new(script).output().expect("scripts/interpreters.sh runs").stdout
    };
    let has = std::env::var_os(variable(version)).is_some()
        || String::from_utf8_lossy(&all())
            .lines()
            .any(|line| line.starts_with(&format!("{version} ")));
    if !has {
        eprintln!("NOT TESTED on {version}: there is none on this machine");
    }
    has
}

/// A workload of `scripts/workloads` in a process of its own, killed when dropped.
pub(crate) struct Workload {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
    first: Value,
}

impl Workload {
    pub(crate) fn start(version: &str, name: &str, arguments: &[&str]) -> Self {
        let script = workspace().join("scripts/workloads").join(name).with_extension("py");
        let mut command = Command::new(python(version));
        command.arg(script).args(arguments);
        Self::spawn(command)
    }

    /// A Python program given as text, which must print a JSON line first.
    pub(crate) fn inline(version: &str, program: &str) -> Self {
        let mut command = Command::new(python(version));
        command.args(["-c", program]);
        Self::spawn(command)
    }

    /// The same under another program (`unshare`, …), whose only child the interpreter is.
    pub(crate) fn start_under(wrapper: &[&str], version: &str, name: &str) -> Self {
        let script = workspace().join("scripts/workloads").join(name).with_extension("py");
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(python(version)).arg(script);
        Self::spawn(command)
    }

    /// The only child of this process, as the host numbers it.
    pub(crate) fn only_child(&self) -> u32 {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.expect("children").trim().parse().expect("one child")
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the workload starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let first = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        Self { child, stdout, first }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The JSON line that the program printed first.
    pub(crate) fn first(&self) -> &Value {
        &self.first
    }

    /// `id(obj)` as the program printed it.
    pub(crate) fn object(&self, name: &str) -> &str {
        self.first["objects"][name]["id"].as_str().unwrap_or_else(|| panic!("no object {name}"))
    }

    /// Waits for the end; what it printed after the first line.
    pub(crate) fn finish(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        assert!(self.child.wait().expect("an end").success());
        rest
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn lockwatt(arguments: &[&str]) -> Output {
    command(arguments).output().expect("lockwatt runs")
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockwatt"));
    command.args(arguments);
    command
}

/// Standard error as text.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Records a process for a while, with extra options.
pub(crate) fn record(pid: u32, time: &str, trace: &Path, options: &[&str]) {
    let pid = pid.to_string();
    let mut arguments = vec!["record", "-p", &pid, "-d", time, "-o", path(trace)];
    arguments.extend(options);
    let output = lockwatt(&arguments);
    assert!(output.status.success(), "{}", said(&output));
}

/// The JSON report of a trace.
pub(crate) fn report(trace: &Path) -> Value {
    let output = lockwatt(&["report", path(trace), "--format", "json"]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("a readable path")
}

/// The lock with this address.
pub(crate) fn lock_at<'a>(report: &'a Value, address: &str) -> &'a Value {
    let locks = report["locks"].as_array().expect("locks");
    locks
        .iter()
        .find(|lock| lock["address"] == address)
        .unwrap_or_else(|| panic!("no lock at {address} in {:#}", report["locks"]))
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

/// Waits until something is so; fails with its name if it never is.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(30), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
