//! Folding a trace: one pass over its waits, then the sums are joined with locks and threads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Read;

use tracer_common::{NoStack, Shape};

use super::bounded::{Bounded, MAX_ENTRIES};
use super::graph::WaitGraph;
use super::pauses::PauseFold;
use super::processes::Homes;
use super::quantile::Quantiles;
use super::sampling::Sampling;
use super::sides::{OtherSide, SideSums, Source};
use super::sites::{holders, waiters};
use super::stacks::StackTable;
use super::summary::{Completeness, LockSummary, Pair, Summary, ThreadSummary, rank};
use super::sums::Sums;
use crate::trace::records::{
    Class, Kind, LockRecord, ShapeSums, SideStack, Totals, UseSums, Wait, YieldRun,
};
use crate::trace::{ReadError, Trace, TraceReader, Visited};
use crate::units::{Address, LockIndex, Monotonic, Ns, ThreadIndex, Tid};

/// Stands for all locks, or all threads, that found no room (see [`MAX_ENTRIES`]).
pub(super) const REST: u32 = u32::MAX;

/// Reads a whole trace and adds it up, in memory that depends on its locks, threads and stacks,
/// not on its waits.
///
/// # Errors
/// The reader's. A cut or damaged trace is no error: [`Completeness::file`] says what is missing.
pub fn summarize<R: Read>(reader: TraceReader<R>) -> Result<Summary, ReadError> {
    read(reader, Fold::default())
}

/// As [`summarize`], but takes owners as holders also where they moved while they were looked at.
///
/// # Errors
/// As there.
pub fn summarize_unverified<R: Read>(reader: TraceReader<R>) -> Result<Summary, ReadError> {
    read(reader, Fold { unverified: true, ..Fold::default() })
}

fn read<R: Read>(reader: TraceReader<R>, mut fold: Fold) -> Result<Summary, ReadError> {
    let trace = reader.read_all(|visited| fold.visit(visited))?;
    Ok(fold.finish(trace))
}

/// Sums over the waits seen so far.
#[derive(Debug)]
pub struct Fold {
    cells: Bounded<(ThreadIndex, LockIndex), Sums>,
    durations: Bounded<LockIndex, Quantiles>,
    pairs: Bounded<(ThreadIndex, ThreadIndex, LockIndex, Source), Sums>,
    sides: SideSums,
    yielding: Bounded<(LockIndex, SideStack), Sums>,
    pauses: PauseFold,
    graph: WaitGraph,
    /// Unverified owners count as holders.
    unverified: bool,
    first: Option<Monotonic>,
}

impl Default for Fold {
    fn default() -> Self {
        Self {
            cells: Bounded::new(MAX_ENTRIES),
            durations: Bounded::new(MAX_ENTRIES),
            pairs: Bounded::new(MAX_ENTRIES),
            sides: SideSums::default(),
            yielding: Bounded::new(MAX_ENTRIES),
            pauses: PauseFold::default(),
            graph: WaitGraph::default(),
            unverified: false,
            first: None,
        }
    }
}

impl Fold {
    /// Adds what a reader shows.
    pub fn visit(&mut self, visited: Visited<'_>) {
        match visited {
            Visited::Lock(lock) => self.pauses.lock(lock),
            Visited::Wait(wait) => self.add(wait),
            Visited::Yields(run) => self.add_yields(run),
        }
    }

    /// Adds one long run of yields. It has a thread and no other side.
    fn add_yields(&mut self, run: &YieldRun) {
        let sums = Sums::from(run);
        let rest = (ThreadIndex(REST), LockIndex(REST));
        let ((_, lock), value) = self.cells.get((run.thread, run.lock), rest);
        *value += sums;
        let no_room = (LockIndex(REST), SideStack::Missing(NoStack::Lost));
        *self.yielding.get((lock, run.stack), no_room).1 += sums;
        self.first = Some(self.first.map_or(run.start, |first| first.min(run.start)));
    }

