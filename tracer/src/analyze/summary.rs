//! What a trace comes to: the structure that every output is drawn from.

use std::collections::BTreeMap;

use super::completeness::Completeness;
use super::energy::EnergySummary;
use super::graph::{Graph, LockHolds};
use super::pauses::Pauses;
use super::processes::{Homes, ProcessSummary};
use super::quantile::Quantiles;
use super::sampling::{Sampling, Spin, spin};
use super::sides::{OtherSide, Source, Waiting};
use super::sites::SiteSums;
use super::stacks::StackTable;
use super::sums::Sums;
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
    /// How long it was there during the recording.
    pub life: Ns,
    /// Switch-outs into a futex wait, before any stitching.
    pub futex_switches: u64,
    /// Switch-outs from `sched_yield`.
    pub yield_switches: u64,
}

impl ThreadSummary {
    /// The rest of its life (T2): asleep elsewhere, preempted, or in a yield that is known by lock only.
    #[must_use]
    pub fn off(&self) -> Ns {
        Ns(self.life.0.saturating_sub(self.oncpu.0).saturating_sub(self.sums.wait().0))
    }
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
