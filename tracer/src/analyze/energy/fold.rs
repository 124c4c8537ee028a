//! Adding up a recording's energy, interval by interval.

use super::covers::Covers;
use super::domain::{DomainFold, Interval};
use super::ledger::Ledger;
use super::model::{Weights, Who, divide, is_target, tasks, weighted};
use super::summary::{EnergySummary, TimeSums};
use super::waiting::{Waiting, counts};
use crate::energy::{Known, Microjoules, Part, Watts};
use crate::trace::energy::{Doing, EnergyInterval, EnergySource, ONE};
use crate::units::{Monotonic, Ns, ThreadIndex};

/// Takes intervals as they come.
#[derive(Clone, Debug, Default)]
pub struct EnergyFold {
    source: Option<EnergySource>,
    weights: Vec<Weights>,
    domains: Vec<DomainFold>,
    time: TimeSums,
    windows: u64,
    waiting_samples: u64,
    waiting_timed: Ns,
    started: Option<Monotonic>,
    ledger: Ledger,
}

/// Of one window, over all packages: what goes to the ledger.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// A thread once for each package that it ran on.
    threads: Vec<(ThreadIndex, u64)>,
    baseline: Microjoules,
}

impl EnergyFold {
    /// Where energy comes from: the first one counts.
    pub fn source(&mut self, source: &EnergySource) {
        if self.source.is_some() {
            return;
        }
        // What is shown comes first; the others give the model's range.
        let smt = source.smt_weight.unwrap_or(ONE);
        let (shown, other) = source.spin_weights();
        self.weights = vec![Weights { smt, spin: shown }];
        for spin in [shown, other] {
            for smt in [smt, ONE] {
                let one = Weights { smt, spin };
                if !self.weights.contains(&one) {
                    self.weights.push(one);
                }
            }
        }
        self.domains = vec![DomainFold::default(); source.domains.len()];
        self.source = Some(source.clone());
    }

    /// There is a source with domains: what happens when is worth to be known.
    pub(in crate::analyze) fn any(&self) -> bool {
        !self.domains.is_empty()
    }

    /// The next interval.
    pub fn interval(&mut self, interval: &EnergyInterval) {
        let Some(source) = self.source.clone() else { return };
        for window in &interval.windows {
            self.started.get_or_insert(window.start);
            self.windows += 1;
            self.time.add(window);
        }
        for one in interval.samples.iter().filter(|one| counts(one.doing, &source)) {
            match one.doing {
                Doing::Anything => {}
                Doing::Spinning | Doing::Futex => self.waiting_samples += u64::from(one.samples),
                Doing::Timed => self.waiting_timed += Ns(u64::from(one.samples)),
            }
        }
        let mut entries = vec![Entry::default(); interval.windows.len()];
        for place in 0..self.domains.len() {
            let covers = Covers::new(&source, &source.domains[place]);
            self.domain(&source, place, &covers, interval, &mut entries);
        }
        for (window, entry) in interval.windows.iter().zip(entries) {
            self.ledger.window(window, entry.threads, entry.baseline);
        }
    }

    fn domain(
        &mut self,
        source: &EnergySource,
        place: usize,
        covers: &Covers,
        interval: &EnergyInterval,
        entries: &mut [Entry],
    ) {
        let (split, part) = (source.domains[place].split, source.domains[place].part);
        let idle = source.idle.get(place).copied().flatten().map(|idle| idle.watts);
        let fold = &mut self.domains[place];
        // Memory is in no thread's number, so that its range is never shown either.
        let by_thread = split && part != Part::Dram;
        let waiting = by_thread.then(|| Waiting::new(interval, covers, source));
        let weights = if by_thread { &self.weights[..] } else { &self.weights[..1] };
        let mut sum = Interval::default();
        let mut target_shares = Vec::new();
        for (window, entry) in interval.windows.iter().zip(entries) {
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
            if !split && reading.known != Known::Modelled {
                fold.energy += measured;
                continue;
            }
            let of = |thread| waiting.as_ref().map_or(0, |waiting| waiting.of(thread));
            let tasks = tasks(window, |cpu| covers.cpu(cpu), of);
            for (n, &weights) in weights.iter().enumerate() {
                let x = weighted(&tasks, weights);
                if reading.known == Known::Modelled && n == 0 {
                    // The estimate is the shown weights' whatever the others are for.
                    measured = modelled(source.assumed_watts, &x);
                }
                if !split {
                    break;
                }
                let division = divide(measured, idle, time, &x);
                fold.sums.take(n, &division);
                let Some(waiting) = &waiting else { continue };
                let threads = division.parts.iter().filter_map(|&(who, energy)| match who {
                    Who::Thread(thread) => Some((thread, energy.0)),
                    _ => None,
                });
                if n == 0 {
                    target_shares.push(fold.share(&x));
                    entry.baseline += division.baseline;
                    entry.threads.extend(threads.clone());
                }
                if waiting.timed() {
                    for (thread, energy) in threads {
                        sum.threads.entry(thread).or_default()[n] += energy;
                    }
                }
                sum.energy[n] += division.target().0;
                let target = x.iter().filter(|(who, _)| is_target(*who));
                sum.x[n] += target.map(|(_, x)| x).sum::<u128>();
            }
            fold.energy += measured;
        }
        if let Some(waiting) = waiting {
            fold.waited(&waiting, &sum, weights, &target_shares);
        }
    }

    /// What it all comes to; none if the trace says nothing of energy.
    #[must_use]
    pub fn finish(self) -> Option<EnergySummary> {
        self.finish_with_ledger().map(|(summary, _)| summary)
    }

    /// The same, and what is needed for overlays.
    pub(in crate::analyze) fn finish_with_ledger(self) -> Option<(EnergySummary, Ledger)> {
        let source = self.source?;
        let mut out = EnergySummary {
            windows: self.windows,
            time: self.time,
            waiting_samples: self.waiting_samples,
            waiting_timed: self.waiting_timed,
            pooled: Covers::pooled(&source),
            source,
            ..EnergySummary::default()
        };
        let domains = out.source.domains.clone();
        for (domain, fold) in domains.iter().zip(self.domains) {
            fold.finish(domain, self.weights.len(), &mut out);
        }
        for amount in out.locks.values_mut().chain([&mut out.waiting_unknown, &mut out.waiting]) {
            amount.settle();
        }
        for thread in out.threads.values_mut() {
            thread.all.settle();
            thread.waiting.settle();
        }
        Some((out, self.ledger))
    }
}

/// What is assumed of weighted time (in the unit of [`weighted`], 10^18 of a nanosecond).
fn modelled(watts: Option<f64>, x: &[(Who, u128)]) -> Microjoules {
    let one = u128::from(ONE);
    let busy = x.iter().map(|(_, x)| x).sum::<u128>() / (one * one * one);
    Watts(watts.unwrap_or(0.0)).over(Ns(u64::try_from(busy).unwrap_or(u64::MAX)))
}
