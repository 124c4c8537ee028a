//! Interning of locks: one record each, whatever way it was seen.

use tracer_common::{FutexIdentity, Shape, UseKind};

use super::recent::Recent;
use crate::cpython::{LockName, LockType, Namer, Seen, Situation, Told};
use crate::trace::records::{Class, Kind, LockRecord};
use crate::units::{Address, LockIndex};

/// What was seen of a wait, reduced to what the name of its lock depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Sight {
    /// Number of the memory that the addresses are of.
    memory: u32,
    shape: u32,
    lock: u64,
    object_type: u64,
    object: u64,
    has_park_arg: bool,
    marks: u32,
    val: u32,
    told: Told,
    subject: u64,
    /// The string that names it: a module's lock lives where that of another module lived before.
    text: u64,
    /// It waits on its own thread state.
    own_state: bool,
    /// It waits for the world to stop.
    stops_the_world: bool,
}

impl Sight {
    fn of(memory: u32, wait: &Seen<'_>, own_state: bool, stops_the_world: bool) -> Self {
        let id = wait.id;
        let shape = Shape::from_u32(id.shape).unwrap_or(Shape::Futex);
        let parked = matches!(shape, Shape::Object | Shape::Parked);
        let gil = matches!(shape, Shape::Gil | Shape::GilHandoff);
        let local = |n: Option<usize>| n.and_then(|n| wait.subjects.get(n)).copied().unwrap_or(0);
        let (subject, text) = match wait.told {
            Told::As(situation) => (local(situation.subject), local(situation.text)),
            Told::Nothing | Told::Itself => (0, 0),
        };
        Self {
            memory,
            shape: id.shape,
            lock: match (parked || gil, own_state || subject != 0) {
                (_, true) => 0, // each wait has another
                (true, false) => id.lock,
                (false, false) => id.uaddr,
            },
            object_type: id.object_type,
            object: if subject == 0 { id.object } else { 0 },
            has_park_arg: parked && id.park_arg != 0,
            marks: if parked { id.marks } else { 0 },
            val: if shape == Shape::Join { id.val } else { 0 },
            told: if gil { Told::Nothing } else { wait.told },
            subject,
            text,
            own_state,
            stops_the_world,
        }
    }
}

/// So many locks are remembered at least, in each of the ways below: short-lived waiter locks of a
/// long recording have many addresses. One that nobody has waited for while so many others were, is
/// another lock when it comes back.
const REMEMBERED: usize = 1 << 16;

/// Locks by what was seen of them, and by what they turned out to be.
#[derive(Debug)]
pub(super) struct Locks {
    by_sight: Recent<Sight, LockIndex>,
    by_name: Recent<(u32, Kind, Class, Address, String), LockIndex>,
    /// What a lock was for when that was last told, by memory, shape and address.
    told: Recent<(u32, u32, u64), LockIndex>,
    /// The latest lock at each address.
    by_address: Recent<(u32, Address), LockIndex>,
    classes: Vec<Class>,
    /// Waits without frames that were taken to be for the same as earlier ones for their lock.
    pub(super) inherited: u64,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            by_sight: Recent::new(REMEMBERED),
            by_name: Recent::new(REMEMBERED),
            told: Recent::new(REMEMBERED),
            by_address: Recent::new(REMEMBERED),
            classes: Vec::new(),
            inherited: 0,
        }
    }
}

impl Locks {
    /// The lock behind a futex wait, and its record if it is new. `name` is asked if it may be.
    pub(super) fn of_wait(
        &mut self,
        memory: u32,
        wait: &Seen<'_>,
        namer: &mut Namer,
        name: impl FnOnce(&mut Namer) -> LockName,
    ) -> (LockIndex, Option<LockRecord>) {
        let id = wait.id;
        // Others say by themselves what they are.
        let address = match Shape::from_u32(id.shape) {
            Some(Shape::Parked) => Some(id.lock),
            Some(Shape::Semaphore | Shape::Futex | Shape::Mutex) => Some(id.uaddr),
            _ => None,
        };
        let place = address.map(|address| (memory, id.shape, address));
        if wait.told == Told::Nothing
            && let Some(index) = place.and_then(|place| self.told.get(&place))
        {
            self.inherited += 1;
            return (index, None);
        }
        let own_state = namer.waits_on_own_state(wait);
        let stops_the_world = namer.stops_the_world(wait);
        let sight = Sight::of(memory, wait, own_state, stops_the_world);
        let (index, record) = self.intern(sight, name, namer);
        if wait.told != Told::Nothing
            && !own_state
            && let Some(place) = place
        {
            self.told.insert(place, index);
        }
        (index, record)
    }

    /// A lock that was spun on, of which only the address is known; `told` is what the spinning
    /// thread's frames say.
    pub(super) fn of_spin(
        &mut self,
        memory: u32,
        lock: u64,
        object_type: u64,
        namer: &mut Namer,
        told: impl FnOnce(LockType) -> Told,
    ) -> (LockIndex, Option<LockRecord>) {
        let id = namer.parked_identity(lock, object_type);
        let told = told(namer.lock_type(&id));
        let Told::As(situation) = told else {
            let seen = Seen { told, ..Seen::alone(&id) };
            return self.of_wait(memory, &seen, namer, |namer| namer.name(&seen));
        };
        // What it is part of is in a waiter's local variables, which nobody reads at a yield. Whoever
        // waited for it told, or else it is one of those: `Condition.wait` makes a lock for each wait, and
        // on a busy machine a notification often comes while its thread has not slept yet.
        if let Some(index) = self.told.get(&(memory, id.shape, id.lock)) {
            self.inherited += 1;
            return (index, None);
        }
        let situation = Situation { subject: None, text: None, ..situation };
        let seen = Seen { told: Told::As(situation), ..Seen::alone(&id) };
        let sight = Sight { lock: 0, object: 0, ..Sight::of(memory, &seen, false, false) };
        let name = |_: &mut Namer| LockName {
            kind: situation.kind,
            class: situation.class,
            address: Address(0),
            lock: Address(0),
            name: format!("{} (which one is not known)", situation.name),
        };
        self.intern(sight, name, namer)
    }

