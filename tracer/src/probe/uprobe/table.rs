//! Which functions are hooked by which program.

use tracer_common::UseKind;

/// A set of functions to hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Group {
    /// libc's mutexes, read-write locks, semaphores and conditions: every acquisition, and holds.
    Pthread,
    /// The interpreter's slow paths: calls only.
    Cpython,
    /// Mutexes and read-write locks by the USDT probes of libc, if it has them: half the cost of
    /// `pthread`, without tries, semaphores and conditions.
    Usdt,
}

impl Group {
    /// All, in the order in which they are attached.
    pub const ALL: [Self; 3] = [Self::Pthread, Self::Cpython, Self::Usdt];

    /// The name in options, traces and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pthread => "pthread",
            Self::Cpython => "cpython",
            Self::Usdt => "usdt",
        }
    }

    pub(super) fn probes(self) -> Vec<Probed> {
        match self {
            Self::Pthread => pthread(),
            Self::Usdt => vec![],
            Self::Cpython => CPYTHON.iter().map(|&(f, kind, at)| python(f, kind, at)).collect(),
        }
    }
}

/// The groups that a recording uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    pthread: bool,
    cpython: bool,
    usdt: bool,
}

impl Groups {
    /// These.
    #[must_use]
    pub fn new(groups: &[Group]) -> Self {
        Self {
            pthread: groups.contains(&Group::Pthread),
            cpython: groups.contains(&Group::Cpython),
            usdt: groups.contains(&Group::Usdt),
        }
    }

