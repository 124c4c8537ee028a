//! The queue of each lock, moment by moment: who stands in it, who leaves it, who lets go.

mod events;
mod room;

use std::collections::btree_map::Entry;

use self::events::{Events, NEVER};
pub(in crate::analyze) use self::room::QueueRoom;
use super::convoys::Queue;
use super::holds::{HoldSums, Holding, LockHolds, Moment, ranked};
use crate::analyze::StackTable;
use crate::analyze::brief::{Brief, StackCode};
use crate::analyze::energy::{Coverage, HeldBy};
use crate::analyze::shard::REST;
use crate::analyze::tally::Tally;
use crate::units::{Monotonic, ThreadIndex};

/// So many times as many a lock must have had, before there are more.
const GROWTH: usize = 32;

/// A thread in the queue: [`Span`](super::span::Span) for one lock, in few bytes, since each is
/// looked at several times.
#[derive(Clone, Copy, Debug)]
struct Stay {
    /// In the queue from here until it was woken; when it ran again.
    from: u64,
    to: u64,
    end: u64,
    thread: u32,
    /// Who woke it; itself: nobody did.
    waker: u32,
    waker_stack: StackCode,
    /// Not over when the recording was: it has not got the lock.
    unfinished: bool,
    /// The part before `from` is in the sums already.
    carried: bool,
}

impl Stay {
    #[inline]
    fn of(wait: &Brief) -> Self {
        let (from, to) = wait.queued();
        Self {
            from,
            to,
            end: wait.end,
            thread: wait.thread,
            waker: wait.waker().unwrap_or(wait.thread),
            waker_stack: wait.waker_stack(),
            unfinished: wait.unfinished(),
            carried: false,
        }
    }
}

/// The queue of one lock, and the holds between its waits.
#[derive(Debug)]
pub(in crate::analyze) struct LockQueue {
    stays: Vec<Stay>,
    /// All before this is in the sums.
    done: u64,
    /// So many are looked at together, and how many may be.
    together: usize,
    most: usize,
    seen: usize,
    late: u64,
    queue: Queue,
    holding: Holding,
    /// Where it was let go.
    sites: Tally<StackCode, HoldSums>,
    /// By whom.
    threads: Tally<u32, HoldSums>,
    /// When, by whom.
    held: HeldBy,
    /// When threads were blocked on it.
    blocked: Coverage,
}

impl LockQueue {
    pub(super) fn together((few, most): (usize, usize)) -> Self {
        Self {
            stays: Vec::new(),
            done: 0,
            together: few.max(1),
            most,
            seen: 0,
            late: 0,
            queue: Queue::default(),
            holding: Holding::default(),
            sites: Tally::default(),
            threads: Tally::default(),
            held: HeldBy::new(),
            blocked: Coverage::default(),
        }
    }

    /// Adds the next waits for the lock.
    pub(in crate::analyze) fn add(&mut self, room: &mut QueueRoom, waits: &[Brief]) {
        for wait in waits {
            self.seen += 1;
            let mut stay = Stay::of(wait);
            if room.when_blocked {
                self.blocked.add(&mut room.blocked, stay.from, stay.to);
            }
            if stay.from < self.done && stay.from < stay.to {
                self.late += 1;
            }
            if stay.end > self.done {
                stay.from = stay.from.max(self.done.min(stay.to));
                self.stays.push(stay);
            }
            if self.stays.len() >= self.together {
                let cut = self.two_thirds(&mut room.events.ends);
                self.pass(room, cut);
                let more = (self.seen / GROWTH).min(self.most);
                self.together = self.together.max(more);
            }
        }
    }

    /// No more will come.
    pub(in crate::analyze) fn finish(&mut self, room: &mut QueueRoom) {
        let last = self.stays.iter().map(|stay| stay.end).max();
        self.pass(room, last.unwrap_or(self.done));
        self.queue.close();
    }

    /// The end of the one at two thirds of them, by their ends.
    fn two_thirds(&self, ends: &mut Vec<u64>) -> u64 {
        ends.clear();
        ends.extend(self.stays.iter().map(|stay| stay.end));
        match ends.len() {
            0 => self.done,
            n => *ends.select_nth_unstable(n * 2 / 3).1,
        }
    }

    fn pass(&mut self, room: &mut QueueRoom, cut: u64) {
        let mut events = std::mem::take(&mut room.events);
        events.fill(&self.stays, self.done, cut);
        self.follow(room, &events, cut);
        room.events = events;
        // What is under way goes on from there.
        self.stays.retain_mut(|stay| {
            if stay.from < cut {
                stay.from = cut.min(stay.to);
                stay.carried = true;
            }
            stay.end > cut
        });
        self.done = self.done.max(cut);
    }

