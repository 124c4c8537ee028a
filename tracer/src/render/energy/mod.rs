//! Energy as text and JSON. Every number says what it is: measured, attributed, estimated, simulated.

mod counterfactual;
mod json;
mod text;

pub(super) use json::{amount, grams_of_thread, json, lock_keys, thread_keys};
pub(super) use text::{rule, section};

use crate::analyze::energy::{Amount, EnergySummary};
use crate::analyze::{LockSummary, Summary, ThreadSummary};
use crate::energy::{Known, Microjoules, Quality};
use crate::trace::energy::ONE;

/// Grams of CO2e for a kilowatt-hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carbon(pub f64);

impl Carbon {
    /// Grams of what was attributed; `-` where that is no more than noise.
    fn of(self, amount: &Amount) -> String {
        if amount.is_noise() { "-".to_owned() } else { self.words(amount.energy) }
    }

    /// Grams for this energy.
    #[must_use]
    pub fn grams(self, energy: Microjoules) -> f64 {
        energy.joules() / 3.6e6 * self.0
    }

    fn words(self, energy: Microjoules) -> String {
        let grams = self.grams(energy);
        if grams < 0.001 {
            format!("{:.3} µg CO2e", grams * 1e6)
        } else if grams < 1.0 {
            format!("{:.3} mg CO2e", grams * 1e3)
        } else {
            format!("{grams:.3} g CO2e")
        }
    }
}

/// The one line about energy at the head of a report; empty if the trace says nothing of it.
pub(super) fn head(summary: &Summary) -> String {
    let Some(energy) = &summary.energy else { return String::new() };
    match missing(energy) {
        Some(words) => words + "\n",
        None => String::new(),
    }
}

/// `energy: no live counter (why)`, if there is no energy; or that what there is is not divided.
pub(super) fn missing(energy: &EnergySummary) -> Option<String> {
    if energy.counted() && !energy.any() {
        let words = "energy: of no thread and no lock (what was read is of the whole machine, or of a \
                     part of it that is not known)";
        return Some(words.to_owned());
    }
    let because = energy.source.none_because.as_ref()?;
    Some(format!("energy: no live counter ({})", super::escape::whole(because)))
}

/// What there is to show of energy of threads and locks.
pub(super) fn present(summary: &Summary) -> Option<&EnergySummary> {
    summary.energy.as_ref().filter(|energy| energy.any())
}

/// What there is to show of energy at all.
pub(super) fn counted(summary: &Summary) -> Option<&EnergySummary> {
    summary.energy.as_ref().filter(|energy| energy.counted())
}

/// The column of a lock table.
pub(super) fn title(summary: &Summary) -> Option<&'static str> {
    present(summary).map(titled)
}

fn titled(energy: &EnergySummary) -> &'static str {
    match energy.source.quality {
        Quality::Simulated => "energy (attributed, simulated)",
        Quality::Estimated => "energy (estimated)",
        Quality::Measured | Quality::None => "energy (attributed)",
    }
}

/// What a lock's on-CPU waiting comes to.
pub(super) fn of_lock(summary: &Summary, lock: &LockSummary) -> String {
    let amount = present(summary).and_then(|energy| energy.locks.get(&lock.lock.index));
    amount.map_or_else(|| "-".to_owned(), words)
}

/// What waiting for it on the CPU comes to for each time that a thread found it taken. Who got it by
/// spinning alone is not counted by anything that is cheap, so that of a lock that is spun on it is known
/// only that it is no more than this.
pub(super) fn per_contended(lock: &LockSummary, amount: &Amount) -> Option<(Microjoules, bool)> {
    let waits = lock.sums.waits;
    let told = waits > 0 && amount.energy.0 > 0 && !amount.is_noise();
    told.then(|| (Microjoules(amount.energy.0 / waits), lock.sums.spins > 0))
}

/// What a thread was given.
pub(super) fn of_thread(summary: &Summary, thread: &ThreadSummary) -> String {
    let given = present(summary).and_then(|energy| energy.threads.get(&thread.index));
    given.map_or_else(|| "-".to_owned(), |given| words(&given.all))
}

/// What became of a counter.
pub(super) fn became(known: Known) -> &'static str {
    match known {
        Known::Reset => "began anew",
        Known::Frozen => "stood still",
        Known::Gone => "was gone",
        Known::Measured | Known::Modelled => "counted",
    }
}

/// A weight in millionths.
fn share(weight: u32) -> f64 {
    f64::from(weight) / f64::from(ONE)
}

/// `1.23 mJ ±4 %`, or `< 45 µJ` where it is no more than noise.
pub(super) fn words(amount: &Amount) -> String {
    if amount.energy.0 == 0 && amount.sigma == 0.0 {
        return "-".to_owned();
    }
    if amount.is_noise() {
        return format!("< {}", amount.two_sigma());
    }
    if amount.sigma == 0.0 {
        return amount.energy.to_string(); // assumed, and timed: there is nothing to be off
    }
    format!("{} ±{}", amount.energy, part(2.0 * amount.sigma, amount.energy))
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn part(uj: f64, whole: Microjoules) -> String {
    let share = 100.0 * uj / (whole.0.max(1)) as f64;
    if share < 9.95 { format!("{share:.1} %") } else { format!("{share:.0} %") }
}
