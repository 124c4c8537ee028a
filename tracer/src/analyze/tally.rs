//! Sums of waits by a key, in a table that stops growing.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::sums::Sums;
use crate::trace::records::Wait;
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
    pub(super) fn of(wait: &Wait) -> Self {
        Self { waits: 1, blocked: wait.blocked.0, runq: wait.runq.0, max: wait.total().0 }
    }

    fn add(&mut self, other: &Self) {
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

/// Sums by key, for at most so many keys, in the order of their appearance.
#[derive(Debug)]
pub(super) struct Tally<K> {
    entries: Vec<(K, WaitSums)>,
    /// Places in `entries`.
    places: HashTable<u32>,
    // Seeded at random: keys come from the file, and must not be able to collide on purpose.
    hasher: RandomState,
    limit: usize,
    /// Waits whose own key found no room.
    crowded: u64,
}

impl<K: Copy + Eq + Hash> Tally<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            places: HashTable::new(),
            hasher: RandomState::default(),
            limit,
            crowded: 0,
        }
    }

    /// Adds a wait under its key. If there is no room for it, then under a coarser one: for those
    /// there is twice as much room; else under `rest`, for which there always is: the caller has few
    /// of them.
    pub(super) fn add(
        &mut self,
        sums: &WaitSums,
        key: K,
        coarser: impl FnOnce() -> K,
        rest: impl FnOnce() -> K,
    ) {
        if self.add_within(self.limit, sums, key) {
            return;
        }
        self.crowded += sums.waits;
        if !self.add_within(self.limit * 2, sums, coarser()) {
            self.add_within(usize::MAX, sums, rest());
        }
    }

    fn add_within(&mut self, limit: usize, sums: &WaitSums, key: K) -> bool {
        let hash = self.hasher.hash_one(key);
        let entries = &mut self.entries;
        let found = self.places.find(hash, |&place| entries[place as usize].0 == key);
        if let Some(&place) = found {
            entries[place as usize].1.add(sums);
            return true;
        }
        if entries.len() >= limit.min(u32::MAX as usize) {
            return false;
        }
        let place = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        entries.push((key, *sums));
        let hasher = &self.hasher;
        self.places.insert_unique(hash, place, |&place| hasher.hash_one(entries[place as usize].0));
        true
    }

    pub(super) fn crowded(&self) -> u64 {
        self.crowded
    }

    /// The keys and their sums.
    pub(super) fn into_sums(self) -> impl Iterator<Item = (K, Sums)> {
        self.entries.into_iter().map(|(key, sums)| (key, sums.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_added_up_coarser() {
        let one = WaitSums { waits: 1, blocked: 10, runq: 1, max: 11 };
        let mut tally: Tally<u32> = Tally::new(2);
        for key in [11, 12, 23, 11, 34, 45] {
            tally.add(&one, key, || key / 10 * 10, || 0);
        }
        assert_eq!(tally.crowded(), 3);
        let waits: Vec<_> = tally.into_sums().map(|(key, sums)| (key, sums.waits)).collect();
        assert_eq!(waits, [(11, 2), (12, 1), (20, 1), (30, 1), (0, 1)]);
    }
}
