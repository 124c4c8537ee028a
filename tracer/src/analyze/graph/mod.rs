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
mod followed;
pub mod holds;
mod links;
mod queues;
mod span;
mod window;

use std::collections::BTreeMap;

pub(super) use blocked::Facts;
pub use blocked::Why;
pub use chains::{Chain, ChainEnd, Link};
pub use convoys::Queue;
pub use cycles::{Deadlock, DeadlockLink};
pub(super) use followed::{ChainGraph, FollowedChains};
pub use holds::{HoldSums, LockHolds};
pub(super) use queues::{LockQueue, QueueRoom};

use super::energy::{Blocked, HeldBy};
use super::summary::rank;
use crate::trace::records::{Class, Kind};
use crate::units::{LockIndex, Ns};

/// Waits whose chains are looked for together.
const WINDOW: usize = 1 << 19;
/// Locks with a queue, places where and by whom locks were let go, and paths.
const MAX_LOCKS: usize = 1 << 16;
const MAX_PLACES: usize = 1 << 18;
const MAX_PATHS: usize = 1 << 16;
/// Locks (and for holds threads) × bins in which they were held, or waited for.
const MAX_CELLS: usize = 1 << 19;
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
    /// Locks that found no room: of them there are no queues and no holds.
    pub locks_left_out: u64,
}

/// What a graph is made of.
pub(super) struct Parts {
    pub(super) chains: FollowedChains,
    pub(super) queues: Vec<(LockIndex, Box<LockQueue>)>,
    /// Locks that found no room for a queue.
    pub(super) locks_left_out: u64,
}

/// What parts are joined to.
#[derive(Default)]
pub(super) struct Joined {
    pub(super) graph: Graph,
    /// Of each lock that one thread has at a time.
    pub(super) holds: BTreeMap<LockIndex, LockHolds>,
    /// When those were held, if that was wanted.
    pub(super) held: BTreeMap<LockIndex, HeldBy>,
    /// When threads were blocked on contended locks, if that was wanted.
    pub(super) blocked: BTreeMap<LockIndex, Blocked>,
}

/// Makes a graph of its parts. Who took the locks last is added to what is known at the end.
pub(super) fn join(
    Parts { chains, queues, locks_left_out }: Parts,
    mut facts: Facts<'_>,
) -> Joined {
    let locks = facts.locks;
    let kind = |lock: &LockIndex| {
        locks.get(lock).map_or((Kind::Unclassified, Class::Unclassified), |l| (l.kind, l.class))
    };
    let takers = queues.iter().filter_map(|(lock, queue)| Some((*lock, queue.last_taker()?)));
    facts.takers = takers.filter(|(lock, _)| exclusive(kind(lock).0)).collect();
    let mut graph = Graph {
        deadlocks: cycles::deadlocks(&facts),
        late: queues.iter().map(|(_, queue)| queue.late()).sum(),
        locks_left_out,
        unfollowed: chains.unfollowed,
        not_followed: chains.not_followed,
        chains: chains.chains,
        chains_left_out: chains.left_out,
        convoys: Vec::new(),
    };
    let head = |chain: &Chain| chain.locks.first().map_or(Class::Idle, |lock| kind(lock).1);
    graph.chains.retain(|chain| head(chain) != Class::Idle);
    graph.chains.sort_by_key(|chain| rank(head(chain)));

    let (mut holds, mut held, mut blocked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (lock, mut queue) in queues {
        let (when_held, coverage) = queue.take_times();
        let (queue, of_lock) = queue.into_holds(facts.stacks);
        let (kind, class) = kind(&lock);
        if class == Class::Contention {
            blocked.insert(lock, Blocked { coverage, contended: queue.contended });
        }
        if !exclusive(kind) {
            continue;
        }
        if !when_held.is_empty() {
            held.insert(lock, when_held);
        }
        holds.insert(lock, of_lock);
        if queue.queued.0 > 0 && !matches!(class, Class::Idle | Class::Pause) {
            graph.convoys.push((lock, queue));
        }
    }
    graph.convoys.sort_by_key(|(lock, queue)| (std::cmp::Reverse(queue.queued), *lock));
    Joined { graph, holds, held, blocked }
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
    use crate::analyze::{OtherSide, StackTable};
    use crate::trace::records::Wait;

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
        let mut room = QueueRoom::new(1);
        let mut queues = BTreeMap::new();
        let mut chains = ChainGraph::with_window(window);
        for (n, wait) in (0..).zip(waits) {
            let other = OtherSide::of(wait, false);
            let queue = queues
                .entry(wait.lock)
                .or_insert_with(|| Box::new(LockQueue::together((window, window))));
            queue.add(&mut room, &[wait.into()]);
            chains.add(n, wait, other);
        }
        queues.values_mut().for_each(|queue| queue.finish(&mut room));
        let parts = Parts {
            chains: chains.finish(waits.len() as u64),
            queues: queues.into_iter().collect(),
            locks_left_out: 0,
        };
        let (blocked, locks) = (BTreeMap::new(), BTreeMap::new());
        let stacks = StackTable::default();
        let facts = Facts {
            blocked: &blocked,
            held: &[],
            takers: BTreeMap::new(),
            locks: &locks,
            stacks: &stacks,
            alike: &|_, _| true,
        };
        let joined = join(parts, facts);
        (joined.graph, joined.holds)
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
