//! The two sides of a wait: who waited where, and who was in the way.

mod key;
mod other;
mod room;
mod sorted;
mod want;

use tracer_common::NoStack;

pub(super) use self::key::REST_STACK;
use self::key::{OtherKey, Place, REST_PLACE, place};
pub use self::other::{OtherSide, Source};
pub use self::room::Crowded;
pub(super) use self::room::SideRoom;
pub use self::want::Want;
use super::brief::{Brief, StackCode};
use super::shard::REST;
use super::tally::{Tally, WaitSums, YieldSums};
use crate::trace::records::{ShortWaits, SideStack, YieldRun};
use crate::units::{LockIndex, ThreadIndex};

/// Who waited, for what, and where.
pub type Waiting = (ThreadIndex, LockIndex, SideStack);

/// Waits of one waiter that one thread was in the way of.
pub(super) type Met = (ThreadIndex, ThreadIndex, LockIndex, Source);

/// The sums of one lock by each side, and by both.
///
/// Room is bounded. What finds none loses its threads or its stacks, never its lock.
#[derive(Debug, Default)]
pub(super) struct SideSums {
    cells: Tally<u32, WaitSums>,
    waiting: Tally<Place, WaitSums>,
    holding: Tally<OtherKey, WaitSums>,
    /// Waiter and holder in one.
    pairs: Tally<(u64, Source), WaitSums>,
    /// Pairs that found no room, by source.
    more_pairs: [WaitSums; Source::ALL.len()],
    links: Tally<(Place, OtherKey), WaitSums>,
    yielders: Tally<ThreadIndex, YieldSums>,
    yielding: Tally<SideStack, YieldSums>,
}

impl SideSums {
    /// Adds waits for the lock. When there are no more for now, [`Self::settle`].
    pub(super) fn add(&mut self, room: &mut SideRoom, want: Want, waits: &[Brief]) {
        // Table by table, so that each is near while it is used.
        for wait in waits {
            if !room.by_thread.add(wait) {
                let sums = WaitSums::of(wait);
                self.cells.add(&mut room.cells, sums, wait.thread, || REST, || REST);
            }
        }
        for wait in waits {
            let thread = if want.threads { wait.thread } else { REST };
            let key = place(thread, wait.waiter_stack);
            let coarser = place(thread, StackCode::REST);
            let sums = WaitSums::of(wait);
            self.waiting.add(&mut room.waiting, sums, key, || coarser, || REST_PLACE);
        }
        for wait in waits {
            let other = wait.other(want.unverified);
            let somebody = other.somebody().key();
            let key = if want.threads { other.key() } else { somebody };
            let sums = WaitSums::of(wait);
            self.holding.add(&mut room.holding, sums, key, || somebody, || OtherKey::REST);
        }
        if want.pairs {
            for wait in waits {
                let OtherSide { thread, source, .. } = wait.other(want.unverified);
                let Some(ThreadIndex(holder)) = thread else { continue };
                let key = (u64::from(wait.thread) << 32 | u64::from(holder), source);
                let sums = WaitSums::of(wait);
                if let Some(sums) = self.pairs.add_if_room(&mut room.pairs, sums, key) {
                    room.pairs.crowded += 1;
                    self.more_pairs[source as usize] += sums;
                }
            }
        }
        for wait in waits.iter().filter(|_| want.links) {
            let other = wait.other(want.unverified);
            let coarser = (place(REST, wait.waiter_stack), other.somebody().key());
            let key = (place(wait.thread, wait.waiter_stack), other.key());
            self.links.add(
                &mut room.links,
                WaitSums::of(wait),
                if want.threads { key } else { coarser },
                || coarser,
                || (REST_PLACE, OtherKey::REST),
            );
        }
    }

    /// Takes what was kept by thread: the next waits are for another lock.
    pub(super) fn settle(&mut self, room: &mut SideRoom) {
        for thread in room.by_thread.some.drain(..) {
            let sums = std::mem::take(&mut room.by_thread.sums[thread as usize]);
            let (cells, waits) = (&mut room.cells, sums.waits());
            self.cells.add_many(cells, waits, sums, thread, || REST, || REST);
        }
    }

    /// Adds waits below the threshold for the lock: as if all had been where the last one was, and had
    /// been ended by the same thread.
    pub(super) fn add_short(&mut self, room: &mut SideRoom, want: Want, short: &ShortWaits) {
        let (sums, waits) = (WaitSums::of_short(short), short.waits);
        let thread = short.thread.0;
        self.cells.add_many(&mut room.cells, waits, sums, thread, || REST, || REST);
        let stack = StackCode::from(short.waiter_stack);
        let nobody = place(REST, stack);
        let waiter = if want.threads { place(thread, stack) } else { nobody };
        let coarser = place(if want.threads { thread } else { REST }, StackCode::REST);
        self.waiting.add_many(&mut room.waiting, waits, sums, waiter, || coarser, || REST_PLACE);
        let other = match short.waker {
            Some(waker) => {
                let (thread, stack) = (Some(waker), short.waker_stack);
                OtherSide { thread, stack, source: Source::Waker }
            }
            None => OtherSide {
                thread: None,
                stack: SideStack::Missing(NoStack::NotTaken),
                source: Source::None,
            },
        };
        let somebody = other.somebody().key();
        let key = if want.threads { other.key() } else { somebody };
        let rest = || OtherKey::REST;
        self.holding.add_many(&mut room.holding, waits, sums, key, || somebody, rest);
        if let Some(ThreadIndex(holder)) = other.thread.filter(|_| want.pairs) {
            let pair = (u64::from(thread) << 32 | u64::from(holder), other.source);
            if let Some(sums) = self.pairs.add_if_room(&mut room.pairs, sums, pair) {
                room.pairs.crowded += waits;
                self.more_pairs[other.source as usize] += sums;
            }
        }
        if want.links {
            let (link, coarser) = ((waiter, key), (nobody, somebody));
            let rest = || (REST_PLACE, OtherKey::REST);
            self.links.add_many(&mut room.links, waits, sums, link, || coarser, rest);
        }
    }

    /// Adds a run of yields for the lock. It has a thread and no other side.
    pub(super) fn add_yields(&mut self, room: &mut SideRoom, run: &YieldRun) {
        let (sums, rest) = (YieldSums::of(run), ThreadIndex(REST));
        self.yielders.add(&mut room.yielders, sums, run.thread, || rest, || rest);
        self.yielding.add(&mut room.yielding, sums, run.stack, || REST_STACK, || REST_STACK);
    }
}
