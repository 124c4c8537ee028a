//! What a waiting thread is doing, told by its innermost Python frames.
//!
//! `threading.Condition`, `Event`, `Semaphore`, `Barrier` and `queue.Queue` are Python code over a
//! fresh lock per wait (`Lib/threading.py`, `Lib/queue.py`): in the kernel an idle consumer and a
//! fought-over lock look the same. Function names and files are those of 3.11 to 3.15.

use tracer_common::SUBJECTS;

use crate::trace::records::{Class, Kind};

/// A frame's function (`co_qualname`) and file.
pub type Frame<'a> = (&'a str, &'a str);

/// What a wait is, where the frames say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Situation {
    /// What is waited for.
    pub kind: Kind,
    /// What that means.
    pub class: Class,
    /// What the object is called if its type can't be read.
    pub name: &'static str,
    /// The Python frame, counted from the innermost one, whose first local variable is that object.
    pub subject: Option<usize>,
    /// The frame whose first local variable is a string that says more than `name`: a module's name.
    pub text: Option<usize>,
}

/// What the lock itself is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockType {
    /// `_thread.lock`, or what may be one.
    Lock,
    /// `_thread.RLock`.
    Rlock,
    /// `_queue.SimpleQueue`.
    SimpleQueue,
    /// `_multiprocessing.SemLock`: a semaphore that processes share.
    SemLock,
    /// Something of the runtime's own.
    Other,
}

/// The modules whose code is known. A file is told by its end: the library is where it is.
const THREADING: &[&str] = &["/threading.py", "<frozen threading>"];
const QUEUE: &[&str] = &["/queue.py"];
const FUTURES: &[&str] = &["/concurrent/futures/thread.py"];
const POOL: &[&str] = &["/multiprocessing/pool.py"];
const SYNCHRONIZE: &[&str] = &["/multiprocessing/synchronize.py"];
const QUEUES: &[&str] = &["/multiprocessing/queues.py"];
const IMPORT: &[&str] = &[
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
    "/importlib/_bootstrap.py",
    "/importlib/_bootstrap_external.py",
];

