//! Locks, and what waiting for them means.

use serde::{Deserialize, Serialize};
use tracer_common::Shape;

use crate::units::{Address, LockIndex};

/// What kind of thing is waited for (design: `report --format json`). Written as its position:
/// append only, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The global interpreter lock.
    Gil,
    /// After a requested GIL drop: waiting until another thread took it.
    GilHandoff,
    /// `ob_mutex` of an object (free-threaded builds).
    Object,
    /// `threading.Lock`.
    Lock,
    /// `threading.RLock`.
    Rlock,
    /// `threading.Condition`.
    Condition,
    /// `threading.Event`.
    Event,
    /// `threading.Semaphore`.
    Semaphore,
    /// `threading.Barrier`.
    Barrier,
    /// `queue.Queue` and its like.
    Queue,
    /// A pool's worker without work.
    Pool,
    /// `Thread.join`.
    Join,
    /// An import lock.
    Import,
    /// A mutex of the runtime or an interpreter.
    Runtime,
    /// A stop-the-world pause.
    StopTheWorld,
    /// `pthread_mutex_t`.
    PthreadMutex,
    /// `pthread_cond_t`.
    PthreadCond,
    /// `pthread_rwlock_t`.
    PthreadRwlock,
    /// A futex of another kind.
    Futex,
    /// Sampled: a fight over a reference count.
    Refcount,
    /// Sampled: a fight over another atomic.
    Atomic,
    /// Not known.
    Unclassified,
}

/// What a wait means for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A lock that somebody else held.
    Contention,
    /// Nothing to do.
    Idle,
    /// The world was stopped.
    Pause,
    /// Can't be told from what was recorded.
    Unclassified,
}

impl Kind {
    /// The name in JSON, in folded stacks and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gil => "gil",
            Self::GilHandoff => "gil_handoff",
            Self::Object => "object",
            Self::Lock => "lock",
            Self::Rlock => "rlock",
            Self::Condition => "condition",
            Self::Event => "event",
            Self::Semaphore => "semaphore",
            Self::Barrier => "barrier",
            Self::Queue => "queue",
            Self::Pool => "pool",
            Self::Join => "join",
            Self::Import => "import",
            Self::Runtime => "runtime",
            Self::StopTheWorld => "stop_the_world",
            Self::PthreadMutex => "pthread_mutex",
            Self::PthreadCond => "pthread_cond",
            Self::PthreadRwlock => "pthread_rwlock",
            Self::Futex => "futex",
            Self::Refcount => "refcount",
            Self::Atomic => "atomic",
            Self::Unclassified => "unclassified",
        }
    }

    /// The kind and class of waits of which only the shape is known (those below the threshold
    /// or lost).
    #[must_use]
    pub fn of_shape(shape: Shape) -> (Self, Class) {
        match shape {
            Shape::Gil => (Self::Gil, Class::Contention),
            Shape::GilHandoff => (Self::GilHandoff, Class::Contention),
            Shape::Object => (Self::Object, Class::Contention),
            Shape::Join => (Self::Join, Class::Idle),
            Shape::Futex | Shape::Semaphore | Shape::Mutex => (Self::Futex, Class::Unclassified),
            Shape::Parked => (Self::Unclassified, Class::Unclassified),
        }
    }
}

impl Class {
    /// The name in JSON and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Contention => "contention",
            Self::Idle => "idle",
            Self::Pause => "pause",
            Self::Unclassified => "unclassified",
        }
    }
}

/// A lock, interned: waits name it by `index`. Once written it is never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Its number in this trace, from 0, in order of appearance.
    pub index: LockIndex,
    /// What it is.
    pub kind: Kind,
    /// What waiting for it means.
    pub class: Class,
    /// The owning object (`id(obj)`) where there is one, else the lock.
    pub address: Address,
    /// The lock itself: parked address, semaphore, GIL.
    pub lock: Address,
    /// For people: the object's type name (`dict`), `GIL`, `semaphore`, …
    pub name: String,
    /// The [`Shape`] number that the kernel side gave it.
    pub shape: u32,
}
