//! Waits in the parking lot: mutexes, events and pauses.

use tracer_common::shape::MARK_COLLECTING;
use tracer_common::{FutexIdentity, MAX_GILS, Shape};

use super::{LockName, Namer, OB_MUTEX, Seen};
use crate::cpython::runtime_fields::RuntimeLock;
use crate::trace::records::{Class, Kind};
use crate::units::Address;

/// From `mutex` to `stop_event` in `struct _stoptheworld_state`: three `bool`s lie between them
/// (`Include/internal/pycore_interp_structs.h`, 3.13 to 3.15).
const STOP_MUTEX_TO_EVENT: u64 = 4;

impl Namer {
    /// The waiter stands still while the world is stopped: it parks on its own thread state
    /// (`tstate_wait_attach`, Python/pystate.c).
    #[must_use]
    pub fn waits_on_own_state(&self, wait: &Seen<'_>) -> bool {
        let offset = self.interpreter.as_ref().and_then(|python| python.layout.thread_state);
        wait.id.shape == Shape::Parked as u32
            && offset
                .zip(wait.thread)
                .is_some_and(|(offset, thread)| thread.0.wrapping_add(offset) == wait.id.lock)
    }

    /// The waiter stops the world, or waits for its turn to do so. Told by the struct that the event is
    /// in, which has the waiter as its requester: where that struct is no table has to say. Once its
    /// event was seen, its mutex is known as well.
    pub fn stops_the_world(&mut self, wait: &Seen<'_>) -> bool {
        let (id, lock) = (wait.id, Address(wait.id.lock));
        if id.shape != Shape::Parked as u32 {
            return false;
        }
        if id.park_arg != 0 {
            return self.stop_mutexes.contains(&lock);
        }
        let requester = wait.thread.is_some_and(|thread| thread.0 == id.owner);
        if requester && self.stop_mutexes.len() < MAX_GILS {
            self.stop_mutexes.insert(Address(id.lock.wrapping_sub(STOP_MUTEX_TO_EVENT)));
        }
        requester
    }

    /// What the kernel side would have said of a lock, had somebody parked on it (a spin that
    /// never parked leaves only the address). `PyMutex` is the only lock that spins.
    #[must_use]
    pub fn parked_identity(&self, lock: u64, object_type: u64) -> FutexIdentity {
        let free_threaded =
            self.interpreter.as_ref().is_some_and(|python| python.layout.free_threaded);
        let object = free_threaded && lock & 15 == OB_MUTEX;
        // Spins before the interpreter was known have no type.
        let object_type =
            if object_type == 0 { self.read_object_type(lock, object) } else { object_type };
        let shape = if object { Shape::Object } else { Shape::Parked } as u32;
        // A PyMutex parks with an argument (`struct mutex_entry`, Python/lock.c).
        FutexIdentity { lock, object_type, shape, park_arg: 1, ..Default::default() }
    }

    /// The type pointer of the object that a lock would be in; 0 if it can't be read.
    fn read_object_type(&self, lock: u64, object: bool) -> u64 {
        let read = || {
            let layout = &self.interpreter.as_ref()?.layout;
            let header = if object { OB_MUTEX } else { layout.object_header };
            let at = lock.checked_sub(header)?.checked_add(layout.ob_type)?;
            self.memory.as_ref()?.word(Address(at))
        };
        read().unwrap_or(0)
    }

    /// A parking-lot wait: the kernel side read the parked address out of its `wait_entry`.
    pub(super) fn parked(&mut self, wait: &Seen<'_>) -> LockName {
        let id = wait.id;
        let lock = Address(id.lock);
        let named =
            |kind, class, address, name: String| LockName { kind, class, address, lock, name };
        let unclassified =
            |name: &str| named(Kind::Unclassified, Class::Unclassified, lock, name.to_owned());
        if self.interpreter.is_none() {
            return unclassified("parked");
        }
        // A raw mutex of the parking lot's own buckets: its record starts with the next waiter's,
        // on another stack, or nothing (`struct raw_mutex_entry`, Python/lock.c).
        if id.lock == 0 {
            let bucket = "parking-lot bucket".to_owned();
            return named(Kind::Runtime, Class::Contention, lock, bucket);
        }
        if self.waits_on_own_state(wait) {
            return self.pause(id, "stop-the-world");
        }
        if self.stops_the_world(wait) {
            return self.pause(id, "stop-the-world request");
        }
        if let Some(field) = self.runtime_field(lock) {
            return match field {
                RuntimeLock::StopTheWorld => self.pause(id, "stop-the-world request"),
                RuntimeLock::Mutex(name) => {
                    let import = name.starts_with("imports.");
                    let kind = if import { Kind::Import } else { Kind::Runtime };
                    named(kind, Class::Contention, lock, name)
                }
            };
        }
        if id.shape == Shape::Object as u32 {
            let address = Address(id.lock.wrapping_sub(OB_MUTEX));
            return match self.type_name(Address(id.object_type)) {
                Some(type_name) => {
                    let name = self.object_name(address, type_name);
                    named(Kind::Object, Class::Contention, address, name)
                }
                None => unclassified("parked mutex"),
            };
        }
        if let Some(found) = self.object_lock(wait, lock) {
            return found;
        }
        if let Some(place) = self.inside_runtime(lock) {
            return unclassified(&place);
        }
        // The event of a `ThreadHandle` (`Modules/_threadmodule.c`): 57 bytes into a heap block.
        match (id.park_arg, id.lock & 15) {
            (0, 9) => named(Kind::Join, Class::Idle, lock, "Thread".to_owned()),
            (0, _) => unclassified("parked event"),
            // A free-threaded dict's keys have a mutex of their own (`dk_mutex`).
            (_, 11) if self.is_free_threaded() => {
                named(Kind::Object, Class::Contention, lock, "dict keys".to_owned())
            }
            // Somewhere in C memory; somebody holds it.
            (..) => named(Kind::Runtime, Class::Contention, lock, "PyMutex".to_owned()),
        }
    }

    fn is_free_threaded(&self) -> bool {
        self.interpreter.as_ref().is_some_and(|python| python.layout.free_threaded)
    }

    /// A stop-the-world pause is of the interpreter: its threads have their own words to wait on.
    fn pause(&self, id: &FutexIdentity, name: &str) -> LockName {
        let collecting = id.marks & MARK_COLLECTING != 0;
        let address = self
            .interpreter
            .as_ref()
            .and_then(|python| python.interpreters.last())
            .copied()
            .unwrap_or(Address(id.lock));
        let name = format!("{name}{}", if collecting { " (GC)" } else { "" });
        LockName { kind: Kind::StopTheWorld, class: Class::Pause, address, lock: address, name }
    }
}
