//! bpf-linker for Debian's LLVM, built once into the cache.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Report;
use crate::{process, workspace};

const CRATE: &str = "bpf-linker@0.13.0";
/// The folder's name says what was linked with what; `tracer/build.rs` has the same.
const FOLDER: &str = "bpf-linker-0.13.0-llvm22";
const LLVM: &str = "/usr/lib/llvm-22";

pub(super) fn from_debians_llvm(report: &mut Report) -> Result<()> {
    let cache = workspace::cache()?;
    let home = cache.join(FOLDER);
    report.thing("bpf-linker", runs(&home), || {
        fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
        let lock = File::create(cache.join("setup.lock")).context("making setup.lock")?;
        lock.lock().context("waiting for another setup")?;
        // The other setup may have been building just this.
        if runs(&home) { Ok(()) } else { build(&cache, &home) }
    })
}

fn runs(home: &Path) -> bool {
    process::succeeds(Command::new(home.join("bin/bpf-linker")).arg("--version"))
}

/// Builds beside the final place and renames, so that what has the final name is whole.
fn build(cache: &Path, home: &Path) -> Result<()> {
    let stage = Scratch::new(cache.join(format!(".{FOLDER}.partial")))?;
    let objects = Scratch::new(env::temp_dir().join(format!("{FOLDER}-{}", std::process::id())))?;
    process::quietly("building bpf-linker", &mut install(&stage.0, &objects.0)?)?;
    if home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("removing {}", home.display()))?;
    }
    fs::rename(&stage.0, home).with_context(|| format!("making {}", home.display()))
}

fn install(stage: &Path, objects: &Path) -> Result<Command> {
    let cargo = PathBuf::from(workspace::cargo());
    let mut command = process::command(&cargo);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(steers_a_build) {
            command.env_remove(name);
        }
    }
    // Not whichever rustc a toolchain override or PATH would give: the one beside this cargo.
    if let Some(rustc) = cargo.parent().map(|folder| folder.join("rustc")).filter(|it| it.exists())
    {
        command.env("RUSTC", rustc);
    }
    let inherited = env::var_os("PATH").unwrap_or_default();
    let folders = [PathBuf::from(LLVM).join("bin")].into_iter().chain(env::split_paths(&inherited));
    command
        .env("PATH", env::join_paths(folders).context("putting LLVM on PATH")?)
        .env("LLVM_PREFIX", LLVM)
        .env("RUSTFLAGS", format!("-L{LLVM}/lib"))
        .env("CARGO_TARGET_DIR", objects)
        // Out of the workspace, so that its .cargo/config.toml has no say.
        .current_dir(objects)
        .args(["install", CRATE, "--locked", "--no-default-features", "--features", "llvm-22"])
        .arg("--root")
        .arg(stage);
    Ok(command)
}

/// Settings for building lockwatt, which must not reach the build of a tool. How to reach the
/// registry is no such setting.
fn steers_a_build(name: &str) -> bool {
    let about_the_registry = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
    name == "RUSTUP_TOOLCHAIN"
        || name.starts_with("RUSTC")
        || (name.starts_with("CARGO_")
            && !about_the_registry.iter().any(|kept| name.starts_with(kept)))
}

/// A folder that is empty at first and gone at the end; a killed run's is emptied by the next.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Renamed away, or not worth an error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_stays_reachable() {
        for name in ["CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN", "CARGO_PROFILE_X"] {
            assert!(steers_a_build(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_REGISTRIES_X_INDEX", "HOME"] {
            assert!(!steers_a_build(name), "{name}");
        }
    }
}
