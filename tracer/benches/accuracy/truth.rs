//! What a truth program says of itself: the JSON lines of `scripts/truth/_truth.py`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// One wait as its own thread noted it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Truth {
    /// As in a report (`lock`, `queue`, …).
    pub(crate) kind: String,
    /// As in a report (`contention`, `idle`, …).
    pub(crate) class: String,
    /// Type or class of what was waited for.
    pub(crate) name: String,
    /// `id()` of it, as `0x…`; none if Python has no object for it.
    pub(crate) address: Option<String>,
    /// Another address that is as right.
    pub(crate) or_address: Option<String>,
    /// What the thread called; its cost is known by this name.
    pub(crate) op: String,
    /// Who waited.
    pub(crate) tid: u32,
    /// Before the call.
    pub(crate) start_ns: u64,
    /// After it.
    pub(crate) end_ns: u64,
    /// How long the thread was on a CPU between the two, by the kernel's own account.
    pub(crate) cpu_ns: u64,
    /// How often it left a CPU between the two to sleep, if the program says so.
    pub(crate) slept: Option<u64>,
    /// How often it left a CPU between the two though it could have gone on: preempted, or a yield.
    pub(crate) lost_cpu: u64,
    /// Who was in the way, or ended the wait; none if that was not one thread alone.
    pub(crate) holder_tid: Option<u32>,
}

/// All that a program said after its first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Nanoseconds of each operation if nobody is in the way.
    pub(crate) costs: BTreeMap<String, u64>,
    /// The waits.
    pub(crate) waits: Vec<Truth>,
    /// It said that it is done.
    pub(crate) done: bool,
}

/// The first line: ready to be looked at, or why there is nothing to see.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Greeting {
    /// Its process id.
    pub(crate) pid: u32,
    /// Not on this interpreter, because.
    #[serde(default)]
    pub(crate) skip: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Done { done: bool },
    Cost { op: String, cost_ns: u64 },
    // Boxed: as large as the others together.
    Wait(Box<Truth>),
}

impl Account {
    /// Takes in one line.
    ///
    /// # Errors
    /// If it is none of those that truth programs print.
    pub(crate) fn take(&mut self, line: &str) -> Result<()> {
        match serde_json::from_str(line).with_context(|| format!("no truth: {line:?}"))? {
            Line::Done { done } => self.done = done,
            Line::Cost { op, cost_ns } => {
                self.costs.insert(op, cost_ns);
            }
            Line::Wait(wait) if wait.kind.is_empty() || wait.end_ns < wait.start_ns => {
                bail!("no truth: {line:?}")
            }
            Line::Wait(wait) => self.waits.push(*wait),
        }
        Ok(())
    }

    /// How long a wait took: between its stamps, without what the call costs anyway.
    ///
    /// # Errors
    /// If the program didn't say what that is.
    pub(crate) fn duration(&self, wait: &Truth) -> Result<u64> {
        let cost = self.costs.get(&wait.op).with_context(|| format!("no cost of {}", wait.op))?;
        Ok((wait.end_ns - wait.start_ns).saturating_sub(*cost))
    }
}

impl Truth {
    /// How long the thread slept between the stamps; none if it also was off the CPU without
    /// sleeping, for a time that nobody tells.
    pub(crate) fn asleep(&self) -> Option<u64> {
        (self.lost_cpu == 0).then(|| (self.end_ns - self.start_ns).saturating_sub(self.cpu_ns))
    }
}
