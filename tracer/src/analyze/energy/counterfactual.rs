//! What waiting may have had to do with the energy of idle CPUs (docs/energy.md, C1 and C2). Blocked time
//! has no joules: these are answers to "what if", outside of every sum, and only on request.
//!
//! **C1, idle energy coinciding with lock waits**: baseline × the part of the CPUs that was idle while a
//! thread waited for the lock. A window has the idle time of its CPUs, and not when it was; so waits and
//! idle time of one bin are taken to coincide as far as they can, which is the most it can be. Several
//! locks share it by their waiting. Over all locks it is never more than baseline × idle share (E5).
//!
//! **C2, an upper bound**: idle power × the time with at least one waiter for the lock, as if the machine
//! were given back for all of it. Not additive over locks.

use std::collections::BTreeMap;

use super::apportion::{apportion, whole};
use super::ledger::Ledger;
use super::summary::{Counterfactual, EnergySummary, Imagined};
use super::timeline::Coverage;
use crate::energy::{Microjoules, Part, Watts};
use crate::units::{LockIndex, Ns};

/// What waits for one lock say.
#[derive(Clone, Debug, Default)]
pub(in crate::analyze) struct Blocked {
    /// Threads × time that they were blocked.
    pub(in crate::analyze) coverage: Coverage,
    /// Time with at least one waiter.
    pub(in crate::analyze) contended: Ns,
}

impl EnergySummary {
    /// Adds both for these locks; `left_out`: time of waits without room.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts from floating point saturate"
    )]
    pub(in crate::analyze) fn imagine(
        &mut self,
        ledger: &Ledger,
        locks: &BTreeMap<LockIndex, Blocked>,
        left_out: Ns,
    ) {
        let domains = self.source.domains.iter().zip(&self.source.idle);
        let main = domains.filter(|(domain, _)| domain.split && domain.part != Part::Dram);
        let idle: Vec<Watts> = main.filter_map(|(_, idle)| Some(idle.as_ref()?.watts)).collect();
        let mut out = Counterfactual { left_out, ..Counterfactual::default() };
        if idle.is_empty() {
            self.counterfactual = Some(out);
            return;
        }
        let power = Watts(idle.iter().map(|watts| watts.0).sum());
        let baseline: Microjoules = self.main().map(|domain| domain.baseline).sum();
        out.idle_watts = Some(power);
        out.baseline = baseline;
        out.idle_baseline = Microjoules(ledger.idle_baseline as u64).min(baseline);

        let density = Density::new(ledger, locks);
        let parts: Vec<f64> = locks.values().map(|one| density.of(&one.coverage)).collect();
        let all = Microjoules(parts.iter().sum::<f64>() as u64).min(out.idle_baseline);
        out.coinciding = all;
        let coinciding = apportion(all.0, &whole(&parts));
        for ((&lock, blocked), coinciding) in locks.iter().zip(coinciding) {
            let upper_bound = power.over(blocked.contended);
            let imagined = Imagined { coinciding: Microjoules(coinciding), upper_bound };
            if imagined != Imagined::default() {
                out.locks.insert(lock, imagined);
            }
        }
        self.counterfactual = Some(out);
    }
}

/// µJ for a nanosecond of one thread's waiting, in each bin: as sums up to each bin.
struct Density {
    bins: Vec<u64>,
    /// One more than bins; the first is 0.
    sums: Vec<f64>,
}

impl Density {
    #[expect(clippy::cast_precision_loss, reason = "a density")]
    fn new(ledger: &Ledger, locks: &BTreeMap<LockIndex, Blocked>) -> Self {
        let mut changes: BTreeMap<u64, i128> = BTreeMap::new();
        for run in locks.values().flat_map(|one| one.coverage.runs()) {
            *changes.entry(run.from).or_default() += i128::from(run.each);
            *changes.entry(run.to).or_default() -= i128::from(run.each);
        }
        let mut changes = changes.into_iter().peekable();
        let (mut waited, mut sum) = (0i128, 0.0);
        let (mut bins, mut sums) = (Vec::new(), vec![0.0]);
        for (&bin, idled) in &ledger.idle {
            while let Some((_, change)) = changes.next_if(|(at, _)| *at <= bin) {
                waited += change;
            }
            // Q · min(1, T/I) / T.
            let most = (waited as f64).max(idled.time);
            if waited > 0 && most > 0.0 {
                sum += idled.energy / most;
            }
            bins.push(bin);
            sums.push(sum);
        }
        Self { bins, sums }
    }

    #[expect(clippy::cast_precision_loss, reason = "a density")]
    fn of(&self, coverage: &Coverage) -> f64 {
        let up_to = |bin| self.sums[self.bins.partition_point(|&one| one < bin)];
        let parts = coverage.runs().into_iter();
        parts.map(|run| run.each as f64 * (up_to(run.to) - up_to(run.from))).sum()
    }
}
