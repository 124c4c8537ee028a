//! Two commands, run in turns: what differs, how surely, and how much of it lock waits don't explain.

use std::collections::BTreeMap;

use super::Summary;
use crate::trace::records::Class;

/// What one run came to. Times in nanoseconds, energy in microjoules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// From its beginning to its end.
    pub wall: f64,
    /// On a CPU, all threads of the recorded processes.
    pub cpu: f64,
    /// On a CPU and waiting for a lock; sampled or measured.
    pub spin: f64,
    /// Of the machine or its packages; none: no live counter.
    pub energy: Option<f64>,
    /// Attributed to the command.
    pub target: Option<f64>,
    /// Attributed to its waiting on the CPU.
    pub waiting: Option<f64>,
    /// Contention by kind.
    pub kinds: BTreeMap<String, f64>,
    /// Contention by lock: kind and name, for addresses change from run to run.
    pub locks: BTreeMap<String, f64>,
}

#[expect(clippy::cast_precision_loss, reason = "statistics")]
impl Run {
    /// Of a recording.
    #[must_use]
    pub fn of(summary: &Summary) -> Self {
        let energy = summary.energy.as_ref().filter(|energy| energy.any());
        let mut run = Self {
            wall: summary.duration.0 as f64,
            cpu: summary.threads.iter().map(|thread| thread.oncpu.0 as f64).sum(),
            spin: summary.spin(&summary.totals).map_or(0.0, |spin| spin.time.0 as f64),
            energy: energy.map(|energy| energy.total().0 as f64),
            target: energy.map(|energy| energy.main().map(|one| one.traced.0 as f64).sum()),
            waiting: energy.map(|energy| energy.waiting.energy.0 as f64),
            ..Self::default()
        };
        for lock in summary.locks_of(Class::Contention) {
            let wait = lock.sums.wait().0 as f64;
            let kind = lock.lock.kind.name();
            *run.kinds.entry(kind.to_owned()).or_default() += wait;
            *run.locks.entry(format!("{kind} {}", lock.lock.name)).or_default() += wait;
        }
        run
    }

    /// Average power in watts.
    #[must_use]
    pub fn watts(&self) -> Option<f64> {
        // µJ per ns is kW.
        self.energy.filter(|_| self.wall > 0.0).map(|energy| energy * 1e3 / self.wall)
    }
}

/// One figure of both commands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Mean of the first.
    pub a: f64,
    /// Mean of the second.
    pub b: f64,
    /// Half of the 95 % interval of `b − a`, over pairs of runs; none: a single pair.
    pub half: Option<f64>,
}

impl Difference {
    /// Over pairs of runs.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "statistics")]
    pub fn of(pairs: &[(f64, f64)]) -> Self {
        let n = pairs.len() as f64;
        if pairs.is_empty() {
            return Self::default();
        }
        let a = pairs.iter().map(|pair| pair.0).sum::<f64>() / n;
        let b = pairs.iter().map(|pair| pair.1).sum::<f64>() / n;
        let half = (pairs.len() > 1).then(|| {
            let squares: f64 = pairs.iter().map(|pair| (pair.1 - pair.0 - (b - a)).powi(2)).sum();
            student(pairs.len() - 1) * (squares / (n - 1.0) / n).sqrt()
        });
        Self { a, b, half }
    }

    /// `b − a`.
    #[must_use]
    pub fn change(&self) -> f64 {
        self.b - self.a
    }

    /// The interval leaves out 0.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.half.is_some_and(|half| self.change().abs() > half)
    }
}

/// 97.5 % of Student's t.
fn student(freedom: usize) -> f64 {
    const T: [f64; 20] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    ];
    // Beyond the table a little too much.
    T.get(freedom.saturating_sub(1)).copied().unwrap_or(2.086)
}

