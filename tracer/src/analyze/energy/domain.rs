//! Adding up one domain, interval by interval.

use std::collections::BTreeMap;

use super::model::{Weights, Who, is_target};
use super::sigma::{self, Shares};
use super::states::{For, MOST, States, Sums};
use super::summary::{Amount, DomainEnergy, EnergySummary};
use super::waiting::Waiting;
use crate::energy::{Domain, Known, Microjoules, Part};
use crate::trace::energy::{Doing, ONE};
use crate::units::{Ns, ThreadIndex};

/// What is known of one domain so far.
#[derive(Clone, Debug, Default)]
pub(super) struct DomainFold {
    pub(super) energy: Microjoules,
    pub(super) known: BTreeMap<Known, u64>,
    pub(super) first_unknown: Option<(Known, Ns)>,
    pub(super) time: Ns,
    pub(super) unknown: Ns,
    pub(super) read: Ns,
    /// One for each of the fold's weights.
    pub(super) sums: Vec<Sums>,
    shares: BTreeMap<Who, Shares>,
    lock_shares: BTreeMap<For, Shares>,
    /// Samples of the target, all and by lock.
    samples: u64,
    lock_samples: BTreeMap<For, u64>,
}

/// What the windows of an interval came to under one set of weights.
#[derive(Clone, Debug, Default)]
pub(super) struct Interval {
    /// Energy of the target and its weighted time.
    pub(super) energy: u64,
    pub(super) x: u128,
    /// Energy of each thread; only if yields are timed.
    pub(super) threads: BTreeMap<ThreadIndex, u64>,
}

impl DomainFold {
    /// Nothing yet, under so many sets of weights.
    pub(super) fn new(weights: usize) -> Self {
        Self { sums: vec![Sums::default(); weights], ..Self::default() }
    }

