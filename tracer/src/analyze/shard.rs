//! The waits of some of the locks: a trace is added up in shards by lock, so that all CPUs can work.
//!
//! What belongs together is in one shard, in the order of the file. So the sums don't depend on how
//! many threads there are, and not on how the file is cut into chunks (but for which keys still find
//! room where there are too many: that is decided block by block).

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::brief::Brief;
use super::graph::{LockQueue, QueueRoom};
use super::quantile::Quantiles;
use super::sides::{SideRoom, SideSums, Want};
use super::split::Batch;
use crate::units::{LockIndex, Ns};

/// Stands for all locks, or all threads, that found no room.
pub(super) const REST: u32 = u32::MAX;

/// How many there are.
pub(super) const SHARDS: usize = 4;

/// Locks in all shards together: more than any sane trace has.
const MAX_LOCKS: usize = 1 << 20;

/// Waits of a shard that are added up together, lock by lock: what belongs to a lock is fetched once
/// for all of its waits in the block.
const BLOCK: usize = 1 << 18;

/// Waits that are looked at several times in a row, and so have to stay in the nearest cache.
const PIECE: usize = 256;

/// Sums over the waits of some locks.
#[derive(Debug)]
pub(super) struct Shard {
    want: Want,
    /// Of each lock its place in `locks`.
    places: HashMap<LockIndex, usize, RandomState>,
    locks: Vec<OfLock>,
    /// What is not in the sums yet, and how many waits that is.
    block: Vec<Batch>,
    waits: usize,
    /// So many are added up together.
    together: usize,
    sides: SideRoom,
    queues: QueueRoom,
}

/// One lock.
#[derive(Debug)]
pub(super) struct OfLock {
    pub(super) lock: LockIndex,
    pub(super) durations: Quantiles,
    /// Its waits below the threshold, of which only sums are known.
    pub(super) short: u64,
    /// Time between the sleeps of its waits.
    pub(super) awake: Ns,
    pub(super) sides: SideSums,
    /// None: there are too many locks, or it isn't wanted, or nobody has waited for it.
    pub(super) queue: Option<Box<LockQueue>>,
}

impl Shard {
    pub(super) fn new(want: Want) -> Self {
        Self {
            want,
            places: HashMap::default(),
            locks: Vec::new(),
            block: Vec::new(),
            waits: 0,
            together: BLOCK,
            sides: SideRoom::new(SHARDS),
            queues: QueueRoom::new(SHARDS),
        }
    }

    /// Adds up each batch when it comes.
    pub(super) fn small(want: Want) -> Self {
        Self { together: 1, ..Self::new(want) }
    }

    /// Adds what the next chunk says of its locks.
    pub(super) fn take(&mut self, mut batch: Batch) {
        self.queues.when_held |= batch.energy;
        self.queues.when_blocked |= batch.energy && self.want.counterfactual;
        for run in std::mem::take(&mut batch.yields) {
            let place = self.place(run.lock);
            if let Some(lock) = self.locks.get_mut(place) {
                lock.sides.add_yields(&mut self.sides, &run);
            }
        }
        for waits in std::mem::take(&mut batch.short_waits) {
            let place = self.place(waits.lock);
            if let Some(lock) = self.locks.get_mut(place) {
                lock.short = lock.short.saturating_add(waits.waits);
                lock.sides.add_short(&mut self.sides, self.want, &waits);
            }
        }
        if !batch.waits.is_empty() {
            self.waits += batch.waits.len();
            self.block.push(batch);
        }
        if self.waits >= self.together {
            self.add_up();
        }
    }

    fn place(&mut self, lock: LockIndex) -> usize {
        match self.places.get(&lock) {
            Some(&place) => place,
            None => self.new_lock(lock),
        }
    }

    #[cold]
    fn new_lock(&mut self, lock: LockIndex) -> usize {
        let new = self.locks.len();
        let room = new < MAX_LOCKS / SHARDS;
        // From here on the lock is the rest: all sums agree on that.
        let lock = if room { lock } else { LockIndex(REST) };
        let place = *self.places.entry(lock).or_insert(new);
        if place == new {
            self.locks.push(OfLock {
                lock,
                durations: Quantiles::default(),
                short: 0,
                awake: Ns(0),
                sides: SideSums::default(),
                queue: None,
            });
        }
        place
    }

    /// Puts the block into the sums.
    fn add_up(&mut self) {
        self.waits = 0;
        let block = std::mem::take(&mut self.block);
        let mut parts: Vec<_> = (0u32..)
            .zip(&block)
            .flat_map(|(n, batch)| batch.locks().map(move |(lock, waits)| (lock, n, waits)))
            .collect();
        parts.sort_unstable_by_key(|&(lock, n, _)| (lock, n));
        for of_lock in parts.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(lock, ..)) = of_lock.first() else { continue };
            let place = self.place(lock);
            let Some(lock) = self.locks.get_mut(place) else { continue };
            if self.want.graph && lock.durations.count() == 0 {
                lock.queue = self.queues.one_more();
            }
            for (_, _, waits) in of_lock {
                for waits in waits.chunks(PIECE) {
                    lock.add(waits, self.want, &mut self.sides, &mut self.queues);
                }
            }
            lock.sides.settle(&mut self.sides);
            self.queues.make_room(self.locks.iter_mut().filter_map(|one| one.queue.as_deref_mut()));
        }
    }

    /// No more will come.
    pub(super) fn finish(mut self) -> Finished {
        self.add_up();
        for lock in &mut self.locks {
            if let Some(queue) = &mut lock.queue {
                queue.finish(&mut self.queues);
            }
        }
        Finished { locks: self.locks, sides: self.sides, queues: self.queues }
    }
}

impl OfLock {
    fn add(&mut self, waits: &[Brief], want: Want, sides: &mut SideRoom, queues: &mut QueueRoom) {
        for wait in waits {
            self.durations.add(Ns(wait.total()));
            self.awake += Ns(wait.awake());
        }
        self.sides.add(sides, want, waits);
        if let Some(queue) = &mut self.queue {
            queue.add(queues, waits);
        }
    }
}

/// A shard that has seen everything.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) locks: Vec<OfLock>,
    pub(super) sides: SideRoom,
    pub(super) queues: QueueRoom,
}