    /// What the lock at an address is for, as was told last, in a recording of one process.
    pub(super) fn told_at(&self, shape: u32, address: Address) -> Option<LockIndex> {
        self.told.peek(&(0, shape, address.0))
    }

    /// A lock that says by itself what it is, in a recording of one process.
    pub(super) fn of_plain(
        &mut self,
        id: &FutexIdentity,
        namer: &mut Namer,
    ) -> (LockIndex, Option<LockRecord>) {
        let seen = Seen::alone(id);
        self.of_wait(0, &seen, namer, |namer| namer.name(&seen))
    }

    /// The latest lock that was seen at an address, in a recording of one process.
    pub(super) fn known_at(&self, address: u64) -> Option<LockIndex> {
        self.by_address.peek(&(0, Address(address)))
    }

    /// The latest lock that was seen at an address of a memory.
    pub(super) fn known_in(&self, memory: u32, address: Address) -> Option<LockIndex> {
        self.by_address.peek(&(memory, address))
    }

    /// A lock that was used, of which only address and kind are known: what waits for it, if there
    /// were any, say more.
    pub(super) fn of_use(
        &mut self,
        what: UseKind,
        address: u64,
        namer: &mut Namer,
    ) -> (LockIndex, Option<LockRecord>) {
        if let Some(index) = self.known_at(address) {
            return (index, None);
        }
        let shape = match what {
            UseKind::Mutex => Shape::Mutex,
            UseKind::Semaphore | UseKind::ThreadLock => Shape::Semaphore,
            UseKind::Rwlock | UseKind::Cond => Shape::Futex,
            _ => {
                let id = namer.parked_identity(address, 0);
                let seen = Seen::alone(&id);
                return self.of_wait(0, &seen, namer, |namer| namer.name(&seen));
            }
        };
        let id = FutexIdentity { uaddr: address, shape: shape as u32, ..Default::default() };
        let seen = Seen::alone(&id);
        self.intern(
            Sight::of(0, &seen, false, false),
            |namer| match what {
                UseKind::Rwlock | UseKind::Cond => {
                    let (kind, class, name) = match what {
                        UseKind::Rwlock => (Kind::PthreadRwlock, Class::Contention, "rwlock"),
                        _ => (Kind::PthreadCond, Class::Idle, "condition variable"),
                    };
                    let at = Address(address);
                    let name = of_gil(name, address, namer);
                    LockName { kind, class, address: at, lock: at, name }
                }
                _ => {
                    let plain = namer.name(&seen);
                    LockName { name: of_gil(&plain.name, address, namer), ..plain }
                }
            },
            namer,
        )
    }

    /// What waiting for a lock means.
    pub(super) fn class(&self, lock: LockIndex) -> Class {
        self.classes.get(lock.0 as usize).copied().unwrap_or(Class::Unclassified)
    }

    /// Forgets what addresses meant: the target has replaced its memory.
    pub(super) fn forget(&mut self) {
        self.by_sight.clear();
        self.by_name.clear();
        self.told.clear();
        self.by_address.clear();
    }

    /// Forgets what addresses meant in memories that are gone.
    pub(super) fn forget_memories(&mut self, gone: impl Fn(u32) -> bool) {
        self.by_sight.retain(|sight| !gone(sight.memory));
        self.by_name.retain(|key| !gone(key.0));
        self.told.retain(|key| !gone(key.0));
        self.by_address.retain(|key| !gone(key.0));
    }

    fn intern(
        &mut self,
        sight: Sight,
        name: impl FnOnce(&mut Namer) -> LockName,
        namer: &mut Namer,
    ) -> (LockIndex, Option<LockRecord>) {
        if let Some(index) = self.by_sight.get(&sight) {
            return (index, None);
        }
        let LockName { kind, class, address, lock, name } = name(namer);
        let memory = sight.memory;
        let key = (memory, kind, class, lock, name);
        if let Some(index) = self.by_name.get(&key) {
            self.by_sight.insert(sight, index);
            return (index, None);
        }
        let index = LockIndex(u32::try_from(self.classes.len()).unwrap_or(u32::MAX));
        if key.3.0 != 0 {
            self.by_address.insert((memory, key.3), index);
        }
        self.classes.push(class);
        self.by_sight.insert(sight, index);
        self.by_name.insert(key.clone(), index);
        let name = key.4;
        let record = LockRecord { index, kind, class, address, lock, name, shape: sight.shape };
        (index, Some(record))
    }
}

/// A part of the GIL says so: `mutex of the GIL`.
fn of_gil(name: &str, address: u64, namer: &Namer) -> String {
    let inside = namer.interpreter().is_some_and(|python| {
        let config = python.kernel_config();
        let span = u64::from(config.gil_cond)..u64::from(config.gil_end);
        python.gils.iter().any(|gil| span.contains(&address.wrapping_sub(gil.0)))
    });
    if inside { format!("{name} of the GIL") } else { name.to_owned() }
}
