//! One domain under one set of weights: its parts, and those of its threads by what they were for.

use std::collections::BTreeMap;

use super::apportion::{apportion, whole};
use super::model::{Division, Who, is_target};
use crate::analyze::bounded::Bounded;
use crate::energy::Microjoules;
use crate::units::{LockIndex, ThreadIndex};

/// Threads and locks that are told apart, per domain: of further ones the energy stays with the
/// target, undivided.
pub(super) const MOST: usize = 1 << 16;

/// What a thread's energy is for: a lock that it waits for on the CPU, or one that is not known.
pub(super) type For = Option<LockIndex>;

/// Sets of weights, at most: the shown one and those that give the model's range.
pub(super) const WEIGHTS: usize = 4;

/// Stands for the threads that found no room. Their energy is the target's, and nobody's.
const REST: ThreadIndex = ThreadIndex(u32::MAX);

/// Sums over windows, under each set of weights.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    parts: Bounded<Who, [u64; WEIGHTS]>,
    baseline: [Microjoules; WEIGHTS],
    /// By thread: samples weighted with what a sample stood for, all and by lock.
    samples: Bounded<ThreadIndex, [f64; WEIGHTS]>,
    waiting: Bounded<(ThreadIndex, For), [f64; WEIGHTS]>,
    /// What was timed, as parts of the thread's energy, in µJ.
    timed: Bounded<(ThreadIndex, For), [f64; WEIGHTS]>,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            parts: Bounded::new(MOST),
            baseline: Default::default(),
            samples: Bounded::new(MOST),
            waiting: Bounded::new(MOST),
            timed: Bounded::new(MOST),
        }
    }
}

/// All of them, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Summed {
    parts: BTreeMap<Who, [u64; WEIGHTS]>,
    baseline: [Microjoules; WEIGHTS],
    samples: BTreeMap<ThreadIndex, [f64; WEIGHTS]>,
    /// By samples, and timed.
    waiting: BTreeMap<(ThreadIndex, For), [[f64; WEIGHTS]; 2]>,
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
    /// A window's energy, divided under the weights of this number.
    pub(super) fn take(&mut self, n: usize, division: &Division) {
        self.baseline[n] += division.baseline;
        for &(who, energy) in &division.parts {
            let rest = if is_target(who) { Who::Thread(REST) } else { who };
            let sum = &mut self.parts.get(who, rest).1[n];
            *sum = sum.saturating_add(energy.0);
        }
    }

    /// Samples of a thread, by what they stand for.
    pub(super) fn sampled(&mut self, thread: ThreadIndex, worth: [f64; WEIGHTS]) {
        add(self.samples.get(thread, REST).1, worth);
    }

    /// Those that found it waiting; `more`: what they count beyond what they stand for.
    pub(super) fn sampled_waiting(
        &mut self,
        (thread, lock): (ThreadIndex, For),
        worth: [f64; WEIGHTS],
        more: [f64; WEIGHTS],
    ) {
        let (found, sum) = self.waiting.get((thread, lock), (REST, None));
        add(sum, worth);
        if found.0 == thread {
            // What counts more or less in the part counts so in the whole.
            self.sampled(thread, more);
        }
    }

    /// Energy of a thread's waiting that was timed.
    pub(super) fn timed(&mut self, key: (ThreadIndex, For), uj: [f64; WEIGHTS]) {
        add(self.timed.get(key, (REST, None)).1, uj);
    }

    /// No more will come.
    pub(super) fn summed(self) -> Summed {
        let mut waiting: BTreeMap<_, [[f64; WEIGHTS]; 2]> = BTreeMap::new();
        for (place, sums) in [self.waiting, self.timed].into_iter().enumerate() {
            for (key, sum) in sums {
                waiting.entry(key).or_default()[place] = sum;
            }
        }
        Summed {
            parts: self.parts.into_iter().collect(),
            baseline: self.baseline,
            samples: self.samples.into_iter().collect(),
            waiting,
        }
    }
}

fn add(sums: &mut [f64; WEIGHTS], more: [f64; WEIGHTS]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

impl Summed {
    /// What is shown: under the first weights.
    pub(super) fn baseline(&self) -> Microjoules {
        self.baseline[0]
    }

    pub(super) fn of(&self, who: Who) -> Microjoules {
        Microjoules(self.parts.get(&who).map_or(0, |parts| parts[0]))
    }

    pub(super) fn target(&self) -> Microjoules {
        let target = self.parts.iter().filter(|(who, _)| is_target(**who));
        target.map(|(_, parts)| Microjoules(parts[0])).sum()
    }

    pub(super) fn sampled(&self, thread: ThreadIndex) -> bool {
        self.samples.contains_key(&thread)
    }

    /// Each thread's energy over what it was found doing: to the microjoule (E1), and never more for
    /// waiting than the thread has (E2).
    #[expect(clippy::cast_precision_loss, reason = "weights")]
    pub(super) fn states(&self, n: usize) -> States {
        let mut out = States::default();
        for (&who, parts) in &self.parts {
            let Who::Thread(thread) = who else { continue };
            let energy = Microjoules(parts[n]);
            out.threads.insert(thread, energy);
            if thread == REST {
                continue;
            }
            let of_thread = (thread, None)..=(thread, Some(LockIndex(u32::MAX)));
            let all = self.samples.get(&thread).map_or(0.0, |samples| samples[n]);
            // What a sample stood for, in µJ.
            let each = if all > 0.0 { energy.0 as f64 / all } else { 0.0 };
            let parts = self.waiting.range(of_thread);
            let parts = parts
                .map(|(&(_, lock), [by_sample, timed])| (lock, by_sample[n] * each + timed[n]));
            let (locks, mut weights): (Vec<For>, Vec<f64>) = parts.unzip();
            if locks.is_empty() {
                continue;
            }
            weights.push((energy.0 as f64 - weights.iter().sum::<f64>()).max(0.0));
            for (lock, part) in locks.into_iter().zip(apportion(energy.0, &whole(&weights))) {
                *out.locks.entry(lock).or_default() += Microjoules(part);
                *out.waiting.entry(thread).or_default() += Microjoules(part);
            }
        }
        out
    }
}
