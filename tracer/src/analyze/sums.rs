//! What is added up, for a lock, a kind, a class, a thread or everything.

use std::ops::AddAssign;

use crate::trace::records::{LockSamples, ShapeSums, SpinSums, Wait, YieldRun};
use crate::units::Ns;

/// Waits and yields added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Waits.
    pub waits: u64,
    /// Asleep until woken.
    pub blocked: Ns,
    /// Woken and not yet running.
    pub runq: Ns,
    /// Off the CPU inside `sched_yield` calls for the lock.
    pub yielded: Ns,
    /// Those calls.
    pub spins: u64,
    /// Between the sleeps of waits that have several ([`Wait::awake`]): no part of [`Self::wait`]. Not
    /// known of waits without a record, and not told by thread.
    pub awake: Ns,
    /// On the CPU while spinning; none if it was not measured.
    pub spin: Option<Ns>,
    /// Samples of the CPU clock that hit a thread spinning.
    pub samples: u64,
    /// The longest wait.
    pub max: Ns,
}

impl Sums {
    /// All time waited: blocked, run-queue and yielded. Spinning on the CPU is apart.
    #[must_use]
    pub fn wait(&self) -> Ns {
        self.blocked + self.runq + self.yielded
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.waits = self.waits.saturating_add(other.waits);
        self.blocked += other.blocked;
        self.runq += other.runq;
        self.yielded += other.yielded;
        self.awake += other.awake;
        self.spins = self.spins.saturating_add(other.spins);
        self.spin = match (self.spin, other.spin) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        self.samples = self.samples.saturating_add(other.samples);
        self.max = self.max.max(other.max);
    }
}

impl From<&Wait> for Sums {
    fn from(wait: &Wait) -> Self {
        Self {
            waits: 1,
            blocked: wait.blocked,
            runq: wait.runq,
            awake: wait.awake(),
            max: wait.total(),
            ..Self::default()
        }
    }
}

impl From<&ShapeSums> for Sums {
    fn from(sums: &ShapeSums) -> Self {
        Self {
            waits: sums.waits,
            blocked: sums.blocked,
            runq: sums.runq,
            max: sums.max,
            ..Self::default()
        }
    }
}

impl From<&YieldRun> for Sums {
    fn from(run: &YieldRun) -> Self {
        Self { yielded: run.yielded, spins: run.yields, ..Self::default() }
    }
}

impl From<&LockSamples> for Sums {
    fn from(sampled: &LockSamples) -> Self {
        Self { samples: sampled.samples, ..Self::default() }
    }
}

impl From<&SpinSums> for Sums {
    fn from(sums: &SpinSums) -> Self {
        Self { yielded: sums.yielded, spins: sums.yields, spin: sums.spin, ..Self::default() }
    }
}
