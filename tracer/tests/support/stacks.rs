//! The stacks of the sample trace.

use tracer::trace::records::{FrameRecord, SideStack, StackRecord};
use tracer::units::{FrameIndex, StackIndex, ThreadIndex};
use tracer_common::event::{WAIT_HOLDER_ENDED_EARLY, WAIT_HOLDER_MOVED};
use tracer_common::{NoStack, WalkEnd};

/// Functions of a small server, two of them with names made to break an output.
pub(crate) fn frames() -> Vec<FrameRecord> {
    let frames = [
        ("<module>", "/srv/app/app.py", 90),
        ("serve", "/srv/app/app.py", 41),
        ("Handler.handle", "/srv/app/web/handler.py", 12),
        ("Cache.get", "/srv/app/cache.py", 77),
        ("Cache.put", "/srv/app/cache.py", 92),
        ("walk", "/srv/app/tree.py", 5),
        ("evil;name\n\x1b[31m 7", "/srv/app/a;b.py", 3),
        ("größe", "/srv/app/größe/字.py", 8),
        ("[code gone]", "", 0),
        // The same place as 3: a function that was defined twice.
        ("Cache.get", "/srv/app/cache.py", 77),
        ("flush", "/srv/app/db/pool.py", 88),
        ("Thread._bootstrap", "/usr/lib/python3.14/threading.py", 1014),
        // A C extension's own lock.
        ("pthread_mutex_lock", "/usr/lib/libc.so.6", 0),
    ];
    let index = |n: usize| FrameIndex(u32::try_from(n).unwrap());
    let record = |(n, (function, file, line)): (usize, (&str, &str, u32))| FrameRecord {
        index: index(n),
        function: function.to_owned(),
        file: file.to_owned(),
        line,
        native: file.contains(".so"),
    };
    frames.into_iter().enumerate().map(record).collect()
}

/// Recursion, a hostile name, a file name that is not ASCII, a freed code object and an end after
/// too many frames among them.
pub(crate) fn stacks() -> Vec<StackRecord> {
    let stacks: [(&[u32], WalkEnd); 9] = [
        (&[3, 2, 1, 0], WalkEnd::Complete),
        (&[4, 2, 1, 0], WalkEnd::Complete),
        (&[5, 5, 5, 5, 1, 0], WalkEnd::Complete),
        (&[12, 6, 2, 11], WalkEnd::Complete),
        (&[7, 6, 11], WalkEnd::Complete),
        (&[9, 5, 5, 5], WalkEnd::Truncated),
        (&[8, 2], WalkEnd::CodeFault),
        (&[10, 11], WalkEnd::Complete),
        (&[1, 0], WalkEnd::Complete),
    ];
    let index = |n: usize| StackIndex(u32::try_from(n).unwrap());
    let record = |(n, (frames, end)): (usize, (&[u32], WalkEnd))| StackRecord {
        index: index(n),
        frames: frames.iter().copied().map(FrameIndex).collect(),
        end: end as u32,
    };
    stacks.into_iter().enumerate().map(record).collect()
}

/// What is known of the two sides of a wait.
pub(crate) struct Sides {
    pub(crate) flags: u32,
    pub(crate) waiter: SideStack,
    pub(crate) waker: SideStack,
    pub(crate) holder: Option<ThreadIndex>,
    pub(crate) holder_stack: SideStack,
}

/// The sides of wait `n` of `thread` for `lock`, the same on every run.
pub(crate) fn sides(n: u32, lock: u32, thread: u32, waker: Option<ThreadIndex>) -> Sides {
    let stack = |n: u32| SideStack::Stack(StackIndex(n));
    let missing = SideStack::Missing;
    let waiter = match n % 20 {
        7 => missing(NoStack::RingFull),
        11 => missing(NoStack::Lost),
        13 => missing(NoStack::Limited),
        17 => missing(NoStack::NoThreadState),
        // Each lock has a favourite.
        n if n.is_multiple_of(3) => stack(n % 7),
        _ => stack(lock),
    };
    let waker_stack = match (waker, n % 7) {
        (None, _) => missing(NoStack::NotTaken),
        (Some(_), 0) => missing(NoStack::NoFrames),
        (Some(_), 1..3) => stack(4),
        (Some(_), _) => stack(7),
    };
    // Only the GIL says who holds it: seen, seen moving, and not seen.
    let (holder, holder_stack, flags) = match (lock, n % 4) {
        (2, 0 | 1) => (Some(ThreadIndex((thread + 2) % 4)), stack(8), 0),
        (2, 2) => {
            let flags =
                WAIT_HOLDER_MOVED | if n.is_multiple_of(3) { WAIT_HOLDER_ENDED_EARLY } else { 0 };
            (Some(ThreadIndex((thread + 3) % 4)), stack(2), flags)
        }
        _ => (None, missing(NoStack::NotTaken), 0),
    };
    Sides { flags, waiter, waker: waker_stack, holder, holder_stack }
}
