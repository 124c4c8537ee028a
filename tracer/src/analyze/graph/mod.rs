//! The wait-for graph: who waits for whom, over time and at the end.
//!
//! - [`holds`]: how long locks were held, and how much waiting each hold caused.
//! - [`chains`]: a thread waits for one that waits itself.
//! - [`convoys`]: locks with a standing queue.
//! - [`cycles`]: threads that wait for each other when the recording ends.
//!
//! Memory is bounded: waits are looked at in parts of the recording (`window`), and every table has
//! a limit. What did not fit is counted in [`Graph`].

mod blocked;
pub mod chains;
pub mod convoys;
pub mod cycles;
pub mod holds;
mod links;
mod queues;
mod span;
mod window;

use std::collections::BTreeMap;

use tracer_common::event::WAIT_CLIPPED_END;

pub use blocked::Why;
pub use chains::{Chain, ChainEnd, Link};
pub use convoys::Queue;
pub use cycles::{Deadlock, DeadlockLink};
pub use holds::{HoldSums, LockHolds};

use self::blocked::Facts;
use self::chains::Chains;
use self::queues::Queues;
use self::span::Span;
use self::window::Window;
use super::StackTable;
use super::sides::OtherSide;
use super::summary::rank;
use crate::trace::records::{Class, HeldRecord, Kind, LockRecord, Wait};
use crate::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// Waits in a window, locks with a queue, places and paths: some 100 MB if all are used.
const WINDOW: usize = 1 << 19;
const MAX_LOCKS: usize = 1 << 16;
const MAX_PATHS: usize = 1 << 16;
/// Threads that wait at the end.
const MAX_BLOCKED: usize = 1 << 16;

/// What the graph says beyond single locks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Chains whose head is not idle: contention first, then by time, longest first.
    pub chains: Vec<Chain>,
    /// Locks with a queue that are neither idled on nor a pause: by time with a queue, longest
    /// first.
    pub convoys: Vec<(LockIndex, Queue)>,
    /// Cycles at the end: certain ones first.
    pub deadlocks: Vec<Deadlock>,
    /// Waits that came so late that their beginning is missing in chains, convoys and holds.
    pub late: u64,
    /// Waits whose chains were not followed at every moment.
    pub unfollowed: u64,
    /// Time of chains that found no room.
    pub chains_left_out: Ns,
    /// Locks that found no room, once for each part of the recording.
    pub locks_left_out: u64,
}

/// Sees every wait, and makes a [`Graph`] of them.
#[derive(Debug)]
pub(super) struct WaitGraph {
    window: Window,
    queues: Queues,
    chains: Chains,
    blocked: BTreeMap<ThreadIndex, Wait>,
}

impl Default for WaitGraph {
    fn default() -> Self {
        Self::with_window(WINDOW)
    }
}

impl WaitGraph {
    fn with_window(capacity: usize) -> Self {
        Self {
            window: Window::new(capacity),
            queues: Queues::new(MAX_LOCKS),
            chains: Chains::new(MAX_PATHS),
            blocked: BTreeMap::new(),
        }
    }

    /// Adds one wait.
    pub(super) fn add(&mut self, wait: &Wait, other: OtherSide) {
        let room = self.blocked.len() < MAX_BLOCKED || self.blocked.contains_key(&wait.thread);
        if wait.flags & WAIT_CLIPPED_END != 0 && room {
            self.blocked.insert(wait.thread, *wait);
        }
        if self.window.add(Span::of(wait, other)) {
            self.pass(self.window.middle());
        }
    }

    fn pass(&mut self, cut: Monotonic) {
        self.queues.pass(self.window.spans(), self.window.done(), cut);
        self.chains.pass(self.window.spans(), self.window.done(), cut);
        self.window.pass(cut);
    }