    /// Those with these names.
    #[must_use]
    pub fn named(names: &[String]) -> Self {
        let named = |group: &&Group| names.iter().any(|name| name == group.name());
        Self::new(&Group::ALL.iter().filter(named).copied().collect::<Vec<_>>())
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.iter().map(|group| group.name().to_owned()).collect()
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Group> {
        Group::ALL.into_iter().filter(move |group| match group {
            Group::Pthread => self.pthread,
            Group::Cpython => self.cpython,
            Group::Usdt => self.usdt,
        })
    }

    /// Two of them would count the same acquisitions.
    #[must_use]
    pub fn overlap(self) -> bool {
        self.pthread && self.usdt
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// A function and the programs for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probed {
    pub(super) function: &'static str,
    /// At its entry.
    pub(super) entry: &'static str,
    /// At its return, if that is of interest.
    pub(super) at_return: Option<&'static str>,
    /// Of a function of the interpreter: what it counts as, and which argument is the lock.
    pub(super) python: Option<(UseKind, LockArgument)>,
}

/// Which argument of a function of the interpreter is the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockArgument {
    /// None is.
    None,
    /// The first, also in copies: GCC keeps it where it keeps any.
    First,
    /// The second; the third from 3.15 on, where the thread state comes first.
    SecondOrThird,
}

impl LockArgument {
    /// Its number in a function, or in a copy of one.
    pub(super) fn number(self, copy: bool, minor: Option<u8>) -> Option<u32> {
        match (self, minor) {
            (Self::First, _) => Some(0),
            (Self::SecondOrThird, Some(minor)) if !copy => Some(if minor >= 15 { 2 } else { 1 }),
            _ => None,
        }
    }
}

/// The program at every return.
pub(super) const AT_RETURN: &str = "lw_u_return";

const LOCKING: [(&str, &[&str]); 4] = [
    (
        "lw_u_mutex",
        &[
            "pthread_mutex_lock",
            "pthread_mutex_trylock",
            "pthread_mutex_timedlock",
            "pthread_mutex_clocklock",
        ],
    ),
    (
        "lw_u_rwlock",
        &[
            "pthread_rwlock_rdlock",
            "pthread_rwlock_wrlock",
            "pthread_rwlock_tryrdlock",
            "pthread_rwlock_trywrlock",
            "pthread_rwlock_timedrdlock",
            "pthread_rwlock_timedwrlock",
            "pthread_rwlock_clockrdlock",
            "pthread_rwlock_clockwrlock",
        ],
    ),
    ("lw_u_sem", &["sem_wait", "sem_trywait", "sem_timedwait", "sem_clockwait"]),
    ("lw_u_cond", &["pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait"]),
];

const RELEASING: [(&str, &[&str]); 4] = [
    ("lw_u_unlock", &["pthread_mutex_unlock"]),
    ("lw_u_rwunlock", &["pthread_rwlock_unlock"]),
    ("lw_u_post", &["sem_post"]),
    ("lw_u_signal", &["pthread_cond_signal", "pthread_cond_broadcast"]),
];

const CPYTHON: [(&str, UseKind, LockArgument); 7] = [
    ("_PyMutex_LockTimed", UseKind::MutexLockTimed, LockArgument::First),
    ("PyMutex_Lock", UseKind::MutexLock, LockArgument::First),
    ("PyMutex_Unlock", UseKind::MutexUnlock, LockArgument::First),
    ("_PyParkingLot_Park", UseKind::Park, LockArgument::First),
    // Its argument is a word on the waiter's own stack.
    ("_PySemaphore_Wait", UseKind::SemaphoreWait, LockArgument::None),
    ("PyThread_acquire_lock_timed", UseKind::ThreadLock, LockArgument::First),
    ("_PyCriticalSection_BeginSlow", UseKind::CriticalSection, LockArgument::SecondOrThird),
];

/// libc's USDT probes (`LIBC_PROBE` in glibc's `nptl`): name, program, kind of lock. Those of
/// releases come first, as below.
pub(super) const USDT: [(&str, &str, UseKind); 6] = [
    ("mutex_release", "lw_u_released", UseKind::Mutex),
    ("rwlock_unlock", "lw_u_released", UseKind::Rwlock),
    ("mutex_acquired", "lw_u_acquired", UseKind::Mutex),
    ("mutex_timedlock_acquired", "lw_u_acquired", UseKind::Mutex),
    ("rdlock_acquire_read", "lw_u_acquired", UseKind::Rwlock),
    ("wrlock_acquire_write", "lw_u_acquired", UseKind::Rwlock),
];

/// The register that the only argument of a USDT probe is in, as its position in `struct pt_regs`.
pub(super) fn usdt_register(arguments: &str) -> Option<u32> {
    let name = arguments.strip_prefix("8@%")?;
    let names = [
        "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
        "rsi", "rdi",
    ];
    names.iter().position(|&one| one == name).and_then(|n| u32::try_from(n).ok())
}

/// In the order in which probes are attached: a hold that is seen to begin is also seen to end.
fn pthread() -> Vec<Probed> {
    let of = |(entry, functions): &(&'static str, &'static [&'static str]), at_return| {
        let entry = *entry;
        functions.iter().map(move |function| Probed { function, entry, at_return, python: None })
    };
    let locking = LOCKING.iter().flat_map(|row| of(row, Some(AT_RETURN)));
    RELEASING.iter().flat_map(|row| of(row, None)).chain(locking).collect()
}

fn python(function: &'static str, kind: UseKind, argument: LockArgument) -> Probed {
    Probed { function, entry: "lw_u_python", at_return: None, python: Some((kind, argument)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_by_their_names() {
        let both = Groups::new(&Group::ALL);
        assert_eq!(both.names(), ["pthread", "cpython", "usdt"]);
        assert_eq!(Groups::named(&both.names()), both);
        assert!(Groups::named(&["other".to_owned()]).is_empty());
    }

    #[test]
    fn a_dropped_argument_is_not_read() {
        let second = LockArgument::SecondOrThird;
        assert_eq!(second.number(false, Some(14)), Some(1));
        assert_eq!(second.number(false, Some(15)), Some(2));
        assert_eq!(second.number(true, Some(14)), None);
        assert_eq!(second.number(false, None), None);
        assert_eq!(LockArgument::None.number(false, Some(14)), None);
    }

    #[test]
    fn a_usdt_argument_is_found_if_a_register_has_it() {
        assert_eq!(usdt_register("8@%rdi"), Some(14));
        assert_eq!(usdt_register("8@%rbx"), Some(5));
        for other in ["8@8(%rsp)", "-4@%eax", "8@%rdi 8@%rsi", "8@%xmm0", "", "8@$7"] {
            assert_eq!(usdt_register(other), None, "{other}");
        }
    }

    #[test]
    fn kernel_names_are_short() {
        for probed in Group::ALL.into_iter().flat_map(Group::probes) {
            assert!(probed.entry.len() <= 15 && AT_RETURN.len() <= 15, "{probed:?}");
        }
    }
}
