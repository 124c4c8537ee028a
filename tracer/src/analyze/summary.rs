//! What a trace comes to: the structure that every output is drawn from.

use std::collections::{BTreeMap, HashMap};

use tracer_common::NoStack;

use super::energy::EnergySummary;
use super::graph::{Graph, LockHolds};
use super::pauses::Pauses;
use super::processes::{Homes, ProcessSummary};
use super::quantile::Quantiles;
use super::sampling::{Sampling, Spin, spin};
use super::sides::{Crowded, OtherSide, Source, Waiting};
use super::sites::SiteSums;
use super::stacks::{StackTable, is_loss};
use super::sums::Sums;
use crate::trace::Condition;
use crate::trace::records::{Class, End, Kind, LockRecord, Meta, SideStack, UseSums};
use crate::units::{LockIndex, Ns, ProcessIndex, ThreadIndex, Tid};

/// A whole trace, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// What was recorded.
    pub meta: Meta,
    /// How the recording ended; none if the trace was cut.
    pub end: Option<End>,
    /// From the recording's beginning to its end, or to the last moment seen.
    pub duration: Ns,
    /// Everything: waits with a record, below the threshold and lost, and yields tied to a lock.
    pub totals: Sums,
    /// The same by class; their sum is `totals`.
    pub by_class: BTreeMap<Class, Sums>,
    /// The same by kind; their sum is `totals`.
    pub by_kind: BTreeMap<Kind, Sums>,
    /// Locks: contention first, each class by time waited or spun, longest first.
    pub locks: Vec<LockSummary>,
    /// Processes, by contention, longest first; at least one.
    pub processes: Vec<ProcessSummary>,
    /// Which lock is of which of them.
    pub homes: Homes,
    /// Threads, by contention, longest first.
    pub threads: Vec<ThreadSummary>,
    /// Who waited for whom, by time waited, longest first.
    pub pairs: Vec<Pair>,
    /// Waits with a record, and yields with one, by thread and lock.
    pub cells: BTreeMap<(ThreadIndex, LockIndex), Sums>,
    /// The same waits by thread, lock and the waiter's stack.
    pub waiting: BTreeMap<Waiting, Sums>,
    /// The same waits by lock and who was in the way.
    pub holding: BTreeMap<(LockIndex, OtherSide), Sums>,
    /// The same waits by all of that: the finest sums there are.
    pub links: BTreeMap<(Waiting, OtherSide), Sums>,
    /// Who waited for whom over time, and at the end.
    pub graph: Graph,
    /// Who stopped the world, and who was late to stop.
    pub pauses: Pauses,
    /// The energy, and where the CPUs' time went; none: the recording had no energy windows.
    pub energy: Option<EnergySummary>,
    /// The stacks that they name.
    pub stacks: StackTable,
    /// Yields tied to a lock, by lock and the stack that made them. Only those with a record belong to
    /// a thread.
    pub yielding: BTreeMap<(LockIndex, SideStack), Sums>,
    /// Waits below the threshold of which no sum by thread and lock tells, by kind and class. They belong
    /// to no lock and no thread.
    pub below: BTreeMap<(Kind, Class), Sums>,
    /// Waits beyond `--max-events-per-sec`, likewise.
    pub limited: BTreeMap<(Kind, Class), Sums>,
    /// Waits whose record was lost, likewise.
    pub lost: BTreeMap<(Kind, Class), Sums>,
    /// How much of what happened is in here.
    pub completeness: Completeness,
    /// What the CPU-clock sampler saw; none: there was none.
    pub sampling: Option<Sampling>,
    /// Counts of `--hooks syscall`, by name.
    pub syscalls: Option<BTreeMap<String, u64>>,
    /// Uses of no known lock, and of more locks than the trace has room for (`--uprobes`).
    pub uses_elsewhere: Vec<UseSums>,
    /// The kernel side's counters that are no loss (`Stat` names).
    pub counters: BTreeMap<String, u64>,
    /// What the recorder itself used.
    pub self_cost: BTreeMap<String, u64>,
}

/// One lock, added up.
#[derive(Clone, Debug, PartialEq)]
pub struct LockSummary {
    /// What it is. A lock whose record can't be read has the name `[lock lost]` and address 0.
    pub lock: LockRecord,
    /// Its waits with a record, its short waits, its yields and its samples.
    pub sums: Sums,
    /// Durations of its waits with a record, without yields.
    pub durations: Quantiles,
    /// Its waits below the threshold, of which only sums are known.
    pub short: u64,
    /// What was done with it, by kind of lock or function; empty if no uprobe saw any of it.
    pub uses: Vec<UseSums>,
    /// Where was waited for it, yields too, longest first: their sum is `sums` without samples.
    pub waiters: Vec<SiteSums>,
    /// Where who was in the way was, longest first: their sum is `sums` without yields.
    pub holders: Vec<SiteSums>,
    /// How long it was held, and the waiting that this caused, as far as waits show it; none if
    /// several threads can have it, or none has it, or it found no room.
    pub holds: Option<LockHolds>,
}

