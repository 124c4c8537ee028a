//! Two commands, run in turns: what differs, how surely, and how much of it lock waits don't explain.

mod difference;
mod run;

use std::collections::{BTreeMap, BTreeSet};

pub use difference::Difference;
pub use run::{Gap, OnCpu, Run, RunEnergy};

use super::SpinSource;

/// Time on the CPU spent waiting for locks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waiting {
    /// How long, ns.
    pub time: Difference,
    /// Futex calls are in it, and not spinning alone.
    pub futex: bool,
    /// Measured if it was in every run.
    pub source: SpinSource,
    /// CPU time that is none of it, ns: a difference here is one that waiting doesn't explain.
    pub rest: Difference,
}

/// Energy, µJ, and power. Over the pairs of which both runs' energy is known throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Energy {
    /// How many pairs.
    pub pairs: usize,
    /// All that is counted.
    pub all: Difference,
    /// Attributed to the command.
    pub target: Difference,
    /// Not attributed to the command: `all − target`.
    pub others: Difference,
    /// Of that the baseline.
    pub baseline: Difference,
    /// Average power, W.
    pub watts: Difference,
    /// What is attributed to waiting, if that is known.
    pub waiting: Option<WaitingEnergy>,
}

/// What of the energy is waiting on the CPU, and what is not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WaitingEnergy {
    /// Attributed to the command's waiting on the CPU.
    pub waiting: Difference,
    /// To all else that it did: `target − waiting`.
    pub target_rest: Difference,
    /// All that is no such waiting, `all − waiting`: what waiting doesn't explain.
    pub unexplained: Difference,
}

/// Everything that differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// How many pairs of runs.
    pub runs: usize,
    /// Wall time, ns.
    pub wall: Difference,
    /// CPU time, ns.
    pub cpu: Difference,
    /// Of that, waiting; none: of one run or more that is not known.
    pub waiting: Option<Waiting>,
    /// Energy; none: no counter, or no pair of which both runs' energy is known.
    pub energy: Option<Energy>,
    /// Contention by kind, ns, the largest difference first.
    pub kinds: Vec<(String, Difference)>,
    /// Contention by lock, likewise.
    pub locks: Vec<(String, Difference)>,
    /// Contention that is in a kind's figure and in no lock's, ns.
    pub in_no_lock: Difference,
    /// Runs of which something is missing.
    pub incomplete: Vec<Incomplete>,
}

/// A run of which something is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Incomplete {
    /// 0: the first command's, 1: the second's.
    pub command: usize,
    /// Which of its runs, from 1.
    pub run: usize,
    /// What, and why.
    pub gaps: Vec<Gap>,
}

impl Incomplete {
    /// Its energy, and that of the other run of its pair, is left out.
    #[must_use]
    pub fn no_energy(&self) -> bool {
        self.gaps.iter().any(Gap::in_energy)
    }
}

impl Comparison {
    /// Of runs in turns: the first with the first, and so on.
    #[must_use]
    pub fn of(a: &[Run], b: &[Run]) -> Self {
        let pairs: Vec<(&Run, &Run)> = a.iter().zip(b).collect();
        let each = |get: &dyn Fn(&Run) -> f64| {
            let values: Vec<_> = pairs.iter().map(|(a, b)| (get(a), get(b))).collect();
            Difference::of(&values)
        };
        let named = |get: &dyn Fn(&Run) -> &BTreeMap<String, f64>| {
            let all = pairs.iter().flat_map(|(a, b)| get(a).keys().chain(get(b).keys()));
            let names: BTreeSet<&String> = all.collect();
            let of = |name: &String| each(&|run| get(run).get(name).copied().unwrap_or(0.0));
            let mut rows: Vec<_> = names.into_iter().map(|name| (name.clone(), of(name))).collect();
            rows.sort_by(|one, other| other.1.change().abs().total_cmp(&one.1.change().abs()));
            rows
        };
        let incomplete = pairs.iter().zip(1..).flat_map(|(&(a, b), run)| {
            let both = [(0, a), (1, b)].into_iter().filter(|(_, one)| !one.gaps.is_empty());
            both.map(move |(command, one)| Incomplete { command, run, gaps: one.gaps.clone() })
        });
        Self {
            runs: pairs.len(),
            wall: each(&|run| run.wall),
            cpu: each(&|run| run.cpu),
            waiting: waiting(&pairs),
            energy: energy(&pairs),
            kinds: named(&|run| &run.kinds),
            locks: named(&|run| &run.locks),
            in_no_lock: each(&|run| run.in_no_lock),
            incomplete: incomplete.collect(),
        }
    }
}

/// The same time in all runs: with futex calls if they are known in each, else without.
fn waiting(pairs: &[(&Run, &Run)]) -> Option<Waiting> {
    let all = |get: &dyn Fn(&Run) -> Option<OnCpu>| -> Option<Vec<(OnCpu, OnCpu)>> {
        pairs.iter().map(|(a, b)| Some((get(a)?, get(b)?))).collect()
    };
    let (found, futex) = match all(&|run| run.waiting) {
        Some(found) => (found, true),
        None => (all(&|run| run.spin)?, false),
    };
    let measured = |one: &OnCpu| one.source == SpinSource::Measured;
    let source = match found.iter().all(|(a, b)| measured(a) && measured(b)) {
        true => SpinSource::Measured,
        false => SpinSource::Sampled,
    };
    let times: Vec<_> = found.iter().map(|(a, b)| (a.time, b.time)).collect();
    let rest = pairs.iter().zip(&times).map(|((a, b), time)| (a.cpu - time.0, b.cpu - time.1));
    let rest = Difference::of(&rest.collect::<Vec<_>>());
    Some(Waiting { time: Difference::of(&times), futex, source, rest })
}

