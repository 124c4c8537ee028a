//! Debian's packages, or on other systems the programs that they would bring.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Report, installing};
use crate::process::{self, Refusal};
use crate::workspace;

/// Debian's own Rust, which unlike rustup's stable has a standard library for BPF, and the LLVM that
/// bpf-linker links with.
const BPF_TOOLCHAIN: [&str; 4] =
    ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "llvm-22-dev"];

/// A C compiler for crates with C inside; Python and what scripts/ call; what tests compare with.
const TOOLS: [&str; 6] = ["gcc", "libc6-dev", "python3", "unzip", "util-linux", "bpftrace"];

/// The same tools by program, where there is no dpkg to ask. bpftrace is only compared with.
const PROGRAMS: [&str; 4] = ["cc", "python3", "unzip", "setpriv"];

/// Sees to the packages. Whether the eBPF toolchain comes from Debian.
pub(super) fn packages(report: &mut Report) -> Result<bool> {
    if !(workspace::on_path("apt-get") && workspace::on_path("dpkg-query")) {
        programs(report)?;
        return Ok(false);
    }
    let mut wanted = [&BPF_TOOLCHAIN[..], &TOOLS[..]].concat();
    // pip may come from elsewhere (pyenv), and then Debian's is not needed.
    if !has_pip() {
        wanted.push("python3-pip");
    }
    let installed = installed(&wanted)?;
    let is_missing = |package: &&str| !installed.iter().any(|have| have == package);

    let may_install = !report.check && workspace::is_root()?;
    let mut updated = false;
    let has_all = || BPF_TOOLCHAIN.iter().all(has_candidate);
    let from_debian = if !BPF_TOOLCHAIN.iter().any(is_missing) {
        true
    } else if may_install {
        update();
        updated = true;
        has_all()
    } else {
        // The package lists may never have been read, so a Debian is taken at its name.
        is_debian() || has_all()
    };
    if !from_debian {
        println!("this system's packages have no eBPF toolchain; using rustup's nightly instead");
        wanted.retain(|package| !BPF_TOOLCHAIN.contains(package));
    }

    for package in wanted.iter().filter(|package| !is_missing(package)) {
        report.present(package);
    }
    let missing: Vec<_> = wanted.into_iter().filter(is_missing).collect();
    if report.check {
        for package in missing {
            report.missing(package);
        }
    } else if !missing.is_empty() {
        if !may_install {
            return Err(Refusal::missing(format!(
                "installing needs root; run this, then try again:\n  \
                 sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
                missing.join(" ")
            ))
            .into());
        }
        if !updated {
            update();
        }
        installing(&missing.join(" "), || install(&missing))?;
        report.present += missing.len();
    }
    Ok(from_debian)
}

/// Without dpkg: names the programs that are missing.
fn programs(report: &mut Report) -> Result<()> {
    let mut missing = Vec::new();
    let pip = ("pip for python3", has_pip());
    let programs = PROGRAMS.iter().map(|program| (*program, workspace::on_path(program)));
    for (program, present) in programs.chain([pip]) {
        if present {
            report.present(program);
        } else if report.check {
            report.missing(program);
        } else {
            missing.push(program);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refusal::missing(format!(
        "not on PATH: {}. This system has no apt-get, so please install them with its own package \
         manager (C compiler, Python 3 with pip, unzip, util-linux), then try again",
        missing.join(", ")
    ))
    .into())
}

fn has_pip() -> bool {
    // `import pip` takes a tenth of the time of `pip --version`.
    process::succeeds(process::command("python3").args(["-c", "import pip"]))
}

fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian")
}

/// Those of `packages` that are installed; dpkg-query's exit code only says that some are unknown.
fn installed(packages: &[&str]) -> Result<Vec<String>> {
    let output = process::command("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${binary:Package}\\n"])
        .args(packages)
        .output()
        .context("starting dpkg-query")?;
    Ok(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_installed(lines: &str) -> Vec<String> {
    let packages = lines.lines().filter_map(|line| line.strip_prefix("installed "));
    // "Multi-Arch: same" packages carry their architecture: libc6-dev:amd64.
    packages.map(|name| name.split(':').next().unwrap_or(name).to_owned()).collect()
}

fn has_candidate(package: &&str) -> bool {
    let policy = process::command("apt-cache").args(["policy", *package]).output();
    policy.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().any(|line| line.contains("Candidate:") && !line.contains("(none)"))
    })
}

fn apt_get() -> Command {
    let mut command = process::command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    // Another apt on a new machine (unattended upgrades) is waited for, not run into.
    command.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]);
    command
}

/// A third-party source that does not answer fails the update, but not what we need: go on.
fn update() {
    if let Err(error) = process::quietly("reading package lists", apt_get().arg("update")) {
        eprintln!("warning: {error:#}");
    }
}

fn install(packages: &[&str]) -> Result<()> {
    // --no-remove: rustc-web conflicts with Debian's plain rustc, which we must not take away.
    let options = ["install", "--no-install-recommends", "--no-remove"];
    process::quietly("installing packages", apt_get().args(options).args(packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count_whatever_their_architecture() {
        let lines = "installed gcc\nconfig-files unzip\ninstalled libc6-dev:amd64\n";
        assert_eq!(parse_installed(lines), ["gcc", "libc6-dev"]);
    }
}
