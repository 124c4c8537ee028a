//! `cargo xtask interpreters`: CPython builds to trace, through `scripts/interpreters.sh`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Every version that the script knows how to get.
pub(crate) const ALL: &[&str] =
    &["3.11", "3.12", "3.13", "3.14", "3.15", "3.13t", "3.14t", "3.15t"];
const SCRIPT: &str = "scripts/interpreters.sh";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask interpreters                all versions: 3.11 3.12 3.13 3.14 3.15 3.14t 3.15t
  cargo xtask interpreters 3.14t 3.11     only these
  cargo xtask interpreters 3.13t          built from Debian's source, 6 minutes (needs make)
  scripts/interpreters.sh --path 3.14t    only the path, for scripts

Versions with a t are free-threaded. 3.11 and 3.12 are looked for on this machine, the others are \
fetched from Debian and PyPI into ~/.cache/lockwatt/interpreters, once. 3.13t is among all only once \
it has been built. The exit code is 0 only if all \
were had.")]
pub(crate) struct Arguments {
    /// Which ones; all without any
    versions: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    process::show("fetching interpreters", script().args(&arguments.versions))
}

/// Where each of `versions` (none: of all) is that could be had; the script explains the others on standard error.
pub(crate) fn find(versions: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let output = script()
        .args(versions)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("starting bash")?;
    let lines = String::from_utf8(output.stdout).context("reading the interpreters' paths")?;
    Ok(parse(&lines))
}

/// The environment variable that tests read, as LOCKWATT_PYTHON_3_14T.
pub(crate) fn variable(version: &str) -> String {
    format!("LOCKWATT_PYTHON_{}", version.replace('.', "_").to_uppercase())
}

fn script() -> Command {
    let mut command = process::command("bash");
    command.arg(SCRIPT);
    command
}

fn parse(lines: &str) -> BTreeMap<String, PathBuf> {
    lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(version, path)| (version.to_owned(), PathBuf::from(path)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_have_spaces() {
        let found = parse("3.11 /usr/bin/python3.11\n3.14t /a b/python3.14t\n");
        assert_eq!(found["3.14t"], PathBuf::from("/a b/python3.14t"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn the_variable_names_the_version() {
        assert_eq!(variable("3.14t"), "LOCKWATT_PYTHON_3_14T");
    }
}
