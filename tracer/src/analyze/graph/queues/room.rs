//! What the queues of several locks share.

use super::{Events, LockQueue};
use crate::analyze::energy::Cells;
use crate::analyze::graph::{MAX_CELLS, MAX_LOCKS, MAX_PLACES};
use crate::analyze::tally::Room;

/// Waits of one lock that are looked at together, from few to many, by how many it has had. Of those
/// up to the end of the one at two thirds of them is dealt with for good, so that a wait loses its
/// beginning only if it was longer than a third of others.
const TOGETHER: (usize, usize) = (96, 1536);

/// What the queues of several locks share.
#[derive(Debug)]
pub(in crate::analyze) struct QueueRoom {
    pub(super) locks: usize,
    pub(super) left_out: u64,
    pub(super) sites: Room,
    pub(super) threads: Room,
    pub(super) events: Events,
    /// When locks were held is wanted, for the energy of their holders.
    pub(in crate::analyze) when_held: bool,
    /// When threads were blocked is wanted.
    pub(in crate::analyze) when_blocked: bool,
    pub(in crate::analyze) held: Cells,
    pub(in crate::analyze) blocked: Cells,
}

impl QueueRoom {
    /// The part of one of `shards`.
    pub(in crate::analyze) fn new(shards: usize) -> Self {
        Self {
            locks: MAX_LOCKS / shards,
            left_out: 0,
            sites: Room::new(MAX_PLACES / shards),
            threads: Room::new(MAX_PLACES / shards),
            events: Events::default(),
            when_held: false,
            when_blocked: false,
            held: Cells::new(MAX_CELLS / shards),
            blocked: Cells::new(MAX_CELLS / shards),
        }
    }

    /// The queue of one more lock, if there is room for it; else it is counted.
    pub(in crate::analyze) fn one_more(&mut self) -> Option<Box<LockQueue>> {
        match self.locks.checked_sub(1) {
            Some(left) => {
                self.locks = left;
                Some(Box::new(LockQueue::together(TOGETHER)))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }

    /// Makes room for further cells, if few are left.
    pub(in crate::analyze) fn make_room<'a>(
        &mut self,
        queues: impl Iterator<Item = &'a mut LockQueue>,
    ) {
        // Not one `||`: both are to be looked at.
        if self.held.doubles() | self.blocked.doubles() {
            queues.for_each(|queue| queue.keep_to(self));
        }
    }

    /// Locks that found no room.
    pub(in crate::analyze) fn left_out(&self) -> u64 {
        self.left_out
    }
}
