//! Folding a trace: one pass over its waits, then the sums are joined with locks and threads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Read;
use std::thread::{self, ScopedJoinHandle};

use crossbeam_channel::bounded;
use tracer_common::Shape;

use super::brief::Brief;
use super::energy::EnergyFold;
use super::graph::{self, ChainGraph, Facts, FollowedChains, Joined, MAX_BLOCKED};
use super::pauses::PauseFold;
use super::processes::Homes;
use super::quantile::Quantiles;
use super::sampling::Sampling;
use super::shard::{Finished, SHARDS, Shard};
use super::sides::{Crowded, SideSums, Want};
use super::sites::{holders, waiters};
use super::split::{Batch, EnergyPiece, Split};
use super::stacks::StackTable;
use super::summary::{
    Completeness, LockSummary, Pair, Summary, ThreadSummary, UNSEEN_SWITCHES, UnseenSwitches, rank,
};
use super::sums::Sums;
use crate::trace::records::{Class, Kind, LockRecord, ShapeSums, Totals, UseSums, Wait};
use crate::trace::{Part, ReadError, Trace, TraceReader, Visited};
use crate::units::{Address, LockIndex, Monotonic, Ns, ThreadIndex, Tid};

/// Batches that may wait for a shard.
const BATCHES: usize = 8;

/// Reads a whole trace and adds it up, in memory that depends on its locks, threads and stacks,
/// not on its waits.
///
/// # Errors
/// The reader's. A cut or damaged trace is no error: [`Completeness::file`] says what is missing.
pub fn summarize<R: Read>(reader: TraceReader<R>) -> Result<Summary, ReadError> {
    summarize_as(reader, Want::default())
}

/// As [`summarize`], but only what is wanted, on all CPUs.
///
/// # Errors
/// As there.
pub fn summarize_as<R: Read>(reader: TraceReader<R>, want: Want) -> Result<Summary, ReadError> {
    thread::scope(|scope| {
        let mut ended = Ended::default();
        let mut senders = Vec::new();
        let mut shards = Vec::new();
        for _ in 0..SHARDS {
            let (sender, batches) = bounded::<Batch>(BATCHES);
            senders.push(sender);
            shards.push(scope.spawn(move || {
                let mut shard = Shard::new(want);
                batches.iter().for_each(|batch| shard.take(batch));
                shard.finish()
            }));
        }
        let (to_chains, batches) = bounded::<(u64, Vec<Brief>)>(BATCHES);
        let chains = scope.spawn(move || {
            let mut chains = ChainGraph::default();
            for (from, waits) in batches {
                chains.add_all(from, waits.iter(), want.unverified);
            }
            chains
        });
        let trace = reader.read_parts(|split: Split| {
            let from = ended.waits;
            ended.take(&split);
            if want.graph && ChainGraph::follows_any(from..ended.waits) {
                // A shard that is gone has panicked, which ends the scope too.
                let _ = to_chains.send((from, split.in_order().copied().collect()));
            }
            for (sender, mut batch) in senders.iter().zip(split.shards) {
                if !batch.is_empty() {
                    batch.energy = ended.energy.any();
                    let _ = sender.send(batch);
                }
            }
        })?;
        drop((senders, to_chains));
        let shards = shards.into_iter().map(joined).collect();
        let chains = joined(chains).finish(ended.waits);
        Ok(Folded { want, shards, chains, ended }.finish(trace))
    })
}

/// What a thread came to; its panic goes on here.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What is known of all waits together, in the order of the file.
#[derive(Debug, Default)]
struct Ended {
    waits: u64,
    first: Option<Monotonic>,
    /// The wait under way at the end, of each thread that had one.
    blocked: BTreeMap<ThreadIndex, Wait>,
    pauses: PauseFold,
    energy: EnergyFold,
}

impl Ended {
    fn take(&mut self, split: &Split) {
        self.waits += split.len() as u64;
        self.first = self.first.into_iter().chain(split.first).min();
        for wait in &split.unfinished {
            let room = self.blocked.len() < MAX_BLOCKED || self.blocked.contains_key(&wait.thread);
            if room {
                self.blocked.insert(wait.thread, *wait);
            }
        }
        for piece in &split.energy {
            match piece {
                EnergyPiece::Source(source) => self.energy.source(source),
                EnergyPiece::Interval(interval) => self.energy.interval(interval),
            }
        }
        split.locks.iter().for_each(|lock| self.pauses.lock(lock));
        if split.any_lock(|lock| self.pauses.has(lock)) {
            split.in_order().for_each(|wait| self.pauses.add(&wait.wait()));
        }
    }
}

