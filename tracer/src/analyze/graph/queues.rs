//! The queue of each lock, moment by moment: who stands in it, who leaves it, who lets go.

use std::collections::{BTreeMap, HashMap};

use super::convoys::Queue;
use super::holds::{HoldSums, Holding, LockHolds, Moment, ranked};
use super::span::Span;
use crate::analyze::StackTable;
use crate::analyze::bounded::Bounded;
use crate::analyze::fold::REST;
use crate::analyze::sides::REST_STACK;
use crate::trace::records::SideStack;
use crate::units::{LockIndex, Monotonic, ThreadIndex};

/// Who let go of which lock, and where.
type Place = (LockIndex, ThreadIndex, SideStack);

/// The queues of all locks, and the holds between them.
#[derive(Debug)]
pub(super) struct Queues {
    locks: HashMap<LockIndex, (Queue, Holding)>,
    places: Bounded<Place, HoldSums>,
    limit: usize,
    left_out: u64,
}

/// What happens to a lock's queue. At the same moment first one leaves it, then runs, then others
/// come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Woken,
    Runs,
    Queues,
}

impl Queues {
    /// For at most `limit` locks, and as many places.
    pub(super) fn new(limit: usize) -> Self {
        Self { locks: HashMap::new(), places: Bounded::new(limit), limit, left_out: 0 }
    }

    /// Goes on from `done` to `cut`. In `spans` are all that reach into that time.
    pub(super) fn pass(&mut self, spans: &[Span], done: Monotonic, cut: Monotonic) {
        let mut order: Vec<&Span> = spans.iter().collect();
        order.sort_by_key(|span| span.lock);
        let now = |at: Monotonic| done < at && at <= cut;
        let mut events: Vec<(Monotonic, What, &Span)> = Vec::new();
        for spans in order.chunk_by(|a, b| a.lock == b.lock) {
            let Some(lock) = spans.first().map(|span| span.lock) else { continue };
            events.clear();
            for &span in spans {
                if span.from.max(done) < span.to.min(cut) {
                    events.push((span.from.max(done), What::Queues, span));
                }
                if now(span.to) {
                    events.push((span.to, What::Woken, span));
                }
                if now(span.end) && !span.unfinished {
                    events.push((span.end, What::Runs, span));
                }
            }
            events.sort_by_key(|&(at, what, span)| (at, what, span.thread));
            self.follow(lock, &events, done, cut);
        }
    }

    fn follow(
        &mut self,
        lock: LockIndex,
        events: &[(Monotonic, What, &Span)],
        done: Monotonic,
        cut: Monotonic,
    ) {
        if self.locks.len() >= self.limit && !self.locks.contains_key(&lock) {
            self.left_out += 1;
            return;
        }
        let (queue, holding) = self.locks.entry(lock).or_default();
        let (mut before, mut waiters) = (done, 0u64);
        for &(at, what, span) in events {
            queue.pass(before, at, waiters);
            before = at;
            let moment = Moment { at, waited: queue.waited };
            match what {
                What::Queues => {
                    waiters += 1;
                    holding.contended(at);
                    if !span.carried {
                        holding.queues(span.thread);
                    }
                }
                What::Woken => {
                    if span.from.max(done) < span.to {
                        waiters = waiters.saturating_sub(1);
                    }
                    if let Some(waker) = span.waker
                        && let Some(hold) = holding.let_go(waker, moment)
                    {
                        let rest = (lock, ThreadIndex(REST), REST_STACK);
                        *self.places.get((lock, waker, span.waker_stack), rest).1 += hold;
                    }
                    if waiters == 0 {
                        holding.uncontended();
                    }
                }
                What::Runs => holding.taken(span.thread, moment),
            }
        }
        queue.pass(before, cut, waiters);
    }

    /// Locks, once for each part of the recording, that found no room.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Who took each lock last and has let nobody in since.
    pub(super) fn last_takers(&self) -> BTreeMap<LockIndex, (ThreadIndex, Monotonic)> {
        let takers = self.locks.iter();
        takers.filter_map(|(&lock, (_, holding))| Some((lock, holding.last_taker()?))).collect()
    }

    /// The queue and the holds of each lock.
    pub(super) fn finish(self, stacks: &StackTable) -> BTreeMap<LockIndex, (Queue, LockHolds)> {
        let mut places: BTreeMap<LockIndex, Vec<(Place, HoldSums)>> = BTreeMap::new();
        for (place, sums) in self.places {
            places.entry(place.0).or_default().push((place, sums));
        }
        let locks = self.locks.into_iter().map(|(lock, (mut queue, holding))| {
            queue.close();
            let places = places.remove(&lock).unwrap_or_default();
            let holds = LockHolds {
                sums: holding.sums,
                durations: holding.durations,
                sites: ranked(
                    places.iter().map(|((_, _, stack), sums)| (stacks.site(*stack), *sums)),
                ),
                threads: ranked(places.iter().map(|((_, thread, _), sums)| (*thread, *sums))),
            };
            (lock, (queue, holds))
        });
        locks.collect()
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
        let mut queues = Queues::new(10);
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
            let mut queues = Queues::new(10);
            queues.pass(&three(), Monotonic(0), Monotonic(260));
            queues.finish(&StackTable::default())
        };
        for cut in 1..260 {
            let mut queues = Queues::new(10);
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
        let mut queues = Queues::new(2);
        let spans: Vec<_> = (0..5).map(|lock| span(1, lock, (0, 10, 10), None)).collect();
        queues.pass(&spans, Monotonic(0), Monotonic(10));
        assert_eq!(queues.left_out(), 3);
        assert_eq!(queues.finish(&StackTable::default()).len(), 2);
    }
}
