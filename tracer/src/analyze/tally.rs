//! Sums by a key, in tables that share a limited room.

use std::hash::{BuildHasher, Hash};
use std::ops::AddAssign;

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
}

/// So few keys are searched one by one.
const FEW: usize = 16;

/// Sums by key, in the order of their appearance.
#[derive(Debug)]
pub(super) struct Tally<K, V> {
    entries: Vec<(K, V)>,
    /// Places in `entries`, if they are many.
    places: HashTable<u32>,
}

impl<K, V> Default for Tally<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), places: HashTable::new() }
    }
}

impl<K: Copy + Eq + Hash, V: AddAssign> Tally<K, V> {
    /// Adds something under its key. If there is no room for that, then under a coarser one; else
    /// under `rest`, for which there always is: the caller has few of them.
    pub(super) fn add(
        &mut self,
        room: &mut Room,
        value: V,
        key: K,
        coarser: impl FnOnce() -> K,
        rest: impl FnOnce() -> K,
    ) {
        let hash = if self.entries.len() < FEW { 0 } else { room.hasher.hash_one(key) };
        if let Some(sums) = self.find(hash, &key) {
            *sums += value;
        } else if let Some(left) = room.fine.checked_sub(1) {
            room.fine = left;
            self.insert(&room.hasher, hash, key, value);
        } else {
            room.crowded += 1;
            let (coarser, rest) = (coarser(), rest());
            let hash = room.hasher.hash_one(coarser);
            if let Some(sums) = self.find(hash, &coarser) {
                *sums += value;
            } else if let Some(left) = room.coarse.checked_sub(1) {
                room.coarse = left;
                self.insert(&room.hasher, hash, coarser, value);
            } else {
                let hash = room.hasher.hash_one(rest);
                match self.find(hash, &rest) {
                    Some(sums) => *sums += value,
                    None => self.insert(&room.hasher, hash, rest, value),
                }
            }
        }
    }

    fn find(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let entries = &mut self.entries;
        if entries.len() <= FEW {
            return entries.iter_mut().find(|entry| entry.0 == *key).map(|entry| &mut entry.1);
        }
        let place = *self.places.find(hash, |&place| entries[place as usize].0 == *key)?;
        Some(&mut entries[place as usize].1)
    }

    fn insert(&mut self, hasher: &RandomState, hash: u64, key: K, value: V) {
        let entries = &mut self.entries;
        let place = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let hash_of = |entries: &[(K, V)], place: u32| hasher.hash_one(entries[place as usize].0);
        let new = place(entries.len());
        entries.push((key, value));
        if entries.len() == FEW + 1 {
            for old in 0..new {
                let hash = hash_of(entries, old);
                self.places.insert_unique(hash, old, |&place| hash_of(entries, place));
            }
        }
        if entries.len() > FEW {
            self.places.insert_unique(hash, new, |&place| hash_of(entries, place));
        }
    }

    /// The keys and their sums.
    pub(super) fn into_entries(self) -> Vec<(K, V)> {
        self.entries
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
        assert_eq!(tally.into_entries(), [(11, 2), (12, 1), (20, 2), (30, 1), (0, 1)]);
    }

    #[test]
    fn many_keys_are_found_again() {
        let mut room = Room::new(1_000);
        let mut tally: Tally<u32, u64> = Tally::default();
        for key in (0..1_000).chain(0..1_000) {
            tally.add(&mut room, 1, key, || 0, || 0);
        }
        assert_eq!(tally.into_entries(), (0..1_000).map(|key| (key, 2)).collect::<Vec<_>>());
    }
}
