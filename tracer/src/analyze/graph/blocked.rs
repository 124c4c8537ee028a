//! Who stands in whose way when the recording ends: an edge from each thread that still waits to
//! each that has, or seems to have, what it waits for.
//!
//! Facts and inferences stay apart ([`Why`]). Only the runtime's own record of an owner is a fact.
//! A plain `threading.Lock` has none, so for it the recorder looks into the frames of the threads
//! that are blocked ([`HeldRecord`]), and the waits themselves say something too.

use std::collections::{BTreeMap, HashMap};

use crate::analyze::{OtherSide, Source, StackTable};
use crate::trace::records::{HeldHow, HeldRecord, Kind, LockRecord, Wait};
use crate::units::{Address, FrameIndex, LockIndex, Monotonic, ThreadIndex};

/// How it is known that a thread has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// By the runtime's own record, read while the other one waited. Everything else is inferred.
    Owner,
    /// One of its frames is inside a `with` block of the lock.
    With,
    /// The code of one of its frames has called `acquire` of the lock, and not `release` since.
    Acquire,
    /// It got the lock after a wait, while the other one waited already, and has woken nobody
    /// since.
    Taken,
}

impl Why {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::With => "with",
            Self::Acquire => "acquire",
            Self::Taken => "taken",
        }
    }

    /// A fact, and no inference.
    #[must_use]
    pub fn certain(self) -> bool {
        self == Self::Owner
    }
}

/// A thread that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) why: Why,
    pub(super) holder: ThreadIndex,
    /// The holder's frame that says so.
    pub(super) frame: Option<FrameIndex>,
}

/// Threads in the way of each that waits at the end, what is known best first.
pub(super) type Edges = BTreeMap<ThreadIndex, Vec<Edge>>;

/// Holders of one lock that are believed, at most.
const MAX_HOLDERS: usize = 16;

/// What is known at the end of a recording.
pub(in crate::analyze) struct Facts<'a> {
    /// The wait under way of each thread.
    pub(in crate::analyze) blocked: &'a BTreeMap<ThreadIndex, Wait>,
    /// What the recorder found in frames.
    pub(in crate::analyze) held: &'a [HeldRecord],
    /// Who took each lock last.
    pub(in crate::analyze) takers: BTreeMap<LockIndex, (ThreadIndex, Monotonic)>,
    pub(in crate::analyze) locks: &'a BTreeMap<LockIndex, LockRecord>,
    pub(in crate::analyze) stacks: &'a StackTable,
    /// Whether the addresses of a thread and of a lock are of one process.
    pub(in crate::analyze) alike: &'a dyn Fn(ThreadIndex, LockIndex) -> bool,
}

impl Facts<'_> {
    /// All edges. A thread whose lock has a known owner has that one alone.
    pub(super) fn edges(&self) -> Edges {
        let mut by_address: HashMap<Address, Vec<&HeldRecord>> = HashMap::new();
        for record in self.held.iter().filter(|record| !self.is_entering(record)) {
            let mut addresses = vec![record.object, record.lock];
            addresses.dedup();
            for address in addresses.into_iter().filter(|address| address.0 != 0) {
                by_address.entry(address).or_default().push(record);
            }
        }
        let edges = self.blocked.iter().filter_map(|(&thread, wait)| {
            let mut edges = self.owner(wait).map_or_else(
                || self.inferred(thread, wait, &by_address),
                |holder| vec![Edge { why: Why::Owner, holder, frame: None }],
            );
            edges.sort_unstable();
            let mut seen = Vec::new();
            edges.retain(|edge| {
                let new = !seen.contains(&edge.holder);
                seen.push(edge.holder);
                new
            });
            (!edges.is_empty()).then_some((thread, edges))
        });
        edges.collect()
    }

    /// The owner as the runtime says, if its record was read while it stood still.
    fn owner(&self, wait: &Wait) -> Option<ThreadIndex> {
        let other = OtherSide::of(wait, false);
        let itself = other.thread == Some(wait.thread);
        // The GIL's record names the one that had it last.
        let is_gil = || self.locks.get(&wait.lock).is_some_and(|lock| lock.kind == Kind::Gil);
        other.thread.filter(|_| other.source == Source::Owner && !(itself && is_gil()))
    }

    fn inferred(
        &self,
        thread: ThreadIndex,
        wait: &Wait,
        by_address: &HashMap<Address, Vec<&HeldRecord>>,
    ) -> Vec<Edge> {
        let Some(lock) = self.locks.get(&wait.lock) else { return Vec::new() };
        let mut edges = Vec::new();
        for address in [lock.address, lock.lock] {
            let records = by_address.get(&address).into_iter().flatten();
            let records = records.filter(|record| (self.alike)(record.thread, wait.lock));
            for record in records.take(MAX_HOLDERS) {
                let why = match record.how {
                    HeldHow::With => Why::With,
                    HeldHow::Acquire => Why::Acquire,
                    HeldHow::Other => continue,
                };
                let frame = self.frame(record);
                edges.push(Edge { why, holder: record.thread, frame });
            }
        }
        if let Some(&(taker, at)) = self.takers.get(&wait.lock)
            && at >= wait.start
            && taker != thread
        {
            edges.push(Edge { why: Why::Taken, holder: taker, frame: None });
        }
        edges
    }

    /// A thread that waits for the very lock, in the frame that has it, is about to enter its
    /// block, not inside.
    fn is_entering(&self, record: &HeldRecord) -> bool {
        let lock = self.blocked.get(&record.thread).and_then(|wait| self.locks.get(&wait.lock));
        record.depth == 0
            && lock.is_some_and(|lock| {
                [record.object, record.lock]
                    .into_iter()
                    .any(|at| at.0 != 0 && (at == lock.address || at == lock.lock))
            })
    }

    /// The frame that a record speaks of: its thread waits, and so its stack is known.
    fn frame(&self, record: &HeldRecord) -> Option<FrameIndex> {
        let wait = self.blocked.get(&record.thread)?;
        let stack = self.stacks.stack(wait.waiter_stack).ok()?;
        let is_python = |at: &&FrameIndex| self.stacks.frame(**at).is_none_or(|f| !f.native);
        stack.frames.iter().filter(is_python).nth(record.depth as usize).copied()
    }
}
