//! A chunk of the file, ready to be added up: the waits of each shard of locks, lock by lock. They go
//! there while they are decoded, so that whoever adds them up reads them one after the other.

use super::brief::Brief;
use super::shard::SHARDS;
use crate::trace::energy::{EnergyInterval, EnergySource};
use crate::trace::records::{LockRecord, ShortWaits, Wait, YieldRun};
use crate::trace::waits::WaitColumns;
use crate::trace::{Part, Visited};
use crate::units::{LockIndex, Monotonic};

/// Locks up to this index are sorted by counting.
const FEW_LOCKS: u32 = 1 << 17;

/// What a chunk says of the locks of one shard: it holds waits, sums of short ones, or runs of
/// yields.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Those of one lock together, in their order.
    pub(super) waits: Vec<Brief>,
    /// Where in `waits` each lock's begin; the last one's end with it.
    locks: Vec<(LockIndex, u32)>,
    pub(super) yields: Vec<YieldRun>,
    pub(super) short_waits: Vec<ShortWaits>,
    /// There is energy: when locks are held is worth to be known.
    pub(super) energy: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.waits.is_empty() && self.yields.is_empty() && self.short_waits.is_empty()
    }

    /// The locks, each with its waits.
    pub(super) fn locks(&self) -> impl Iterator<Item = (LockIndex, &[Brief])> {
        let ends = self.locks.iter().skip(1).map(|(_, from)| *from as usize);
        let ends = ends.chain([self.waits.len()]);
        self.locks.iter().zip(ends).map(|(&(lock, from), to)| {
            (lock, self.waits.get(from as usize..to).unwrap_or_default())
        })
    }
}

/// A chunk by shard, and what of it is needed in its order.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) shards: [Batch; SHARDS],
    /// Of each wait, in the order of the file, its place: the place in a shard's waits, times
    /// [`SHARDS`], and the shard.
    order: Vec<u32>,
    /// Waits that came one by one, and have no place yet.
    pub(super) loose: Vec<Wait>,
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

/// The locks of a chunk's waits, and what finding their places takes.
#[derive(Debug, Default)]
pub(super) struct Sorting {
    locks: Vec<u32>,
    counts: Vec<u32>,
}

impl Split {
    /// How many waits.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Its waits in the order of the file.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Brief> {
        let shards = SHARDS as u32;
        self.order.iter().filter_map(move |&place| {
            self.shards[(place % shards) as usize].waits.get((place / shards) as usize)
        })
    }

    /// One of its waits is for a lock of these.
    pub(super) fn any_lock(&self, mut these: impl FnMut(LockIndex) -> bool) -> bool {
        self.shards.iter().any(|batch| batch.locks.iter().any(|(lock, _)| these(*lock)))
    }

    /// Finds a place for each wait, of which the locks are known.
    fn make_room(&mut self, Sorting { locks, counts }: &mut Sorting) {
        let most = locks.iter().copied().max().unwrap_or(0);
        if most < FEW_LOCKS {
            counts.clear();
            counts.resize(most as usize + 1, 0);
            for &lock in locks.iter() {
                counts[lock as usize] += 1;
            }
            for (shard, batch) in self.shards.iter_mut().enumerate() {
                let mut from = 0;
                for lock in (shard..counts.len()).step_by(SHARDS) {
                    let count = std::mem::replace(&mut counts[lock], from);
                    if count > 0 {
                        batch.locks.push((LockIndex(small(lock)), from));
                        from += count;
                    }
                }
                batch.waits.resize(from as usize, Brief::default());
            }
            self.order.extend(locks.iter().map(|&lock| {
                let count = &mut counts[lock as usize];
                *count += 1;
                (*count - 1) * small(SHARDS) + small(shard_of(LockIndex(lock)))
            }));
        } else {
            let mut sorted: Vec<_> = (0u32..).zip(&*locks).map(|(n, &lock)| (lock, n)).collect();
            sorted.sort_unstable();
            self.order.resize(sorted.len(), 0);
            for of_lock in sorted.chunk_by(|a, b| a.0 == b.0) {
                let Some(&(lock, _)) = of_lock.first() else { continue };
                let shard = shard_of(LockIndex(lock));
                let batch = &mut self.shards[shard];
                batch.locks.push((LockIndex(lock), small(batch.waits.len())));
                for &(_, n) in of_lock {
                    self.order[n as usize] = small(batch.waits.len() * SHARDS + shard);
                    batch.waits.push(Brief::default());
                }
            }
        }
    }

    /// Puts a wait where its place is.
    #[inline]
    fn put(&mut self, n: usize, wait: &Wait) {
        let brief = Brief::from(wait);
        if brief.unfinished() {
            self.unfinished.push(*wait);
        }
        let place = self.order[n] as usize;
        self.shards[place % SHARDS].waits[place / SHARDS] = brief;
    }

    fn begins(&mut self, start: Monotonic) {
        self.first = Some(self.first.map_or(start, |first| first.min(start)));
    }
}

impl Part for Split {
    type Scratch = Sorting;

    fn waits(columns: &WaitColumns<'_>, sorting: &mut Sorting) -> (Self, Monotonic) {
        let mut split = Self::default();
        columns.locks(&mut sorting.locks);
        split.make_room(sorting);
        let (mut n, mut first, mut last) = (0, Monotonic(u64::MAX), Monotonic(0));
        columns.for_each(|wait| {
            first = first.min(wait.start);
            last = last.max(wait.end);
            split.put(n, wait);
            n += 1;
        });
        if n > 0 {
            split.begins(first);
        }
        (split, last)
    }

    fn add(&mut self, visited: Visited<'_>) {
        match visited {
            Visited::Wait(wait) => self.loose.push(*wait),
            Visited::Yields(run) => {
                self.shards[shard_of(run.lock)].yields.push(*run);
                self.begins(run.start);
            }
            Visited::ShortWaits(waits) => {
                self.shards[shard_of(waits.lock)].short_waits.push(*waits);
                self.begins(waits.start);
            }
            Visited::Lock(lock) => self.locks.push(lock.clone()),
            Visited::EnergySource(source) => {
                self.energy.push(EnergyPiece::Source(Box::new(source.clone())));
            }
            Visited::Energy(interval) => self.energy.push(EnergyPiece::Interval(interval.clone())),
        }
    }

    fn done(&mut self) {
        let loose = std::mem::take(&mut self.loose);
        let locks = loose.iter().map(|wait| wait.lock.0).collect();
        self.make_room(&mut Sorting { locks, ..Sorting::default() });
        for (n, wait) in loose.iter().enumerate() {
            self.begins(wait.start);
            self.put(n, wait);
        }
    }
}

/// The shard of a lock.
pub(super) fn shard_of(lock: LockIndex) -> usize {
    lock.0 as usize % SHARDS
}

#[expect(clippy::cast_possible_truncation, reason = "no more than four times the waits of a chunk")]
fn small(n: usize) -> u32 {
    n as u32
}