    /// Notes the shares of this window, of everything that ever had one; returns the target's.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(super) fn share(&mut self, x: &BTreeMap<Who, u128>) -> f64 {
        let all: u128 = x.values().sum();
        let of = |x: u128| if all == 0 { 0.0 } else { x as f64 / all as f64 };
        for &who in x.keys() {
            if self.shares.len() < MOST {
                self.shares.entry(who).or_default();
            }
        }
        for (who, shares) in &mut self.shares {
            let share = of(x.get(who).copied().unwrap_or(0));
            if share > 0.0 || !shares.is_zero() {
                shares.next(share);
            }
        }
        of(x.iter().filter(|(who, _)| is_target(**who)).map(|(_, x)| x).sum())
    }

    /// Takes in what samples and timed yields say of the interval whose windows were divided.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn waited(
        &mut self,
        waiting: &Waiting<'_>,
        intervals: &[Interval],
        weights: &[Weights],
        target_shares: &[f64],
    ) {
        let mut all = 0u64;
        let mut by_lock: BTreeMap<For, f64> = BTreeMap::new();
        for one in waiting.samples() {
            let n = u64::from(one.samples);
            match one.doing {
                Doing::Anything => all += n,
                Doing::Spinning | Doing::Futex => {
                    *by_lock.entry(one.lock).or_default() += n as f64;
                    if self.lock_samples.len() < MOST || self.lock_samples.contains_key(&one.lock) {
                        *self.lock_samples.entry(one.lock).or_default() += n;
                    }
                }
                Doing::Timed => {}
            }
            for ((sums, interval), weights) in self.sums.iter_mut().zip(intervals).zip(weights) {
                let spin = f64::from(weights.spin) / f64::from(ONE);
                let key = (one.thread, one.lock);
                if one.doing == Doing::Timed {
                    let energy = interval.threads.get(&one.thread).copied().unwrap_or(0);
                    let (time, timed) = waiting.times(one.thread);
                    // The same thread's other time counts 1.
                    let whole = time.max(timed) as f64 + timed as f64 * (spin - 1.0);
                    let part = energy as f64 * n as f64 * spin / whole.max(1.0);
                    if sums.timed.len() < MOST || sums.timed.contains_key(&key) {
                        *sums.timed.entry(key).or_default() += part;
                    }
                    continue;
                }
                if interval.x == 0 {
                    continue;
                }
                let worth = n as f64 * interval.energy as f64 / (interval.x as f64);
                if one.doing == Doing::Anything {
                    *sums.samples.entry(one.thread).or_default() += worth;
                } else if sums.waiting.len() < MOST || sums.waiting.contains_key(&key) {
                    *sums.waiting.entry(key).or_default() += worth * spin;
                    // What counts more or less in the part counts so in the whole.
                    *sums.samples.entry(one.thread).or_default() += worth * (spin - 1.0);
                }
            }
        }
        self.samples += all;
        // By share of the target's samples, or of its time.
        let mut by_lock: BTreeMap<For, f64> =
            by_lock.into_iter().map(|(lock, n)| (lock, n / n.max(all as f64))).collect();
        if waiting.timed() {
            let time: u64 = waiting.all_times();
            for one in waiting.samples().filter(|one| one.doing == Doing::Timed) {
                *by_lock.entry(one.lock).or_default() +=
                    f64::from(one.samples) / time.max(1) as f64;
            }
        }
        for &lock in by_lock.keys() {
            if self.lock_shares.len() < MOST {
                self.lock_shares.entry(lock).or_default();
            }
        }
        let Some((&first, &last)) = target_shares.first().zip(target_shares.last()) else { return };
        let squares: f64 = target_shares.windows(2).map(|two| (two[1] - two[0]).powi(2)).sum();
        for (lock, shares) in &mut self.lock_shares {
            let part = by_lock.get(lock).copied().unwrap_or(0.0).min(1.0);
            if part > 0.0 || !shares.is_zero() {
                shares.several(part * first, part * part * squares, part * last);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "σ")]
    pub(super) fn finish(self, domain: &Domain, out: &mut EnergySummary) {
        let Some(shown) = self.sums.first() else { return };
        let of = |who| shown.parts.get(&who).copied().unwrap_or_default();
        let traced = shown.target();
        let watts = self.energy.power(self.time);
        let estimated = self.known.contains_key(&Known::Modelled);
        let age = domain.period_ns.saturating_add(self.read.0);
        let read =
            if estimated { 0.0 } else { sigma::of_reading(domain.quantum_uj, watts.0, age as f64) };
        out.domains.push(DomainEnergy {
            name: domain.name.clone(),
            part: domain.part,
            parent: domain.parent,
            split: domain.split,
            energy: self.energy,
            baseline: shown.baseline,
            traced,
            other: of(Who::Other),
            kernel: of(Who::Kernel),
            tracer: of(Who::Tracer),
            lost: of(Who::Lost),
            idle_active: of(Who::IdleActive),
            sigma: read * 2f64.sqrt(),
            watts,
            time: self.time,
            unknown: self.unknown,
            first_unknown: self.first_unknown,
        });
        // Memory is a domain of its own, beside the processor: less is known of who uses it.
        if !domain.split || domain.part == Part::Dram {
            return;
        }
        let states: Vec<_> = self.sums.iter().map(Sums::states).collect();
        let Some(shown_states) = states.first() else { return };
        let range = |get: &dyn Fn(&States) -> Microjoules| {
            let all = states.iter().map(get);
            (all.clone().min().unwrap_or_default(), all.max().unwrap_or_default())
        };
        let timed = out.source.spin_timed;
        let sampled = |n: u64| {
            if n == 0 && timed {
                return 0.0; // all of it was timed
            }
            // σ of a share of so many samples; with none of them as with one.
            let (n, all) = (n.max(1) as f64, self.samples.max(1) as f64);
            let share = (n / all).min(1.0);
            traced.0 as f64 * (share * (1.0 - share) / all).sqrt()
        };
        for (&lock, &energy) in &shown_states.locks {
            let shares = self.lock_shares.get(&lock).copied().unwrap_or_default();
            let n = self.lock_samples.get(&lock).copied().unwrap_or(0);
            let bounds = range(&|states: &States| states.lock(lock));
            let sigmas = [shares.sigma(read), sampled(n)];
            let amount = match lock {
                Some(lock) => out.locks.entry(lock).or_default(),
                None => &mut out.waiting_unknown,
            };
            amount.add(energy, &sigmas, bounds);
        }
        let waits: u64 = self.lock_samples.values().sum();
        let bounds = range(&|states: &States| states.locks.values().copied().sum());
        let all: Microjoules = shown_states.locks.values().copied().sum();
        let target = self.shares.iter().filter(|(who, _)| is_target(**who));
        let squares: f64 = target.map(|(_, shares)| shares.sigma(read).powi(2)).sum();
        out.waiting.add(all, &[squares.sqrt(), sampled(waits)], bounds);
        for (who, shares) in &self.shares {
            let Who::Thread(thread) = *who else { continue };
            let bounds = range(&|states: &States| states.thread(thread));
            let entry = out.threads.entry(thread).or_default();
            entry.all.add(of(*who), &[shares.sigma(read)], bounds);
            let waiting =
                |states: &States| states.waiting.get(&thread).copied().unwrap_or_default();
            let share = waiting(shown_states);
            entry.waiting.add(share, &[sampled(waits)], range(&waiting));
            if !shown.samples.contains_key(&thread) && !timed {
                entry.undivided += of(*who);
            }
        }
    }
}

impl Amount {
    fn add(
        &mut self,
        energy: Microjoules,
        sigmas: &[f64],
        (low, high): (Microjoules, Microjoules),
    ) {
        self.energy += energy;
        self.sigma = sigmas.iter().fold(self.sigma, |sum, sigma| sum + sigma * sigma);
        self.low += low;
        self.high += high;
    }

    /// From the sum of the squares to its root.
    pub(super) fn settle(&mut self) {
        self.sigma = self.sigma.sqrt();
    }
}
