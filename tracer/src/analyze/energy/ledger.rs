//! Energy and idle time over time, in bins: what the overlay of holds and the counterfactuals are made
//! of. They are no part of the conserved sum.

use std::collections::BTreeMap;

use super::timeline::parts;
use crate::energy::Microjoules;
use crate::trace::energy::EnergyWindow;
use crate::units::{Ns, ThreadIndex};

/// Threads × bins, and bins, that are kept: of 64 threads some half an hour. What found no room is
/// counted.
const MOST_CELLS: usize = 1 << 20;
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
        for of_thread in used.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(thread, ..)) = of_thread.first() else { continue };
            let sum = |of: fn(&(ThreadIndex, u64, u64)) -> u64| {
                of_thread.iter().map(of).fold(0, u64::saturating_add)
            };
            let (energy, time) = (sum(|one| one.1), Ns(sum(|one| one.2)));
            for (bin, part) in parts(start, end, MOST_PARTS) {
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
        for (bin, part) in parts(start, end, MOST_PARTS) {
            if self.idle.len() >= MOST_CELLS && !self.idle.contains_key(&bin) {
                break;
            }
            let idled = self.idle.entry(bin).or_default();
            idled.energy += energy * part;
            idled.time += idle as f64 * part;
        }
    }
}