/// A quantile of a lock's waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantile {
    /// Known within [`Quantiles::ERROR`].
    Known(Ns),
    /// Somewhere below the threshold.
    BelowThreshold,
}

impl LockSummary {
    /// The duration that a share of `q` (0 to 1) of its waits does not exceed, without yields; none if it
    /// has no waits.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        // Every wait without a record is shorter than every wait with one.
        let rank = self.durations.count().saturating_add(self.short);
        let rank = super::quantile::rank(q, rank);
        match rank.checked_sub(self.short).filter(|&rank| rank > 0) {
            Some(rank) => self.durations.at_rank(rank).map(Quantile::Known),
            None => (self.short > 0).then_some(Quantile::BelowThreshold),
        }
    }

    /// What was done with the lock itself, if a uprobe saw that: not calls of functions.
    #[must_use]
    pub fn usage(&self) -> Option<UseSums> {
        let mut of_lock = self.uses.iter().filter(|one| one.is_lock());
        let mut sums = of_lock.next()?.clone();
        for one in of_lock {
            sums.acquisitions = sums.acquisitions.saturating_add(one.acquisitions);
            sums.failed = sums.failed.saturating_add(one.failed);
            sums.releases = sums.releases.saturating_add(one.releases);
            sums.holds = sums.holds.saturating_add(one.holds);
            sums.held += one.held;
            sums.max_held = sums.max_held.max(one.max_held);
        }
        Some(sums)
    }
}

/// One thread, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadSummary {
    /// Its number in the trace: ids are reused, this is not.
    pub index: ThreadIndex,
    /// Its process.
    pub process: ProcessIndex,
    /// Its id on the host; 0 if its record can't be read.
    pub tid: Tid,
    /// Its name in Python, or in the kernel if it has none there; `[thread lost]` if its record
    /// can't be read.
    pub name: String,
    /// Its name in the kernel.
    pub comm: String,
    /// Its waits with a record, its short waits, and its long runs of yields. Other yields are known by lock, not by
    /// thread, and not in here.
    pub sums: Sums,
    /// The part of them that was contention.
    pub contention: Ns,
    /// Time on a CPU.
    pub oncpu: Ns,
    /// Switch-outs into a futex wait, before any stitching.
    pub futex_switches: u64,
    /// Switch-outs from `sched_yield`.
    pub yield_switches: u64,
}

/// One thread waited for a lock that another thread held, or until that thread woke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Who waited.
    pub waiter: (ThreadIndex, Tid),
    /// Who was in the way.
    pub holder: (ThreadIndex, Tid),
    /// For what.
    pub lock: LockRecord,
    /// How the holder is known.
    pub source: Source,
    /// How often and how long.
    pub sums: Sums,
}

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
    }
}

impl Summary {
    /// There is more than one process.
    #[must_use]
    pub fn several(&self) -> bool {
        self.homes.several()
    }

    /// The sums of one class.
    #[must_use]
    pub fn class(&self, class: Class) -> Sums {
        self.by_class.get(&class).copied().unwrap_or_default()
    }

    /// The locks of one class that were waited for or spun on, longest first.
    pub fn locks_of(&self, class: Class) -> impl Iterator<Item = &LockSummary> {
        self.waited_locks().filter(move |lock| lock.lock.class == class)
    }

    /// The locks that were waited for or spun on. Others are there only because a uprobe saw them.
    pub fn waited_locks(&self) -> impl Iterator<Item = &LockSummary> {
        self.locks.iter().filter(|lock| {
            let Sums { waits, spins, samples, .. } = lock.sums;
            waits > 0 || spins > 0 || samples > 0
        })
    }

    /// Time on the CPU while spinning: as measured, else as sampled; none if it was neither.
    #[must_use]
    pub fn spin(&self, sums: &Sums) -> Option<Spin> {
        spin(sums, self.sampling.as_ref())
    }

    /// All time that was lost: waited, or spent spinning as far as that is known.
    #[must_use]
    pub fn lost(&self, sums: &Sums) -> Ns {
        sums.wait() + self.spin(sums).map_or(Ns(0), |spin| spin.time)
    }

    /// Time on the CPU while spinning was measured.
    #[must_use]
    pub fn spin_measured(&self) -> bool {
        self.totals.spin.is_some()
    }
}

/// Order of classes in every list: what costs comes first.
pub(super) fn rank(class: Class) -> u8 {
    match class {
        Class::Contention => 0,
        Class::Pause => 1,
        Class::Unclassified => 2,
        Class::Idle => 3,
    }
}
