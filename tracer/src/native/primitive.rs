//! Which primitive of the C library a thread waits in, told by its native frames.

use super::{NativeFrame, is_libc};
use crate::cpython::Situation;
use crate::trace::records::{Class, Kind};

/// Functions of glibc and musl, without the underscores and versions that their symbols may have, and
/// what they wait for. A POSIX semaphore guards something or announces work: nobody can tell.
const FUNCTIONS: &[(&str, Kind, Class, &str)] = &[
    ("pthread_mutex_", Kind::PthreadMutex, Class::Contention, "mutex"),
    ("pthread_cond_", Kind::PthreadCond, Class::Idle, "condition"),
    ("pthread_rwlock_", Kind::PthreadRwlock, Class::Contention, "rwlock"),
    ("pthread_barrier_", Kind::Barrier, Class::Idle, "barrier"),
    ("pthread_join", Kind::Join, Class::Idle, "thread"),
    ("pthread_timedjoin_np", Kind::Join, Class::Idle, "thread"),
    ("pthread_clockjoin_np", Kind::Join, Class::Idle, "thread"),
    ("sem_", Kind::Semaphore, Class::Unclassified, "semaphore"),
];

/// What the frames (leaf first) wait in; `zero`: they wait for the value 0, as semaphores do. `None`:
/// not in one of these, as where a program makes the system call itself.
#[must_use]
pub fn primitive(frames: &[NativeFrame], zero: bool) -> Option<Situation> {
    let situation = |kind, class, name| Situation { kind, class, name, subject: None, text: None };
    // `sem_wait`, and in newer glibc `pthread_cond_wait` as well, jump to functions without a name
    // (nptl/sem_wait.c, nptl/pthread_cond_wait.c): which of them it was, nobody can tell.
    if zero && frames.first().is_some_and(|f| f.function.starts_with('+') && is_libc(&f.module)) {
        return Some(situation(Kind::Futex, Class::Unclassified, "semaphore or condition"));
    }
    let (at, (_, kind, class, name)) = frames.iter().enumerate().find_map(|(at, frame)| {
        let function = frame.function.trim_start_matches('_');
        let known = FUNCTIONS.iter().find(|(prefix, ..)| function.starts_with(prefix))?;
        is_libc(&frame.module).then_some((at, known))
    })?;
    // CPython's own locks are semaphores up to 3.14 (Python/thread_pthread.h): somebody has it.
    let caller = frames.get(at + 1).map_or("", |frame| &frame.function);
    if *kind == Kind::Semaphore && caller.starts_with("PyThread_acquire_lock") {
        return Some(situation(Kind::Lock, Class::Contention, "PyThread lock"));
    }
    Some(situation(*kind, *class, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(frames: &[(&str, &str)], zero: bool) -> Option<(Kind, Class)> {
        let frame = |&(function, module): &(&str, &str)| NativeFrame {
            function: function.to_owned(),
            module: module.to_owned(),
        };
        let frames: Vec<_> = frames.iter().map(frame).collect();
        primitive(&frames, zero).map(|found| (found.kind, found.class))
    }

    fn kind(frames: &[(&str, &str)]) -> Option<(Kind, Class)> {
        kind_of(frames, false)
    }

    #[test]
    fn a_nameless_function_of_the_c_library_that_waits_for_zero_is_one_of_two() {
        let frames = [("+0x8b1e0", "/usr/lib/libc.so.6"), ("f", "/srv/_f.so")];
        assert_eq!(kind_of(&frames, true), Some((Kind::Futex, Class::Unclassified)));
        assert_eq!(kind_of(&frames, false), None);
        let own = [("+0x10", "/srv/_f.so")];
        assert_eq!(kind_of(&own, true), None);
    }

    #[test]
    fn the_c_librarys_functions_tell() {
        const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
        for (function, expected) in [
            ("pthread_mutex_lock", (Kind::PthreadMutex, Class::Contention)),
            ("___pthread_mutex_lock", (Kind::PthreadMutex, Class::Contention)),
            ("pthread_cond_timedwait", (Kind::PthreadCond, Class::Idle)),
            ("pthread_rwlock_wrlock", (Kind::PthreadRwlock, Class::Contention)),
            ("pthread_barrier_wait", (Kind::Barrier, Class::Idle)),
            ("sem_clockwait", (Kind::Semaphore, Class::Unclassified)),
        ] {
            assert_eq!(
                kind(&[(function, LIBC), ("f", "/srv/_f.so")]),
                Some(expected),
                "{function}"
            );
        }
        assert_eq!(kind(&[("syscall", LIBC), ("f", "/srv/_f.so")]), None);
        assert_eq!(kind(&[("pthread_mutex_lock", "/srv/_f.so")]), None, "its own function");
        assert_eq!(kind(&[]), None);
        let own = [("sem_wait", LIBC), ("PyThread_acquire_lock_timed", "/usr/bin/python3.11")];
        assert_eq!(kind(&own), Some((Kind::Lock, Class::Contention)));
    }
}
