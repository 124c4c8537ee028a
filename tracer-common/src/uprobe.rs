//! What the opt-in uprobes (`--uprobes`) count.

use crate::plain_data;

/// What a use is of: a kind of lock in libc, or a function of the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum UseKind {
    /// `pthread_mutex_t`.
    Mutex = 1,
    /// `pthread_rwlock_t`.
    Rwlock = 2,
    /// `sem_t`.
    Semaphore = 3,
    /// `pthread_cond_t`.
    Cond = 4,
    /// Calls of `_PyMutex_LockTimed`.
    MutexLockTimed = 16,
    /// Calls of `PyMutex_Lock`.
    MutexLock = 17,
    /// Calls of `PyMutex_Unlock`.
    MutexUnlock = 18,
    /// Calls of `_PyParkingLot_Park`.
    Park = 19,
    /// Calls of `_PySemaphore_Wait`.
    SemaphoreWait = 20,
    /// Calls of `PyThread_acquire_lock_timed`.
    ThreadLock = 21,
    /// Calls of `_PyCriticalSection_BeginSlow`.
    CriticalSection = 22,
}

impl UseKind {
    /// Every kind with its name in the trace and in every output.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Mutex, "pthread_mutex"),
        (Self::Rwlock, "pthread_rwlock"),
        (Self::Semaphore, "sem"),
        (Self::Cond, "pthread_cond"),
        (Self::MutexLockTimed, "_PyMutex_LockTimed"),
        (Self::MutexLock, "PyMutex_Lock"),
        (Self::MutexUnlock, "PyMutex_Unlock"),
        (Self::Park, "_PyParkingLot_Park"),
        (Self::SemaphoreWait, "_PySemaphore_Wait"),
        (Self::ThreadLock, "PyThread_acquire_lock_timed"),
        (Self::CriticalSection, "_PyCriticalSection_BeginSlow"),
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_u32(n: u32) -> Option<Self> {
        Self::ALL.iter().map(|&(kind, _)| kind).find(|&kind| kind as u32 == n)
    }

    /// Its name in the trace and in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|&&(kind, _)| kind == self).map_or("", |&(_, name)| name)
    }

    /// The cookie of a probe on a function of the interpreter: what it counts, and which argument
    /// is the lock, if one reliably is.
    #[must_use]
    pub const fn cookie(self, argument: Option<u32>) -> u64 {
        let argument = match argument {
            Some(n) => n as u64 + 1,
            None => 0,
        };
        self as u64 | argument << 32
    }
}

/// What uses are added up by. The thread is part of it so that each entry has one writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct UseKey {
    /// The lock's address; 0: not known.
    pub lock: u64,
    /// Who used it.
    pub tid: u32,
    /// A [`UseKind`] number.
    pub what: u32,
}

/// What one thread did with one lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UseTotals {
    /// Times that it got the lock, waiting or not.
    pub acquisitions: u64,
    /// Calls that returned without it.
    pub failed: u64,
    /// Unlocks, posts; of a condition: signals and broadcasts.
    pub releases: u64,
    /// Of a condition: waits; of a function of the interpreter: calls.
    pub calls: u64,
    /// Holds that ended.
    pub holds: u64,
    /// Nanoseconds of them.
    pub held_ns: u64,
    /// The longest of them, nanoseconds.
    pub max_held_ns: u64,
    /// When the hold under way began; 0: there is none.
    pub since_ns: u64,
    /// Of an rwlock: how often the thread holds it.
    pub depth: u64,
}

/// One thread: the call that it is in, between its entry and its return, and hits of its probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UprobeThread {
    /// The call's lock.
    pub lock: u64,
    /// Of a wait on a condition: its mutex.
    pub mutex: u64,
    /// A [`UseKind`] number; 0: it is in none.
    pub what: u64,
    /// Hits of probes at a function's entry.
    pub entry_hits: u64,
    /// Hits of probes at a function's return.
    pub return_hits: u64,
}

/// What the uprobes lost. Index into the `UPROBE_LOSSES` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum UprobeLoss {
    /// The table of uses was full.
    UseTableFull = 0,
    /// The table of threads was full: all hits of a thread are missing.
    ThreadTableFull = 1,
    /// A return whose entry was not seen.
    ReturnUnmatched = 2,
    /// A mutex could not be read: whether it was held before is not known.
    MutexFault = 3,
}

impl UprobeLoss {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// Every reason with its name in the trace and in every output.
    pub const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::UseTableFull, "uprobe_use_table_full"),
        (Self::ThreadTableFull, "uprobe_thread_table_full"),
        (Self::ReturnUnmatched, "uprobe_return_unmatched"),
        (Self::MutexFault, "uprobe_mutex_fault"),
    ];
}

plain_data!(UseKey = 16, UseTotals = 72, UprobeThread = 40);
