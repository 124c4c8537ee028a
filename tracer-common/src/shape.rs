//! The shape of a futex wait: what its arguments alone say about the lock behind it.

use crate::plain_data;

/// What the futex arguments, and the words around the futex, tell the kernel side.
///
/// A shape is coarser than a lock kind: the recorder refines it by reading the target's memory
/// (`_thread.lock` or `dict`?), and whatever it can't refine stays a plain futex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Shape {
    /// None of the others.
    Futex = 0,
    /// `uaddr` lies in `gil->cond` or `gil->mutex` (`Python/ceval_gil.c`, `take_gil`).
    Gil = 1,
    /// `uaddr` lies in `gil->switch_cond` or `gil->switch_mutex` (`drop_gil`, `FORCE_SWITCHING`).
    GilHandoff = 2,
    /// Parking lot, and the parked address looks like `ob_mutex` of an object (`addr % 16 == 10`,
    /// free-threaded builds only).
    Object = 3,
    /// Parking lot, any other address: `PyMutex`, event, once flag, stop-the-world.
    Parked = 4,
    /// `FUTEX_WAIT_BITSET` for value 0 off the stack: how glibc's `sem_wait` sleeps.
    Semaphore = 5,
    /// `FUTEX_WAIT` for value 2: how glibc's `pthread_mutex_lock` sleeps.
    Mutex = 6,
    /// Not private, for a thread id: glibc's `pthread_join`.
    Join = 7,
}

impl Shape {
    /// How many shapes there are (length of per-shape arrays).
    pub const COUNT: usize = 8;
    /// Every shape, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Futex,
        Self::Gil,
        Self::GilHandoff,
        Self::Object,
        Self::Parked,
        Self::Semaphore,
        Self::Mutex,
        Self::Join,
    ];

    /// The shape with this number, if there is one.
    #[must_use]
    pub const fn from_u32(n: u32) -> Option<Self> {
        if (n as usize) < Self::COUNT { Some(Self::ALL[n as usize]) } else { None }
    }
}

/// What one futex wait waits on, as the kernel side read it at switch-out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FutexIdentity {
    /// The futex word's user address.
    pub uaddr: u64,
    /// Parking-lot shapes: the parked address (`wait_entry.addr`). GIL shapes: the GIL struct.
    /// Otherwise 0. Two episodes are of one wait only if this and (unless GIL) `uaddr` agree.
    pub lock: u64,
    /// Parking-lot shapes: `wait_entry.park_arg`; otherwise 0.
    pub park_arg: u64,
    /// Parking-lot shapes: what would be the type pointer of the object around the parked
    /// address. A candidate, unchecked; 0 if it could not be read.
    pub object_type: u64,
    /// The `op` argument of `futex(2)`.
    pub op: u32,
    /// The `val` argument of `futex(2)`.
    pub val: u32,
    /// A [`Shape`] number.
    pub shape: u32,
    /// `MARK_*` bits.
    pub marks: u32,
    /// The Python object that the lock belongs to, where it was found through the waiter's frame
    /// ([`Shape::Semaphore`]); else 0.
    pub object: u64,
    /// What the lock itself says of its owner, as it says it: a thread id for [`Shape::Mutex`], for
    /// the others the word behind the lock, which is a `pthread_self()` if the lock is an `RLock`. For
    /// an event (parked on without an argument) the word [`STOP_EVENT_TO_REQUESTER`] bytes behind it,
    /// which is the waiter's own `PyThreadState` if it stops the world. 0: nobody, or not read.
    pub owner: u64,
}

/// From `stop_event` to `requester` in `struct _stoptheworld_state`; the struct begins with its mutex,
/// 4 bytes before the event (`Include/internal/pycore_interp_structs.h`).
pub const STOP_EVENT_TO_REQUESTER: u64 = 12;

/// The garbage collector was at work.
pub const MARK_COLLECTING: u32 = 1 << 0;

plain_data!(FutexIdentity = 64);
