//! Adding up a recording's energy, interval by interval: domains, tasks, and from the samples the part
//! that threads spent waiting on the CPU, by lock.

use std::collections::BTreeMap;

use super::apportion::apportion;
use super::model::{Division, Weights, Who, divide, weighted};
use super::sigma::{self, Shares};
use super::summary::{Amount, DomainEnergy, EnergySummary, TimeSums};
use crate::energy::{Domain, Known, Microjoules, Part, Watts};
use crate::trace::energy::{Doing, EnergyInterval, EnergySamples, EnergySource, EnergyWindow, ONE};
use crate::units::{LockIndex, Ns, ThreadIndex};

/// With so many samples in an interval a thread's own share of waiting is used, else that of all
/// threads with fewer.
const OWN_SHARE: u64 = 20;
/// Threads and locks that are told apart, per domain: of further ones the energy stays with the
/// target, undivided.
const MOST: usize = 1 << 16;

/// What a thread's energy is for: a lock that it waits for on the CPU, or one that is not known.
type For = Option<LockIndex>;

/// One domain under one set of weights.
#[derive(Clone, Debug, Default)]
struct Sums {
    parts: BTreeMap<Who, Microjoules>,
    baseline: Microjoules,
    /// By thread: samples weighted with what a sample stood for, all and by lock.
    samples: BTreeMap<ThreadIndex, f64>,
    waiting: BTreeMap<(ThreadIndex, For), f64>,
}

#[derive(Clone, Debug, Default)]
struct DomainFold {
    energy: Microjoules,
    known: BTreeMap<Known, u64>,
    first_unknown: Option<(Known, Ns)>,
    time: Ns,
    unknown: Ns,
    read: Ns,
    /// One for each of the fold's weights.
    sums: Vec<Sums>,
    shares: BTreeMap<Who, Shares>,
    lock_shares: BTreeMap<For, Shares>,
    /// Samples of the target, all and by lock.
    samples: u64,
    lock_samples: BTreeMap<For, u64>,
}

/// Takes intervals as they come.
#[derive(Clone, Debug, Default)]
pub struct EnergyFold {
    source: Option<EnergySource>,
    weights: Vec<Weights>,
    domains: Vec<DomainFold>,
    time: TimeSums,
    windows: u64,
    started: Option<crate::units::Monotonic>,
}

impl EnergyFold {
    /// Where energy comes from: the first one counts.
    pub fn source(&mut self, source: &EnergySource) {
        if self.source.is_some() {
            return;
        }
        // What is shown comes first; the others give the model's range.
        let smt = source.smt_weight.unwrap_or(ONE);
        self.weights = vec![Weights { smt, spin: ONE }];
        for spin in [ONE, source.spin_weight.unwrap_or(ONE)] {
            for smt in [smt, ONE] {
                let one = Weights { smt, spin };
                if !self.weights.contains(&one) {
                    self.weights.push(one);
                }
            }
        }
        let sums = vec![Sums::default(); self.weights.len()];
        let domain = DomainFold { sums, ..DomainFold::default() };
        self.domains = vec![domain; source.domains.len()];
        self.source = Some(source.clone());
    }

    /// The next interval.
    pub fn interval(&mut self, interval: &EnergyInterval) {
        let Some(source) = self.source.clone() else { return };
        for window in &interval.windows {
            self.started.get_or_insert(window.start);
            self.windows += 1;
            self.time.add(window);
        }
        for place in 0..self.domains.len() {
            let covers = Covers::new(&source, &source.domains[place]);
            self.domain(&source, place, &covers, interval);
        }
    }

    fn domain(
        &mut self,
        source: &EnergySource,
        place: usize,
        covers: &Covers,
        interval: &EnergyInterval,
    ) {
        let split = source.domains[place].split;
        let idle = source.idle.get(place).copied().flatten().map(|idle| idle.watts);
        let samples: Vec<&EnergySamples> =
            interval.samples.iter().filter(|one| split && covers.cpu(one.cpu)).collect();
        let waiting = WaitingShares::new(&samples);
        let fold = &mut self.domains[place];
        // Energy of the target and its weighted time, by weights.
        let mut density = vec![(0u64, 0u128); self.weights.len()];
        let mut target_shares = Vec::new();
        for window in &interval.windows {
            let Some(&reading) = window.readings.get(place) else { continue };
            let time = window.end.since(window.start);
            *fold.known.entry(reading.known).or_default() += 1;
            let known = matches!(reading.known, Known::Measured | Known::Modelled);
            if !known {
                fold.unknown += time;
                let since = self.started.map_or(Ns(0), |start| window.start.since(start));
                fold.first_unknown.get_or_insert((reading.known, since));
                continue;
            }
            fold.time += time;
            fold.read = fold.read.max(window.read);
            let mut measured = reading.energy;
            for (n, &weights) in self.weights.iter().enumerate() {
                let x =
                    weighted(window, |cpu| covers.cpu(cpu), weights, |thread| waiting.of(thread));
                if reading.known == Known::Modelled {
                    // The estimate is the shown weights' whatever the others are for.
                    if n == 0 {
                        measured = modelled(source.assumed_watts, &x);
                    }
                }
                if !split {
                    break;
                }
                let division = divide(measured, idle, time, &x);
                if n == 0 {
                    fold.share(&x, &mut target_shares);
                }
                density[n].0 += target(&division).0;
                density[n].1 +=
                    x.iter().filter(|(who, _)| is_target(**who)).map(|(_, x)| x).sum::<u128>();
                fold.sums[n].take(division);
            }
            fold.energy += measured;
        }
        if split {
            fold.sampled(&samples, &density, &self.weights, &target_shares);
        }
    }

