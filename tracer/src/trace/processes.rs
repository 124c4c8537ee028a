//! The processes of a recording of several: which there were, and which lock is of which.

use serde::{Deserialize, Serialize};

use super::records::Target;
use crate::units::{LockIndex, Monotonic, ProcessIndex};

/// A traced process. Snapshots: a later record of the same index replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessRecord {
    /// Its number in this trace, from 0: process ids are reused, this is not.
    pub index: ProcessIndex,
    /// What it is, as last looked at: after an exec, what it became.
    #[serde(flatten)]
    pub target: Target,
    /// The process that forked it, if that was seen.
    pub parent: Option<ProcessIndex>,
    /// How it came into the recording.
    pub came: Came,
    /// How often it replaced its program during the recording.
    pub execs: u32,
    /// Its waits are recorded. Those of a process that runs no CPython are not.
    pub recorded: bool,
    /// When it was born, if during the recording.
    pub started: Option<Monotonic>,
    /// When it ended, if during the recording.
    pub ended: Option<Monotonic>,
}

/// How a process came into the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Came {
    /// It was there already.
    Attached,
    /// The recorder started it.
    Started,
    /// A traced process forked it.
    Fork,
    /// It is traced, and how it came was lost; or a way that this version doesn't know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Came {
    /// The name in JSON and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Started => "started",
            Self::Fork => "fork",
            Self::Unknown => "unknown",
        }
    }
}

/// Which process a lock is of. A lock without such a record is of process 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockProcess {
    /// The lock.
    pub lock: LockIndex,
    /// Its process; none: it is in memory that processes share.
    pub process: Option<ProcessIndex>,
}
