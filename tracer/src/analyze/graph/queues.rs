//! The queue of each lock, moment by moment: who stands in it, who leaves it, who lets go.

use std::collections::{BTreeMap, BTreeSet};

use super::convoys::Queue;
use super::holds::{HoldSums, Holding, LockHolds, Moment, ranked};
use super::span::Span;
use crate::analyze::StackTable;
use crate::analyze::bounded::Bounded;
use crate::analyze::shard::REST;
use crate::analyze::sides::REST_STACK;
use crate::trace::records::SideStack;
use crate::units::{LockIndex, Monotonic, ThreadIndex};

/// The queues of all locks, and the holds between them.
#[derive(Debug)]
pub(super) struct Queues {
    /// By place.
    locks: Vec<(LockIndex, Queue, Holding)>,
    /// Where each lock was let go.
    sites: Bounded<(LockIndex, SideStack), HoldSums>,
    /// By whom.
    threads: Bounded<(LockIndex, ThreadIndex), HoldSums>,
    limit: usize,
    left_out: u64,
    scratch: Scratch,
}

/// Room that is used again and again.
#[derive(Debug, Default)]
struct Scratch {
    /// The spans of a part, by lock.
    order: Vec<u32>,
    /// Of each lock, where its spans end in `order`.
    ends: Vec<u32>,
    events: Events,
}

/// What happens to a lock's queue: a moment and a span each, in the order of time and thread.
#[derive(Debug, Default)]
struct Events {
    queues: Vec<(Monotonic, u32)>,
    woken: Vec<(Monotonic, u32)>,
    runs: Vec<(Monotonic, u32)>,
}

impl Queues {
    /// For at most `limit` locks, and `places` sites and threads each.
    pub(super) fn new(limit: usize, places: usize) -> Self {
        Self {
            locks: Vec::new(),
            sites: Bounded::new(places),
            threads: Bounded::new(places),
            limit,
            left_out: 0,
            scratch: Scratch::default(),
        }
    }

    /// Goes on from `done` to `cut`. In `spans` are all that reach into that time.
    pub(super) fn pass(&mut self, spans: &[Span], done: Monotonic, cut: Monotonic) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.sort(spans, cut, &mut scratch);
        let mut from = 0;
        for place in 0..scratch.ends.len() {
            let to = scratch.ends[place] as usize;
            if from < to {
                scratch.events.fill(spans, &scratch.order[from..to], done, cut);
                self.follow(place, spans, &scratch.events, done, cut);
            }
            from = to;
        }
        self.scratch = scratch;
    }

    /// Sorts the spans that begin until `cut` by lock. Those of one lock stay in their order, which
    /// is nearly that of time.
    fn sort(&mut self, spans: &[Span], cut: Monotonic, scratch: &mut Scratch) {
        let Scratch { order, ends, .. } = scratch;
        ends.clear();
        let mut left_out = BTreeSet::new();
        let mut count = 0;
        for span in spans.iter().filter(|span| span.from <= cut) {
            let place = span.place as usize;
            if place >= self.limit {
                left_out.insert(span.lock);
                continue;
            }
            if place >= ends.len() {
                ends.resize(place + 1, 0);
            }
            ends[place] += 1;
            count += 1;
            if place >= self.locks.len() {
                let rest = || (LockIndex(REST), Queue::default(), Holding::default());
                self.locks.resize_with(place + 1, rest);
            }
            self.locks[place].0 = span.lock;
        }
        self.left_out += left_out.len() as u64;
        // From here on `ends` says where the next span of a lock goes.
        let mut at = 0;
        for end in ends.iter_mut() {
            at += std::mem::replace(end, at);
        }
        order.clear();
        order.resize(count, 0);
        for (n, span) in (0..).zip(spans).filter(|(_, span)| span.from <= cut) {
            if let Some(end) = ends.get_mut(span.place as usize).filter(|_| (span.place as usize) < self.limit) {
                order[*end as usize] = n;
                *end += 1;
            }
        }
    }

    fn follow(
        &mut self,
        place: usize,
        spans: &[Span],
        events: &Events,
        done: Monotonic,
        cut: Monotonic,
    ) {
        let (lock, queue, holding) = &mut self.locks[place];
        let (mut before, mut waiters) = (done, 0u64);
        let mut queues = events.queues.iter().peekable();
        let mut woken = events.woken.iter().peekable();
        let mut runs = events.runs.iter().peekable();
        let at = |event: Option<&&(Monotonic, u32)>| event.map(|event| event.0);
        loop {
            let next = [at(woken.peek()), at(runs.peek()), at(queues.peek())];
            let Some(now) = next.into_iter().flatten().min() else { break };
            queue.pass(before, now, waiters);
            before = now;
            let moment = Moment { at: now, waited: queue.waited };
            // At the same moment first one leaves the queue, then runs, then others come.
            if next[0] == Some(now) {
                let Some(span) = woken.next().map(|event| &spans[event.1 as usize]) else { break };
                if span.from.max(done) < span.to {
                    waiters = waiters.saturating_sub(1);
                }
                if let Some(waker) = span.waker
                    && let Some(hold) = holding.let_go(waker, moment)
                {
                    *self.sites.get((*lock, span.waker_stack), (*lock, REST_STACK)).1 += hold;
                    let rest = (*lock, ThreadIndex(REST));
                    *self.threads.get((*lock, waker), rest).1 += hold;
                }
                if waiters == 0 {
                    holding.uncontended();
                }
            } else if next[1] == Some(now) {
                let Some(span) = runs.next().map(|event| &spans[event.1 as usize]) else { break };
                holding.taken(span.thread, moment);
            } else {
                let Some(span) = queues.next().map(|event| &spans[event.1 as usize]) else { break };
                waiters += 1;
                holding.contended(now);
                if !span.carried {
                    holding.queues(span.thread);
                }
            }
        }
        queue.pass(before, cut, waiters);
    }

    /// Locks, once for each part of the recording, that found no room.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Who took each lock last and has let nobody in since.
    pub(super) fn last_takers(&self) -> impl Iterator<Item = (LockIndex, (ThreadIndex, Monotonic))> {
        self.locks.iter().filter_map(|(lock, _, holding)| Some((*lock, holding.last_taker()?)))
    }

    /// The queue and the holds of each lock.
    pub(super) fn finish(self, stacks: &StackTable) -> BTreeMap<LockIndex, (Queue, LockHolds)> {
        let mut sites: BTreeMap<LockIndex, Vec<_>> = BTreeMap::new();
        for ((lock, stack), sums) in self.sites {
            sites.entry(lock).or_default().push((stacks.site(stack), sums));
        }
        let mut threads: BTreeMap<LockIndex, Vec<_>> = BTreeMap::new();
        for ((lock, thread), sums) in self.threads {
            threads.entry(lock).or_default().push((thread, sums));
        }
        let locks = self.locks.into_iter().map(|(lock, mut queue, holding)| {
            queue.close();
            let holds = LockHolds {
                sums: holding.sums,
                durations: holding.durations,
                sites: ranked(sites.remove(&lock).unwrap_or_default().into_iter()),
                threads: ranked(threads.remove(&lock).unwrap_or_default().into_iter()),
            };
            (lock, (queue, holds))
        });
        locks.collect()
    }
}

