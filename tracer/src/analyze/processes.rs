//! What each process of a recording comes to, and which lock is of which.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::summary::{LockSummary, ThreadSummary};
use super::sums::Sums;
use crate::trace::Trace;
use crate::trace::processes::{Came, ProcessRecord};
use crate::units::{LockIndex, Ns, Pid, ProcessIndex};

/// One process, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessSummary {
    /// What it is, and when it was there.
    pub record: ProcessRecord,
    /// The waits with a record of its threads, and the yields and samples of its own locks. Waits below
    /// the threshold and lost ones are known by kind, not by process.
    pub sums: Sums,
    /// The part of its waits that was contention.
    pub contention: Ns,
    /// Its threads.
    pub threads: u64,
    /// Time of its threads on a CPU.
    pub oncpu: Ns,
}

/// The processes of a trace, and which lock is of which.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Homes {
    /// By index; one even if the trace has no word of it.
    records: BTreeMap<ProcessIndex, ProcessRecord>,
    locks: BTreeMap<LockIndex, Option<ProcessIndex>>,
    /// Processes whose threads waited for a lock that is shared.
    sharers: BTreeMap<LockIndex, u64>,
}

impl Homes {
    /// Takes them out of a trace.
    pub(super) fn take(trace: &mut Trace) -> Self {
        let mut records = std::mem::take(&mut trace.processes);
        if records.is_empty() {
            let target = trace.meta.target.clone();
            let only = ProcessRecord { target, recorded: true, ..ProcessRecord::default() };
            records.insert(ProcessIndex(0), ProcessRecord { came: Came::Unknown, ..only });
        }
        Self { records, locks: std::mem::take(&mut trace.lock_processes), sharers: BTreeMap::new() }
    }

    /// There is more than one.
    #[must_use]
    pub fn several(&self) -> bool {
        self.records.len() > 1
    }

    /// The process of a lock; none if processes share it, or if it is not known.
    #[must_use]
    pub fn of_lock(&self, lock: LockIndex) -> Option<ProcessIndex> {
        self.locks.get(&lock).copied().unwrap_or(Some(ProcessIndex(0)))
    }

    /// How many processes waited for a lock that they can share; none if it is of one alone.
    #[must_use]
    pub fn sharers(&self, lock: LockIndex) -> Option<u64> {
        let shared = self.locks.get(&lock).is_some_and(Option::is_none);
        shared.then(|| self.sharers.get(&lock).copied().unwrap_or(0))
    }

    /// A process's id.
    #[must_use]
    pub fn pid(&self, process: ProcessIndex) -> Option<Pid> {
        self.records.get(&process).map(|record| record.target.pid)
    }

    /// The name of its program's file: `python3.14`.
    #[must_use]
    pub fn program(&self, process: ProcessIndex) -> Option<&str> {
        let exe = &self.records.get(&process)?.target.exe;
        Some(exe.rsplit('/').next().unwrap_or_default())
    }

    /// Counts who waited for what is shared.
    pub(super) fn count_sharers(&mut self, waits: impl Iterator<Item = (LockIndex, ProcessIndex)>) {
        let mut seen: BTreeMap<LockIndex, BTreeSet<ProcessIndex>> = BTreeMap::new();
        for (lock, process) in waits {
            if self.locks.get(&lock).is_some_and(Option::is_none) {
                seen.entry(lock).or_default().insert(process);
            }
        }
        self.sharers = seen.into_iter().map(|(lock, all)| (lock, all.len() as u64)).collect();
    }

    /// What each process comes to, by contention, longest first.
    pub(super) fn summarize(
        &self,
        threads: &[ThreadSummary],
        locks: &[LockSummary],
    ) -> Vec<ProcessSummary> {
        let mut all: BTreeMap<ProcessIndex, ProcessSummary> = BTreeMap::new();
        for (&index, record) in &self.records {
            let record = record.clone();
            all.insert(index, ProcessSummary { record, ..ProcessSummary::default() });
        }
        for thread in threads {
            let process = all.entry(thread.process).or_insert_with(|| ProcessSummary {
                record: ProcessRecord { index: thread.process, ..ProcessRecord::default() },
                ..ProcessSummary::default()
            });
            process.sums += thread.sums;
            process.contention += thread.contention;
            process.oncpu += thread.oncpu;
            process.threads += 1;
        }
        for lock in locks {
            let Some(process) = self.of_lock(lock.lock.index).and_then(|of| all.get_mut(&of))
            else {
                continue;
            };
            let Sums { yielded, spins, spin, samples, .. } = lock.sums;
            process.sums += Sums { yielded, spins, spin, samples, ..Sums::default() };
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by_key(|p| (Reverse(p.contention), Reverse(p.sums.wait()), p.record.index));
        all
    }
}
