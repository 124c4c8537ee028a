//! Sums by a key, in tables that share a limited room.

use std::hash::{BuildHasher, Hash};
use std::ops::AddAssign;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::brief::Brief;
use super::sums::Sums;
use crate::trace::records::{ShortWaits, YieldRun};
use crate::units::Ns;

/// What waits with a record come to: a third of [`Sums`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WaitSums {
    waits: u64,
    blocked: u64,
    runq: u64,
    max: u64,
}

impl WaitSums {
    #[inline]
    pub(super) fn of(wait: &Brief) -> Self {
        Self { waits: 1, blocked: wait.blocked, runq: wait.runq, max: wait.total() }
    }

    /// Of waits below the threshold.
    pub(super) fn of_short(short: &ShortWaits) -> Self {
        let ShortWaits { waits, blocked, runq, max, .. } = *short;
        Self { waits, blocked: blocked.0, runq: runq.0, max: max.0 }
    }

    /// How many.
    pub(super) fn waits(&self) -> u64 {
        self.waits
    }
}

impl AddAssign for WaitSums {
    fn add_assign(&mut self, other: Self) {
        self.waits = self.waits.saturating_add(other.waits);
        self.blocked = self.blocked.saturating_add(other.blocked);
        self.runq = self.runq.saturating_add(other.runq);
        self.max = self.max.max(other.max);
    }
}

impl From<WaitSums> for Sums {
    fn from(sums: WaitSums) -> Self {
        Self {
            waits: sums.waits,
            blocked: Ns(sums.blocked),
            runq: Ns(sums.runq),
            max: Ns(sums.max),
            ..Self::default()
        }
    }
}

/// What long runs of yields come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct YieldSums {
    yields: u64,
    yielded: u64,
}

impl YieldSums {
    pub(super) fn of(run: &YieldRun) -> Self {
        Self { yields: run.yields, yielded: run.yielded.0 }
    }
}

impl AddAssign for YieldSums {
    fn add_assign(&mut self, other: Self) {
        self.yields = self.yields.saturating_add(other.yields);
        self.yielded = self.yielded.saturating_add(other.yielded);
    }
}

impl From<YieldSums> for Sums {
    fn from(sums: YieldSums) -> Self {
        Self { spins: sums.yields, yielded: Ns(sums.yielded), ..Self::default() }
    }
}

/// Room for keys that several tables share, and what found none.
#[derive(Debug)]
pub(super) struct Room {
    /// Keys that there is room for.
    fine: usize,
    /// The same for coarser ones, of what found no room.
    coarse: usize,
    /// So many were added under coarser keys.
    pub(super) crowded: u64,
    // Seeded at random: keys come from the file, and must not be able to collide on purpose.
    hasher: RandomState,
}

impl Room {
    /// For `keys` fine ones, and as many coarser ones.
    pub(super) fn new(keys: usize) -> Self {
        Self { fine: keys, coarse: keys, crowded: 0, hasher: RandomState::default() }
    }

    #[inline]
    fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }
}

/// So few keys are searched one by one.
const FEW: usize = 16;

/// Sums by key.
#[derive(Debug)]
pub(super) struct Tally<K, V> {
    few: Vec<(K, V)>,
    /// All of them, if they are many: keys beside their sums, so that one access finds both.
    many: HashTable<(K, V)>,
}

impl<K, V> Default for Tally<K, V> {
    fn default() -> Self {
        Self { few: Vec::new(), many: HashTable::new() }
    }
}

impl<K: Copy + Eq + Hash, V: AddAssign> Tally<K, V> {
    /// Adds something under its key. If there is no room for that, then under a coarser one; else
    /// under `rest`, for which there always is: the caller has few of them.
    #[inline]
    pub(super) fn add(
        &mut self,
        room: &mut Room,
        value: V,
        key: K,
        coarser: impl FnOnce() -> K,
        rest: impl FnOnce() -> K,
    ) {
        self.add_many(room, 1, value, key, coarser, rest);
    }

    /// As [`Self::add`], of what stands for so `many`.
    #[inline]
    pub(super) fn add_many(
        &mut self,
        room: &mut Room,
        many: u64,
        value: V,
        key: K,
        coarser: impl FnOnce() -> K,
        rest: impl FnOnce() -> K,
    ) {
        let Some(value) = self.add_if_room(room, value, key) else { return };
        room.crowded += many;
        let (coarser, rest) = (coarser(), rest());
        if let Some(sums) = self.find(room.hash(&coarser), &coarser) {
            *sums += value;
        } else if let Some(left) = room.coarse.checked_sub(1) {
            room.coarse = left;
            self.insert(&room.hasher, coarser, value);
        } else {
            match self.find(room.hash(&rest), &rest) {
                Some(sums) => *sums += value,
                None => self.insert(&room.hasher, rest, value),
            }
        }
    }

    /// Adds something under its key, or gives it back if there is no room.
    #[inline]
    pub(super) fn add_if_room(&mut self, room: &mut Room, value: V, key: K) -> Option<V> {
        let hash = if self.many.is_empty() { 0 } else { room.hash(&key) };
        if let Some(sums) = self.find(hash, &key) {
            *sums += value;
            return None;
        }
        let Some(left) = room.fine.checked_sub(1) else { return Some(value) };
        room.fine = left;
        self.insert(&room.hasher, key, value);
        None
    }

    #[inline]
    fn find(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let entry = if self.many.is_empty() {
            self.few.iter_mut().find(|entry| entry.0 == *key)
        } else {
            self.many.find_mut(hash, |entry| entry.0 == *key)
        };
        entry.map(|entry| &mut entry.1)
    }

    #[cold]
    fn insert(&mut self, hasher: &RandomState, key: K, value: V) {
        if self.many.is_empty() && self.few.len() < FEW {
            self.few.push((key, value));
            return;
        }
        for entry in std::mem::take(&mut self.few).into_iter().chain([(key, value)]) {
            let hash = hasher.hash_one(entry.0);
            self.many.insert_unique(hash, entry, |entry| hasher.hash_one(entry.0));
        }
    }

    /// The keys and their sums.
    pub(super) fn into_entries(self) -> impl Iterator<Item = (K, V)> {
        self.few.into_iter().chain(self.many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_added_up_coarser() {
        let mut room = Room::new(2);
        let mut tally: Tally<u32, u64> = Tally::default();
        for key in [11, 12, 23, 11, 34, 45, 24] {
            tally.add(&mut room, 1, key, || key / 10 * 10, || 0);
        }
        assert_eq!(room.crowded, 4);
        let all: Vec<_> = tally.into_entries().collect();
        assert_eq!(all, [(11, 2), (12, 1), (20, 2), (30, 1), (0, 1)]);
    }

    #[test]
    fn many_keys_are_found_again() {
        let mut room = Room::new(1_000);
        let mut tally: Tally<u32, u64> = Tally::default();
        for key in (0..1_000).chain(0..1_000) {
            tally.add(&mut room, 1, key, || 0, || 0);
        }
        let mut all: Vec<_> = tally.into_entries().collect();
        all.sort_unstable();
        assert_eq!(all, (0..1_000).map(|key| (key, 2)).collect::<Vec<_>>());
    }
}
