//! `cargo xtask demo`: from nothing to a report and a flame graph.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{self, Refusal};
use crate::steps::Steps;
use crate::{interpreters, setup, workspace};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo                    free-threaded CPython 3.14, 5 seconds
  cargo xtask demo --python 3.11      with the GIL: its waits are in the report
  cargo xtask demo --duration 20s

The recording, report and flame graph are put into demo/. Recording needs root, or sudo.")]
pub(crate) struct Arguments {
    /// Interpreter for the workload, as in `cargo xtask interpreters`
    #[arg(long, default_value = "3.14t", value_name = "VERSION")]
    python: String,
    /// How long to record
    #[arg(long, default_value = "5s")]
    duration: String,
}

const WORKLOAD: &str = "scripts/workloads/mixed.py";
const RECORDING: &str = "demo/demo.lockwatt";
const FLAME_GRAPH: &str = "demo/flamegraph.svg";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // Refused at once, not after the build.
    let recorder = recorder()?;
    let mut steps = Steps::of("cargo xtask demo");
    let outcome = run_steps(&mut steps, arguments, recorder);
    steps.summarize();
    outcome?;
    println!("\nrecording    {RECORDING}");
    println!("report       demo/report.txt, demo/report.json");
    println!("flame graph  {FLAME_GRAPH} (open it in a browser)");
    Ok(())
}

fn run_steps(steps: &mut Steps, arguments: &Arguments, mut record: Command) -> Result<()> {
    steps.step("setup", "what building and recording need", setup::quietly)?;
    let does = format!("CPython {}", arguments.python);
    let python = steps.step("interpreter", &does, || interpreter(&arguments.python))?;
    steps.command("build", &mut process::cargo(["build"]))?;

    fs::create_dir_all(workspace::root().join("demo")).context("making demo/")?;
    let does = format!("{} {WORKLOAD}", python.display());
    let workload = steps.step("workload", &does, || Workload::start(&python))?;
    record.args(["record", "-p", &workload.0.id().to_string(), "-d", &arguments.duration]);
    steps.command("record", record.args(["-o", RECORDING, "--force"]))?;
    drop(workload);

    steps.step("report", &format!("lockwatt report {RECORDING}"), report)?;
    let mut flame_graph = process::command(workspace::lockwatt());
    flame_graph.args(["flamegraph", RECORDING, "-o", FLAME_GRAPH, "--force"]);
    steps.command("flame graph", &mut flame_graph)
}

/// `lockwatt` with the rights to record.
fn recorder() -> Result<Command> {
    if workspace::is_root()? {
        return Ok(process::command(workspace::lockwatt()));
    }
    if !workspace::on_path("sudo") {
        return Err(Refusal::not_permitted(
            "recording loads programs into the kernel, which needs root, and there is no sudo here: \
             run `cargo xtask demo` as root",
        )
        .into());
    }
    println!("recording needs root: that step alone runs under sudo, which may ask for a password");
    let mut command = process::command("sudo");
    command.arg("-E").arg(workspace::lockwatt());
    Ok(command)
}

/// The interpreter asked for, or the system's, which is good enough to show something.
fn interpreter(version: &str) -> Result<PathBuf> {
    if let Some(path) = interpreters::find(&[version])?.remove(version) {
        return Ok(path);
    }
    println!("{version} can't be had (see above); going on with this system's python3");
    let mut ask = process::command("python3");
    ask.args(["-c", "import sys; print(sys.executable)"]);
    let output = process::output("looking for python3", &mut ask)?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output).trim()))
}

fn report() -> Result<()> {
    let report = |format| {
        let mut command = process::command(workspace::lockwatt());
        process::output("report", command.args(["report", RECORDING, "--format", format]))
    };
    let save = |name, contents: &[u8]| {
        let path = workspace::root().join(name);
        fs::write(&path, contents).with_context(|| format!("writing {}", path.display()))
    };
    let text = report("text")?;
    io::stdout().write_all(&text).context("printing the report")?;
    save("demo/report.txt", &text)?;
    save("demo/report.json", &report("json")?)
}

/// The program to trace, ended when this goes, whatever happened in between.
struct Workload(Child);

impl Workload {
    /// Returns once it works: its first line says so.
    fn start(python: &Path) -> Result<Self> {
        let mut command = process::command(python);
        command.arg("-B").arg(WORKLOAD).stdout(Stdio::piped());
        let mut workload = Self(command.spawn().with_context(|| format!("starting {WORKLOAD}"))?);
        let mut line = String::new();
        if let Some(stdout) = &mut workload.0.stdout {
            BufReader::new(stdout).read_line(&mut line).context("reading the workload's output")?;
        }
        if line.is_empty() {
            bail!("{WORKLOAD} ended at once: {}", workload.0.wait()?);
        }
        println!("{}", line.trim_end());
        Ok(workload)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // SIGTERM through the shell: std has only SIGKILL. The workload ends itself cleanly on it.
        let pid = self.0.id().to_string();
        if !process::succeeds(Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid])) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}
