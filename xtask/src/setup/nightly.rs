//! The eBPF toolchain where Debian's is not to be had: rustup's nightly, which builds BPF's standard
//! library from source, and a `bpf-linker` on PATH.

use anyhow::Result;

use super::Report;
use crate::process::{self, Refusal};
use crate::workspace;

const INSTALL_NIGHTLY: [&str; 7] =
    ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];

pub(super) fn toolchain(report: &mut Report) -> Result<()> {
    report.thing("nightly with rust-src", has_nightly(), || {
        by_hand_if_it_fails(process::quietly(
            "installing nightly",
            process::command("rustup").args(INSTALL_NIGHTLY),
        ))
    })?;
    report.thing("bpf-linker", workspace::on_path("bpf-linker"), || {
        by_hand_if_it_fails(process::quietly(
            "building bpf-linker",
            &mut process::cargo(["install", "bpf-linker"]),
        ))
    })
}

fn has_nightly() -> bool {
    let sysroot =
        process::command("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output();
    sysroot.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let library = format!("{sysroot}/lib/rustlib/src/rust/library/core");
        output.status.success() && std::path::Path::new(&library).is_dir()
    })
}

fn by_hand_if_it_fails(outcome: Result<()>) -> Result<()> {
    outcome.map_err(|error| {
        Refusal::missing(format!(
            "{error:#}\n\nlockwatt's kernel programs need a Rust for BPF. Please install:\n  \
             rustup {}\n  cargo install bpf-linker   (bpf-linker must then be on PATH)\n\
             On Debian, `cargo xtask setup` needs neither.",
            INSTALL_NIGHTLY.join(" ")
        ))
        .into()
    })
}