    fn follow(&mut self, room: &mut QueueRoom, events: &Events, cut: u64) {
        let Self { stays, done, queue, holding, sites, threads, held, .. } = self;
        let (mut before, mut waiters) = (*done, 0u64);
        // Each list ends with an event that never comes.
        let (mut queues, mut woken, mut runs) =
            (events.queues.as_slice(), events.woken.as_slice(), events.runs.as_slice());
        while let ([comes, later @ ..], [leaves, wake_later @ ..], [on, run_later @ ..]) =
            (queues, woken, runs)
        {
            let now = leaves.0.min(on.0).min(comes.0);
            if now == NEVER {
                break;
            }
            queue.pass(Monotonic(before), Monotonic(now), waiters);
            before = now;
            let moment = Moment { at: Monotonic(now), waited: queue.waited };
            // At the same moment first one leaves the queue, then runs, then others come.
            if leaves.0 == now {
                woken = wake_later;
                let stay = &stays[leaves.1 as usize];
                if stay.from.max(*done) < stay.to {
                    waiters = waiters.saturating_sub(1);
                }
                if stay.waker != stay.thread
                    && let Some(hold) = holding.let_go(ThreadIndex(stay.waker), moment)
                {
                    let rest = || StackCode::REST;
                    sites.add(&mut room.sites, hold, stay.waker_stack, rest, rest);
                    threads.add(&mut room.threads, hold, stay.waker, || REST, || REST);
                    if room.when_held {
                        let coverage = match held.entry(stay.waker) {
                            Entry::Occupied(known) => Some(known.into_mut()),
                            Entry::Vacant(new) => room
                                .held
                                .one_more(hold.held.0)
                                .then(|| new.insert(Coverage::default())),
                        };
                        if let Some(coverage) = coverage {
                            coverage.add(&mut room.held, now - hold.held.0, now);
                        }
                    }
                }
                if waiters == 0 {
                    holding.uncontended();
                }
            } else if on.0 == now {
                runs = run_later;
                holding.taken(ThreadIndex(stays[on.1 as usize].thread), moment);
            } else {
                queues = later;
                let stay = &stays[comes.1 as usize];
                waiters += 1;
                holding.contended(Monotonic(now));
                if !stay.carried {
                    holding.queues(ThreadIndex(stay.thread));
                }
            }
        }
        queue.pass(Monotonic(before), Monotonic(cut), waiters);
    }

    /// Keeps when it was held, and waited for, in bins as long as the others'.
    fn keep_to(&mut self, room: &mut QueueRoom) {
        self.held.values_mut().for_each(|coverage| coverage.keep_to(&mut room.held));
        self.blocked.keep_to(&mut room.blocked);
    }

    /// Waits whose beginning came too late.
    pub(in crate::analyze::graph) fn late(&self) -> u64 {
        self.late
    }

    /// Who took the lock last and has let nobody in since.
    pub(in crate::analyze::graph) fn last_taker(&self) -> Option<(ThreadIndex, Monotonic)> {
        self.holding.last_taker()
    }

    /// When the lock was held, by whom; and when threads were blocked on it.
    pub(in crate::analyze::graph) fn take_times(&mut self) -> (HeldBy, Coverage) {
        (std::mem::take(&mut self.held), std::mem::take(&mut self.blocked))
    }

    /// The queue and the holds.
    pub(in crate::analyze::graph) fn into_holds(self, stacks: &StackTable) -> (Queue, LockHolds) {
        let (sites, threads) = (self.sites.into_entries(), self.threads.into_entries());
        let holds = LockHolds {
            sums: self.holding.sums,
            durations: self.holding.durations,
            sites: ranked(sites.map(|(stack, sums)| (stacks.site(stack.into()), sums))),
            threads: ranked(threads.map(|(thread, sums)| (ThreadIndex(thread), sums))),
        };
        (self.queue, holds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_LOCKS;
    use super::super::span::tests::wait;
    use super::*;
    use crate::units::Ns;

    /// Thread 1 gets the lock at 100 and lets 2 go on at 200, which lets 3 go on at 260.
    fn three() -> [crate::trace::records::Wait; 3] {
        [
            wait(1, 0, (0, 100, 100), Some(9)),
            wait(2, 0, (50, 200, 210), Some(1)),
            wait(3, 0, (120, 260, 260), Some(2)),
        ]
    }

    fn filled() -> LockQueue {
        let mut queue = LockQueue::together((10, 10));
        queue.add(&mut QueueRoom::new(1), &three().map(|wait| Brief::from(&wait)));
        queue
    }

    #[test]
    fn a_hold_causes_the_waiting_of_all_behind_it() {
        let mut lock = filled();
        lock.finish(&mut QueueRoom::new(1));
        assert_eq!(lock.last_taker(), Some((ThreadIndex(3), Monotonic(260))));
        let (queue, holds) = lock.into_holds(&StackTable::default());
        // 100 to 200: 2 waits all along, 3 since 120. 210 to 260: 3.
        // Somebody waits all the time, so that they can't have been shorter.
        assert_eq!((holds.sums.holds, holds.sums.held, holds.sums.sure), (2, Ns(150), Ns(150)));
        assert_eq!((holds.sums.caused, holds.sums.max_caused), (Ns(180 + 50), Ns(180)));
        let by_thread = |n: usize| (holds.threads[n].0, holds.threads[n].1.caused);
        assert_eq!(by_thread(0), (ThreadIndex(1), Ns(180)));
        assert_eq!(by_thread(1), (ThreadIndex(2), Ns(50)));
        assert_eq!(queue.waited, Ns(100 + 150 + 140));
        assert_eq!((queue.contended, queue.queued), (Ns(260), Ns(50 + 80)));
        assert_eq!(queue.longest_queue, 2);
    }

    #[test]
    fn parts_come_to_the_same_as_the_whole() {
        let mut room = QueueRoom::new(1);
        let mut whole = filled();
        whole.finish(&mut room);
        let whole = whole.into_holds(&StackTable::default());
        for cut in 1..260 {
            let mut parts = filled();
            parts.pass(&mut room, cut);
            parts.finish(&mut room);
            assert_eq!(parts.into_holds(&StackTable::default()), whole, "cut at {cut}");
        }
    }

    #[test]
    fn locks_beyond_the_limit_are_counted() {
        let mut room = QueueRoom::new(MAX_LOCKS / 2);
        let queues = [(); 5].map(|()| room.one_more().is_some());
        assert_eq!((queues, room.left_out()), ([true, true, false, false, false], 3));
    }
}
