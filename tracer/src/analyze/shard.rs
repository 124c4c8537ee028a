//! The waits of some of the locks: a trace is added up in shards by lock, so that all CPUs can work.
//!
//! What belongs together is in one shard, in the order of the file. So the sums don't depend on how
//! many threads there are, and not on how the file is cut into chunks.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::graph::{LockQueue, QueueRoom};
use super::quantile::Quantiles;
use super::sides::{OtherSide, SideRoom, SideSums, Want};
use crate::trace::energy::{EnergyInterval, EnergySource};
use crate::trace::records::{LockRecord, Wait, YieldRun};
use crate::trace::{Part, Visited};
use crate::units::{LockIndex, Monotonic};

/// Stands for all locks, or all threads, that found no room.
pub(super) const REST: u32 = u32::MAX;

/// How many there are.
pub(super) const SHARDS: usize = 4;

/// Locks in all shards together: more than any sane trace has.
const MAX_LOCKS: usize = 1 << 20;

/// Waits of a lock that are added up together: what belongs to it is fetched once for all of them.
/// From few to many, by how many the lock has had.
const TOGETHER: (usize, usize) = (8, 256);

/// Sums over the waits of some locks.
#[derive(Debug)]
pub(super) struct Shard {
    want: Want,
    /// Of each lock its place in `locks`.
    places: HashMap<LockIndex, usize, RandomState>,
    /// Of each lock the waits that are not in the sums yet.
    pending: Vec<Pending>,
    locks: Vec<OfLock>,
    sides: SideRoom,
    queues: QueueRoom,
}

/// Waits until there are some to add up together.
#[derive(Debug, Default)]
struct Pending {
    waits: Vec<Wait>,
    /// So many have been here.
    seen: usize,
}

/// One lock.
#[derive(Debug)]
pub(super) struct OfLock {
    pub(super) lock: LockIndex,
    pub(super) durations: Quantiles,
    pub(super) sides: SideSums,
    /// None: there are too many locks, or it isn't wanted, or nobody has waited for it.
    pub(super) queue: Option<Box<LockQueue>>,
}

impl Shard {
    pub(super) fn new(want: Want) -> Self {
        Self {
            want,
            places: HashMap::default(),
            pending: Vec::new(),
            locks: Vec::new(),
            sides: SideRoom::new(SHARDS),
            queues: QueueRoom::new(SHARDS),
        }
    }

    /// Adds what the next chunk says of its locks.
    pub(super) fn take(&mut self, batch: &Batch) {
        batch.waits.iter().for_each(|wait| self.add(wait));
        for run in &batch.yields {
            let place = self.place(run.lock);
            if let Some(lock) = self.locks.get_mut(place) {
                lock.sides.add_yields(&mut self.sides, run);
            }
        }
    }

    fn place(&mut self, lock: LockIndex) -> usize {
        match self.places.get(&lock) {
            Some(&place) => place,
            None => self.new_lock(lock),
        }
    }

    fn add(&mut self, wait: &Wait) {
        let place = self.place(wait.lock);
        let Some(pending) = self.pending.get_mut(place) else { return };
        pending.waits.push(*wait);
        pending.seen += 1;
        if pending.waits.len() >= (pending.seen / 8).clamp(TOGETHER.0, TOGETHER.1)
            && let Some(lock) = self.locks.get_mut(place)
        {
            lock.add_up(&mut pending.waits, self.want, &mut self.sides, &mut self.queues);
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
            self.pending.push(Pending::default());
            self.locks.push(OfLock {
                lock,
                durations: Quantiles::default(),
                sides: SideSums::default(),
                queue: None,
            });
        }
        place
    }

    /// No more will come.
    pub(super) fn finish(mut self) -> Finished {
        for (lock, pending) in self.locks.iter_mut().zip(&mut self.pending) {
            lock.add_up(&mut pending.waits, self.want, &mut self.sides, &mut self.queues);
            if let Some(queue) = &mut lock.queue {
                queue.finish(&mut self.queues);
            }
        }
        Finished { locks: self.locks, sides: self.sides, queues: self.queues }
    }
}

impl OfLock {
    fn add_up(
        &mut self,
        waits: &mut Vec<Wait>,
        want: Want,
        sides: &mut SideRoom,
        queues: &mut QueueRoom,
    ) {
        if want.graph && self.durations.count() == 0 && !waits.is_empty() {
            self.queue = queues.one_more();
        }
        for wait in waits.iter() {
            self.durations.add(wait.total());
        }
        self.sides.add(sides, want, waits);
        if let Some(queue) = &mut self.queue {
            for wait in waits.iter() {
                queue.add(queues, wait, OtherSide::of(wait, want.unverified));
            }
        }
        waits.clear();
    }
}

/// A shard that has seen everything.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) locks: Vec<OfLock>,
    pub(super) sides: SideRoom,
    pub(super) queues: QueueRoom,
}

/// What a chunk says of the locks of one shard: it holds either waits or runs of yields.
#[derive(Debug, Default)]
pub(super) struct Batch {
    waits: Vec<Wait>,
    yields: Vec<YieldRun>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.waits.is_empty() && self.yields.is_empty()
    }
}

/// A chunk by shard, and what of it is needed in its order.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) shards: [Batch; SHARDS],
    /// The shard of each wait, in the order of the file.
    pub(super) order: Vec<u8>,
    /// Locks that later waits name.
    pub(super) locks: Vec<LockRecord>,
    /// The earliest beginning.
    pub(super) first: Option<Monotonic>,
    /// Those that were not over when the recording was.
    pub(super) unfinished: Vec<Wait>,
    /// Energy, in the order of the file.
    pub(super) energy: Vec<EnergyPiece>,
}

/// What a trace says of energy.
#[derive(Debug)]
pub(super) enum EnergyPiece {
    Source(Box<EnergySource>),
    Interval(EnergyInterval),
}

/// The shard of a lock.
#[expect(clippy::cast_possible_truncation, reason = "fewer than 256")]
pub(super) fn shard_of(lock: LockIndex) -> u8 {
    (lock.0 as usize % SHARDS) as u8
}

impl Split {
    /// Its waits in the order of the file.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Wait> {
        let mut shards = self.shards.each_ref().map(|batch| batch.waits.iter());
        self.order.iter().filter_map(move |&shard| shards[usize::from(shard)].next())
    }

    fn wait(&mut self, wait: &Wait) {
        let shard = shard_of(wait.lock);
        self.shards[usize::from(shard)].waits.push(*wait);
        self.order.push(shard);
        if wait.flags & tracer_common::event::WAIT_CLIPPED_END != 0 {
            self.unfinished.push(*wait);
        }
    }
}

impl Part for Split {
    fn reserve(&mut self, waits: usize) {
        for shard in &mut self.shards {
            shard.waits.reserve(waits / SHARDS);
        }
        self.order.reserve(waits);
    }

    fn add(&mut self, visited: Visited<'_>) {
        let start = match visited {
            Visited::Wait(wait) => {
                self.wait(wait);
                wait.start
            }
            Visited::Yields(run) => {
                self.shards[usize::from(shard_of(run.lock))].yields.push(*run);
                run.start
            }
            Visited::Lock(lock) => {
                self.locks.push(lock.clone());
                return;
            }
            Visited::EnergySource(source) => {
                self.energy.push(EnergyPiece::Source(Box::new(source.clone())));
                return;
            }
            Visited::Energy(interval) => {
                self.energy.push(EnergyPiece::Interval(interval.clone()));
                return;
            }
        };
        self.first = Some(self.first.map_or(start, |first| first.min(start)));
    }
}
