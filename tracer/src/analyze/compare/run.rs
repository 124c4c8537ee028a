//! What one run came to, and what of it is not known.

use std::collections::BTreeMap;

use crate::analyze::energy::{DomainEnergy, EnergySummary};
use crate::analyze::{Completeness, SpinSource, Summary};
use crate::energy::{Known, Part};
use crate::trace::energy::EnergySource;
use crate::trace::records::Class;
use crate::units::Ns;

/// CPU time that is not accounted for is told if it is more than one part in so many of all. A
/// recording's beginning always takes some 0.3 ms of it.
const LITTLE: u64 = 100;

/// What one run came to. Times in nanoseconds, energy in microjoules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// From its beginning to its end.
    pub wall: f64,
    /// On a CPU, all threads of the recorded processes.
    pub cpu: f64,
    /// On a CPU and spinning for a lock; none: not known.
    pub spin: Option<OnCpu>,
    /// On a CPU and waiting for a lock, futex calls included, as energy is divided; none: not known.
    pub waiting: Option<OnCpu>,
    /// Energy; none: no live counter, or a part of it is not known ([`Self::gaps`]).
    pub energy: Option<RunEnergy>,
    /// Contention by kind.
    pub kinds: BTreeMap<String, f64>,
    /// Contention by lock: kind and name, for addresses change from run to run.
    pub locks: BTreeMap<String, f64>,
    /// Contention, in its kind's sum, of waits that are known by kind and no lock.
    pub in_no_lock: f64,
    /// What is missing.
    pub gaps: Vec<Gap>,
}

/// Time that was measured or estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnCpu {
    /// Nanoseconds.
    pub time: f64,
    /// How that is known.
    pub source: SpinSource,
}

/// Energy of a run that is known throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunEnergy {
    /// Of the machine or its packages.
    pub all: f64,
    /// Attributed to the command.
    pub target: f64,
    /// Calibrated idle power × time; 0 unless it is taken off.
    pub baseline: f64,
    /// Attributed to its waiting on the CPU; none: nothing says how much of its time that was.
    pub waiting: Option<f64>,
    /// Average power in the time in which it is known, as the report has it.
    pub watts: f64,
}

/// Something that is missing in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Gap {
    /// The recording lost something, or its file is cut or damaged.
    Lost(Box<Completeness>),
    /// A counter did not count.
    Counter {
        /// Its domain.
        name: String,
        /// What became of it.
        known: Known,
        /// How long after the first reading.
        since: Ns,
        /// For how long.
        unknown: Ns,
        /// Its energy is in the comparison.
        compared: bool,
    },
    /// A counter that did not move, or was not read twice.
    Still {
        /// Its domain.
        name: String,
    },
    /// They are not those that were chosen for all runs.
    OtherCounters,
    /// Time of CPUs that is not accounted for: its energy is attributed to nobody.
    Unaccounted {
        /// How much.
        lost: Ns,
        /// Of so much.
        of: Ns,
    },
}

impl Gap {
    /// A part of the energy that is compared is not known.
    #[must_use]
    pub fn in_energy(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Unaccounted { .. } => false,
            Self::Counter { compared, .. } => *compared,
            Self::Still { .. } | Self::OtherCounters => true,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "statistics")]
impl Run {
    /// Of a recording, whose energy is to come from these counters.
    #[must_use]
    pub fn of(summary: &Summary, counters: &EnergySource) -> Self {
        let mut gaps = Vec::new();
        // What is not known of energy is told by counter.
        let recorded = Completeness { energy_gap: None, ..summary.completeness.clone() };
        if !recorded.whole() {
            gaps.push(Gap::Lost(Box::new(recorded)));
        }
        if let Some(energy) = &summary.energy {
            gaps.extend(of_energy(energy));
            let names = |source: &EnergySource| -> Vec<String> {
                source.domains.iter().map(|domain| domain.name.clone()).collect()
            };
            if energy.source.source != counters.source || names(&energy.source) != names(counters) {
                gaps.push(Gap::OtherCounters);
            }
        }
        let known = !gaps.iter().any(Gap::in_energy);
        let mut run = Self {
            wall: summary.duration.0 as f64,
            cpu: summary.threads.iter().map(|thread| thread.oncpu.0 as f64).sum(),
            spin: summary
                .spin(&summary.totals)
                .map(|spin| OnCpu { time: spin.time.0 as f64, source: spin.source }),
            waiting: waiting(summary),
            gaps,
            ..Self::default()
        };
        let energy = summary.energy.as_ref().filter(|energy| energy.any() && known);
        run.energy = energy.map(|energy| RunEnergy {
            all: energy.total().0 as f64,
            target: energy.main().map(|one| one.traced.0 as f64).sum(),
            baseline: energy.main().map(|one| one.baseline.0 as f64).sum(),
            waiting: run.waiting.map(|_| energy.waiting.energy.0 as f64),
            watts: energy.main().map(|one| one.watts.0).sum(),
        });
        for lock in summary.locks_of(Class::Contention) {
            let wait = lock.sums.wait().0 as f64;
            let kind = lock.lock.kind.name();
            *run.kinds.entry(kind.to_owned()).or_default() += wait;
            *run.locks.entry(format!("{kind} {}", lock.lock.name)).or_default() += wait;
        }
        let in_no_lock = [&summary.below, &summary.limited, &summary.lost];
        for (&(kind, class), sums) in in_no_lock.into_iter().flatten() {
            if class == Class::Contention {
                let wait = sums.wait().0 as f64;
                *run.kinds.entry(kind.name().to_owned()).or_default() += wait;
                run.in_no_lock += wait;
            }
        }
        run
    }
}

