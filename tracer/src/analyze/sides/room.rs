//! The room for sums by side, which is bounded, and what found none.

use std::ops::AddAssign;

use crate::analyze::brief::Brief;
use crate::analyze::tally::{Room, WaitSums};

/// Different keys of each table, over all locks.
const MAX_CELLS: usize = 1 << 19;
const MAX_WAITING: usize = 1 << 19;
const MAX_HOLDING: usize = 1 << 19;
const MAX_PAIRS: usize = 1 << 18;
const MAX_LINKS: usize = 1 << 18;
/// The same for runs of yields: by thread, and by stack.
const MAX_YIELDERS: usize = 1 << 18;
const MAX_YIELDING: usize = 1 << 18;

/// The room that the tables of several locks share.
#[derive(Debug)]
pub(in crate::analyze) struct SideRoom {
    pub(super) by_thread: ByThread,
    pub(super) cells: Room,
    pub(super) waiting: Room,
    pub(super) holding: Room,
    pub(super) pairs: Room,
    pub(super) links: Room,
    pub(super) yielders: Room,
    pub(super) yielding: Room,
}

impl SideRoom {
    /// The part of one of `shards`.
    pub(in crate::analyze) fn new(shards: usize) -> Self {
        Self {
            by_thread: ByThread::default(),
            cells: Room::new(MAX_CELLS / shards),
            waiting: Room::new(MAX_WAITING / shards),
            holding: Room::new(MAX_HOLDING / shards),
            pairs: Room::new(MAX_PAIRS / shards),
            links: Room::new(MAX_LINKS / shards),
            yielders: Room::new(MAX_YIELDERS / shards),
            yielding: Room::new(MAX_YIELDING / shards),
        }
    }

    pub(in crate::analyze) fn crowded(&self) -> Crowded {
        Crowded {
            cells: self.cells.crowded,
            waiting: self.waiting.crowded,
            holding: self.holding.crowded,
            pairs: self.pairs.crowded,
            links: self.links.crowded,
            yielders: self.yielders.crowded,
            yielding: self.yielding.crowded,
        }
    }
}

/// Threads up to this index have a place of their own while the waits of one lock are added up.
const FEW_THREADS: usize = 1 << 12;

/// Sums by thread of the lock at hand, and which threads have any.
#[derive(Debug)]
pub(super) struct ByThread {
    pub(super) sums: Vec<WaitSums>,
    pub(super) some: Vec<u32>,
}

impl Default for ByThread {
    fn default() -> Self {
        Self { sums: vec![WaitSums::default(); FEW_THREADS], some: Vec::new() }
    }
}

impl ByThread {
    /// Adds a wait, if its thread has a place.
    #[inline]
    pub(super) fn add(&mut self, wait: &Brief) -> bool {
        let Some(sums) = self.sums.get_mut(wait.thread as usize) else { return false };
        if sums.waits() == 0 {
            self.some.push(wait.thread);
        }
        *sums += WaitSums::of(wait);
        true
    }
}

/// Waits, and runs of yields, that found no room in a table under all that tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowded {
    /// By thread and lock: the thread is missing.
    pub cells: u64,
    /// By thread, lock and stack: the stack, then the thread is missing.
    pub waiting: u64,
    /// By lock and who was in the way: the thread, then the stack is missing.
    pub holding: u64,
    /// By who waited for whom: both threads are missing.
    pub pairs: u64,
    /// By all of that: both threads, then the stacks are missing.
    pub links: u64,
    /// Runs of yields by thread and lock: the thread is missing.
    pub yielders: u64,
    /// Runs of yields by lock and stack: the stack is missing.
    pub yielding: u64,
}

impl AddAssign for Crowded {
    fn add_assign(&mut self, other: Self) {
        self.cells += other.cells;
        self.waiting += other.waiting;
        self.holding += other.holding;
        self.pairs += other.pairs;
        self.links += other.links;
        self.yielders += other.yielders;
        self.yielding += other.yielding;
    }
}
