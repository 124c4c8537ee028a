//! A truth program, recorded and compared: what a row of the table is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::program::{Program, names};
use super::recorder::{How, Recorder};
use super::score::{Score, score};
use super::truth::{Account, Greeting};

/// Every interpreter that there may be.
pub(crate) const VERSIONS: [&str; 8] =
    ["3.11", "3.12", "3.13", "3.14", "3.15", "3.13t", "3.14t", "3.15t"];

/// Folder of the programs, and how each is called.
const FOLDER: &str = "truth";
const SUFFIX: &str = "_waits";

/// No truth program runs for longer.
const LONGEST: Duration = Duration::from_secs(120);
/// The recorder reads names from the target's memory when it takes in a wait: the target must not
/// end before it has taken in the last.
const LINGER: Duration = Duration::from_millis(400);

/// A program on an interpreter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Which family.
    pub(crate) family: String,
    /// Which interpreter.
    pub(crate) version: String,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// What came of a program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// It was measured.
    Measured(Box<Score>),
    /// It has nothing to show on this interpreter.
    NotHere,
    /// It could not be measured, because.
    Failed(String),
}

/// The families of truth programs, by name.
///
/// # Errors
/// If `scripts/truth` is not there.
pub(crate) fn families() -> Result<Vec<String>> {
    let names = names(FOLDER)?.into_iter();
    Ok(names.filter_map(|name| name.strip_suffix(SUFFIX).map(str::to_owned)).collect())
}

/// The path that `cargo xtask bench` hands over in the environment, if it found that interpreter.
pub(crate) fn interpreter(version: &str) -> Option<PathBuf> {
    let variable = format!("LOCKWATT_PYTHON_{}", version.replace('.', "_").to_uppercase());
    std::env::var_os(variable).map(PathBuf::from)
}

/// Measures one program on one interpreter.
pub(crate) fn measure(python: &Path, version: &str, family: &str, how: &How) -> Row {
    let outcome = match try_measure(python, version, family, how) {
        Ok(Some(score)) => Outcome::Measured(Box::new(score)),
        Ok(None) => Outcome::NotHere,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    Row { family: family.to_owned(), version: version.to_owned(), outcome }
}

fn try_measure(python: &Path, version: &str, family: &str, how: &How) -> Result<Option<Score>> {
    let name = format!("{family}{SUFFIX}");
    // It must not begin before it is looked at.
    let waiters = how.waiters.map(|n| n.to_string());
    let mut arguments = vec!["--wait", "60"];
    arguments.extend(how.long.then_some("--long"));
    arguments.extend(waiters.iter().flat_map(|n| ["--waiters", n.as_str()]));
    let mut program = Program::start(python, FOLDER, &name, &arguments)?;
    let greeting = program.line()?;
    let greeting: Greeting =
        serde_json::from_str(&greeting).with_context(|| format!("no greeting: {greeting:?}"))?;
    if greeting.skip.is_some() {
        return Ok(None);
    }
    let recorder = Recorder::start(program.pid(), how, &format!("{family}-{version}"), LONGEST)?;
    program.go()?;
    let mut account = Account::default();
    while !account.done {
        account.take(&program.line()?)?;
    }
    std::thread::sleep(LINGER);
    program.let_go();
    score(&account, &recorder.finish()?).map(Some)
}

impl Row {
    /// Why this row can't stand for anything, if so: a measurement that saw nothing finds no fault.
    pub(crate) fn saw_nothing(&self) -> Option<String> {
        let why = match &self.outcome {
            Outcome::NotHere => return None,
            Outcome::Failed(why) => why.clone(),
            Outcome::Measured(score) if score.parts.of == 0 => "no wait was recorded".to_owned(),
            // Idle threads note nothing: that none of their waits is contention is all that counts.
            Outcome::Measured(_) if self.family == "idle" => return None,
            Outcome::Measured(score) if score.matched.of == 0 => "it did not wait".to_owned(),
            Outcome::Measured(score) if score.matched.part == 0 => {
                "none of its waits was seen".to_owned()
            }
            Outcome::Measured(_) => return None,
        };
        Some(format!("{} on {}: {why}", self.family, self.version))
    }
}
