//! A chunk of the file, ready to be added up: the waits of each shard of locks, lock by lock. They go
//! there while they are decoded, so that whoever adds them up reads them one after the other.

use std::borrow::Cow;

use super::brief::Brief;
use super::shard::SHARDS;
use crate::trace::energy::{EnergyInterval, EnergySource};
use crate::trace::records::{LockRecord, ShortWaits, Wait, YieldRun};
use crate::trace::waits::Waits;
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
    /// How many waits.
    len: usize,
    /// Of each wait, in the order of the file, its place: the place in a shard's waits, times
    /// [`SHARDS`], and the shard. Nothing if that is the order of their ends, for equal ends that of
    /// their locks.
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
        self.len
    }

    /// Its waits in the order of the file.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Brief> {
        let shards = SHARDS as u32;
        self.order().into_owned().into_iter().filter_map(move |place| {
            self.shards[(place % shards) as usize].waits.get((place / shards) as usize)
        })
    }

    fn order(&self) -> Cow<'_, [u32]> {
        if self.order.len() == self.len {
            return Cow::Borrowed(&self.order);
        }
        let mut waits = Vec::with_capacity(self.len);
        for (shard, batch) in self.shards.iter().enumerate() {
            let places = (0..).map(|place| small(place * SHARDS + shard));
            waits.extend(batch.waits.iter().zip(places).map(|(w, at)| (w.end, w.lock(), at)));
        }
        waits.sort_unstable();
        waits.into_iter().map(|(.., place)| place).collect()
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

    /// Adds a wait for the lock of the one before, or for the next one.
    #[inline]
    fn push(&mut self, wait: &Wait) {
        let brief = Brief::from(wait);
        if brief.unfinished() {
            self.unfinished.push(*wait);
        }
        let batch = &mut self.shards[shard_of(wait.lock)];
        if batch.locks.last().is_none_or(|(lock, _)| *lock != wait.lock) {
            batch.locks.push((wait.lock, small(batch.waits.len())));
        }
        batch.waits.push(brief);
    }

    fn begins(&mut self, start: Monotonic) {
        self.first = Some(self.first.map_or(start, |first| first.min(start)));
    }
}

impl Part for Split {
    type Scratch = Sorting;

    fn waits(waits: &Waits<'_>, sorting: &mut Sorting) -> (Self, Monotonic) {
        let mut split = Self { len: waits.count(), ..Self::default() };
        let (mut first, mut last) = (Monotonic(u64::MAX), Monotonic(0));
        match waits {
            Waits::Flat(columns) => {
                columns.locks(&mut sorting.locks);
                split.make_room(sorting);
                let mut n = 0;
                columns.for_each(|wait| {
                    first = first.min(wait.start);
                    last = last.max(wait.end);
                    split.put(n, wait);
                    n += 1;
                });
            }
            Waits::ByLock(columns) => {
                let mut lengths = [0; SHARDS];
                for (lock, waits) in columns.runs() {
                    // Those of any locks are no more than the waits of a chunk, or it would not fit.
                    lengths[(lock % SHARDS as u64) as usize] += waits as usize;
                }
                for (batch, waits) in split.shards.iter_mut().zip(lengths) {
                    batch.waits.reserve_exact(waits);
                }
                columns.for_each(|wait| {
                    first = first.min(wait.start);
                    last = last.max(wait.end);
                    split.push(wait);
                });
                split.unfinished.sort_by_key(|wait| wait.end);
            }
        }
        if split.len > 0 {
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
        self.len = loose.len();
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
