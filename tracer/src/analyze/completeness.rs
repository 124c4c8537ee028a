//! How much of what happened is in a summary, and what is not.

use std::collections::{BTreeMap, HashMap};

use tracer_common::NoStack;

use super::energy::EnergySummary;
use super::fold::Unrecorded;
use super::sampling::Sampling;
use super::sides::{Crowded, Waiting};
use super::stacks::{StackTable, is_loss};
use super::sums::Sums;
use crate::energy::Known;
use crate::trace::Condition;
use crate::trace::records::{SideStack, Totals};
use crate::units::Ns;

/// How much of what happened is in the summary, and what is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completeness {
    /// Waits with a record that was read.
    pub events: u64,
    /// Waits below the threshold.
    pub below: u64,
    /// Of those, waits that were added up by thread and lock. Each such sum has the place of its last
    /// wait: those of the others are estimated.
    pub placed: u64,
    /// Waits beyond `--max-events-per-sec`: in the totals, in no lock.
    pub limited: u64,
    /// Waits without a record: lost when recording (in the totals, in no lock) or damaged in the
    /// file (in nothing).
    pub lost_waits: u64,
    /// Losses by reason, of waits and of other things.
    pub lost: BTreeMap<String, u64>,
    /// Waits that are known neither as contention nor as idling.
    pub unclassified: Sums,
    /// Yields that could not be tied to a lock. In no sum.
    pub spins_unattributed: u64,
    /// Time off the CPU in them. In no sum.
    pub yielded_unattributed: Ns,
    /// Waiters that were woken before they slept.
    pub woken_before_sleep: u64,
    /// Episodes whose waking was not seen.
    pub wake_unseen: u64,
    /// Waits whose end was not seen, and is known from the thread's time on the CPU.
    pub switch_in_unseen: u64,
    /// Waits of which a stack is that of a wait like it: their places are estimated.
    pub places_estimated: u64,
    /// Switch-outs into a futex wait, over all threads, before any stitching.
    pub futex_switches: u64,
    /// Waits without the waiter's stack, by reason. Their time is in every sum.
    pub stacks_missing: BTreeMap<NoStack, u64>,
    /// Waits with a stack whose outer frames are missing.
    pub stacks_truncated: u64,
    /// Waits that are not told apart everywhere, because there was too much to tell apart.
    pub crowded: Crowded,
    /// The condition of the file itself.
    pub file: Condition,
    /// Switches of a CPU that the energy program did not see, if there were any.
    pub unseen: Option<UnseenSwitches>,
    /// The divided domain whose energy is unknown for longest, if there is one.
    pub energy_gap: Option<EnergyGap>,
}

/// A counter that stopped, began anew or disappeared: what was used then is in no sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnergyGap {
    /// The domain.
    pub domain: String,
    /// What became of it at first.
    pub known: Known,
    /// For how long its energy is unknown.
    pub unknown: Ns,
    /// Of how much time.
    pub of: Ns,
}

/// The name of their counter among the losses.
pub(crate) const UNSEEN_SWITCHES: &str = "energy_switch_unseen";
/// So little CPU time in the wrong hands, as a part of all, is below every other error of the split.
const LITTLE: u64 = 100;

/// Switches of a CPU that the energy program did not see. Each is noticed at the next switch or
/// CPU-clock sample; until then the CPU's time is in the wrong hands. No wait and no other time knows of
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnseenSwitches {
    /// How many.
    pub switches: u64,
    /// The CPU time that may be in the wrong hands: one tick of the sampler for each. None: no sampler,
    /// and so no bound.
    pub at_most: Option<Ns>,
    /// All time of all CPUs in the energy windows.
    pub of: Ns,
}

impl UnseenSwitches {
    /// The bound is no more than 1 % of all CPU time.
    #[must_use]
    pub fn is_little(&self) -> bool {
        self.at_most.is_some_and(|time| time.0.saturating_mul(LITTLE) <= self.of.0)
    }
}

