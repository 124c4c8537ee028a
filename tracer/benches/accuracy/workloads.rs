//! Every program of `scripts/workloads`, recorded for a while: how much of its waiting is
//! unclassified.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tracer::trace::records::Class;

use super::program::{Program, names};
use super::recorder::{How, Recorder};
use super::score::Share;

const FOLDER: &str = "workloads";

/// Between a program's first line and the recording.
const SETTLE: Duration = Duration::from_millis(200);

/// A workload on an interpreter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkloadRow {
    /// Which.
    pub(crate) name: String,
    /// On what.
    pub(crate) version: String,
    /// What was recorded, or why nothing was.
    pub(crate) outcome: Result<Shares, String>,
}

/// How a recording's time divides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Waits.
    pub(crate) waits: u64,
    /// All time waited, in nanoseconds.
    pub(crate) wait_ns: u64,
    /// That of no class.
    pub(crate) unclassified: Share,
    /// That of contention.
    pub(crate) contention: Share,
    /// That of yields tied to no lock is in neither: time off the CPU in them, beside `wait_ns`.
    pub(crate) yielded_unattributed_ns: u64,
}

/// The workloads, by name.
///
/// # Errors
/// If `scripts/workloads` is not there.
pub(crate) fn workloads() -> Result<Vec<String>> {
    names(FOLDER)
}

/// Records one workload for `length`.
pub(crate) fn divide(
    python: &Path,
    version: &str,
    name: &str,
    how: &How,
    length: Duration,
) -> WorkloadRow {
    let outcome =
        try_divide(python, version, name, how, length).map_err(|error| format!("{error:#}"));
    WorkloadRow { name: name.to_owned(), version: version.to_owned(), outcome }
}

fn try_divide(
    python: &Path,
    version: &str,
    name: &str,
    how: &How,
    length: Duration,
) -> Result<Shares> {
    let program = Program::start(python, FOLDER, name, &[])?;
    let greeting = program.line()?;
    ensure!(greeting.contains("pid"), "no greeting: {greeting:?}");
    std::thread::sleep(SETTLE);
    let recording =
        Recorder::start(program.pid(), how, &format!("{name}-{version}"), length)?.finish()?;
    let summary = &recording.summary;
    let wait_ns = summary.totals.wait().0;
    let part = |class| Share { part: summary.class(class).wait().0, of: wait_ns };
    Ok(Shares {
        waits: summary.totals.waits,
        wait_ns,
        unclassified: part(Class::Unclassified),
        contention: part(Class::Contention),
        yielded_unattributed_ns: summary.completeness.yielded_unattributed.0,
    })
}
