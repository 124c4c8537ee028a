//! What a recording's energy comes to.

use std::collections::BTreeMap;

use crate::energy::{Known, Microjoules, Part, Watts};
use crate::trace::energy::EnergySource;
use crate::units::{LockIndex, Ns, ThreadIndex};

/// Energy that was attributed, and how sure that is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    /// How much.
    pub energy: Microjoules,
    /// σ in µJ, of reading the counter and of sampling. It says nothing of whether the rule is right.
    pub sigma: f64,
    /// The least that another choice of weights gives.
    pub low: Microjoules,
    /// The most.
    pub high: Microjoules,
}

impl Amount {
    /// σ is more than half of it: no number is worth showing, only that it is below 2σ.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "compared with σ")]
    pub fn is_noise(&self) -> bool {
        self.sigma > 0.5 * self.energy.0 as f64
    }

    /// 2σ, to be shown instead of noise.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts from floating point saturate"
    )]
    pub fn two_sigma(&self) -> Microjoules {
        Microjoules((2.0 * self.sigma).ceil() as u64)
    }
}

/// One domain. The parts of one that is split sum to its energy exactly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainEnergy {
    /// As the source calls it.
    pub name: String,
    /// What it is of.
    pub part: Part,
    /// The domain that it lies inside, by position.
    pub parent: Option<u32>,
    /// Its energy is split.
    pub split: bool,
    /// What it used, in the windows in which that is known.
    pub energy: Microjoules,
    /// Calibrated idle power × time.
    pub baseline: Microjoules,
    /// The target's threads.
    pub traced: Microjoules,
    /// Other programs.
    pub other: Microjoules,
    /// The kernel's threads.
    pub kernel: Microjoules,
    /// lockwatt.
    pub tracer: Microjoules,
    /// Time that is not accounted for.
    pub lost: Microjoules,
    /// Above the baseline while nothing ran.
    pub idle_active: Microjoules,
    /// σ of `energy` in µJ.
    pub sigma: f64,
    /// Its average power.
    pub watts: Watts,
    /// Time in which its energy is known.
    pub time: Ns,
    /// Time in which it is not.
    pub unknown: Ns,
    /// What became of the counter, and how long after the first window.
    pub first_unknown: Option<(Known, Ns)>,
}

/// One of the target's threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThreadEnergy {
    /// All of it.
    pub all: Amount,
    /// Of that, waiting on the CPU.
    pub waiting: Amount,
    /// Of that, what no sample says anything of.
    pub undivided: Microjoules,
}

/// Threads while they held a lock: a part of what they were given, in no sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// At most, over all threads.
    pub energy: Microjoules,
    /// By thread.
    pub threads: Vec<(ThreadIndex, Microjoules)>,
}

/// What waiting for one lock may have had to do with the energy of idle CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imagined {
    /// Idle energy coinciding with waits for it, at most (C1).
    pub coinciding: Microjoules,
    /// Idle power × time with at least one waiter (C2): an upper bound, not additive over locks.
    pub upper_bound: Microjoules,
}

/// Counterfactuals: outside of every sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counterfactual {
    /// Calibrated idle power of all packages; none: there is no baseline, and so nothing to tell.
    pub idle_watts: Option<Watts>,
    /// The baseline of all packages.
    pub baseline: Microjoules,
    /// The part of it that idle CPUs have: baseline × idle share.
    pub idle_baseline: Microjoules,
    /// C1 of all locks: never more than `idle_baseline` (E5).
    pub coinciding: Microjoules,
    /// By lock that was contended.
    pub locks: BTreeMap<LockIndex, Imagined>,
    /// Time of waits that found no room.
    pub left_out: Ns,
}

/// Where the CPUs' time went. `cpus` = the rest together (T1), but for microseconds at the cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSums {
    /// From the first reading to the last.
    pub wall: Ns,
    /// That of all CPUs.
    pub cpus: Ns,
    /// Nothing ran.
    pub idle: Ns,
    /// The target's threads.
    pub traced: Ns,
    /// Other programs.
    pub other: Ns,
    /// The kernel's threads.
    pub kernel: Ns,
    /// lockwatt.
    pub tracer: Ns,
    /// Not accounted for.
    pub lost: Ns,
}

/// The energy of a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnergySummary {
    /// Where it comes from and how it was split.
    pub source: EnergySource,
    /// Every domain.
    pub domains: Vec<DomainEnergy>,
    /// Windows.
    pub windows: u64,
    /// On-CPU waiting by lock (A_wait).
    pub locks: BTreeMap<LockIndex, Amount>,
    /// On-CPU waiting for locks that are not known.
    pub waiting_unknown: Amount,
    /// All on-CPU waiting.
    pub waiting: Amount,
    /// Samples that found the target's threads waiting on the CPU, be it spinning or in futex calls.
    /// Not of what was timed.
    pub waiting_samples: u64,
    /// Of the same what was timed.
    pub waiting_timed: Ns,
    /// The target's threads.
    pub threads: BTreeMap<ThreadIndex, ThreadEnergy>,
    /// Where the CPUs' time went.
    pub time: TimeSums,
    /// It is not known which CPU is of which package.
    pub pooled: bool,
    /// Threads while they held a lock, by lock: an overlay, in no sum.
    pub held: BTreeMap<LockIndex, Held>,
    /// Time of holds, and of threads, that found no room in it.
    pub held_left_out: Ns,
    /// Counterfactuals, if they were asked for.
    pub counterfactual: Option<Counterfactual>,
}

impl EnergySummary {
    /// There is energy that is divided, measured or not.
    #[must_use]
    pub fn any(&self) -> bool {
        self.counted() && self.main().next().is_some()
    }

    /// There is energy, divided or not.
    #[must_use]
    pub fn counted(&self) -> bool {
        !self.domains.is_empty() && self.windows > 0
    }

    /// The energy of all domains that lie in no other and are split, memory apart.
    #[must_use]
    pub fn total(&self) -> Microjoules {
        self.main().map(|domain| domain.energy).sum()
    }

    /// Those domains.
    pub fn main(&self) -> impl Iterator<Item = &DomainEnergy> {
        self.domains.iter().filter(|domain| domain.split && domain.part != Part::Dram)
    }

    /// The word for every number that is attributed.
    #[must_use]
    pub fn attributed(&self) -> &'static str {
        self.source.quality.attributed()
    }
}
