//! Adding up one domain, interval by interval.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use foldhash::fast::RandomState;

use super::model::{Weights, Who, is_target};
use super::sigma::{self, Shares};
use super::states::{For, MOST, States, Sums, WEIGHTS};
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
    pub(super) sums: Sums,
    shares: HashMap<Who, Shares, RandomState>,
    /// Who had a share in the last window.
    sharing: Vec<Who>,
    lock_shares: HashMap<For, Shares, RandomState>,
    /// Locks with a share at the end of the last interval.
    locks_sharing: Vec<For>,
    /// Of all waiting: the error of a reading is the same one for all of its locks.
    waiting_shares: Shares,
    /// Samples of the target, all, by lock, and by thread all and waiting.
    samples: u64,
    lock_samples: HashMap<For, u64, RandomState>,
    thread_samples: HashMap<ThreadIndex, (u64, u64), RandomState>,
}

/// What the windows of an interval came to under each set of weights.
#[derive(Clone, Debug, Default)]
pub(super) struct Interval {
    /// Energy of the target and its weighted time.
    pub(super) energy: [u64; WEIGHTS],
    pub(super) x: [u128; WEIGHTS],
    /// Energy of each thread; only if yields are timed.
    pub(super) threads: HashMap<ThreadIndex, [u64; WEIGHTS], RandomState>,
}

