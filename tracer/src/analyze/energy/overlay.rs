//! Energy of threads while they held a lock: an overlay over what they were given anyway ("of which"),
//! never a member of the sum.
//!
//! Holds are those that waits show (`analyze::graph::holds`): from the end of a wait to the waking that
//! the same thread sends. How much of a hold the thread was on a CPU is known bin by bin: no longer than
//! the hold had in the bin, and no longer than the thread was on a CPU there. So the figure is what the
//! seen holds come to **at most**; holds that nobody waited for are not seen at all.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::summary::{EnergySummary, Held};
use super::timeline::Coverage;
use crate::energy::Microjoules;
use crate::units::{LockIndex, Ns, ThreadIndex};

/// When each thread held a lock.
pub(in crate::analyze) type HeldBy = BTreeMap<u32, Coverage>;

impl EnergySummary {
    /// Adds what threads used while they held each lock; `left_out`: time of holds without room.
    pub(in crate::analyze) fn overlay(
        &mut self,
        ledger: &Ledger,
        locks: &BTreeMap<LockIndex, HeldBy>,
        left_out: Ns,
    ) {
        for (&lock, by_thread) in locks {
            let mut held = Held::default();
            for (&thread, coverage) in by_thread {
                let thread = ThreadIndex(thread);
                let Some(all) = self.threads.get(&thread).map(|thread| thread.all.energy) else {
                    continue;
                };
                let energy = used(ledger, thread, coverage).min(all);
                if energy.0 > 0 {
                    held.energy += energy;
                    held.threads.push((thread, energy));
                }
            }
            if held.energy.0 > 0 {
                self.held.insert(lock, held);
            }
        }
        self.held_left_out = left_out + ledger.left_out;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "casts from floating point saturate"
)]
fn used(ledger: &Ledger, thread: ThreadIndex, coverage: &Coverage) -> Microjoules {
    let Some(bins) = ledger.threads.get(&thread) else { return Microjoules(0) };
    let mut sum = 0.0;
    for run in coverage.runs() {
        for (_, used) in bins.range(run.from..run.to).filter(|(_, used)| used.time > 0.0) {
            sum += used.energy * (run.each as f64 / used.time).min(1.0);
        }
    }
    Microjoules(sum as u64)
}
