//! The waits of some of the locks: a trace is added up in shards by lock, so that all CPUs can work.
//!
//! What belongs together is in one shard, in the order of the file. So the sums don't depend on how
//! many threads there are, and not on how the file is cut into chunks.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::graph::{LockQueues, QueueGraph};
use super::quantile::Quantiles;
use super::sides::{OtherSide, SideSums, Want};
use crate::trace::Part;
use crate::trace::records::Wait;
use crate::units::{LockIndex, Monotonic};

/// Stands for all locks, or all threads, that found no room.
pub(super) const REST: u32 = u32::MAX;

/// How many there are.
pub(super) const SHARDS: usize = 4;

/// Locks in all shards together: more than any sane trace has.
const MAX_LOCKS: usize = 1 << 20;

/// Sums over the waits of some locks.
#[derive(Debug)]
pub(super) struct Shard {
    want: Want,
    /// Of each lock its place in `durations`.
    places: HashMap<LockIndex, usize, RandomState>,
    durations: Vec<(LockIndex, Quantiles)>,
    sides: SideSums,
    queues: QueueGraph,
}

impl Shard {
    pub(super) fn new(want: Want) -> Self {
        Self {
            want,
            places: HashMap::default(),
            durations: Vec::new(),
            sides: SideSums::new(want, SHARDS),
            queues: QueueGraph::new(SHARDS),
        }
    }

    /// Adds the next wait for one of its locks.
    pub(super) fn add(&mut self, wait: &Wait) {
        let room = self.durations.len() < MAX_LOCKS / SHARDS;
        let (lock, place) = match self.places.get(&wait.lock) {
            Some(&place) => (wait.lock, place),
            // From here on the lock is the rest: all sums agree on that.
            None if !room => {
                (LockIndex(REST), *self.places.entry(LockIndex(REST)).or_insert(self.durations.len()))
            }
            None => {
                self.places.insert(wait.lock, self.durations.len());
                (wait.lock, self.durations.len())
            }
        };
        if place == self.durations.len() {
            self.durations.push((lock, Quantiles::default()));
        }
        if let Some((_, durations)) = self.durations.get_mut(place) {
            durations.add(wait.total());
        }
        let other = OtherSide::of(wait, self.want.unverified);
        self.sides.add(lock, wait, other);
        if self.want.graph {
            self.queues.add(place, lock, wait, other);
        }
    }

    /// No more will come: the queue of each lock is as it was at the end.
    pub(super) fn finish(self) -> Finished {
        let queues = self.queues.finish();
        Finished { durations: self.durations, sides: self.sides, queues }
    }
}

/// A shard that has seen everything.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) durations: Vec<(LockIndex, Quantiles)>,
    pub(super) sides: SideSums,
    pub(super) queues: LockQueues,
}

/// Waits by shard, and what of them is needed in their order.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) shards: [Vec<Wait>; SHARDS],
    /// The shard of each, in the order of the file.
    pub(super) order: Vec<u8>,
    /// The earliest beginning.
    pub(super) first: Option<Monotonic>,
    /// Those that were not over when the recording was.
    pub(super) unfinished: Vec<Wait>,
}

/// The shard of a lock.
#[expect(clippy::cast_possible_truncation, reason = "fewer than 256")]
pub(super) fn shard_of(lock: LockIndex) -> u8 {
    (lock.0 as usize % SHARDS) as u8
}

impl Split {
    /// Its waits in the order of the file.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Wait> {
        let mut shards = self.shards.each_ref().map(|waits| waits.iter());
        self.order.iter().filter_map(move |&shard| shards[usize::from(shard)].next())
    }
}

impl Part for Split {
    fn reserve(&mut self, waits: usize) {
        for shard in &mut self.shards {
            shard.reserve(waits / SHARDS);
        }
        self.order.reserve(waits);
    }

    fn add(&mut self, wait: &Wait) {
        let shard = shard_of(wait.lock);
        self.shards[usize::from(shard)].push(*wait);
        self.order.push(shard);
        self.first = Some(self.first.map_or(wait.start, |first| first.min(wait.start)));
        if wait.flags & tracer_common::event::WAIT_CLIPPED_END != 0 {
            self.unfinished.push(*wait);
        }
    }
}
