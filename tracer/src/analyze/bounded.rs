//! A map that stops growing: what finds no room is added up under one key for the rest.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// A map of at most `limit` entries and those for the rest.
#[derive(Clone, Debug)]
pub(super) struct Bounded<K, V> {
    // Seeded at random: keys come from the file, and must not be able to collide on purpose.
    entries: HashMap<K, V, RandomState>,
    limit: usize,
}

impl<K: Copy + Eq + Hash, V: Default> Bounded<K, V> {
    /// An empty map.
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: HashMap::default(), limit }
    }

    /// The value of `key`, or if there is no room for it that of `rest`; and which of them it is.
    /// There is always room for `rest`: the caller has few of them.
    pub(super) fn get(&mut self, key: K, rest: K) -> (K, &mut V) {
        let full = self.entries.len() >= self.limit && !self.entries.contains_key(&key);
        let key = if full { rest } else { key };
        (key, self.entries.entry(key).or_default())
    }
}

impl<K, V> IntoIterator for Bounded<K, V> {
    type Item = (K, V);
    type IntoIter = std::collections::hash_map::IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_added_up() {
        let mut map: Bounded<u32, u64> = Bounded::new(2);
        for key in [1, 2, 3, 1, 4] {
            let (taken, value) = map.get(key, u32::MAX);
            assert_eq!(taken, if key < 3 { key } else { u32::MAX });
            *value += 1;
        }
        let mut all: Vec<_> = map.into_iter().collect();
        all.sort_unstable();
        assert_eq!(all, [(1, 2), (2, 1), (u32::MAX, 2)]);
    }
}
