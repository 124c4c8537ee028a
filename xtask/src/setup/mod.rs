//! `cargo xtask setup`: from a machine with Rust to one that builds and tests lockwatt.
//!
//! The eBPF programs need a rustc with a BPF standard library and a linker for LLVM's BPF back end. On
//! Debian both come from packages (route A); elsewhere a nightly toolchain and a `bpf-linker` on PATH
//! do (route B). Both routes are described in docs/, and `tracer/build.rs` takes what it finds.

use std::fs;
use std::time::Instant;

use anyhow::Result;

use crate::process::{self, Refusal};
use crate::workspace;

mod apt;
mod linker;
mod nightly;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask setup            installs what is missing; does nothing when nothing is
  cargo xtask setup --check    only says what is missing (exit code 1 if anything is)

On Debian (root, or run what it then prints): packages for the eBPF toolchain, a C compiler, Python's \
tools and bpftrace; and bpf-linker, built once (about a minute) into ~/.cache/lockwatt. Elsewhere: a \
nightly toolchain with rust-src, and bpf-linker.")]
pub(crate) struct Arguments {
    /// Only report what is missing
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let mut report = Report { check: arguments.check, quiet: false, present: 0, missing: 0 };
    go(&mut report)?;
    let Report { present, missing, .. } = report;
    if missing > 0 {
        return Err(Refusal::missing(format!(
            "{missing} missing, {present} present: `cargo xtask setup` installs what is missing"
        ))
        .into());
    }
    println!("setup: all {present} things present ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(())
}

/// For other tasks: installs what is missing, and prints nothing when nothing is.
pub(crate) fn quietly() -> Result<()> {
    go(&mut Report { check: false, quiet: true, present: 0, missing: 0 })
}

fn go(report: &mut Report) -> Result<()> {
    let from_debian = apt::packages(report)?;
    for component in ["rustfmt", "clippy"] {
        rust_component(report, component)?;
    }
    if from_debian {
        linker::from_debians_llvm(report)?;
    } else {
        nightly::toolchain(report)?;
    }
    tracefs(report)
}

fn rust_component(report: &mut Report, component: &'static str) -> Result<()> {
    let tool = component.trim_start_matches("rust");
    let present = process::succeeds(&mut process::cargo([tool, "--version"]));
    report.thing(component, present, || {
        let mut add = process::command("rustup");
        process::quietly("adding the component", add.args(["component", "add", component]))
    })
}

/// `lockwatt record --hooks syscall` and bpftrace attach to tracepoints by name, which needs
/// tracefs. systemd mounts it; a container or a small virtual machine may lack it.
fn tracefs(report: &mut Report) -> Result<()> {
    const MOUNT: [&str; 5] = ["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"];
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| line.split(' ').nth(2) == Some("tracefs"));
    if !mounted && !report.check && !workspace::is_root()? {
        println!("note: tracefs is not mounted: run `sudo {}`", MOUNT.join(" "));
        return Ok(());
    }
    report.thing("tracefs", mounted, || {
        let mut mount = process::command(MOUNT[0]);
        process::quietly("mounting tracefs", mount.args(&MOUNT[1..]))
    })
}

/// What has been found and done, a line for each thing.
struct Report {
    check: bool,
    quiet: bool,
    present: usize,
    missing: usize,
}

impl Report {
    fn present(&mut self, name: &str) {
        self.present += 1;
        if !self.quiet {
            println!("{name:<24} present");
        }
    }

    fn missing(&mut self, name: &str) {
        self.missing += 1;
        println!("{name:<24} missing");
    }

    /// One thing: present, or else installed now unless this is only a check.
    fn thing(
        &mut self,
        name: &str,
        present: bool,
        install: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if present {
            self.present(name);
        } else if self.check {
            self.missing(name);
        } else {
            installing(name, install)?;
            self.present += 1;
        }
        Ok(())
    }
}

fn installing(name: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("{name:<24} installing …");
    let started = Instant::now();
    install()?;
    println!("{name:<24} done ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(())
}
