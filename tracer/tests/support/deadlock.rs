//! Traces of threads that wait for each other when the recording ends.

use tracer::trace::records::{
    Class, End, FrameRecord, HeldHow, HeldRecord, Kind, LockRecord, Meta, SideStack, StackRecord,
    ThreadRecord, Wait,
};
use tracer::units::{Address, FrameIndex, LockIndex, Monotonic, Ns, StackIndex, ThreadIndex, Tid};
use tracer_common::event::{WAIT_CLIPPED_END, WAIT_CLIPPED_START};

use crate::support::Content;

/// Beginning and end of the recording.
pub(crate) const START: u64 = 1_000_000;
pub(crate) const END: u64 = 5_001_000_000;

/// `id(lock)` of a lock, and what is waited on in it.
pub(crate) fn addresses(lock: u32) -> (Address, Address) {
    let object = 0x7f00_0000_1000 + u64::from(lock) * 0x100;
    (Address(object), Address(object + 0x10))
}

/// Thread `n` waits from beginning to end for lock `locks[n]`, of this kind, in a function of its
/// own that another function has called. Nobody is known to have anything.
pub(crate) fn stuck(kind: Kind, locks: &[u32]) -> Content {
    let mut content = Content {
        meta: Meta { start: Monotonic(START), ..Meta::default() },
        end: End { at: Monotonic(END), reason: "duration".to_owned() },
        ..Content::default()
    };
    for n in 0..=locks.iter().copied().max().unwrap_or_default() {
        let (address, lock) = addresses(n);
        content.locks.push(LockRecord {
            index: LockIndex(n),
            kind,
            class: Class::Unclassified,
            address,
            lock,
            name: format!("_thread.{}", kind.name()),
            shape: 5,
        });
    }
    for (n, &lock) in (0u32..).zip(locks) {
        let frame = |index, function: &str, line| FrameRecord {
            index: FrameIndex(index),
            function: format!("{function}_{n}"),
            file: "/srv/app/dead.py".to_owned(),
            line,
            native: false,
        };
        content.frames.extend([frame(2 * n, "inner", 10 + n), frame(2 * n + 1, "outer", 20 + n)]);
        content.stacks.push(StackRecord {
            index: StackIndex(n),
            frames: vec![FrameIndex(2 * n), FrameIndex(2 * n + 1)],
            end: 0,
        });
        content.threads.push(ThreadRecord {
            index: ThreadIndex(n),
            tid: Tid(4242 + n),
            name: format!("worker-{n}"),
            ..ThreadRecord::default()
        });
        content.waits.push(Wait {
            thread: ThreadIndex(n),
            lock: LockIndex(lock),
            start: Monotonic(START),
            end: Monotonic(END),
            blocked: Ns(END - START),
            runq: Ns(0),
            episodes: 1,
            flags: WAIT_CLIPPED_START | WAIT_CLIPPED_END,
            waker: None,
            waiter_stack: SideStack::Stack(StackIndex(n)),
            waker_stack: SideStack::default(),
            holder: None,
            holder_stack: SideStack::default(),
        });
    }
    content
}

/// The recorder found that a thread is inside a `with` block of a lock.
pub(crate) fn with(thread: u32, lock: u32, depth: u32) -> HeldRecord {
    let (object, lock) = addresses(lock);
    HeldRecord { thread: ThreadIndex(thread), object, lock, how: HeldHow::With, depth }
}
