//! The model: one window's energy over everything that ran in it.
//!
//! `B = min(E, P0·W)`, `A = E − B`, `A[i] = A · x[i] / X` with `x` the weighted time of a task and `X` all
//! of it, lost time included. Whatever the weights, all parts sum to `E` to the microjoule (E1).

use std::collections::BTreeMap;

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
    /// The rest.
    pub parts: BTreeMap<Who, Microjoules>,
}

impl Division {
    /// What the target has of it.
    pub(super) fn target(&self) -> Microjoules {
        self.parts.iter().filter(|(who, _)| is_target(**who)).map(|(_, &energy)| energy).sum()
    }

    /// All of it: the energy that was divided.
    #[must_use]
    pub fn total(&self) -> Microjoules {
        self.baseline + self.parts.values().copied().sum()
    }
}

/// A thread of the target.
pub(super) fn is_target(who: Who) -> bool {
    matches!(who, Who::Thread(_))
}

/// Weighted time by who used it, of the CPUs that are `inside`. `waiting` says which part of a
/// thread's time was spent waiting on the CPU, in millionths.
#[must_use]
pub fn weighted(
    window: &EnergyWindow,
    inside: impl Fn(u32) -> bool,
    weights: Weights,
    waiting: impl Fn(ThreadIndex) -> u32,
) -> BTreeMap<Who, u128> {
    let plain = |time: Shares| {
        u128::from(time.alone.0) * u128::from(ONE)
            + u128::from(time.shared.0) * u128::from(weights.smt)
    };
    let one = u128::from(ONE);
    let mut out: BTreeMap<Who, u128> = BTreeMap::new();
    let mut add = |who, x: u128| {
        if x > 0 {
            *out.entry(who).or_default() += x;
        }
    };
    for thread in window.threads.iter().filter(|thread| inside(thread.cpu)) {
        let waiting = u128::from(waiting(thread.thread).min(ONE));
        let spin = (one - waiting) * one + waiting * u128::from(weights.spin);
        add(Who::Thread(thread.thread), plain(thread.time) * spin);
    }
    for cpu in window.cpus.iter().filter(|cpu| inside(cpu.cpu)) {
        add(Who::Other, plain(cpu.other) * one * one);
        add(Who::Kernel, plain(cpu.kernel) * one * one);
        add(Who::Tracer, plain(cpu.tracer) * one * one);
        add(Who::Lost, plain(cpu.lost) * one * one);
    }
    out
}

/// Divides a window's energy over weighted times.
#[must_use]
pub fn divide(
    energy: Microjoules,
    idle: Option<Watts>,
    time: Ns,
    x: &BTreeMap<Who, u128>,
) -> Division {
    let baseline = idle.map_or(Microjoules(0), |idle| idle.over(time).min(energy));
    let active = energy.0 - baseline.0;
    let weights: Vec<u128> = x.values().copied().collect();
    if weights.iter().all(|&weight| weight == 0) {
        let parts = BTreeMap::from([(Who::IdleActive, Microjoules(active))]);
        return Division { baseline, parts };
    }
    let parts = x.keys().copied().zip(apportion(active, &weights).into_iter().map(Microjoules));
    Division { baseline, parts: parts.collect() }
}
