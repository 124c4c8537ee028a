//! Energy windows: what the counters said, and where every CPU's time went meanwhile.

use serde::{Deserialize, Serialize};

use crate::energy::topology::Cpu;
use crate::energy::{Domain, Known, Microjoules, Quality, Watts};
use crate::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// A weight of 1, in millionths.
pub const ONE: u32 = 1_000_000;

/// Where energy comes from and how it is split. Stands before the first interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnergySource {
    /// What was read, for people; empty if nothing was.
    pub source: String,
    /// What its numbers are.
    pub quality: Quality,
    /// Why there is no energy, if there is none.
    pub none_because: Option<String>,
    /// Its domains; a window has one reading for each, in this order.
    pub domains: Vec<Domain>,
    /// The CPUs.
    pub cpus: Vec<Cpu>,
    /// Windows are about so long.
    pub window: Ns,
    /// Power when nothing runs, for each domain, as `lockwatt calibrate` found it; empty: no baseline
    /// is taken off (`--idle none`).
    pub idle: Vec<Option<IdlePower>>,
    /// What a task's time counts while the other thread of its core is busy too, in millionths; none:
    /// no two CPUs share a core.
    pub smt_weight: Option<u32>,
    /// What time spent waiting on the CPU counts beside other time (γ), in millionths, as calibrated.
    /// It bounds the model's range, or is what is shown: [`Self::spin_weighted`].
    pub spin_weight: Option<u32>,
    /// Waiting counts as calibrated in what is shown (`--spin-weight calibrated`), and 1 in the range of
    /// the model. False: the other way round.
    pub spin_weighted: bool,
    /// Every yield was timed (`--hooks syscall`): [`Doing::Timed`] says how long threads spun, and
    /// samples of spinning say it again.
    pub spin_timed: bool,
    /// So was every futex call: what [`Doing::Timed`] says has them, and their samples say it again.
    pub futex_timed: bool,
    /// Watts per busy core, if they are assumed.
    pub assumed_watts: Option<f64>,
}

impl EnergySource {
    /// What waiting on the CPU counts, in millionths: in what is shown, and in the model's range.
    #[must_use]
    pub fn spin_weights(&self) -> (u32, u32) {
        let calibrated = self.spin_weight.unwrap_or(ONE);
        if self.spin_weighted { (calibrated, ONE) } else { (ONE, calibrated) }
    }

    /// What is taken off first: `calibrated` idle power, or `none`.
    #[must_use]
    pub fn idle_policy(&self) -> &'static str {
        if self.idle.iter().any(Option::is_some) { "calibrated" } else { "none" }
    }
}

/// Power of an idle machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IdlePower {
    /// Median of the idle windows.
    pub watts: Watts,
    /// Half the distance between their quartiles.
    pub spread: Watts,
}

/// Some windows, one after the other, and what was sampled during them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EnergyInterval {
    /// The windows, each from the end of the one before.
    pub windows: Vec<EnergyWindow>,
    /// What the CPU-clock samples hit.
    pub samples: Vec<EnergySamples>,
}

/// From one reading of the counters to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EnergyWindow {
    /// The earlier reading.
    pub start: Monotonic,
    /// The later one.
    pub end: Monotonic,
    /// How long the later one took.
    pub read: Ns,
    /// For each domain of the source.
    pub readings: Vec<EnergyReading>,
    /// For each CPU.
    pub cpus: Vec<CpuTime>,
    /// Time of the target's threads, by CPU.
    pub threads: Vec<ThreadTime>,
}

/// What one domain used in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyReading {
    /// Energy.
    pub energy: Microjoules,
    /// How far it is known.
    pub known: Known,
}

/// Time on a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// While the other thread of the core was idle, or there is none.
    pub alone: Ns,
    /// While it was busy.
    pub shared: Ns,
}

impl Shares {
    /// All of it.
    #[must_use]
    pub fn total(self) -> Ns {
        self.alone + self.shared
    }
}

impl std::ops::AddAssign for Shares {
    fn add_assign(&mut self, other: Self) {
        self.alone += other.alone;
        self.shared += other.shared;
    }
}

/// Where the time of one CPU went, beside the target's threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTime {
    /// The CPU.
    pub cpu: u32,
    /// Nothing ran.
    pub idle: Ns,
    /// Threads of the kernel.
    pub kernel: Shares,
    /// Other programs.
    pub other: Shares,
    /// lockwatt itself, without its programs in the kernel.
    pub tracer: Shares,
    /// What is not known: records were lost, or there were too many threads.
    pub lost: Shares,
}

/// Time of one of the target's threads on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadTime {
    /// The thread.
    pub thread: ThreadIndex,
    /// The CPU.
    pub cpu: u32,
    /// How long.
    pub time: Shares,
}

/// Samples of one thread on one CPU that found the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergySamples {
    /// The thread.
    pub thread: ThreadIndex,
    /// The CPU.
    pub cpu: u32,
    /// What it was doing.
    pub doing: Doing,
    /// For which lock, if that is known.
    pub lock: Option<LockIndex>,
    /// Samples; nanoseconds if it was [timed](Doing::Timed).
    pub samples: u32,
}

/// What a sample found a thread doing. Written as its position.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Anything: all samples of the thread, those below included.
    #[default]
    Anything,
    /// Spinning for a lock, `sched_yield` calls included.
    Spinning,
    /// In a futex call: parking, or waking who waits.
    Futex,
    /// No sample: time spent spinning, and with [`EnergySource::futex_timed`] in futex calls, that was
    /// measured at each of them.
    Timed,
}
