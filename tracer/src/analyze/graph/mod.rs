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
mod followed;
mod links;
mod queues;
mod span;
mod window;

use std::collections::BTreeMap;

pub use blocked::Why;
pub use chains::{Chain, ChainEnd, Link};
pub use convoys::Queue;
pub(super) use followed::{ChainGraph, FollowedChains};
pub use cycles::{Deadlock, DeadlockLink};
pub use holds::{HoldSums, LockHolds};

use self::blocked::Facts;
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
const MAX_PLACES: usize = 1 << 18;
const MAX_PATHS: usize = 1 << 16;
/// Threads that wait at the end.
pub(super) const MAX_BLOCKED: usize = 1 << 16;

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
    /// Waits whose chains were not followed at all: of a long trace only stretches are.
    pub not_followed: u64,
    /// Time of chains that found no room.
    pub chains_left_out: Ns,
    /// Locks that found no room, once for each part of the recording.
    pub locks_left_out: u64,
}

/// Sees the waits for some of the locks, and follows the queue of each.
#[derive(Debug)]
pub(super) struct QueueGraph {
    window: Window,
    queues: Queues,
}

/// The queues of some of the locks, with all waits in them.
#[derive(Debug)]
pub(super) struct LockQueues {
    queues: Queues,
    late: u64,
}

impl QueueGraph {
    /// One of `shards`, which share the room.
    pub(super) fn new(shards: usize) -> Self {
        Self::with_window(WINDOW / shards, shards)
    }

    fn with_window(capacity: usize, shards: usize) -> Self {
        Self {
            window: Window::new(capacity),
            queues: Queues::new(MAX_LOCKS / shards, MAX_PLACES / shards),
        }
    }

    /// Adds the next wait for `lock`, which has this `place` among the locks of the shard.
    pub(super) fn add(&mut self, place: usize, lock: LockIndex, wait: &Wait, other: OtherSide) {
        let span = Span { lock, ..Span::of(wait, other) };
        if self.window.add(Span { place: u32::try_from(place).unwrap_or(u32::MAX), ..span }) {
            self.pass(self.window.middle());
        }
    }

    fn pass(&mut self, cut: Monotonic) {
        self.queues.pass(self.window.spans(), self.window.done(), cut);
        self.window.pass(cut);
    }

    /// No more will come.
    pub(super) fn finish(mut self) -> LockQueues {
        self.pass(self.window.last());
        LockQueues { queues: self.queues, late: self.window.late() }
    }
}

/// Makes a graph of its parts, and the holds of each lock that one thread has at a time.
pub(super) fn join(
    chains: FollowedChains,
    queues: Vec<LockQueues>,
    blocked: &BTreeMap<ThreadIndex, Wait>,
    held: &[HeldRecord],
    locks: &BTreeMap<LockIndex, LockRecord>,
    stacks: &StackTable,
) -> (Graph, BTreeMap<LockIndex, LockHolds>) {
    let kind = |lock: &LockIndex| {
        locks.get(lock).map_or((Kind::Unclassified, Class::Unclassified), |l| (l.kind, l.class))
    };
    let mut takers: BTreeMap<_, _> =
        queues.iter().flat_map(|shard| shard.queues.last_takers()).collect();
    takers.retain(|lock, _| exclusive(kind(lock).0));
    let facts = Facts { blocked, held, takers: &takers, locks, stacks };
    let mut graph = Graph {
        deadlocks: cycles::deadlocks(&facts),
        late: queues.iter().map(|shard| shard.late).sum(),
        locks_left_out: queues.iter().map(|shard| shard.queues.left_out()).sum(),
        unfollowed: chains.unfollowed,
        not_followed: chains.not_followed,
        chains: chains.chains,
        chains_left_out: chains.left_out,
        convoys: Vec::new(),
    };
    let head = |chain: &Chain| chain.locks.first().map_or(Class::Idle, |lock| kind(lock).1);
    graph.chains.retain(|chain| head(chain) != Class::Idle);
    graph.chains.sort_by_key(|chain| rank(head(chain)));

    let mut holds = BTreeMap::new();
    for (lock, (queue, of_lock)) in queues.into_iter().flat_map(|shard| shard.queues.finish(stacks)) {
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
        let mut queues = QueueGraph::with_window(window, 1);
        let mut chains = ChainGraph::with_window(window);
        for (n, wait) in (0..).zip(waits) {
            let other = OtherSide::of(wait, false);
            queues.add(wait.lock.0 as usize, wait.lock, wait, other);
            chains.add(n, wait, other);
        }
        let (chains, none) = (chains.finish(waits.len() as u64), BTreeMap::new());
        let locks = BTreeMap::new();
        join(chains, vec![queues.finish()], &none, &[], &locks, &StackTable::default())
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
}
