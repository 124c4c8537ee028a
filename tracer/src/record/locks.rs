//! Interning of locks: one record each, whatever way it was seen.

use rustc_hash::FxHashMap;
use tracer_common::{FutexIdentity, Shape};

use crate::cpython::{LockName, Namer};
use crate::trace::records::{Class, Kind, LockRecord};
use crate::units::{Address, LockIndex};

/// What the kernel side saw of a lock, reduced to what its name depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Seen {
    shape: u32,
    lock: u64,
    object_type: u64,
    has_park_arg: bool,
    val: u32,
}

/// The first-level cache is dropped when it has grown to this: short-lived waiter locks of a long
/// recording have many addresses.
const MAX_CACHED: usize = 1 << 20;

/// Locks by what was seen of them, and by what they turned out to be.
#[derive(Debug, Default)]
pub(super) struct Locks {
    by_sight: FxHashMap<Seen, LockIndex>,
    by_name: FxHashMap<(Kind, Address, String), LockIndex>,
    classes: Vec<Class>,
}

impl Locks {
    /// The lock behind a futex wait, and its record if it is new. `name` is asked if it may be.
    pub(super) fn of_wait(
        &mut self,
        id: &FutexIdentity,
        namer: &mut Namer,
        name: impl FnOnce(&mut Namer) -> LockName,
    ) -> (LockIndex, Option<LockRecord>) {
        let shape = Shape::from_u32(id.shape).unwrap_or(Shape::Futex);
        let parked = matches!(shape, Shape::Object | Shape::Parked);
        let own_address = parked || matches!(shape, Shape::Gil | Shape::GilHandoff);
        let seen = Seen {
            shape: id.shape,
            lock: if own_address { id.lock } else { id.uaddr },
            object_type: id.object_type,
            has_park_arg: parked && id.park_arg != 0,
            val: if shape == Shape::Join { id.val } else { 0 },
        };
        self.intern(seen, name, namer)
    }

    /// A lock that was spun on, of which only the address is known.
    pub(super) fn of_spin(
        &mut self,
        lock: u64,
        object_type: u64,
        namer: &mut Namer,
    ) -> (LockIndex, Option<LockRecord>) {
        let id = namer.parked_identity(lock, object_type);
        self.of_wait(&id, namer, |namer| namer.name(&id, |_| false))
    }

    /// What waiting for a lock means.
    pub(super) fn class(&self, lock: LockIndex) -> Class {
        self.classes.get(lock.0 as usize).copied().unwrap_or(Class::Unclassified)
    }

    /// Forgets what addresses meant: the target has replaced its memory.
    pub(super) fn forget(&mut self) {
        self.by_sight.clear();
        self.by_name.clear();
    }

    fn intern(
        &mut self,
        seen: Seen,
        name: impl FnOnce(&mut Namer) -> LockName,
        namer: &mut Namer,
    ) -> (LockIndex, Option<LockRecord>) {
        if let Some(&index) = self.by_sight.get(&seen) {
            return (index, None);
        }
        if self.by_sight.len() >= MAX_CACHED {
            self.by_sight.clear();
        }
        let LockName { kind, class, address, lock, name } = name(namer);
        let key = (kind, lock, name);
        if let Some(&index) = self.by_name.get(&key) {
            self.by_sight.insert(seen, index);
            return (index, None);
        }
        let index = LockIndex(u32::try_from(self.classes.len()).unwrap_or(u32::MAX));
        self.classes.push(class);
        self.by_sight.insert(seen, index);
        self.by_name.insert(key.clone(), index);
        let name = key.2;
        let record = LockRecord { index, kind, class, address, lock, name, shape: seen.shape };
        (index, Some(record))
    }
}
