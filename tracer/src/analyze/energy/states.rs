//! One domain under one set of weights: its parts, and those of its threads by what they were for.

use std::collections::BTreeMap;

use super::apportion::{apportion, whole};
use super::model::{Division, Who, is_target};
use crate::energy::Microjoules;
use crate::units::{LockIndex, ThreadIndex};

/// Threads and locks that are told apart, per domain: of further ones the energy stays with the
/// target, undivided.
pub(super) const MOST: usize = 1 << 16;

/// What a thread's energy is for: a lock that it waits for on the CPU, or one that is not known.
pub(super) type For = Option<LockIndex>;

/// Sums over windows.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) parts: BTreeMap<Who, Microjoules>,
    pub(super) baseline: Microjoules,
    /// By thread: samples weighted with what a sample stood for, all and by lock.
    pub(super) samples: BTreeMap<ThreadIndex, f64>,
    pub(super) waiting: BTreeMap<(ThreadIndex, For), f64>,
    /// What was timed, as parts of the thread's energy, in µJ.
    pub(super) timed: BTreeMap<(ThreadIndex, For), f64>,
}

/// Energy by lock and thread.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    pub(super) locks: BTreeMap<For, Microjoules>,
    pub(super) waiting: BTreeMap<ThreadIndex, Microjoules>,
    threads: BTreeMap<ThreadIndex, Microjoules>,
}

impl States {
    pub(super) fn lock(&self, lock: For) -> Microjoules {
        self.locks.get(&lock).copied().unwrap_or_default()
    }

    pub(super) fn thread(&self, thread: ThreadIndex) -> Microjoules {
        self.threads.get(&thread).copied().unwrap_or_default()
    }
}

impl Sums {
    pub(super) fn take(&mut self, division: Division) {
        self.baseline += division.baseline;
        for (who, energy) in division.parts {
            *self.parts.entry(who).or_default() += energy;
        }
    }

    pub(super) fn target(&self) -> Microjoules {
        self.parts.iter().filter(|(who, _)| is_target(**who)).map(|(_, &energy)| energy).sum()
    }

    /// Each thread's energy over what it was found doing: to the microjoule (E1), and never more for
    /// waiting than the thread has (E2).
    #[expect(clippy::cast_precision_loss, reason = "weights")]
    pub(super) fn states(&self) -> States {
        let mut out = States::default();
        for (&who, &energy) in &self.parts {
            let Who::Thread(thread) = who else { continue };
            out.threads.insert(thread, energy);
            let of_thread = (thread, None)..=(thread, Some(LockIndex(u32::MAX)));
            let all = self.samples.get(&thread).copied().unwrap_or(0.0);
            // What a sample stood for, in µJ.
            let each = if all > 0.0 { energy.0 as f64 / all } else { 0.0 };
            let mut parts: BTreeMap<For, f64> = BTreeMap::new();
            for (&(_, lock), worth) in self.waiting.range(of_thread.clone()) {
                *parts.entry(lock).or_default() += worth * each;
            }
            for (&(_, lock), uj) in self.timed.range(of_thread) {
                *parts.entry(lock).or_default() += uj;
            }
            if parts.is_empty() {
                continue;
            }
            let mut weights: Vec<f64> = parts.values().copied().collect();
            weights.push((energy.0 as f64 - weights.iter().sum::<f64>()).max(0.0));
            for (&lock, part) in parts.keys().zip(apportion(energy.0, &whole(&weights))) {
                *out.locks.entry(lock).or_default() += Microjoules(part);
                *out.waiting.entry(thread).or_default() += Microjoules(part);
            }
        }
        out
    }
}
