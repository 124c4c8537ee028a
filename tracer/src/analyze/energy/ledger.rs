//! Energy and idle time over time, in bins: what the overlay of holds and the counterfactuals are made
//! of. They are no part of the conserved sum.

use std::collections::BTreeMap;

use super::counterfactual::Blocked;
use super::overlay::HeldBy;
use super::timeline::{MOST_DOUBLINGS, parts};
use crate::energy::Microjoules;
use crate::trace::energy::EnergyWindow;
use crate::units::{LockIndex, Ns, ThreadIndex};

/// Threads × bins, and bins, that are kept: of 64 threads some nine minutes of the shortest bins. Then
/// they are doubled. What found no room all the same is counted.
const MOST_CELLS: usize = 1 << 18;
/// Bins of one window, at most: those of a sane recording have one or two.
const MOST_PARTS: usize = 1 << 10;

/// A thread in a bin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// Energy, µJ.
    pub(super) energy: f64,
    /// Time on a CPU, ns.
    pub(super) time: f64,
}

/// The machine in a bin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Idled {
    /// Baseline × the part of the CPUs' time that was idle, µJ.
    pub(super) energy: f64,
    /// Idle time of all CPUs, ns.
    pub(super) time: f64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(in crate::analyze) struct Ledger {
    pub(super) threads: BTreeMap<ThreadIndex, BTreeMap<u64, Used>>,
    pub(super) idle: BTreeMap<u64, Idled>,
    /// Over all windows, µJ: `Σ B × idle share`.
    pub(super) idle_baseline: f64,
    cells: usize,
    /// How often bins were doubled.
    doubled: u32,
    /// Time of threads that found no room.
    pub(super) left_out: Ns,
}

impl Ledger {
    /// A window, with the energy of each thread, and the baseline, of all packages.
    #[expect(clippy::cast_precision_loss, reason = "parts of parts")]
    pub(super) fn window(
        &mut self,
        window: &EnergyWindow,
        threads: Vec<(ThreadIndex, u64)>,
        baseline: Microjoules,
    ) {
        let (start, end) = (window.start.0, window.end.0);
        let times = window.threads.iter().map(|thread| (thread.thread, 0, thread.time.total().0));
        let mut used: Vec<(ThreadIndex, u64, u64)> = times.collect();
        used.extend(threads.into_iter().map(|(thread, energy)| (thread, energy, 0)));
        used.sort_unstable();
        let new = 2 * used.chunk_by(|a, b| a.0 == b.0).count();
        while self.cells.max(self.idle.len()) + new > MOST_CELLS && self.doubled < MOST_DOUBLINGS {
            self.double();
        }
        for of_thread in used.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(thread, ..)) = of_thread.first() else { continue };
            let sum = |of: fn(&(ThreadIndex, u64, u64)) -> u64| {
                of_thread.iter().map(of).fold(0, u64::saturating_add)
            };
            let (energy, time) = (sum(|one| one.1), Ns(sum(|one| one.2)));
            for (bin, part) in parts((start, end), self.doubled, MOST_PARTS) {
                let known = self.threads.get(&thread).is_some_and(|of| of.contains_key(&bin));
                if !known && self.cells >= MOST_CELLS {
                    self.left_out += time;
                    break;
                }
                self.cells += usize::from(!known);
                let used = self.threads.entry(thread).or_default().entry(bin).or_default();
                used.energy += energy as f64 * part;
                used.time += time.0 as f64 * part;
            }
        }
        let cpus = window.cpus.len() as u64;
        let all = window.end.since(window.start).0.saturating_mul(cpus);
        if baseline.0 == 0 || all == 0 {
            return;
        }
        let idle = window.cpus.iter().map(|cpu| cpu.idle).sum::<Ns>().0.min(all);
        let energy = baseline.0 as f64 * (idle as f64 / all as f64);
        self.idle_baseline += energy;
        for (bin, part) in parts((start, end), self.doubled, MOST_PARTS) {
            if self.idle.len() >= MOST_CELLS && !self.idle.contains_key(&bin) {
                break;
            }
            let idled = self.idle.entry(bin).or_default();
            idled.energy += energy * part;
            idled.time += idle as f64 * part;
        }
    }
    fn double(&mut self) {
        self.cells = 0;
        for bins in self.threads.values_mut() {
            let mut doubled: BTreeMap<u64, Used> = BTreeMap::new();
            for (bin, used) in std::mem::take(bins) {
                let sum = doubled.entry(bin >> 1).or_default();
                sum.energy += used.energy;
                sum.time += used.time;
            }
            self.cells += doubled.len();
            *bins = doubled;
        }
        for (bin, idled) in std::mem::take(&mut self.idle) {
            let sum = self.idle.entry(bin >> 1).or_default();
            sum.energy += idled.energy;
            sum.time += idled.time;
        }
        self.doubled += 1;
    }

    /// Makes the bins of all of them as long as the longest are.
    pub(in crate::analyze) fn keep_to_the_longest(
        &mut self,
        held: &mut BTreeMap<LockIndex, HeldBy>,
        blocked: &mut BTreeMap<LockIndex, Blocked>,
    ) {
        let held = held.values_mut().flat_map(BTreeMap::values_mut);
        let blocked = blocked.values_mut().map(|one| &mut one.coverage);
        let mut all: Vec<_> = held.chain(blocked).collect();
        let longest = all.iter().map(|one| one.doubled()).fold(self.doubled, u32::max);
        while self.doubled < longest {
            self.double();
        }
        all.iter_mut().for_each(|one| one.double(longest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::energy::{Shares, ThreadTime};
    use crate::units::Monotonic;

    /// However long a recording is, its cells are bounded, and all energy and time stay in them.
    #[test]
    fn a_long_recording_finds_room_in_longer_bins() {
        const THREADS: u32 = 4_000;
        const WINDOWS: u64 = 300;
        let mut ledger = Ledger::default();
        for n in 0..WINDOWS {
            let time = Shares { alone: Ns(1_000), shared: Ns(0) };
            let thread = |n| ThreadTime { thread: ThreadIndex(n), cpu: 0, time };
            let window = EnergyWindow {
                start: Monotonic(n << 27),
                end: Monotonic((n + 1) << 27),
                threads: (0..THREADS).map(thread).collect(),
                ..EnergyWindow::default()
            };
            let energy = (0..THREADS).map(|n| (ThreadIndex(n), 3)).collect();
            ledger.window(&window, energy, Microjoules(0));
            let cells: usize = ledger.threads.values().map(BTreeMap::len).sum();
            assert_eq!(cells, ledger.cells);
            assert!(cells <= MOST_CELLS);
        }
        assert!(ledger.doubled > 0 && ledger.left_out == Ns(0));
        let all = || ledger.threads.values().flat_map(BTreeMap::values);
        let windows = u64::from(THREADS) * WINDOWS;
        assert_eq!(all().map(|used| used.energy as u64).sum::<u64>(), 3 * windows);
        assert_eq!(all().map(|used| used.time as u64).sum::<u64>(), 1_000 * windows);
    }
}
