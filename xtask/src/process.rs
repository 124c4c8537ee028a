//! Child processes: without what the outer `cargo run` put into the environment, and with errors that
//! say which command failed and how.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// An end with a given exit code, already explained to the user by its message.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: u8,
    message: String,
}

impl Refusal {
    /// Something is missing that xtask cannot get by itself.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// The task needs root.
    pub(crate) fn not_permitted(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// A command in the repository's root, in the environment that xtask's caller had.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(set_by_cargo_run) {
            command.env_remove(name);
        }
    }
    match env::var_os("LD_LIBRARY_PATH").map(|path| without_cargos_folders(&path)) {
        Some(rest) if rest.is_empty() => command.env_remove("LD_LIBRARY_PATH"),
        Some(rest) => command.env("LD_LIBRARY_PATH", rest),
        None => &mut command,
    };
    command
}

/// The outer cargo, as [`command`].
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = command(workspace::cargo());
    command.args(arguments);
    command
}

/// What `cargo run` sets for the program it runs; the user's own CARGO_* settings stay.
fn set_by_cargo_run(name: &str) -> bool {
    matches!(
        name,
        "CARGO" | "CARGO_BIN_NAME" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR"
    ) || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_PKG_")
}

/// `cargo run` puts its own and rustc's libraries first; Debian's rustc and Python want theirs.
fn without_cargos_folders(path: &OsStr) -> OsString {
    let build = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let cargo = PathBuf::from(workspace::cargo());
    let toolchain = cargo.parent().and_then(Path::parent).filter(|_| cargo.is_absolute());
    let kept = env::split_paths(path).filter(|folder| {
        !build.as_deref().is_some_and(|build| folder.starts_with(build))
            && !toolchain.is_some_and(|toolchain| folder.starts_with(toolchain))
    });
    env::join_paths(kept).unwrap_or_default()
}

/// Runs with the output shown; a failure names `what` and the exit code.
pub(crate) fn show(what: &str, command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("{what} failed with {}: {}", ending(status), shown(command));
    }
    Ok(())
}

/// Runs with standard output returned, and standard error shown.
pub(crate) fn output(what: &str, command: &mut Command) -> Result<Vec<u8>> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("{what} failed with {}: {}", ending(output.status), shown(command));
    }
    Ok(output.stdout)
}

/// Runs quietly; only a failure shows what the command printed.
pub(crate) fn quietly(what: &str, command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("{what} failed with {}: {}", ending(output.status), shown(command));
    }
    Ok(())
}

/// Whether it starts and ends well; nothing is shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command line, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    words.join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("starting {}", command.get_program().to_string_lossy())
}

fn ending(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cargo_run_sets_is_removed() {
        for name in ["CARGO", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_BIN_NAME"] {
            assert!(set_by_cargo_run(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN"] {
            assert!(!set_by_cargo_run(name), "{name}");
        }
    }

    #[test]
    fn a_failing_command_is_named_with_its_exit_code() {
        let error = show("the step", Command::new("sh").args(["-c", "exit 7"]))
            .expect_err("sh exits with 7");
        assert_eq!(error.to_string(), "the step failed with exit code 7: sh -c exit 7");
    }
}