    /// What it all comes to; none if the trace has no energy windows.
    #[must_use]
    pub fn finish(self) -> Option<EnergySummary> {
        let source = self.source?;
        let mut out = EnergySummary {
            windows: self.windows,
            time: self.time,
            pooled: Covers::pooled(&source),
            ..EnergySummary::default()
        };
        for (domain, fold) in source.domains.iter().zip(self.domains) {
            fold.finish(domain, &mut out);
        }
        for amount in out.locks.values_mut().chain([&mut out.waiting_unknown, &mut out.waiting]) {
            amount.settle();
        }
        for thread in out.threads.values_mut() {
            thread.all.settle();
            thread.waiting.settle();
        }
        out.source = source;
        Some(out)
    }
}

impl DomainFold {
    /// Notes the shares of this window, of everything that ever had one.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn share(&mut self, x: &BTreeMap<Who, u128>, target_shares: &mut Vec<f64>) {
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
        target_shares.push(of(x.iter().filter(|(who, _)| is_target(**who)).map(|(_, x)| x).sum()));
    }

    /// Takes in what the samples say of the interval whose windows were divided.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn sampled(
        &mut self,
        samples: &[&EnergySamples],
        density: &[(u64, u128)],
        weights: &[Weights],
        target_shares: &[f64],
    ) {
        let mut all = 0u64;
        let mut by_lock: BTreeMap<For, u64> = BTreeMap::new();
        for one in samples {
            let n = u64::from(one.samples);
            let anything = one.doing == Doing::Anything;
            if anything {
                all += n;
            } else {
                *by_lock.entry(one.lock).or_default() += n;
            }
            for ((sums, &(energy, x)), weights) in self.sums.iter_mut().zip(density).zip(weights) {
                if x == 0 {
                    continue;
                }
                let worth = n as f64 * energy as f64 / (x as f64);
                let spin = f64::from(weights.spin) / f64::from(ONE);
                let room = sums.waiting.len() < MOST;
                if anything {
                    *sums.samples.entry(one.thread).or_default() += worth;
                } else if room || sums.waiting.contains_key(&(one.thread, one.lock)) {
                    *sums.waiting.entry((one.thread, one.lock)).or_default() += worth * spin;
                    // What counts more or less in the part counts so in the whole.
                    *sums.samples.entry(one.thread).or_default() += worth * (spin - 1.0);
                }
            }
        }
        self.samples += all;
        for (&lock, &n) in &by_lock {
            if self.lock_samples.len() < MOST {
                self.lock_shares.entry(lock).or_default();
            }
            *self.lock_samples.entry(lock).or_default() += n;
        }
        let Some((&first, &last)) = target_shares.first().zip(target_shares.last()) else { return };
        let squares: f64 = target_shares.windows(2).map(|two| (two[1] - two[0]).powi(2)).sum();
        for (lock, shares) in &mut self.lock_shares {
            let part = by_lock.get(lock).map_or(0.0, |&n| n as f64 / all.max(n) as f64);
            if part > 0.0 || !shares.is_zero() {
                shares.several(part * first, part * part * squares, part * last);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "σ")]
    fn finish(self, domain: &Domain, out: &mut EnergySummary) {
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
        let sampled = |n: u64| {
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
            let n = self.lock_samples.values().sum::<u64>();
            entry.waiting.add(share, &[sampled(n)], range(&waiting));
            if !shown.samples.contains_key(&thread) {
                entry.undivided += of(*who);
            }
        }
    }
}

/// One domain's energy by lock and thread.
#[derive(Clone, Debug, Default)]
struct States {
    locks: BTreeMap<For, Microjoules>,
    waiting: BTreeMap<ThreadIndex, Microjoules>,
    threads: BTreeMap<ThreadIndex, Microjoules>,
}

impl States {
    fn lock(&self, lock: For) -> Microjoules {
        self.locks.get(&lock).copied().unwrap_or_default()
    }

    fn thread(&self, thread: ThreadIndex) -> Microjoules {
        self.threads.get(&thread).copied().unwrap_or_default()
    }
}

impl Sums {
    fn take(&mut self, division: Division) {
        self.baseline += division.baseline;
        for (who, energy) in division.parts {
            *self.parts.entry(who).or_default() += energy;
        }
    }

    fn target(&self) -> Microjoules {
        self.parts.iter().filter(|(who, _)| is_target(**who)).map(|(_, &energy)| energy).sum()
    }