    /// The graph, and the holds of each lock that one thread has at a time.
    pub(super) fn finish(
        mut self,
        held: &[HeldRecord],
        locks: &BTreeMap<LockIndex, LockRecord>,
        stacks: &StackTable,
        alike: &dyn Fn(ThreadIndex, LockIndex) -> bool,
    ) -> (Graph, BTreeMap<LockIndex, LockHolds>) {
        self.pass(self.window.last());
        let kind = |lock: &LockIndex| {
            locks.get(lock).map_or((Kind::Unclassified, Class::Unclassified), |l| (l.kind, l.class))
        };
        let mut takers = self.queues.last_takers();
        takers.retain(|lock, _| exclusive(kind(lock).0));
        let facts = Facts { blocked: &self.blocked, held, takers: &takers, locks, stacks, alike };
        let mut graph = Graph {
            deadlocks: cycles::deadlocks(&facts),
            late: self.window.late(),
            unfollowed: self.chains.unfollowed(),
            locks_left_out: self.queues.left_out(),
            ..Graph::default()
        };

        (graph.chains, graph.chains_left_out) = self.chains.finish();
        let head = |chain: &Chain| chain.locks.first().map_or(Class::Idle, |lock| kind(lock).1);
        graph.chains.retain(|chain| head(chain) != Class::Idle);
        graph.chains.sort_by_key(|chain| rank(head(chain)));

        let mut holds = BTreeMap::new();
        for (lock, (queue, of_lock)) in self.queues.finish(stacks) {
            let (kind, class) = kind(&lock);
            if !exclusive(kind) {
                continue;
            }
            holds.insert(lock, of_lock);
            if queue.queued.0 > 0 && !matches!(class, Class::Idle | Class::Pause) {
                graph.convoys.push((lock, queue));
            }
        }
        graph.convoys.sort_by_key(|(lock, queue)| (std::cmp::Reverse(queue.queued), *lock));
        (graph, holds)
    }
}

/// One thread at a time has such a lock, so that who wakes its next waiter had it until then.
fn exclusive(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::GilHandoff
            | Kind::Condition
            | Kind::Event
            | Kind::Semaphore
            | Kind::Barrier
            | Kind::Queue
            | Kind::Pool
            | Kind::Join
            | Kind::StopTheWorld
            | Kind::PthreadCond
            | Kind::PthreadRwlock
            | Kind::Refcount
            | Kind::Atomic
    )
}

#[cfg(test)]
mod tests {
    use super::span::tests::wait;
    use super::*;

    /// Four threads that pass two locks around, in the order of their ends but for some; every 50th
    /// wait is a long one.
    fn storm() -> Vec<Wait> {
        let mut waits = Vec::new();
        for n in 0..2_000u32 {
            let at = u64::from(n) * 10;
            let (thread, lock) = (n % 4, n / 3 % 2);
            let from = if n % 50 == 49 { at.saturating_sub(200) } else { at.saturating_sub(45) };
            let jitter = u64::from(n * 7 % 5);
            waits.push(wait(thread, lock, (from, at + jitter, at + jitter + 2), Some((n + 3) % 4)));
        }
        waits
    }

    fn graph(waits: &[Wait], window: usize) -> (Graph, BTreeMap<LockIndex, LockHolds>) {
        let mut graph = WaitGraph::with_window(window);
        for wait in waits {
            graph.add(wait, OtherSide::of(wait, false));
        }
        graph.finish(&[], &BTreeMap::new(), &StackTable::default(), &|_, _| true)
    }

    #[test]
    fn a_small_window_sees_nearly_the_same() {
        let waits = storm();
        let (whole, holds) = graph(&waits, 1 << 19);
        assert_eq!((whole.late, whole.unfollowed, whole.locks_left_out), (0, 0, 0));
        assert!(!whole.convoys.is_empty() && !whole.chains.is_empty());
        assert!(holds.values().any(|holds| holds.sums.holds > 0));
        let (parts, _) = graph(&waits, 100);
        assert_eq!(parts.late, 0, "no wait is longer than half of a window");
        for ((lock, whole), (other, part)) in whole.convoys.iter().zip(&parts.convoys) {
            assert_eq!((lock, whole.waited, whole.queued), (other, part.waited, part.queued));
            assert_eq!(whole.longest_queue, part.longest_queue);
        }
        let (tiny, _) = graph(&waits, 4);
        assert!(tiny.late > 0);
    }

    #[test]
    fn what_waits_at_the_end_stays_bounded() {
        let mut graph = WaitGraph::with_window(10);
        for n in 0..100_000 {
            let mut wait = wait(n, 0, (0, 10, 10), None);
            wait.flags = WAIT_CLIPPED_END;
            graph.add(&wait, OtherSide::of(&wait, false));
        }
        assert_eq!(graph.blocked.len(), MAX_BLOCKED);
    }
}
