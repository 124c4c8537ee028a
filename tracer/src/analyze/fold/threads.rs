//! Threads, and who of them waited for whom.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::join::lost_lock;
use crate::analyze::sides::Met;
use crate::analyze::summary::{Pair, ThreadSummary};
use crate::analyze::sums::Sums;
use crate::trace::records::{Class, LockRecord, ThreadRecord};
use crate::units::{LockIndex, Monotonic, ThreadIndex, Tid};

type Records = BTreeMap<ThreadIndex, ThreadRecord>;

pub(super) fn threads(
    cells: &BTreeMap<(ThreadIndex, LockIndex), Sums>,
    names: &BTreeMap<LockIndex, LockRecord>,
    records: &Records,
    (start, end): (Monotonic, Monotonic),
) -> Vec<ThreadSummary> {
    let life = |record: &ThreadRecord| {
        let from = record.born.unwrap_or(start).max(start);
        record.ended.unwrap_or(end).min(end).since(from)
    };
    let mut threads: BTreeMap<ThreadIndex, ThreadSummary> = records
        .iter()
        .map(|(&index, record)| {
            let thread = ThreadSummary {
                index,
                process: record.process,
                tid: record.tid,
                name: record
                    .python_name
                    .clone()
                    .filter(|name| !name.is_empty())
                    .unwrap_or_else(|| record.name.clone()),
                comm: record.name.clone(),
                oncpu: record.oncpu,
                life: life(record),
                futex_switches: record.futex_switches,
                yield_switches: record.yield_switches,
                ..ThreadSummary::default()
            };
            (index, thread)
        })
        .collect();
    for (&(index, lock), &sums) in cells {
        let thread = threads.entry(index).or_insert_with(|| ThreadSummary {
            index,
            name: "[thread lost]".to_owned(),
            ..ThreadSummary::default()
        });
        thread.sums += sums;
        if names.get(&lock).is_some_and(|lock| lock.class == Class::Contention) {
            thread.contention += sums.wait();
        }
    }
    let mut threads: Vec<_> = threads.into_values().collect();
    threads.sort_by_key(|t| (Reverse(t.contention), Reverse(t.sums.wait()), t.index));
    threads
}

/// By time waited, longest first.
pub(super) fn pairs(
    met: BTreeMap<Met, Sums>,
    names: &BTreeMap<LockIndex, LockRecord>,
    records: &Records,
) -> Vec<Pair> {
    let pairs = met.into_iter().map(|((waiter, holder, lock, source), sums)| Pair {
        waiter: (waiter, tid(records, waiter)),
        holder: (holder, tid(records, holder)),
        lock: names.get(&lock).cloned().unwrap_or_else(|| lost_lock(lock)),
        source,
        sums,
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by_key(|pair| {
        (Reverse(pair.sums.wait()), pair.waiter.0, pair.holder.0, pair.lock.index, pair.source)
    });
    pairs
}

fn tid(records: &Records, index: ThreadIndex) -> Tid {
    records.get(&index).map(|record| record.tid).unwrap_or_default()
}