impl DomainFold {
    /// Notes the shares of this window, of everything that ever had one; returns the target's.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(super) fn share(&mut self, x: &[(Who, u128)]) -> f64 {
        let all: u128 = x.iter().map(|(_, x)| x).sum();
        let of = |x: u128| if all == 0 { 0.0 } else { x as f64 / all as f64 };
        for &(who, x) in x {
            if let Some(shares) = told_apart(&mut self.shares, who) {
                shares.next(of(x));
            }
        }
        // Of those that had none before nothing changes.
        for who in self.sharing.drain(..) {
            if x.binary_search_by_key(&who, |(who, _)| *who).is_err()
                && let Some(shares) = self.shares.get_mut(&who)
            {
                shares.next(0.0);
            }
        }
        self.sharing.extend(x.iter().map(|(who, _)| *who));
        of(x.iter().filter(|(who, _)| is_target(*who)).map(|(_, x)| x).sum())
    }

    /// Takes in what samples and timed yields say of the interval whose windows were divided.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn waited(
        &mut self,
        waiting: &Waiting<'_>,
        interval: &Interval,
        weights: &[Weights],
        target_shares: &[f64],
    ) {
        let mut all = 0u64;
        let mut by_lock: BTreeMap<For, f64> = BTreeMap::new();
        let mut spin = [1.0; WEIGHTS];
        spin.iter_mut().zip(weights).for_each(|(s, w)| *s = f64::from(w.spin) / f64::from(ONE));
        for one in waiting.samples() {
            let n = u64::from(one.samples);
            let key = (one.thread, one.lock);
            if one.doing != Doing::Timed
                && let Some((all, waiting)) = told_apart(&mut self.thread_samples, one.thread)
            {
                *(if one.doing == Doing::Anything { all } else { waiting }) += n;
            }
            match one.doing {
                Doing::Anything => all += n,
                Doing::Spinning | Doing::Futex => {
                    *by_lock.entry(one.lock).or_default() += n as f64;
                    if let Some(samples) = told_apart(&mut self.lock_samples, one.lock) {
                        *samples += n;
                    }
                }
                Doing::Timed => {
                    let energy = interval.threads.get(&one.thread).copied().unwrap_or_default();
                    let (time, timed) = waiting.times(one.thread);
                    let part = |w: usize| {
                        // The same thread's other time counts 1.
                        let whole = time.max(timed) as f64 + timed as f64 * (spin[w] - 1.0);
                        energy[w] as f64 * n as f64 * spin[w] / whole.max(1.0)
                    };
                    self.sums.timed(key, std::array::from_fn(part));
                    continue;
                }
            }
            if interval.x[0] == 0 {
                continue;
            }
            let worth: [f64; WEIGHTS] = std::array::from_fn(|w| match interval.x[w] {
                0 => 0.0,
                x => n as f64 * interval.energy[w] as f64 / (x as f64),
            });
            if one.doing == Doing::Anything {
                self.sums.sampled(one.thread, worth);
            } else {
                let counts = std::array::from_fn(|w| worth[w] * spin[w]);
                let more = std::array::from_fn(|w| worth[w] * (spin[w] - 1.0));
                self.sums.sampled_waiting(key, counts, more);
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
        // Under the shown weights.
        let counted = counted(spin[0], by_lock.values().sum());
        by_lock.values_mut().for_each(|part| *part *= counted);
        let Some((&first, &last)) = target_shares.first().zip(target_shares.last()) else { return };
        let squares: f64 = target_shares.windows(2).map(|two| (two[1] - two[0]).powi(2)).sum();
        let part = by_lock.values().sum::<f64>().min(1.0);
        self.waiting_shares.several(part * first, part * part * squares, part * last);
        for (&lock, part) in &by_lock {
            if let Some(shares) = told_apart(&mut self.lock_shares, lock) {
                let part = part.min(1.0);
                shares.several(part * first, part * part * squares, part * last);
            }
        }
        for lock in self.locks_sharing.drain(..).filter(|lock| !by_lock.contains_key(lock)) {
            if let Some(shares) = self.lock_shares.get_mut(&lock) {
                shares.next(0.0);
            }
        }
        self.locks_sharing.extend(by_lock.keys());
    }

    #[expect(clippy::cast_precision_loss, reason = "σ")]
    pub(super) fn finish(self, domain: &Domain, weights: usize, out: &mut EnergySummary) {
        let shown = self.sums.summed();
        let of = |who| shown.of(who);
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
            baseline: shown.baseline(),
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
        let states: Vec<_> = (0..weights).map(|n| shown.states(n)).collect();
        let Some(shown_states) = states.first() else { return };
        let range = |get: &dyn Fn(&States) -> Microjoules| {
            let all = states.iter().map(get);
            (all.clone().min().unwrap_or_default(), all.max().unwrap_or_default())
        };
        let timed = out.source.spin_timed;
        let waits: u64 = self.lock_samples.values().sum();
        let gamma = f64::from(out.source.spin_weights().0) / f64::from(ONE);
        let counted = counted(gamma, waits as f64 / self.samples.max(1) as f64);
        // σ of a share that so many of all samples show.
        let sampled = |n: u64, all: u64, energy: Microjoules| {
            if n == 0 && timed {
                return 0.0; // all of it was timed
            }
            energy.0 as f64 * counted * sigma::of_share(n, all)
        };
        for (&lock, &energy) in &shown_states.locks {
            let shares = self.lock_shares.get(&lock).copied().unwrap_or_default();
            let n = self.lock_samples.get(&lock).copied().unwrap_or(0);
            let bounds = range(&|states: &States| states.lock(lock));
            let sigmas = [shares.sigma(read), sampled(n, self.samples, traced)];
            let amount = match lock {
                Some(lock) => out.locks.entry(lock).or_default(),
                None => &mut out.waiting_unknown,
            };
            amount.add(energy, &sigmas, bounds);
        }
        let bounds = range(&|states: &States| states.locks.values().copied().sum());
        let all: Microjoules = shown_states.locks.values().copied().sum();
        let sigmas = [self.waiting_shares.sigma(read), sampled(waits, self.samples, traced)];
        out.waiting.add(all, &sigmas, bounds);
        let shares: BTreeMap<Who, Shares> = self.shares.into_iter().collect();
        for (who, shares) in &shares {
            let Who::Thread(thread) = *who else { continue };
            let bounds = range(&|states: &States| states.thread(thread));
            let entry = out.threads.entry(thread).or_default();
            entry.all.add(of(*who), &[shares.sigma(read)], bounds);
            let waiting =
                |states: &States| states.waiting.get(&thread).copied().unwrap_or_default();
            let share = waiting(shown_states);
            let (all, found) = self.thread_samples.get(&thread).copied().unwrap_or_default();
            let part = share.0 as f64 / (of(*who).0.max(1)) as f64;
            let sigmas = [part * shares.sigma(read), sampled(found, all, of(*who))];
            entry.waiting.add(share, &sigmas, range(&waiting));
            if !shown.sampled(thread) && !timed {
                entry.undivided += of(*who);
            }
        }
    }
}

/// What a part of the time counts if all `waiting` parts of it count `gamma`, and the others 1.
fn counted(gamma: f64, waiting: f64) -> f64 {
    gamma / (1.0 + (gamma - 1.0) * waiting.min(1.0))
}

/// The place of a key, unless it is a new one beyond the limit.
fn told_apart<K: Copy + Eq + Hash, V: Default>(
    all: &mut HashMap<K, V, RandomState>,
    key: K,
) -> Option<&mut V> {
    if all.len() >= MOST && !all.contains_key(&key) {
        return None;
    }
    Some(all.entry(key).or_default())
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

    /// Adds a part of another amount.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part"
    )]
    pub(super) fn add_part(&mut self, energy: Microjoules, whole: &Self) {
        let part = energy.0 as f64 / whole.energy.0.max(1) as f64;
        let of = |uj: Microjoules| Microjoules((uj.0 as f64 * part) as u64);
        self.add(energy, &[whole.sigma * part.sqrt()], (of(whole.low), of(whole.high)));
    }

    /// From the sum of the squares to its root.
    pub(super) fn settle(&mut self) {
        self.sigma = self.sigma.sqrt();
    }
}