/// Everything that differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// How often each ran.
    pub runs: usize,
    /// Wall time, ns.
    pub wall: Difference,
    /// CPU time, ns.
    pub cpu: Difference,
    /// On-CPU waiting, ns.
    pub spin: Difference,
    /// CPU time that is no on-CPU waiting, ns: a difference here is one that lock waits don't explain.
    pub cpu_unexplained: Difference,
    /// Energy, µJ; none without a counter.
    pub energy: Option<Difference>,
    /// Average power, W.
    pub watts: Option<Difference>,
    /// Attributed to the command, µJ.
    pub target: Option<Difference>,
    /// Attributed to on-CPU waiting, µJ.
    pub waiting: Option<Difference>,
    /// Energy that is not attributed to on-CPU waiting, µJ.
    pub energy_unexplained: Option<Difference>,
    /// Contention by kind, ns, the largest difference first.
    pub kinds: Vec<(String, Difference)>,
    /// Contention by lock, likewise.
    pub locks: Vec<(String, Difference)>,
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
        let known = |get: &dyn Fn(&Run) -> Option<f64>| {
            let values: Option<Vec<_>> =
                pairs.iter().map(|(a, b)| Some((get(a)?, get(b)?))).collect();
            values.filter(|values| !values.is_empty()).map(|values| Difference::of(&values))
        };
        let named = |get: &dyn Fn(&Run) -> &BTreeMap<String, f64>| {
            let all = pairs.iter().flat_map(|(a, b)| get(a).keys().chain(get(b).keys()));
            let names: std::collections::BTreeSet<&String> = all.collect();
            let of = |name: &String| each(&|run| get(run).get(name).copied().unwrap_or(0.0));
            let mut rows: Vec<_> = names.into_iter().map(|name| (name.clone(), of(name))).collect();
            rows.sort_by(|one, other| other.1.change().abs().total_cmp(&one.1.change().abs()));
            rows
        };
        Self {
            runs: pairs.len(),
            wall: each(&|run| run.wall),
            cpu: each(&|run| run.cpu),
            spin: each(&|run| run.spin),
            cpu_unexplained: each(&|run| run.cpu - run.spin),
            energy: known(&|run| run.energy),
            watts: known(&Run::watts),
            target: known(&|run| run.target),
            waiting: known(&|run| run.waiting),
            energy_unexplained: known(&|run| Some(run.energy? - run.waiting?)),
            kinds: named(&|run| &run.kinds),
            locks: named(&|run| &run.locks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_students() {
        let one = Difference::of(&[(1.0, 2.0)]);
        assert_eq!((one.change(), one.half, one.is_sure()), (1.0, None, false));
        // Differences 1, 2, 3: mean 2, s = 1, half = 4.303 / sqrt(3).
        let three = Difference::of(&[(0.0, 1.0), (5.0, 7.0), (1.0, 4.0)]);
        assert!((three.change() - 2.0).abs() < 1e-12);
        assert!((three.half.unwrap() - 4.303 / 3f64.sqrt()).abs() < 1e-9);
        assert!(!three.is_sure());
    }

    #[test]
    fn what_waits_don_t_explain_is_the_rest() {
        let run = |energy, waiting, lock: f64| Run {
            wall: 1e9,
            cpu: 2e9,
            spin: 5e8,
            energy: Some(energy),
            waiting: Some(waiting),
            locks: BTreeMap::from([("object dict".to_owned(), lock)]),
            ..Run::default()
        };
        let comparison = Comparison::of(&[run(10e6, 1e6, 0.0)], &[run(30e6, 4e6, 7.0)]);
        assert_eq!(comparison.energy.unwrap().change(), 20e6);
        assert_eq!(comparison.energy_unexplained.unwrap().change(), 17e6);
        assert_eq!(comparison.watts.unwrap().a, 10.0);
        assert_eq!(comparison.locks[0].1.change(), 7.0);
        assert_eq!(comparison.cpu_unexplained.a, 1.5e9);
        let mut without = run(1.0, 1.0, 1.0);
        without.energy = None;
        assert!(Comparison::of(&[without.clone()], &[without]).energy.is_none());
    }
}