    /// Adds one wait.
    pub fn add(&mut self, wait: &Wait) {
        let sums = Sums::from(wait);
        let (rest_thread, rest_lock) = (ThreadIndex(REST), LockIndex(REST));
        // From here on the lock is the rest if there was no room for it: all sums agree on that.
        let (cell, value) = self.cells.get((wait.thread, wait.lock), (rest_thread, rest_lock));
        *value += sums;
        let (thread, lock) = cell;
        self.durations.get(lock, rest_lock).1.add(wait.total());
        let other = OtherSide::of(wait, self.unverified);
        if let Some(holder) = other.thread {
            let rest = (rest_thread, rest_thread, rest_lock, other.source);
            *self.pairs.get((thread, holder, lock, other.source), rest).1 += sums;
        }
        self.sides.add(cell, wait, other);
        self.graph.add(wait, other);
        self.pauses.add(wait);
        self.first = Some(self.first.map_or(wait.start, |first| first.min(wait.start)));
    }

    /// Joins the sums with what the rest of the trace says.
    #[must_use]
    pub fn finish(self, mut trace: Trace) -> Summary {
        let mut homes = Homes::take(&mut trace);
        let mut names = trace.locks;
        let cells: BTreeMap<_, _> = self.cells.into_iter().collect();
        let sides = self.sides.sorted();
        let stacks = StackTable::new(trace.frames, trace.stacks);

        let mut locks: BTreeMap<LockIndex, (Sums, Quantiles)> = BTreeMap::new();
        for (&(_, lock), &sums) in &cells {
            locks.entry(lock).or_default().0 += sums;
        }
        for (lock, durations) in self.durations {
            locks.entry(lock).or_default().1 = durations;
        }
        let mut yielding: BTreeMap<(LockIndex, SideStack), Sums> =
            self.yielding.into_iter().collect();
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
        let (graph, mut holds) = self.graph.finish(&trace.held, &names, &stacks, &alike);
        let waits = cells.keys().filter_map(|&(thread, lock)| Some((lock, thread_home(thread)?)));
        homes.count_sharers(waits);
        let lost = by_shape(&trace.totals.lost);
        let mut summary = Summary {
            duration: trace
                .end
                .as_ref()
                .map_or(trace.last_seen, |end| end.at)
                .since(start(trace.meta.start, self.first)),
            sampling: Sampling::of(&trace.meta, trace.totals.sampled.as_ref()),
            ..Summary::default()
        };
        for (index, (sums, _)) in &locks {
            summary.count(names[index].kind, names[index].class, *sums);
        }
        for (&(kind, class), &sums) in below.iter().chain(&lost) {
            summary.count(kind, class, sums);
        }
        summary.spread_spin();

        summary.threads = threads(&cells, &names, &trace.threads);
        let pairs = self.pairs.into_iter().map(|((waiter, holder, lock, source), sums)| Pair {
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
            .filter_map(|(index, (mut sums, durations))| {
                sums.spin = if measured { sums.spin.or(Some(Ns(0))) } else { None };
                Some(LockSummary {
                    lock: names.get(&index)?.clone(),
                    sums,
                    durations,
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
        if file.waits_damaged > 0 {
            losses.insert("trace_damaged".to_owned(), file.waits_damaged);
        }
        summary.completeness = Completeness {
            events: file.waits_read,
            below: waits(&below),
            lost_waits: waits(&lost).saturating_add(file.waits_damaged),
            lost: losses,
            unclassified: summary.class(Class::Unclassified),
            spins_unattributed: stat("spins_unattributed"),
            yielded_unattributed: Ns(stat("yielded_unattributed_ns")),
            woken_before_sleep: stat("woken_before_sleep"),
            wake_unseen: stat("wake_unseen"),
            places_estimated: stat("places_estimated"),
            futex_switches: trace
                .threads
                .values()
                .fold(0, |n, thread| n.saturating_add(thread.futex_switches)),
            stacks_missing: BTreeMap::new(),
            stacks_truncated: 0,
            file,
        };
        summary.completeness.count_stacks(&stacks, &sides.waiting);
        Summary {
            meta: trace.meta,
            end: trace.end,
            homes,
            graph,
            pauses: self.pauses.finish(),
            stacks,
            cells,
            waiting: sides.waiting,
            holding: sides.holding,
            links: sides.links,
            below,
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
