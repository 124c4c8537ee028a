//! Counters and sums.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use tracer_common::{ShapeTotals, UseKind};

use super::SideStack;
use crate::units::{LockIndex, Monotonic, Ns};

/// Sums over waits without a record of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShapeSums {
    /// How many waits.
    pub waits: u64,
    /// Switch-out to waking.
    pub blocked: Ns,
    /// Waking to switch-in.
    pub runq: Ns,
    /// The longest.
    pub max: Ns,
}

impl ShapeSums {
    /// Adds what one CPU counted.
    pub fn add(&mut self, totals: &ShapeTotals) {
        *self += Self {
            waits: totals.waits,
            blocked: Ns(totals.blocked_ns),
            runq: Ns(totals.runq_ns),
            max: Ns(totals.max_ns),
        };
    }
}

impl AddAssign for ShapeSums {
    fn add_assign(&mut self, other: Self) {
        self.waits = self.waits.saturating_add(other.waits);
        self.blocked += other.blocked;
        self.runq += other.runq;
        self.max = self.max.max(other.max);
    }
}

/// Waits without a record for one lock: a part of [`Totals::below`], [`Totals::limited`] or
/// [`Totals::lost`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BelowSums {
    /// The lock.
    pub lock: LockIndex,
    /// The [`Shape`](tracer_common::Shape) number that they are counted under there.
    pub shape: u32,
    /// The waits.
    pub sums: ShapeSums,
}

/// Yields tied to one lock, from one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpinSums {
    /// The lock.
    pub lock: LockIndex,
    /// Where they were made; written as [`SideStack::to_u64`].
    pub stack: SideStack,
    /// `sched_yield` calls: with default hooks those that gave up the CPU, with `--hooks syscall`
    /// all.
    pub yields: u64,
    /// Time off the CPU in them.
    pub yielded: Ns,
    /// Time on the CPU in and between them; `None` with default hooks, which can't see it.
    pub spin: Option<Ns>,
}

/// What was done with one lock, as the opt-in uprobes saw it; or calls of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UseSums {
    /// The lock; none: not known, or one of too many.
    pub lock: Option<LockIndex>,
    /// `pthread_mutex`, `sem`, … or the interpreter's function ([`tracer_common::UseKind`]).
    pub what: String,
    /// Times that somebody got it, waiting or not.
    pub acquisitions: u64,
    /// Calls that returned without it.
    pub failed: u64,
    /// Unlocks, posts, signals.
    pub releases: u64,
    /// Of a condition: waits; of a function: calls.
    pub calls: u64,
    /// Holds that ended, from an acquisition to the release by the same thread.
    pub holds: u64,
    /// Time held in them.
    pub held: Ns,
    /// The longest.
    pub max_held: Ns,
}

impl UseSums {
    /// It is of a lock that is acquired and released; else of calls of a function, or a condition.
    #[must_use]
    pub fn is_lock(&self) -> bool {
        let locks = [UseKind::Mutex, UseKind::Rwlock, UseKind::Semaphore];
        locks.iter().any(|kind| kind.name() == self.what)
    }
}

/// What the CPU-clock sampler counted. Each sample stands for `1 / sample_hz` of a second on a CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampled {
    /// Ticks of the clock on all CPUs, whatever ran.
    pub ticks: u64,
    /// Of those, the target's.
    pub target: u64,
    /// Of those, spinning on a lock that is known: the sum of `locks`, and `lost`.
    pub spinning: u64,
    /// Of the target's, at a place where threads spin, and it is not known for what. In no lock.
    pub ambiguous: u64,
    /// Spinning on a known lock for which there was no room.
    pub lost: u64,
    /// Functions that spin and are known only roughly.
    pub inexact: u64,
    /// By lock.
    pub locks: Vec<LockSamples>,
}

/// Samples that hit a thread spinning on one lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockSamples {
    /// The lock.
    pub lock: LockIndex,
    /// Samples.
    pub samples: u64,
}

/// Counters so far. A later one replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// When they were read.
    pub at: Monotonic,
    /// Wait records in the trace so far.
    pub events: u64,
    /// Losses by reason (`DropReason` names, and those of the recorder); zeros are left out.
    pub drops: BTreeMap<String, u64>,
    /// Counters that are no loss (`Stat` names).
    pub stats: BTreeMap<String, u64>,
    /// Waits in [`ShortWaits`](super::ShortWaits) records in the trace so far.
    pub short_waits: u64,
    /// Other waits below the threshold, by [`Shape`](tracer_common::Shape) number.
    pub below: BTreeMap<u32, ShapeSums>,
    /// The part of them of which the lock is known, where its shape says too little.
    pub below_locks: Vec<BelowSums>,
    /// Waits beyond `--max-events-per-sec`, by [`Shape`](tracer_common::Shape) number: they have no
    /// record.
    pub limited: BTreeMap<u32, ShapeSums>,
    /// As `below_locks`, of those.
    pub limited_locks: Vec<BelowSums>,
    /// Waits whose record was lost, by [`Shape`](tracer_common::Shape) number.
    pub lost: BTreeMap<u32, ShapeSums>,
    /// As `below_locks`, of those.
    pub lost_locks: Vec<BelowSums>,
    /// Yields by lock, but for those with a record of their own.
    pub spins: Vec<SpinSums>,
    /// [`YieldRun`](super::YieldRun) records in the trace so far.
    pub yield_runs: u64,
    /// What `--uprobes` counted.
    pub uses: Vec<UseSums>,
    /// Samples of the CPU clock; none: no sampler.
    pub sampled: Option<Sampled>,
    /// What `--hooks syscall` counted, by name.
    pub syscalls: Option<BTreeMap<String, u64>>,
    /// What the recorder itself used: `recorder_cpu_ns`, `bytes_written`, …
    pub self_cost: BTreeMap<String, u64>,
}
