//! The queue of each lock, moment by moment: who stands in it, who leaves it, who lets go.

use super::convoys::Queue;
use super::holds::{HoldSums, Holding, LockHolds, Moment, ranked};
use super::span::Span;
use super::window::Window;
use super::{MAX_LOCKS, MAX_PLACES};
use crate::analyze::shard::REST;
use crate::analyze::sides::REST_STACK;
use crate::analyze::tally::{Room, Tally};
use crate::analyze::{OtherSide, StackTable};
use crate::trace::records::{SideStack, Wait};
use crate::units::{Monotonic, ThreadIndex};

/// Waits of one lock that are looked at together, from few to many, by how many it has had.
const WINDOW: (usize, usize) = (64, 1024);
/// So many times its window a lock must have had, before that grows.
const GROWTH: usize = 32;

/// What the queues of several locks share.
#[derive(Debug)]
pub(in crate::analyze) struct QueueRoom {
    locks: usize,
    left_out: u64,
    sites: Room,
    threads: Room,
    events: Events,
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
        }
    }

    /// The queue of one more lock, if there is room for it; else it is counted.
    pub(in crate::analyze) fn one_more(&mut self) -> Option<Box<LockQueue>> {
        match self.locks.checked_sub(1) {
            Some(left) => {
                self.locks = left;
                Some(Box::new(LockQueue::with_window(WINDOW)))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }

    /// Locks that found no room.
    pub(in crate::analyze) fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// The queue of one lock, and the holds between its waits.
#[derive(Debug)]
pub(in crate::analyze) struct LockQueue {
    window: Window,
    most: usize,
    seen: usize,
    queue: Queue,
    holding: Holding,
    /// Where it was let go.
    sites: Tally<SideStack, HoldSums>,
    /// By whom.
    threads: Tally<ThreadIndex, HoldSums>,
}

/// What happens to a lock's queue: a moment and a span each, in the order of time and thread.
#[derive(Debug, Default)]
struct Events {
    queues: Vec<(Monotonic, u32)>,
    woken: Vec<(Monotonic, u32)>,
    runs: Vec<(Monotonic, u32)>,
}

impl LockQueue {
    pub(super) fn with_window((few, most): (usize, usize)) -> Self {
        Self {
            window: Window::new(few),
            most,
            seen: 0,
            queue: Queue::default(),
            holding: Holding::default(),
            sites: Tally::default(),
            threads: Tally::default(),
        }
    }

    /// Adds the next wait for the lock.
    pub(in crate::analyze) fn add(&mut self, room: &mut QueueRoom, wait: &Wait, other: OtherSide) {
        self.seen += 1;
        if self.window.add(Span::of(wait, other)) {
            self.pass(room, self.window.middle());
            self.window.grow((self.seen / GROWTH).min(self.most));
        }
    }

    /// No more will come.
    pub(in crate::analyze) fn finish(&mut self, room: &mut QueueRoom) {
        self.pass(room, self.window.last());
        self.queue.close();
    }

    fn pass(&mut self, room: &mut QueueRoom, cut: Monotonic) {
        let mut events = std::mem::take(&mut room.events);
        events.fill(self.window.spans(), self.window.done(), cut);
        self.follow(room, &events, cut);
        room.events = events;
        self.window.pass(cut);
    }

    fn follow(&mut self, room: &mut QueueRoom, events: &Events, cut: Monotonic) {
        let Self { window, queue, holding, sites, threads, .. } = self;
        let (spans, done) = (window.spans(), window.done());
        let (mut before, mut waiters) = (done, 0u64);
        let (mut queues, mut woken, mut runs) =
            (events.queues.as_slice(), events.woken.as_slice(), events.runs.as_slice());
        loop {
            let next = [woken, runs, queues].map(|events| events.first().map(|event| event.0));
            let Some(now) = next.into_iter().flatten().min() else { break };
            queue.pass(before, now, waiters);
            before = now;
            let moment = Moment { at: now, waited: queue.waited };
            // At the same moment first one leaves the queue, then runs, then others come.
            if let Some((event, rest)) = woken.split_first().filter(|(event, _)| event.0 == now) {
                woken = rest;
                let span = &spans[event.1 as usize];
                if span.from.max(done) < span.to {
                    waiters = waiters.saturating_sub(1);
                }
                if let Some(waker) = span.waker
                    && let Some(hold) = holding.let_go(waker, moment)
                {
                    let rest = || REST_STACK;
                    sites.add(&mut room.sites, hold, span.waker_stack, rest, rest);
                    let rest = || ThreadIndex(REST);
                    threads.add(&mut room.threads, hold, waker, rest, rest);
                }
                if waiters == 0 {
                    holding.uncontended();
                }
            } else if let Some((event, rest)) =
                runs.split_first().filter(|(event, _)| event.0 == now)
            {
                runs = rest;
                holding.taken(spans[event.1 as usize].thread, moment);
            } else if let Some((event, rest)) = queues.split_first() {
                queues = rest;
                let span = &spans[event.1 as usize];
                waiters += 1;
                holding.contended(now);
                if !span.carried {
                    holding.queues(span.thread);
                }
            }
        }
        queue.pass(before, cut, waiters);
    }

    /// Waits whose beginning came too late.
    pub(super) fn late(&self) -> u64 {
        self.window.late()
    }

    /// Who took the lock last and has let nobody in since.
    pub(super) fn last_taker(&self) -> Option<(ThreadIndex, Monotonic)> {
        self.holding.last_taker()
    }

    /// The queue and the holds.
    pub(super) fn into_holds(self, stacks: &StackTable) -> (Queue, LockHolds) {
        let sites = self.sites.into_entries();
        let holds = LockHolds {
            sums: self.holding.sums,
            durations: self.holding.durations,
            sites: ranked(sites.map(|(stack, sums)| (stacks.site(stack), sums))),
            threads: ranked(self.threads.into_entries()),
        };
        (self.queue, holds)
    }
}

impl Events {
    /// Those of a lock's spans after `done` and until `cut`.
    fn fill(&mut self, spans: &[Span], done: Monotonic, cut: Monotonic) {
        self.queues.clear();
        self.woken.clear();
        self.runs.clear();
        let now = |at: Monotonic| done < at && at <= cut;
        for (n, span) in (0..).zip(spans) {
            if span.from.max(done) < span.to.min(cut) {
                self.queues.push((span.from.max(done), n));
            }
            if now(span.to) {
                self.woken.push((span.to, n));
            }
            if now(span.end) && !span.unfinished {
                self.runs.push((span.end, n));
            }
        }
        for events in [&mut self.queues, &mut self.woken, &mut self.runs] {
            let key = |&(at, n): &(Monotonic, u32)| (at, spans[n as usize].thread);
            // Mostly they are in order; if not, then nearly.
            if !events.is_sorted_by_key(key) {
                events.sort_by_key(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::tests::wait;
    use super::*;
    use crate::units::Ns;

    /// Thread 1 gets the lock at 100 and lets 2 go on at 200, which lets 3 go on at 260.
    fn three() -> [Wait; 3] {
        [
            wait(1, 0, (0, 100, 100), Some(9)),
            wait(2, 0, (50, 200, 210), Some(1)),
            wait(3, 0, (120, 260, 260), Some(2)),
        ]
    }

    fn filled() -> LockQueue {
        let mut queue = LockQueue::with_window((10, 10));
        for wait in three() {
            queue.window.add(Span::of(&wait, OtherSide::of(&wait, false)));
        }
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
            parts.pass(&mut room, Monotonic(cut));
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
