//! The sums are joined with locks, threads and what else the trace says.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tracer_common::Shape;

use super::Ended;
use super::threads::{pairs, threads};
use super::unrecorded::Unrecorded;
use crate::analyze::completeness::Completeness;
use crate::analyze::graph::{self, Facts, FollowedChains, Joined};
use crate::analyze::processes::Homes;
use crate::analyze::quantile::Quantiles;
use crate::analyze::sampling::Sampling;
use crate::analyze::shard::Finished;
use crate::analyze::sides::{Crowded, SideSums, Want};
use crate::analyze::sites::{holders, waiters};
use crate::analyze::stacks::StackTable;
use crate::analyze::summary::{LockSummary, Summary, rank};
use crate::analyze::sums::Sums;
use crate::trace::Trace;
use crate::trace::records::{Class, Kind, LockRecord, UseSums};
use crate::units::{Address, LockIndex, Monotonic, Ns};

/// Everything is added up.
pub(super) struct Folded {
    pub(super) want: Want,
    pub(super) shards: Vec<Finished>,
    pub(super) chains: FollowedChains,
    pub(super) ended: Ended,
}

impl Folded {
    pub(super) fn finish(self, mut trace: Trace) -> Summary {
        let mut homes = Homes::take(&mut trace);
        let mut names = trace.locks;
        let (mut durations, mut queues, mut sides) = (Vec::new(), Vec::new(), Vec::new());
        let (mut crowded, mut locks_left_out) = (Crowded::default(), 0);
        let (mut held_left_out, mut blocked_left_out) = (Ns(0), Ns(0));
        for shard in self.shards {
            crowded += shard.sides.crowded();
            locks_left_out += shard.queues.left_out();
            held_left_out += Ns(shard.queues.held.left_out);
            blocked_left_out += Ns(shard.queues.blocked.left_out);
            for one in shard.locks {
                durations.push((one.lock, one.durations, one.short, one.awake));
                queues.extend(one.queue.map(|queue| (one.lock, queue)));
                sides.push((one.lock, one.sides));
            }
        }
        let sides = SideSums::sorted(sides.into_iter());
        let cells = sides.cells;
        let stacks = StackTable::new(trace.frames, trace.stacks);

        let mut locks: BTreeMap<LockIndex, (Sums, Quantiles, u64)> = BTreeMap::new();
        for (&(_, lock), &sums) in &cells {
            locks.entry(lock).or_default().0 += sums;
        }
        for (lock, durations, short, awake) in durations {
            let (sums, of_lock, all_short) = locks.entry(lock).or_default();
            sums.awake += awake;
            *all_short = all_short.saturating_add(short);
            if of_lock.count() == 0 {
                *of_lock = durations;
            } else {
                of_lock.merge(&durations); // the rest of several shards
            }
        }
        let mut yielding = sides.yielding;
        for spin in &trace.totals.spins {
            locks.entry(spin.lock).or_default().0 += Sums::from(spin);
            *yielding.entry((spin.lock, spin.stack)).or_default() += Sums::from(spin);
        }
        let unrecorded = Unrecorded::of(&trace.totals, &names);
        let mut uses: BTreeMap<LockIndex, Vec<UseSums>> = BTreeMap::new();
        let mut uses_elsewhere = Vec::new();
        for one in std::mem::take(&mut trace.totals.uses) {
            match one.lock {
                Some(lock) => {
                    locks.entry(lock).or_default();
                    uses.entry(lock).or_default().push(one);
                }
                None => uses_elsewhere.push(one),
            }
        }
        for sampled in trace.totals.sampled.iter().flat_map(|sampled| &sampled.locks) {
            locks.entry(sampled.lock).or_default().0 += Sums::from(sampled);
        }
        for &lock in locks.keys() {
            names.entry(lock).or_insert_with(|| lost_lock(lock));
        }

        // After a fork the same address is another lock.
        let thread_home = |thread| trace.threads.get(&thread).map(|record| record.process);
        let alike = |thread, lock| {
            homes.of_lock(lock).is_none_or(|of| thread_home(thread).is_none_or(|home| home == of))
        };
        let Joined { graph, mut holds, mut held, mut blocked } = if self.want.graph {
            let parts = graph::Parts { chains: self.chains, queues, locks_left_out };
            let facts = Facts {
                blocked: &self.ended.blocked,
                held: &trace.held,
                takers: BTreeMap::new(),
                locks: &names,
                stacks: &stacks,
                alike: &alike,
            };
            graph::join(parts, facts)
        } else {
            Default::default()
        };
        let energy = self.ended.energy.finish_with_ledger().map(|(mut energy, mut ledger)| {
            ledger.keep_to_the_longest(&mut held, &mut blocked);
            energy.overlay(&ledger, &held, held_left_out);
            if self.want.counterfactual {
                energy.imagine(&ledger, &blocked, blocked_left_out);
            }
            energy
        });
        let waits = cells.keys().filter_map(|&(thread, lock)| Some((lock, thread_home(thread)?)));
        homes.count_sharers(waits);
        let started = start(trace.meta.start, self.ended.first);
        let ended = trace.end.as_ref().map_or(trace.last_seen, |end| end.at);
        let mut summary = Summary {
            duration: ended.since(started),
            sampling: Sampling::of(&trace.meta, trace.totals.sampled.as_ref()),
            ..Summary::default()
        };
        for (index, (sums, ..)) in &locks {
            summary.count(names[index].kind, names[index].class, *sums);
        }
        for (&(kind, class), &sums) in unrecorded.iter() {
            summary.count(kind, class, sums);
        }
        summary.spread_spin();

        summary.threads = threads(&cells, &names, &trace.threads, (started, ended));
        summary.pairs = pairs(sides.pairs, &names, &trace.threads);
        let measured = summary.spin_measured();
        let waiting = sides.waiting.iter().map(|(&(_, lock, stack), sums)| (lock, stack, sums));
        let (mut waiters, mut holders) =
            (waiters(&stacks, waiting, &yielding), holders(&stacks, &sides.holding));
        summary.locks = locks
            .into_iter()
            .filter_map(|(index, (mut sums, durations, short))| {
                sums.spin = if measured { sums.spin.or(Some(Ns(0))) } else { None };
                Some(LockSummary {
                    lock: names.get(&index)?.clone(),
                    sums,
                    durations,
                    short,
                    uses: uses.remove(&index).unwrap_or_default(),
                    waiters: waiters.remove(&index).unwrap_or_default(),
                    holders: holders.remove(&index).unwrap_or_default(),
                    holds: holds.remove(&index),
                })
            })
            .collect();
        let mut locks = std::mem::take(&mut summary.locks);
        locks.sort_by_key(|lock| {
            (rank(lock.lock.class), Reverse(summary.lost(&lock.sums)), lock.lock.index)
        });
        summary.locks = locks;

        summary.processes = homes.summarize(&summary.threads, &summary.locks);
        summary.completeness = Completeness {
            unclassified: summary.class(Class::Unclassified),
            futex_switches: trace
                .threads
                .values()
                .fold(0, |n, thread| n.saturating_add(thread.futex_switches)),
            crowded,
            ..Completeness::of_file(&mut trace.totals, trace.condition, &unrecorded)
        };
        let cpus = energy.as_ref().map_or(Ns(0), |energy| energy.time.cpus);
        summary.completeness.count_unseen(summary.sampling.as_ref(), cpus);
        summary.completeness.count_gaps(energy.as_ref());
        summary.completeness.count_stacks(&stacks, &sides.waiting);
        Summary {
            meta: trace.meta,
            end: trace.end,
            homes,
            graph,
            pauses: self.ended.pauses.finish(),
            energy,
            stacks,
            cells,
            waiting: sides.waiting,
            holding: sides.holding,
            links: sides.links,
            below: unrecorded.below,
            limited: unrecorded.limited,
            yielding,
            lost: unrecorded.lost,
            uses_elsewhere,
            syscalls: trace.totals.syscalls,
            counters: trace.totals.stats,
            self_cost: trace.totals.self_cost,
            ..summary
        }
    }
}

impl Summary {
    fn count(&mut self, kind: Kind, class: Class, sums: Sums) {
        *self.by_kind.entry(kind).or_default() += sums;
        *self.by_class.entry(class).or_default() += sums;
        self.totals += sums;
    }

    /// Where spinning was measured at all, what has none has 0.
    fn spread_spin(&mut self) {
        if self.spin_measured() {
            for sums in self.by_kind.values_mut().chain(self.by_class.values_mut()) {
                sums.spin = sums.spin.or(Some(Ns(0)));
            }
        }
    }
}

/// The recording's start, or if the metadata is lost the first wait's.
fn start(recorded: Monotonic, first: Option<Monotonic>) -> Monotonic {
    if recorded == Monotonic::default() { first.unwrap_or_default() } else { recorded }
}

pub(super) fn lost_lock(index: LockIndex) -> LockRecord {
    LockRecord {
        index,
        kind: Kind::Unclassified,
        class: Class::Unclassified,
        address: Address(0),
        lock: Address(0),
        name: "[lock lost]".to_owned(),
        shape: Shape::Futex as u32,
    }
}
