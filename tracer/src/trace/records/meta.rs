//! What was recorded, where and how, and how it ended.

use serde::{Deserialize, Serialize};

use crate::trace::TimeUnit;
use crate::units::{Monotonic, Ns, Pid};

/// What was recorded, where and how. A later one replaces an earlier one (the interpreter of a
/// started command is known only once it runs).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Version of lockwatt that recorded.
    pub lockwatt: String,
    /// The traced process.
    pub target: Target,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// CPUs online.
    pub cpus: u32,
    /// What was asked for.
    pub options: Options,
    /// Beginning of the recording.
    pub start: Monotonic,
    /// The same moment as nanoseconds since 1970 (`CLOCK_REALTIME`).
    pub start_realtime_ns: u64,
    /// The kernel programs that were wanted, and what became of each.
    pub programs: Vec<ProgramState>,
    /// What a hit of a uprobe costs, measured at the start.
    pub uprobe_cost: Option<UprobeCost>,
    /// Why that is not known, if it isn't.
    pub uprobe_cost_unknown_because: Option<String>,
}

/// What one hit of a uprobe costs the thread that makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UprobeCost {
    /// At a function's entry.
    pub entry: Ns,
    /// At its return, with what that costs at the entry.
    pub at_return: Ns,
    /// An uncontended lock and unlock without probes, for comparison.
    pub without: Ns,
}

/// The traced process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Process id on the host.
    pub pid: Pid,
    /// Its executable.
    pub exe: String,
    /// Its arguments.
    pub cmdline: Vec<String>,
    /// `3.14.9`, or none if it is (so far) no CPython.
    pub python: Option<String>,
    /// A free-threaded build.
    pub free_threaded: Option<bool>,
    /// Why locks have no names, if they have none.
    pub unnamed_because: Option<String>,
    /// Why there are no Python stacks, if there are none.
    pub stackless_because: Option<String>,
}

/// Options of the recording that change what the numbers mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Waits below this have no record of their own, only totals.
    pub min_wait: Ns,
    /// No more waits than this got a record of their own, per second; none: there was no limit.
    pub max_events_per_sec: Option<u64>,
    /// `sched` or `syscall`.
    pub hooks: String,
    /// CPU-clock samples per second and CPU; none: no sampler.
    pub sample_hz: Option<u32>,
    /// Opt-in uprobe groups.
    pub uprobes: Vec<String>,
    /// The waiters' native frames were wanted.
    pub native: bool,
    /// The children of traced processes were traced as well.
    pub follow: bool,
    /// What the times of waits and of runs of yields are in. Sums that the kernel made are exact.
    #[serde(rename = "time_unit_ns")]
    pub time_unit: TimeUnit,
}

/// A kernel program and whether it took part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramState {
    /// Its name in the kernel.
    pub name: String,
    /// What it hooks.
    pub hook: String,
    /// Loaded and attached.
    pub attached: bool,
    /// If not, why.
    pub reason: Option<String>,
}

impl ProgramState {
    /// It is one of the opt-in uprobes.
    #[must_use]
    pub fn is_uprobe(&self) -> bool {
        self.hook.starts_with("uprobe/") || self.hook.starts_with("uretprobe/")
    }
}

/// How the recording ended. Written last; a trace without it was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// End of the recording.
    pub at: Monotonic,
    /// `target_exited`, `duration`, `interrupted`, …
    pub reason: String,
}
