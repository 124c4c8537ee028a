//! A cache that stops growing: what was not asked for lately is forgotten.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Entries in two generations. What is asked for comes into the younger one; when that is full, the
/// older one is forgotten, and it is the older one itself. So at least the last `room` entries that
/// were asked for are there, and at most twice as many.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: FxHashMap<K, V>,
    old: FxHashMap<K, V>,
    room: usize,
}

impl<K: Eq + Hash, V: Copy> Recent<K, V> {
    pub(super) fn new(room: usize) -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), room: room.max(1) }
    }

    /// The value of a key, if it is still known.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(&value) = self.young.get(key) {
            return Some(value);
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value);
        Some(value)
    }

    /// The same for who only looks.
    pub(super) fn peek(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.room && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Forgets what is not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.young.retain(|key, _| keep(key));
        self.old.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays() {
        let mut recent = Recent::new(10);
        recent.insert(0, 100);
        for n in 1..1_000 {
            recent.insert(n, n);
            assert_eq!(recent.get(&0), Some(100));
            assert!(recent.young.len() <= 10 && recent.old.len() <= 10);
        }
        assert!((990..1_000).all(|n| recent.peek(&n) == Some(n)));
        assert_eq!(recent.peek(&900), None);
        recent.insert(0, 101);
        assert_eq!(recent.peek(&0), Some(101));
        recent.retain(|&n| n != 0);
        assert_eq!(recent.get(&0), None);
        recent.clear();
        assert_eq!(recent.peek(&999), None);
    }

    #[test]
    fn a_new_value_hides_an_old_one() {
        let mut recent = Recent::new(1);
        recent.insert(1, 10);
        recent.insert(2, 20);
        recent.insert(1, 11);
        assert_eq!((recent.get(&1), recent.peek(&1)), (Some(11), Some(11)));
    }
}