/// As [`summarize_as`], in little memory and on this thread alone, without chains and energy: what a
/// recorder says when it is done.
///
/// # Errors
/// As there.
pub fn summarize_small<R: Read>(reader: TraceReader<R>, want: Want) -> Result<Summary, ReadError> {
    let mut fold = Fold::small(want);
    let trace = reader.read_all(|visited| fold.visit(visited))?;
    Ok(fold.finish(trace))
}

/// Waits that [`Fold`] adds up together.
const TOGETHER: usize = 1 << 16;
/// The same in little memory.
const FEW_TOGETHER: usize = 1 << 12;

/// Sums over the waits seen so far, on one thread: the same as [`summarize`] comes to.
#[derive(Debug)]
pub struct Fold {
    want: Want,
    shards: Vec<Shard>,
    /// None: they are not wanted, nor is energy.
    chains: Option<ChainGraph>,
    ended: Ended,
    /// What was shown and is in no sum yet.
    shown: Split,
    together: usize,
}

impl Default for Fold {
    fn default() -> Self {
        Self::new(Want::default())
    }
}

impl Fold {
    /// Nothing yet.
    #[must_use]
    pub fn new(want: Want) -> Self {
        Self {
            want,
            shards: (0..SHARDS).map(|_| Shard::new(want)).collect(),
            chains: Some(ChainGraph::default()),
            ended: Ended::default(),
            shown: Split::default(),
            together: TOGETHER,
        }
    }

    fn small(want: Want) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::small(want)).collect(),
            chains: None,
            together: FEW_TOGETHER,
            ..Self::new(want)
        }
    }

    /// Adds what a reader shows.
    pub fn visit(&mut self, visited: Visited<'_>) {
        if self.chains.is_none() && matches!(visited, Visited::EnergySource(_) | Visited::Energy(_))
        {
            return;
        }
        self.shown.add(visited);
        if self.shown.loose.len() >= self.together || !matches!(visited, Visited::Wait(_)) {
            self.add_up();
        }
    }

    fn add_up(&mut self) {
        let mut split = std::mem::take(&mut self.shown);
        split.done();
        let from = self.ended.waits;
        self.ended.take(&split);
        if self.want.graph
            && let Some(chains) = &mut self.chains
        {
            chains.add_all(from, split.in_order(), self.want.unverified);
        }
        for (shard, mut batch) in self.shards.iter_mut().zip(split.shards) {
            batch.energy = self.ended.energy.any();
            shard.take(batch);
        }
    }

    /// Joins the sums with what the rest of the trace says.
    #[must_use]
    pub fn finish(mut self, trace: Trace) -> Summary {
        self.add_up();
        let shards = self.shards.into_iter().map(Shard::finish).collect();
        let chains = self.chains.unwrap_or_default().finish(self.ended.waits);
        Folded { want: self.want, shards, chains, ended: self.ended }.finish(trace)
    }
}

/// Everything is added up.
struct Folded {
    want: Want,
    shards: Vec<Finished>,
    chains: FollowedChains,
    ended: Ended,
}

