//! Locks, threads, frames and stacks of a synthetic trace.

use tracer::trace::records::{Class, FrameRecord, Kind, LockRecord, StackRecord, ThreadRecord};
use tracer::units::{
    Address, FrameIndex, LockIndex, Monotonic, Ns, ProcessIndex, StackIndex, ThreadIndex, Tid,
};
use tracer_common::Shape;

use super::Plan;

/// Frames at the bottom of stacks, which many share, and those above them.
const ROOTS: u32 = 12;
const MIDDLE: u32 = 2_000;
/// Frames of a stack: from this many on …
const SHALLOW: u32 = 6;
/// … up to so many more.
const DEEPER: u32 = 24;

/// What the indices of a synthetic trace stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    plan: Plan,
}

impl Names {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan }
    }

    /// One lock in ten says who owns it, one in twenty is idled on.
    pub(super) fn locks(&self) -> impl Iterator<Item = LockRecord> {
        (0..self.plan.locks).map(|n| {
            let (kind, class, name) = match n % 20 {
                3 | 13 => (Kind::Rlock, Class::Contention, "threading.RLock"),
                7 => (Kind::Queue, Class::Idle, "queue.Queue"),
                1 | 5 | 9 => (Kind::Lock, Class::Contention, "threading.Lock"),
                _ => (Kind::Object, Class::Contention, "dict"),
            };
            let address = Address(0x7f00_0000_0000 + u64::from(n) * 0x60);
            LockRecord {
                index: LockIndex(n),
                kind,
                class,
                address,
                lock: Address(address.0 + 10),
                name: name.to_owned(),
                shape: Shape::Object as u32,
            }
        })
    }

    /// The runtime says who owns this lock.
    pub(super) fn has_owner(lock: u32) -> bool {
        lock % 10 == 3
    }

    pub(super) fn threads(&self) -> Vec<ThreadRecord> {
        let thread = |n| ThreadRecord {
            index: ThreadIndex(n),
            tid: Tid(4_001 + n),
            process: ProcessIndex(0),
            name: "python3.14t".to_owned(),
            python_name: Some(format!("worker-{n}")),
            born: Some(Monotonic(super::START)),
            ended: None,
            oncpu: Ns(u64::from(n) * 1_000_000),
            futex_switches: 0,
            yield_switches: 0,
        };
        (0..self.plan.threads).map(thread).collect()
    }

    /// Those that stacks share, then the leaves: one for each stack.
    pub(super) fn frames(&self) -> impl Iterator<Item = FrameRecord> {
        (0..ROOTS + MIDDLE + self.stack_count()).map(|n| FrameRecord {
            index: FrameIndex(n),
            function: format!("Service{}.handle_request_{}", n % 40, n % 700),
            file: format!(
                "/srv/app/lib/python3.14/site-packages/package_{0}/module_{0}.py",
                n % 97
            ),
            line: 10 + n % 1_500,
            native: false,
        })
    }

    pub(super) fn stacks(&self) -> impl Iterator<Item = StackRecord> {
        (0..self.stack_count()).map(|n| {
            let depth = SHALLOW + n.wrapping_mul(7) % DEEPER;
            let middle =
                (1..depth - 2).map(|level| ROOTS + n.wrapping_mul(31 + level) / 4 % MIDDLE);
            let frames = std::iter::once(ROOTS + MIDDLE + n)
                .chain(middle)
                .chain([n % ROOTS, n % 3])
                .map(FrameIndex);
            StackRecord { index: StackIndex(n), frames: frames.collect(), end: 0 }
        })
    }

    fn stack_count(&self) -> u32 {
        self.plan.locks * self.plan.sites
    }
}
