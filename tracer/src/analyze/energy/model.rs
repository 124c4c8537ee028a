//! The model: one window's energy over everything that ran in it.
//!
//! `B = min(E, P0·W)`, `A = E − B`, `A[i] = A · x[i] / X` with `x` the weighted time of a task and `X` all
//! of it, lost time included. Whatever the weights, all parts sum to `E` to the microjoule (E1).

use super::apportion::apportion;
use crate::energy::{Microjoules, Watts};
use crate::trace::energy::{EnergyWindow, ONE, Shares};
use crate::units::{Ns, ThreadIndex};

/// Who can have a part of a window's energy, beside the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// A thread of the target.
    Thread(ThreadIndex),
    /// Other programs.
    Other,
    /// The kernel's threads.
    Kernel,
    /// lockwatt.
    Tracer,
    /// Time that is not accounted for.
    Lost,
    /// Nothing ran, and more than the baseline was used.
    IdleActive,
}

/// What time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Time beside a busy sibling, in millionths (`h`).
    pub smt: u32,
    /// Time spent waiting on the CPU, in millionths (`γ`).
    pub spin: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { smt: ONE, spin: ONE }
    }
}

/// A window's energy, divided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Division {
    /// The baseline.
    pub baseline: Microjoules,
    /// The rest, in the order of who has it.
    pub parts: Vec<(Who, Microjoules)>,
}

impl Division {
    /// What the target has of it.
    pub(super) fn target(&self) -> Microjoules {
        self.parts.iter().filter(|(who, _)| is_target(*who)).map(|(_, energy)| *energy).sum()
    }

    /// All of it: the energy that was divided.
    #[must_use]
    pub fn total(&self) -> Microjoules {
        self.baseline + self.parts.iter().map(|(_, energy)| *energy).sum()
    }
}

/// A thread of the target.
pub(super) fn is_target(who: Who) -> bool {
    matches!(who, Who::Thread(_))
}

/// What one task did in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Whose time it is.
    pub who: Who,
    /// Time on the CPUs.
    pub time: Shares,
    /// Which part of it was spent waiting on the CPU, in millionths.
    pub waiting: u32,
}

/// Who used the CPUs that are `inside`, each once and in their order. `waiting` says which part of a
/// thread's time was spent waiting on the CPU, in millionths.
#[must_use]
pub fn tasks(
    window: &EnergyWindow,
    inside: impl Fn(u32) -> bool,
    waiting: impl Fn(ThreadIndex) -> u32,
) -> Vec<Task> {
    let threads = window.threads.iter().filter(|thread| inside(thread.cpu));
    let mut out: Vec<Task> = threads
        .map(|one| Task { who: Who::Thread(one.thread), time: one.time, waiting: 0 })
        .collect();
    out.sort_unstable_by_key(|task| task.who);
    out.dedup_by(|next, one| {
        let same = next.who == one.who;
        if same {
            one.time += next.time;
        }
        same
    });
    for task in &mut out {
        if let Who::Thread(thread) = task.who {
            task.waiting = waiting(thread).min(ONE);
        }
    }
    let mut others =
        [Who::Other, Who::Kernel, Who::Tracer, Who::Lost].map(|who| (who, Shares::default()));
    for cpu in window.cpus.iter().filter(|cpu| inside(cpu.cpu)) {
        let times = [cpu.other, cpu.kernel, cpu.tracer, cpu.lost];
        others.iter_mut().zip(times).for_each(|((_, sum), time)| *sum += time);
    }
    out.extend(others.map(|(who, time)| Task { who, time, waiting: 0 }));
    out
}

/// Their weighted time, of those that have any.
#[must_use]
pub fn weighted(tasks: &[Task], weights: Weights) -> Vec<(Who, u128)> {
    let one = u128::from(ONE);
    let of = |task: &Task| {
        let plain = u128::from(task.time.alone.0) * one
            + u128::from(task.time.shared.0) * u128::from(weights.smt);
        let waiting = u128::from(task.waiting);
        let spin = (one - waiting) * one + waiting * u128::from(weights.spin);
        plain * if is_target(task.who) { spin } else { one * one }
    };
    tasks.iter().map(|task| (task.who, of(task))).filter(|(_, x)| *x > 0).collect()
}

/// Divides a window's energy over weighted times.
#[must_use]
pub fn divide(energy: Microjoules, idle: Option<Watts>, time: Ns, x: &[(Who, u128)]) -> Division {
    let baseline = idle.map_or(Microjoules(0), |idle| idle.over(time).min(energy));
    let active = energy.0 - baseline.0;
    let weights: Vec<u128> = x.iter().map(|(_, x)| *x).collect();
    if weights.iter().all(|&weight| weight == 0) {
        let parts = vec![(Who::IdleActive, Microjoules(active))];
        return Division { baseline, parts };
    }
    let parts =
        x.iter().map(|(who, _)| *who).zip(apportion(active, &weights).into_iter().map(Microjoules));
    Division { baseline, parts: parts.collect() }
}