fn energy(pairs: &[(&Run, &Run)]) -> Option<Energy> {
    let known = pairs.iter().filter_map(|(a, b)| Some((a.energy?, b.energy?)));
    let known: Vec<(RunEnergy, RunEnergy)> = known.collect();
    let each = |get: &dyn Fn(&RunEnergy) -> f64| {
        Difference::of(&known.iter().map(|(a, b)| (get(a), get(b))).collect::<Vec<_>>())
    };
    let with_waiting = known.iter().all(|(a, b)| a.waiting.is_some() && b.waiting.is_some());
    let waiting = |one: &RunEnergy| one.waiting.unwrap_or_default();
    (!known.is_empty()).then(|| Energy {
        pairs: known.len(),
        all: each(&|one| one.all),
        target: each(&|one| one.target),
        others: each(&|one| one.all - one.target),
        baseline: each(&|one| one.baseline),
        watts: each(&|one| one.watts),
        waiting: with_waiting.then(|| WaitingEnergy {
            waiting: each(&waiting),
            target_rest: each(&|one| one.target - waiting(one)),
            unexplained: each(&|one| one.all - waiting(one)),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::{Completeness, Summary};
    use crate::energy::Known;
    use crate::trace::energy::EnergySource;
    use crate::units::Ns;

    fn run(all: f64, target: f64, waiting: f64) -> Run {
        let on_cpu = |time| Some(OnCpu { time, source: SpinSource::Sampled });
        Run {
            wall: 1e9,
            cpu: 2e9,
            spin: on_cpu(1e8),
            waiting: on_cpu(5e8),
            energy: Some(RunEnergy {
                all,
                target,
                baseline: 0.5e6,
                waiting: Some(waiting),
                watts: 7.0,
            }),
            locks: BTreeMap::from([("object dict".to_owned(), waiting)]),
            ..Run::default()
        }
    }

    fn frozen() -> Gap {
        Gap::Counter {
            name: "package-0".to_owned(),
            known: Known::Frozen,
            since: Ns(1),
            unknown: Ns(2),
            compared: true,
        }
    }

    #[test]
    fn what_waits_don_t_explain_is_the_rest() {
        let (a, b) = ([run(10e6, 6e6, 1e6)], [run(30e6, 25e6, 4e6)]);
        let comparison = Comparison::of(&a, &b);
        let energy = comparison.energy.unwrap();
        let waiting = energy.waiting.unwrap();
        assert_eq!((energy.all.change(), energy.target.change()), (20e6, 19e6));
        assert_eq!((energy.others.a, energy.others.b), (4e6, 5e6));
        assert_eq!((waiting.target_rest.a, waiting.target_rest.b), (5e6, 21e6));
        assert_eq!(waiting.unexplained.change(), 17e6);
        // All is waiting, the rest of the command and the rest of the machine.
        let parts = [waiting.waiting, waiting.target_rest, energy.others];
        assert_eq!(parts.iter().map(Difference::change).sum::<f64>(), energy.all.change());
        assert_eq!(energy.watts.a, 7.0);
        assert_eq!(comparison.locks[0].1.change(), 3e6);
        let waiting = comparison.waiting.unwrap();
        assert_eq!((waiting.time.a, waiting.rest.a, waiting.futex), (5e8, 1.5e9, true));
        // Futex calls that are not known in one run are in no run's figure.
        let shorter = Run { waiting: None, ..b[0].clone() };
        let waiting = Comparison::of(&a, &[shorter]).waiting.unwrap();
        assert_eq!((waiting.time.a, waiting.rest.a, waiting.futex), (1e8, 1.9e9, false));
        // No sampler is no 0.
        let without = Run { waiting: None, spin: None, ..b[0].clone() };
        assert_eq!(Comparison::of(&a, &[without]).waiting, None);
    }

    #[test]
    fn a_run_whose_energy_is_not_known_throughout_is_in_no_row_of_energy() {
        let a = [run(10e6, 6e6, 0.0), run(11e6, 6e6, 0.0)];
        let broken = Run { energy: None, gaps: vec![frozen()], ..run(0.0, 0.0, 0.0) };
        let b = [run(10e6, 6e6, 0.0), broken];
        let comparison = Comparison::of(&a, &b);
        let energy = comparison.energy.unwrap();
        assert_eq!((comparison.runs, energy.pairs), (2, 1));
        assert_eq!((energy.all.a, energy.all.b, energy.all.half), (10e6, 10e6, None));
        assert_eq!(comparison.wall.half, Some(0.0));
        let [incomplete] = &comparison.incomplete[..] else { panic!("one run") };
        assert_eq!((incomplete.command, incomplete.run, incomplete.no_energy()), (1, 2, true));
        assert_eq!(Comparison::of(&a[1..], &b[1..]).energy, None);
    }

    #[test]
    fn what_a_recording_lost_is_told() {
        let counters = EnergySource::default();
        let completeness = Completeness { lost_waits: 3, ..Completeness::default() };
        let run = Run::of(&Summary { completeness, ..Summary::default() }, &counters);
        assert!(matches!(&run.gaps[..], [Gap::Lost(what)] if what.lost_waits == 3), "{run:?}");
        assert!(!run.gaps[0].in_energy());
        assert_eq!(Run::of(&Summary::default(), &counters).gaps, []);
    }
}