impl Events {
    /// Those of one lock's spans after `done` and until `cut`.
    fn fill(&mut self, spans: &[Span], order: &[u32], done: Monotonic, cut: Monotonic) {
        self.queues.clear();
        self.woken.clear();
        self.runs.clear();
        let now = |at: Monotonic| done < at && at <= cut;
        for &n in order {
            let span = &spans[n as usize];
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
    use super::super::span::tests::span;
    use super::*;
    use crate::units::Ns;

    const LOCK: LockIndex = LockIndex(0);

    /// Thread 1 gets the lock at 100 and lets 2 go on at 200, which lets 3 go on at 260.
    fn three() -> Vec<Span> {
        vec![
            span(1, 0, (0, 100, 100), Some(9)),
            span(2, 0, (50, 200, 210), Some(1)),
            span(3, 0, (120, 260, 260), Some(2)),
        ]
    }

    #[test]
    fn a_hold_causes_the_waiting_of_all_behind_it() {
        let mut queues = Queues::new(10, 100);
        queues.pass(&three(), Monotonic(0), Monotonic(260));
        assert_eq!(queues.last_takers()[&LOCK], (ThreadIndex(3), Monotonic(260)));
        let (queue, holds) = queues.finish(&StackTable::default()).remove(&LOCK).unwrap();
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
        let whole = {
            let mut queues = Queues::new(10, 100);
            queues.pass(&three(), Monotonic(0), Monotonic(260));
            queues.finish(&StackTable::default())
        };
        for cut in 1..260 {
            let mut queues = Queues::new(10, 100);
            let mut window = super::super::window::Window::new(10);
            for span in three() {
                window.add(span);
            }
            queues.pass(window.spans(), window.done(), Monotonic(cut));
            window.pass(Monotonic(cut));
            queues.pass(window.spans(), window.done(), window.last());
            assert_eq!(queues.finish(&StackTable::default()), whole, "cut at {cut}");
        }
    }

    #[test]
    fn locks_beyond_the_limit_are_counted() {
        let mut queues = Queues::new(2, 100);
        let spans: Vec<_> = (0..5).map(|lock| span(1, lock, (0, 10, 10), None)).collect();
        queues.pass(&spans, Monotonic(0), Monotonic(10));
        assert_eq!(queues.left_out(), 3);
        assert_eq!(queues.finish(&StackTable::default()).len(), 2);
    }
}
