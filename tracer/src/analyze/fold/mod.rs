//! Folding a trace: one pass over its waits, then the sums are joined with locks and threads.

mod join;
mod threads;
mod unrecorded;

use std::collections::BTreeMap;
use std::io::Read;
use std::thread::{self, ScopedJoinHandle};

use crossbeam_channel::bounded;

use self::join::Folded;
pub(super) use self::unrecorded::Unrecorded;
use super::brief::Brief;
use super::energy::EnergyFold;
use super::graph::{ChainGraph, MAX_BLOCKED};
use super::pauses::PauseFold;
use super::shard::{SHARDS, Shard};
use super::sides::Want;
use super::split::{Batch, EnergyPiece, Split};
use super::summary::Summary;
use crate::trace::records::Wait;
use crate::trace::{Part, ReadError, Trace, TraceReader, Visited};
use crate::units::{Monotonic, ThreadIndex};

/// Batches that may wait for a shard.
const BATCHES: usize = 8;

/// Reads a whole trace and adds it up, in memory that depends on its locks, threads and stacks,
/// not on its waits.
///
/// # Errors
/// The reader's. A cut or damaged trace is no error:
/// [`Completeness::file`](super::Completeness::file) says what is missing.
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