impl Folded {
    fn finish(self, mut trace: Trace) -> Summary {
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
        let below = below(&trace.totals, &names);
        let mut uses: BTreeMap<LockIndex, Vec<UseSums>> = BTreeMap::new();
        let mut uses_elsewhere = Vec::new();
        for one in trace.totals.uses {
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
        let Joined { graph, mut holds, held, blocked } = if self.want.graph {
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
        let energy = self.ended.energy.finish_with_ledger().map(|(mut energy, ledger)| {
            energy.overlay(&ledger, &held, held_left_out);
            if self.want.counterfactual {
                energy.imagine(&ledger, &blocked, blocked_left_out);
            }
            energy
        });
        let waits = cells.keys().filter_map(|&(thread, lock)| Some((lock, thread_home(thread)?)));
        homes.count_sharers(waits);
        let lost = by_shape(&trace.totals.lost);
        let limited = by_shape(&trace.totals.limited);
        let mut summary = Summary {
            duration: trace
                .end
                .as_ref()
                .map_or(trace.last_seen, |end| end.at)
                .since(start(trace.meta.start, self.ended.first)),
            sampling: Sampling::of(&trace.meta, trace.totals.sampled.as_ref()),
            ..Summary::default()
        };
        for (index, (sums, ..)) in &locks {
            summary.count(names[index].kind, names[index].class, *sums);
        }
        for (&(kind, class), &sums) in below.iter().chain(&lost).chain(&limited) {
            summary.count(kind, class, sums);
        }
        summary.spread_spin();

        summary.threads = threads(&cells, &names, &trace.threads);
        let pairs = sides.pairs.into_iter().map(|((waiter, holder, lock, source), sums)| Pair {
            waiter: (waiter, tid(&trace.threads, waiter)),
            holder: (holder, tid(&trace.threads, holder)),
            lock: names.get(&lock).cloned().unwrap_or_else(|| lost_lock(lock)),
            source,
            sums,
        });
        summary.pairs = pairs.collect();
        summary.pairs.sort_by_key(|pair| {
            (Reverse(pair.sums.wait()), pair.waiter.0, pair.holder.0, pair.lock.index, pair.source)
        });
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
        let waits = |sums: &BTreeMap<_, Sums>| {
            sums.values().fold(0u64, |n, sums| n.saturating_add(sums.waits))
        };
        let stat = |name: &str| trace.totals.stats.get(name).copied().unwrap_or(0);
        let file = trace.condition;
        let mut losses = trace.totals.drops;
        losses.retain(|_, n| *n > 0);
        let runs_lost = trace.totals.yield_runs.saturating_sub(file.yield_runs_read);
        if runs_lost > 0 {
            losses.insert("yield_runs_damaged".to_owned(), runs_lost);
        }
        let short_lost = trace.totals.short_waits.saturating_sub(file.short_waits_read);
        if short_lost > 0 {
            losses.insert("short_waits_damaged".to_owned(), short_lost);
        }
        if file.waits_damaged > 0 {
            losses.insert("trace_damaged".to_owned(), file.waits_damaged);
        }
        let unseen = losses.get(UNSEEN_SWITCHES).map(|&switches| UnseenSwitches {
            switches,
            at_most: summary.sampling.map(|sampling| {
                Ns(switches.saturating_mul(1_000_000_000 / u64::from(sampling.hz).max(1)))
            }),
            of: energy.as_ref().map_or(Ns(0), |energy| energy.time.cpus),
        });
        summary.completeness = Completeness {
            events: file.waits_read,
            below: waits(&below).saturating_add(file.short_waits_read),
            placed: file.short_waits_read,
            limited: waits(&limited),
            lost_waits: waits(&lost).saturating_add(file.waits_damaged).saturating_add(short_lost),
            lost: losses,
            unclassified: summary.class(Class::Unclassified),
            spins_unattributed: stat("spins_unattributed"),
            yielded_unattributed: Ns(stat("yielded_unattributed_ns")),
            woken_before_sleep: stat("woken_before_sleep"),
            wake_unseen: stat("wake_unseen"),
            switch_in_unseen: stat("switch_in_unseen"),
            places_estimated: stat("places_estimated"),
            futex_switches: trace
                .threads
                .values()
                .fold(0, |n, thread| n.saturating_add(thread.futex_switches)),
            stacks_missing: BTreeMap::new(),
            stacks_truncated: 0,
            crowded,
            file,
            unseen,
        };
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
            below,
            limited,
            yielding,
            lost,
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

fn by_shape(sums: &BTreeMap<u32, ShapeSums>) -> BTreeMap<(Kind, Class), Sums> {
    let mut out = BTreeMap::new();
    for (&shape, sums) in sums {
        let key = Shape::from_u32(shape)
            .map_or((Kind::Unclassified, Class::Unclassified), Kind::of_shape);
        *out.entry(key).or_insert_with(Sums::default) += Sums::from(sums);
    }
    out
}

/// Waits below the threshold: those of known locks are of these locks' kinds, the others of their
/// shape's.
fn below(
    totals: &Totals,
    names: &BTreeMap<LockIndex, LockRecord>,
) -> BTreeMap<(Kind, Class), Sums> {
    let mut rest = totals.below.clone();
    let mut known = Vec::new();
    for below in &totals.below_locks {
        let Some(lock) = names.get(&below.lock) else { continue };
        let Some(all) = rest.get_mut(&below.shape) else { continue };
        // A part is never more than the whole, whatever a hostile file says.
        let part = ShapeSums {
            waits: below.sums.waits.min(all.waits),
            blocked: below.sums.blocked.min(all.blocked),
            runq: below.sums.runq.min(all.runq),
            max: below.sums.max.min(all.max),
        };
        all.waits -= part.waits;
        all.blocked = Ns(all.blocked.0 - part.blocked.0);
        all.runq = Ns(all.runq.0 - part.runq.0);
        known.push(((lock.kind, lock.class), Sums::from(&part)));
    }
    rest.retain(|_, sums| *sums != ShapeSums { max: sums.max, ..ShapeSums::default() });
    let mut out = by_shape(&rest);
    for (key, sums) in known {
        *out.entry(key).or_default() += sums;
    }
    out
}

fn lost_lock(index: LockIndex) -> LockRecord {
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

type Records = BTreeMap<ThreadIndex, crate::trace::records::ThreadRecord>;

fn tid(records: &Records, index: ThreadIndex) -> Tid {
    records.get(&index).map(|record| record.tid).unwrap_or_default()
}

fn threads(
    cells: &BTreeMap<(ThreadIndex, LockIndex), Sums>,
    names: &BTreeMap<LockIndex, LockRecord>,
    records: &Records,
) -> Vec<ThreadSummary> {
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