impl Completeness {
    /// What the file itself and the recorder's counters say; `unrecorded` are the waits that have no
    /// record.
    pub(super) fn of_file(totals: &mut Totals, file: Condition, unrecorded: &Unrecorded) -> Self {
        let waits = |sums: &BTreeMap<_, Sums>| {
            sums.values().fold(0u64, |n, sums| n.saturating_add(sums.waits))
        };
        let stat = |name: &str| totals.stats.get(name).copied().unwrap_or(0);
        let mut losses = std::mem::take(&mut totals.drops);
        losses.retain(|_, n| *n > 0);
        let runs_lost = totals.yield_runs.saturating_sub(file.yield_runs_read);
        if runs_lost > 0 {
            losses.insert("yield_runs_damaged".to_owned(), runs_lost);
        }
        let short_lost = totals.short_waits.saturating_sub(file.short_waits_read);
        if short_lost > 0 {
            losses.insert("short_waits_damaged".to_owned(), short_lost);
        }
        if file.waits_damaged > 0 {
            losses.insert("trace_damaged".to_owned(), file.waits_damaged);
        }
        let lost = waits(&unrecorded.lost);
        Self {
            events: file.waits_read,
            below: waits(&unrecorded.below).saturating_add(file.short_waits_read),
            placed: file.short_waits_read,
            limited: waits(&unrecorded.limited),
            lost_waits: lost.saturating_add(file.waits_damaged).saturating_add(short_lost),
            lost: losses,
            spins_unattributed: stat("spins_unattributed"),
            yielded_unattributed: Ns(stat("yielded_unattributed_ns")),
            woken_before_sleep: stat("woken_before_sleep"),
            wake_unseen: stat("wake_unseen"),
            switch_in_unseen: stat("switch_in_unseen"),
            places_estimated: stat("places_estimated"),
            file,
            ..Self::default()
        }
    }

    /// Takes in what the energy program did not see. `cpus`: all time of all CPUs in energy windows.
    pub(super) fn count_unseen(&mut self, sampling: Option<&Sampling>, cpus: Ns) {
        self.unseen = self.lost.get(UNSEEN_SWITCHES).map(|&switches| UnseenSwitches {
            switches,
            at_most: sampling.map(|sampling| {
                Ns(switches.saturating_mul(1_000_000_000 / u64::from(sampling.hz).max(1)))
            }),
            of: cpus,
        });
    }

    /// Takes in what is not known of energy.
    pub(super) fn count_gaps(&mut self, energy: Option<&EnergySummary>) {
        let domains = energy.into_iter().flat_map(|energy| &energy.domains);
        let gaps = domains.filter(|domain| domain.split).filter_map(|domain| {
            let (known, _) = domain.first_unknown?;
            let of = domain.time + domain.unknown;
            Some(EnergyGap { domain: domain.name.clone(), known, unknown: domain.unknown, of })
        });
        self.energy_gap = gaps.max_by_key(|gap| gap.unknown);
    }

    /// All waits that happened: with a record, below the threshold, beyond the limit, lost.
    #[must_use]
    pub fn waits(&self) -> u64 {
        let recorded = self.events.saturating_add(self.below);
        recorded.saturating_add(self.limited).saturating_add(self.lost_waits)
    }

    /// Waits with a record whose waiter had a stack that was lost.
    #[must_use]
    pub fn stacks_lost(&self) -> u64 {
        let lost = self.stacks_missing.iter().filter(|(reason, _)| is_loss(**reason));
        lost.fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }

    /// Stacks were recorded at all: there was an interpreter whose stacks are known.
    #[must_use]
    pub fn stacks_taken(&self) -> bool {
        let never = [NoStack::NotTaken, NoStack::NoInterpreter];
        let missing = self.stacks_missing.iter().filter(|(reason, _)| never.contains(reason));
        missing.fold(0u64, |sum, (_, n)| sum.saturating_add(*n)) < self.events
    }

    pub(super) fn count_stacks(&mut self, stacks: &StackTable, waiting: &BTreeMap<Waiting, Sums>) {
        let mut by_stack: HashMap<SideStack, u64> = HashMap::new();
        for (&(_, _, stack), sums) in waiting {
            let n = by_stack.entry(stack).or_default();
            *n = n.saturating_add(sums.waits);
        }
        for (stack, waits) in by_stack {
            if let Err(reason) = stacks.stack(stack) {
                let n = self.stacks_missing.entry(reason).or_default();
                *n = n.saturating_add(waits);
            } else if stacks.truncated(stack) {
                self.stacks_truncated = self.stacks_truncated.saturating_add(waits);
            }
        }
    }

    /// Losses that take something from the figures. Switches unseen do not if they come to little.
    pub fn losses(&self) -> impl Iterator<Item = (&str, u64)> {
        let little = self.unseen.is_some_and(|unseen| unseen.is_little());
        let all = self.lost.iter().map(|(reason, &n)| (reason.as_str(), n));
        all.filter(move |(reason, _)| !little || *reason != UNSEEN_SWITCHES)
    }

    /// Nothing was lost, cut or damaged. (Waits below the threshold are not lost.)
    #[must_use]
    pub fn whole(&self) -> bool {
        self.losses().next().is_none()
            && self.lost_waits == 0
            && self.file.cut.is_none()
            && self.file.damage.is_empty()
            && self.energy_gap.is_none()
    }
}