    /// Each thread's energy over what its samples found it doing: to the microjoule (E1), and never
    /// more for waiting than the thread has (E2).
    fn states(&self) -> States {
        let mut out = States::default();
        let mut waiting = self.waiting.iter().peekable();
        for (&who, &energy) in &self.parts {
            let Who::Thread(thread) = who else { continue };
            out.threads.insert(thread, energy);
            while waiting.peek().is_some_and(|((other, _), _)| *other < thread) {
                waiting.next();
            }
            let mut locks = Vec::new();
            let mut weights = Vec::new();
            while let Some(((_, lock), &worth)) =
                waiting.next_if(|((other, _), _)| *other == thread)
            {
                locks.push(*lock);
                weights.push(worth);
            }
            if locks.is_empty() {
                continue;
            }
            let all = self.samples.get(&thread).copied().unwrap_or(0.0);
            let rest = (all - weights.iter().sum::<f64>()).max(0.0);
            weights.push(rest);
            let parts = apportion(energy.0, &whole(&weights));
            for (lock, part) in locks.into_iter().zip(parts) {
                *out.locks.entry(lock).or_default() += Microjoules(part);
                *out.waiting.entry(thread).or_default() += Microjoules(part);
            }
        }
        out
    }
}

/// As whole numbers, the largest with 60 bits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "casts from floating point saturate"
)]
fn whole(weights: &[f64]) -> Vec<u128> {
    let most = weights.iter().copied().fold(0.0, f64::max);
    let scale = if most > 0.0 { (1u64 << 60) as f64 / most } else { 0.0 };
    weights.iter().map(|weight| (weight * scale) as u128).collect()
}

/// Which part of their time threads spent waiting on the CPU, in millionths.
struct WaitingShares {
    own: BTreeMap<ThreadIndex, u32>,
    others: u32,
}

impl WaitingShares {
    fn new(samples: &[&EnergySamples]) -> Self {
        let mut threads: BTreeMap<ThreadIndex, (u64, u64)> = BTreeMap::new();
        for one in samples {
            let (all, waiting) = threads.entry(one.thread).or_default();
            let to = if one.doing == Doing::Anything { all } else { waiting };
            *to += u64::from(one.samples);
        }
        let share = |(all, waiting): (u64, u64)| {
            let whole = u64::from(ONE);
            u32::try_from(waiting.min(all) * whole / all.max(1)).unwrap_or(ONE)
        };
        let few = threads.values().filter(|(all, _)| *all < OWN_SHARE);
        let others = few.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let own = threads.iter().filter(|(_, (all, _))| *all >= OWN_SHARE);
        let own = own.map(|(&thread, &counts)| (thread, share(counts))).collect();
        Self { own, others: share(others) }
    }

    fn of(&self, thread: ThreadIndex) -> u32 {
        self.own.get(&thread).copied().unwrap_or(self.others)
    }
}

/// The CPUs of a domain.
struct Covers {
    /// None: all.
    cpus: Option<Vec<u32>>,
}

impl Covers {
    fn new(source: &EnergySource, domain: &Domain) -> Self {
        let whole = domain.package.is_none() || Self::pooled(source);
        let inside = |cpu: &&crate::energy::topology::Cpu| {
            cpu.package == domain.package && (domain.die.is_none() || cpu.die == domain.die)
        };
        let cpus = || source.cpus.iter().filter(inside).map(|cpu| cpu.cpu).collect();
        Self { cpus: (!whole).then(cpus) }
    }

    /// It is not known which CPU is of which package: each package's energy is split over what ran
    /// anywhere.
    fn pooled(source: &EnergySource) -> bool {
        source.cpus.iter().any(|cpu| cpu.package.is_none())
    }

    fn cpu(&self, cpu: u32) -> bool {
        self.cpus.as_ref().is_none_or(|cpus| cpus.contains(&cpu))
    }
}

fn is_target(who: Who) -> bool {
    matches!(who, Who::Thread(_))
}

fn target(division: &Division) -> Microjoules {
    division.parts.iter().filter(|(who, _)| is_target(**who)).map(|(_, &energy)| energy).sum()
}

/// What is assumed of weighted time (in the unit of [`weighted`], 10^18 of a nanosecond).
fn modelled(watts: Option<f64>, x: &BTreeMap<Who, u128>) -> Microjoules {
    let one = u128::from(ONE);
    let busy = x.values().sum::<u128>() / (one * one * one);
    Watts(watts.unwrap_or(0.0)).over(Ns(u64::try_from(busy).unwrap_or(u64::MAX)))
}

impl TimeSums {
    fn add(&mut self, window: &EnergyWindow) {
        let length = window.end.since(window.start);
        self.wall += length;
        for thread in &window.threads {
            self.traced += thread.time.total();
        }
        for cpu in &window.cpus {
            self.cpus += length;
            self.idle += cpu.idle;
            self.kernel += cpu.kernel.total();
            self.other += cpu.other.total();
            self.tracer += cpu.tracer.total();
            self.lost += cpu.lost.total();
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
    fn settle(&mut self) {
        self.sigma = self.sigma.sqrt();
    }
}