/// What of a run's energy is not known.
fn of_energy(energy: &EnergySummary) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for domain in &energy.domains {
        let compared = domain.split && domain.part != Part::Dram;
        if let Some((known, since)) = domain.first_unknown {
            let DomainEnergy { name, unknown, .. } = domain.clone();
            gaps.push(Gap::Counter { name, known, since, unknown, compared });
        } else if compared && domain.energy.0 == 0 && energy.source.assumed_watts.is_none() {
            // No processor runs a program on nothing: it stopped before that could be told from a
            // slow one, or its step is more than the run used.
            gaps.push(Gap::Still { name: domain.name.clone() });
        }
    }
    let time = &energy.time;
    if time.lost.0.saturating_mul(LITTLE) > time.cpus.0 {
        gaps.push(Gap::Unaccounted { lost: time.lost, of: time.cpus });
    }
    gaps
}

/// Spinning and futex calls on the CPU, by the same samples and timed calls as the energy of waiting.
#[expect(clippy::cast_precision_loss, reason = "statistics")]
fn waiting(summary: &Summary) -> Option<OnCpu> {
    let energy = summary.energy.as_ref().filter(|energy| energy.any())?;
    let (spin_timed, all_timed) = (energy.source.spin_timed, energy.source.futex_timed);
    let sampled = summary.sampling.map(|sampling| sampling.estimate(energy.waiting_samples).time);
    let timed = energy.waiting_timed.0 as f64;
    match sampled {
        _ if spin_timed && all_timed => Some(OnCpu { time: timed, source: SpinSource::Measured }),
        // Of two figures the less sure one names the sum.
        Some(Ns(sampled)) => {
            Some(OnCpu { time: timed + sampled as f64, source: SpinSource::Sampled })
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::Sampling;
    use crate::energy::{Domain, Microjoules, Watts};

    /// A run of a second: 6 J of a package, 1 J of its memory.
    fn summary(change: impl FnOnce(&mut EnergySummary)) -> Summary {
        let domain = |name: &str, part, uj| DomainEnergy {
            name: name.to_owned(),
            part,
            split: true,
            energy: Microjoules(uj),
            traced: Microjoules(uj / 2),
            watts: Watts(8.0),
            ..DomainEnergy::default()
        };
        let mut energy = EnergySummary {
            source: counters(),
            domains: vec![
                domain("package-0", Part::Package, 6_000_000),
                domain("package-0/dram", Part::Dram, 1_000_000),
            ],
            windows: 10,
            waiting_samples: 20,
            ..EnergySummary::default()
        };
        energy.time.cpus = Ns(1_000);
        change(&mut energy);
        let sampling = Some(Sampling { hz: 200, ticks: 400, ..Sampling::default() });
        Summary {
            duration: Ns(1_000_000_000),
            energy: Some(energy),
            sampling,
            ..Summary::default()
        }
    }

    fn counters() -> EnergySource {
        let zone = |(name, inside)| Domain::of_zone(name, inside);
        let domains = [("package-0", None), ("dram", Some("package-0"))].map(zone).to_vec();
        EnergySource { source: "test".to_owned(), domains, ..EnergySource::default() }
    }

    fn run(change: impl FnOnce(&mut EnergySummary)) -> Run {
        Run::of(&summary(change), &counters())
    }

    #[test]
    fn a_whole_run_has_its_energy_and_power_of_the_known_windows() {
        let run = run(|_| ());
        assert_eq!(run.gaps, []);
        let energy = run.energy.unwrap();
        // 6 J in a second are not 8 W: it was not known all the time.
        assert_eq!((energy.all, energy.target, energy.watts), (6e6, 3e6, 8.0));
        assert_eq!(run.waiting, Some(OnCpu { time: 1e8, source: SpinSource::Sampled }));
        let timed = Run::of(
            &summary(|energy| {
                (energy.source.spin_timed, energy.source.futex_timed) = (true, true);
                (energy.waiting_samples, energy.waiting_timed) = (0, Ns(7));
            }),
            &counters(),
        );
        assert_eq!(timed.waiting, Some(OnCpu { time: 7.0, source: SpinSource::Measured }));
        let none = Run::of(&Summary { sampling: None, ..summary(|_| ()) }, &counters());
        assert_eq!((none.waiting, none.energy.unwrap().waiting), (None, None));
    }

    #[test]
    fn what_is_not_known_of_energy_is_a_gap() {
        let stopped = |place: usize| {
            run(|energy| {
                energy.domains[place].first_unknown = Some((Known::Frozen, Ns(3)));
                energy.domains[place].unknown = Ns(5);
            })
        };
        let package = stopped(0);
        let [Gap::Counter { name, known, since, unknown, compared }] = &package.gaps[..] else {
            panic!("{package:?}")
        };
        assert_eq!((name.as_str(), *known), ("package-0", Known::Frozen));
        assert_eq!((*since, *unknown, *compared), (Ns(3), Ns(5), true));
        assert_eq!(package.energy, None);
        // Memory is told, and in no row.
        let memory = stopped(1);
        assert!(memory.gaps.len() == 1 && memory.energy.is_some(), "{memory:?}");
        let still = run(|energy| energy.domains[0].energy = Microjoules(0));
        assert_eq!(still.gaps, [Gap::Still { name: "package-0".to_owned() }]);
        assert_eq!(still.energy, None);
        let others = run(|energy| energy.source.domains.truncate(1));
        assert_eq!((&others.gaps[..], others.energy), (&[Gap::OtherCounters][..], None));
        let little = run(|energy| energy.time.lost = Ns(10));
        assert_eq!(little.gaps, []);
        let lost = run(|energy| energy.time.lost = Ns(11));
        assert_eq!(lost.gaps, [Gap::Unaccounted { lost: Ns(11), of: Ns(1_000) }]);
        assert!(lost.energy.is_some());
    }
}