/// What the innermost Python frames (leaf first; the first [`SUBJECTS`] matter) say about a wait for
/// such a lock. `None`: nothing that is known here, so it is the lock that is waited for.
#[must_use]
pub fn situation(frames: &[Frame<'_>], lock: LockType) -> Option<Situation> {
    let at = |n: usize, functions: &[&str], files: &[&str]| {
        frames.get(n).is_some_and(|(function, file)| {
            functions.contains(function) && files.iter().any(|end| file.ends_with(end))
        })
    };
    let threading = |n, function| at(n, &[function], THREADING);
    let is = |kind, class, name, subject: usize| {
        let subject = (subject < SUBJECTS).then_some(subject);
        Some(Situation { kind, class, name, subject, text: None })
    };
    if lock == LockType::SimpleQueue {
        // The pools' workers wait in C for work (`_worker`, `worker`).
        if at(0, &["_worker"], FUTURES) {
            return is(Kind::Pool, Class::Idle, "ThreadPoolExecutor", SUBJECTS);
        }
        if at(0, &["worker"], POOL) {
            return is(Kind::Pool, Class::Idle, "ThreadPool", SUBJECTS);
        }
        return None;
    }
    // A lock without a class of its own in the frames is a semaphore of C code, or of a SemLock that
    // was not found: the frames decide.
    if let Some((leaf, rest)) = between_processes(frames, &at) {
        let idle = |kind, name| is(kind, Class::Idle, name, leaf);
        return match rest {
            Between::Condition => idle(Kind::Condition, "multiprocessing.Condition"),
            Between::Event => idle(Kind::Event, "multiprocessing.Event"),
            Between::Queue => idle(Kind::Queue, "multiprocessing queue"),
            Between::Pool => idle(Kind::Pool, "multiprocessing pool"),
        };
    }
    if lock == LockType::SemLock {
        return None;
    }
    if lock != LockType::Other && at(0, &["_ModuleLock.acquire"], IMPORT) {
        // Both are called with the module's name.
        let named = ["_find_and_load", "_lock_unlock_module"];
        let text = (1..SUBJECTS).find(|&n| at(n, &named, IMPORT));
        let lock = is(Kind::Import, Class::Contention, "module lock", 0);
        return lock.map(|lock| Situation { text, ..lock });
    }
    if lock != LockType::Other
        && frames.first().is_some_and(|(_, file)| IMPORT.iter().any(|end| file.ends_with(end)))
    {
        return is(Kind::Import, Class::Contention, "import lock", SUBJECTS);
    }
    for (function, subject) in [
        ("Thread.join", 0),
        ("Thread._wait_for_tstate_lock", 0),
        ("_shutdown", SUBJECTS),
        ("_DummyThread.join", 0),
    ] {
        if threading(0, function) {
            return is(Kind::Join, Class::Idle, "Thread", subject);
        }
    }
    // The condition's own lock is taken again after a wait: an RLock in C, others in Python.
    if !threading(0, "Condition.wait") || lock != LockType::Lock {
        return None;
    }
    for (n, function, kind, class, name, subject) in [
        (1, "Event.wait", Kind::Event, Class::Idle, "threading.Event", 1),
        (1, "Semaphore.acquire", Kind::Semaphore, Class::Contention, "threading.Semaphore", 1),
        (1, "Barrier._enter", Kind::Barrier, Class::Idle, "threading.Barrier", 1),
        // In `_wait` a lambda has made a cell of `self`; its caller, `Barrier.wait`, has it plain.
        (2, "Barrier._wait", Kind::Barrier, Class::Idle, "threading.Barrier", 3),
    ] {
        if threading(n, function) {
            return is(kind, class, name, subject);
        }
    }
    if at(1, &["Queue.get", "Queue.put", "Queue.join"], QUEUE) {
        if at(2, &["_worker"], FUTURES) {
            return is(Kind::Pool, Class::Idle, "ThreadPoolExecutor", SUBJECTS);
        }
        return is(Kind::Queue, Class::Idle, "queue.Queue", 1);
    }
    is(Kind::Condition, Class::Idle, "threading.Condition", 0)
}

/// What of `multiprocessing` a semaphore is a part of.
enum Between {
    Condition,
    Event,
    Queue,
    Pool,
}

/// A wait inside the classes of `multiprocessing` that idle (`Lib/multiprocessing/synchronize.py`,
/// `queues.py`); a SemLock that is waited for as such is none of them. Also gives the frame whose first
/// local variable is the object; no frame's, if each process has its own copy of it.
///
/// The readers of a queue wait for its lock while one of them waits for data.
fn between_processes(
    frames: &[Frame<'_>],
    at: &impl Fn(usize, &[&str], &[&str]) -> bool,
) -> Option<(usize, Between)> {
    let first = usize::from(at(0, &["SemLock.__enter__"], SYNCHRONIZE));
    // The condition's own lock, which is taken again after the wait, is not told from it.
    if at(0, &["Condition.wait"], SYNCHRONIZE) {
        let event = at(1, &["Event.wait"], SYNCHRONIZE);
        return Some((SUBJECTS, if event { Between::Event } else { Between::Condition }));
    }
    if at(0, &["Queue.put", "JoinableQueue.put"], QUEUES) {
        return Some((SUBJECTS, Between::Queue)); // it is full
    }
    if at(first, &["SimpleQueue.get", "Queue.get", "JoinableQueue.join"], QUEUES) {
        let next = frames.get(first + 1);
        let pool = next.is_some_and(|(function, file)| {
            *function == "worker" && POOL.iter().any(|end| file.ends_with(end))
                || *function == "_process_worker"
        });
        return Some((SUBJECTS, if pool { Between::Pool } else { Between::Queue }));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREADS: &str = "/usr/lib/python3.11/threading.py";
    const QUEUES: &str = "/usr/lib/python3.11/queue.py";
    const OWN: &str = "/srv/app.py";

    fn kind(frames: &[Frame<'_>], lock: LockType) -> Option<(Kind, Class, Option<usize>)> {
        situation(frames, lock).map(|found| (found.kind, found.class, found.subject))
    }

    #[test]
    fn what_uses_a_condition_is_what_is_waited_for() {
        let wait = ("Condition.wait", THREADS);
        let cases = [
            (vec![wait, ("f", OWN)], (Kind::Condition, Class::Idle, Some(0))),
            (vec![wait, ("Event.wait", THREADS)], (Kind::Event, Class::Idle, Some(1))),
            (
                vec![wait, ("Semaphore.acquire", THREADS)],
                (Kind::Semaphore, Class::Contention, Some(1)),
            ),
            (
                vec![wait, ("Condition.wait_for", THREADS), ("Barrier._wait", THREADS)],
                (Kind::Barrier, Class::Idle, Some(3)),
            ),
            (vec![wait, ("Queue.get", QUEUES)], (Kind::Queue, Class::Idle, Some(1))),
            (vec![wait, ("Queue.get", OWN)], (Kind::Condition, Class::Idle, Some(0))),
        ];
        for (frames, expected) in cases {
            assert_eq!(kind(&frames, LockType::Lock), Some(expected), "{frames:?}");
        }
    }

    #[test]
    fn taking_a_conditions_lock_again_is_contention_for_that_lock() {
        assert_eq!(kind(&[("Condition.wait", THREADS)], LockType::Rlock), None);
        assert_eq!(kind(&[("Condition._acquire_restore", THREADS)], LockType::Lock), None);
    }

    #[test]
    fn processes_that_wait_for_work_idle_and_fight_for_locks() {
        let synchronize = "/usr/lib/python3.14/multiprocessing/synchronize.py";
        let queues = "/usr/lib/python3.14/multiprocessing/queues.py";
        let pool = "/usr/lib/python3.14/multiprocessing/pool.py";
        let enter = ("SemLock.__enter__", synchronize);
        let cases = [
            (vec![enter, ("f", OWN)], None),
            (vec![enter, ("SimpleQueue.put", queues)], None),
            (vec![enter, ("SimpleQueue.get", queues), ("worker", pool)], Some(Kind::Pool)),
            (vec![enter, ("Queue.get", queues), ("f", OWN)], Some(Kind::Queue)),
            (vec![("Queue.put", queues)], Some(Kind::Queue)),
            (vec![("Condition.wait", synchronize)], Some(Kind::Condition)),
            (vec![("Condition.wait", synchronize), ("Event.wait", synchronize)], Some(Kind::Event)),
        ];
        for (frames, expected) in cases {
            let found = kind(&frames, LockType::SemLock);
            assert_eq!(found.map(|found| found.0), expected, "{frames:?}");
            assert!(found.is_none_or(|found| found.1 == Class::Idle), "{frames:?}");
        }
    }

    #[test]
    fn own_code_says_nothing() {
        for lock in [LockType::Lock, LockType::Rlock, LockType::Other] {
            assert_eq!(kind(&[("Condition.wait", OWN), ("Event.wait", THREADS)], lock), None);
            assert_eq!(kind(&[], lock), None);
        }
    }

    #[test]
    fn workers_joins_and_imports() {
        let worker = ("_worker", "/usr/lib/python3.11/concurrent/futures/thread.py");
        let pool = kind(&[worker], LockType::SimpleQueue).map(|found| found.0);
        assert_eq!(pool, Some(Kind::Pool));
        assert_eq!(kind(&[("f", OWN)], LockType::SimpleQueue), None, "the queue itself");
        let join = kind(&[("Thread.join", THREADS)], LockType::Other);
        assert_eq!(join, Some((Kind::Join, Class::Idle, Some(0))));
        let import = ("_ModuleLock.acquire", "<frozen importlib._bootstrap>");
        let import = kind(&[import], LockType::Rlock);
        assert_eq!(import, Some((Kind::Import, Class::Contention, Some(0))));
    }
}
