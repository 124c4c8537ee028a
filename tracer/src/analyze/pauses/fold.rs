//! From waits to pauses.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::{Late, PauseSums, Pauses};
use crate::trace::records::{Kind, LockRecord, SideStack, Wait};
use crate::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// Requesters at different places that are kept, and late threads of each.
const MAX_KEPT: usize = 1 << 14;
/// A requester lets all threads go on within this: wakings further apart are of two pauses.
const LET_GO_NS: u64 = 2_000_000;
/// A requester looks by itself so often (`stop_the_world`), and a little more.
const LOOKS_EVERY_NS: u64 = 1_500_000;
/// What a lock is called that a requester waits for.
const REQUEST: &str = "stop-the-world request";

/// A requester's wait until all had stopped.
#[derive(Clone, Copy, Debug)]
struct Request {
    start: Monotonic,
    end: Monotonic,
    stack: SideStack,
    late: Option<ThreadIndex>,
    late_stack: SideStack,
}

/// A pause that may not be over.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    request: Option<Request>,
    collecting: bool,
    /// Of the threads that stood still: how many, how long, the last beginning, where the requester
    /// was when it let the last one go.
    threads: u64,
    paused: Ns,
    last_start: Monotonic,
    /// Whose that was, and where it stopped.
    last: Option<(ThreadIndex, SideStack)>,
    waker_stack: SideStack,
    /// The first and the last waking.
    woken: Option<(Monotonic, Monotonic)>,
}

/// Who asked, where, and whether it was the collector.
type Key = (ThreadIndex, SideStack, bool);

type LateByPlace = BTreeMap<(Option<ThreadIndex>, SideStack), Late>;

/// Sums over the pauses seen so far.
#[derive(Debug, Default)]
pub(in crate::analyze) struct PauseFold {
    /// Locks of pauses: of requesters, and of the collector.
    // Seeded at random: keys come from the file, and must not be able to collide on purpose.
    locks: HashMap<LockIndex, (bool, bool), RandomState>,
    open: HashMap<ThreadIndex, Open>,
    sums: HashMap<Key, (PauseSums, LateByPlace)>,
    left_out: u64,
}

impl PauseFold {
    /// A lock of the trace.
    pub(in crate::analyze) fn lock(&mut self, lock: &LockRecord) {
        if lock.kind == Kind::StopTheWorld && self.locks.len() < MAX_KEPT {
            let what = (lock.name.starts_with(REQUEST), lock.name.ends_with("(GC)"));
            self.locks.insert(lock.index, what);
        }
    }

    /// Waits for this lock are of pauses: others need not be shown.
    pub(in crate::analyze) fn has(&self, lock: LockIndex) -> bool {
        self.locks.contains_key(&lock)
    }

    /// A wait, for whatever.
    pub(in crate::analyze) fn add(&mut self, wait: &Wait) {
        let Some(&(requests, collecting)) = self.locks.get(&wait.lock) else { return };
        if requests {
            self.request(wait, collecting);
        } else if let Some(requester) = wait.waker {
            self.paused(requester, wait, collecting);
        }
    }

    fn request(&mut self, wait: &Wait, collecting: bool) {
        let request = Request {
            start: wait.start,
            end: wait.end,
            stack: wait.waiter_stack,
            late: wait.waker,
            late_stack: wait.waker_stack,
        };
        // A wait that nobody ended is told later than those of the threads it stopped.
        if let Some(open) = self.open.get_mut(&wait.thread)
            && open.request.is_none()
            && open.collecting == collecting
            && open.woken.is_some_and(|(first, _)| wait.end <= first)
        {
            open.request = Some(request);
            return;
        }
        self.close(wait.thread);
        self.open
            .insert(wait.thread, Open { request: Some(request), collecting, ..Open::default() });
    }

    fn paused(&mut self, requester: ThreadIndex, wait: &Wait, collecting: bool) {
        let woken = Monotonic(wait.end.0.saturating_sub(wait.runq.0));
        // A requester may stop the world again at once: who stands still from after the first was let go
        // on, or for another reason, does so for another pause.
        let another = self.open.get(&requester).is_some_and(|open| {
            let after = match (open.woken, open.request) {
                (Some((first, _)), _) => {
                    wait.start > first || woken.0.abs_diff(first.0) > LET_GO_NS
                }
                (None, Some(request)) => woken < request.end,
                (None, None) => false,
            };
            after || open.collecting != collecting
        });
        if another {
            self.close(requester);
        }
        let open = self.open.entry(requester).or_insert(Open { collecting, ..Open::default() });
        let (first, last) = open.woken.unwrap_or((woken, woken));
        open.woken = Some((first.min(woken), last.max(woken)));
        open.threads += 1;
        open.paused += wait.blocked;
        if wait.start >= open.last_start {
            open.last_start = wait.start;
            open.last = Some((wait.thread, wait.waiter_stack));
        }
        open.waker_stack = wait.waker_stack;
    }

    fn close(&mut self, requester: ThreadIndex) {
        let Some(open) = self.open.remove(&requester) else { return };
        let stack = open.request.map_or(open.waker_stack, |request| request.stack);
        let key = (requester, stack, open.collecting);
        if self.sums.len() >= MAX_KEPT && !self.sums.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let (sums, late) = self.sums.entry(key).or_default();
        (sums.requester, sums.stack, sums.collecting) = key;
        sums.pauses += 1;
        sums.threads += open.threads;
        sums.paused += open.paused;
        let since = open.request.map_or(open.last_start, |request| request.end);
        if let Some((_, last)) = open.woken {
            let stopped = last.since(since);
            sums.stopped += stopped;
            sums.max_stopped = sums.max_stopped.max(stopped);
        }
        let Some(request) = open.request else { return };
        let to_stop = request.end.since(request.start);
        sums.awaited += 1;
        sums.to_stop += to_stop;
        sums.max_to_stop = sums.max_to_stop.max(to_stop);
        // The event may be set while the requester looks by itself: then nobody wakes it, and who stood
        // still last was probably the last to stop.
        let about_then = open.last_start.0.saturating_add(LOOKS_EVERY_NS) >= request.end.0;
        let (at, inferred) = match (request.late, open.last) {
            (None, Some((thread, stack))) if about_then => ((Some(thread), stack), 1),
            (thread, _) => ((thread, request.late_stack), 0),
        };
        if late.len() < MAX_KEPT || late.contains_key(&at) {
            let one = late.entry(at).or_default();
            (one.thread, one.stack) = at;
            one.pauses += 1;
            one.inferred += inferred;
            one.to_stop += to_stop;
        }
    }

    /// All of them.
    pub(in crate::analyze) fn finish(mut self) -> Pauses {
        let mut open: Vec<_> = self.open.keys().copied().collect();
        open.sort_unstable();
        open.into_iter().for_each(|requester| self.close(requester));
        let mut requesters: Vec<PauseSums> = self
            .sums
            .into_values()
            .map(|(sums, late)| {
                let mut late: Vec<_> = late.into_values().collect();
                late.sort_by_key(|one| (Reverse(one.to_stop), one.thread, one.stack));
                PauseSums { late, ..sums }
            })
            .collect();
        requesters.sort_by_key(|one| {
            (Reverse(one.to_stop + one.stopped), one.requester, one.stack, one.collecting)
        });
        Pauses { requesters, left_out: self.left_out }
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::NoStack;

    use super::*;
    use crate::units::{Address, StackIndex};

    const REQUESTER: ThreadIndex = ThreadIndex(0);

    fn lock(index: u32, name: &str) -> LockRecord {
        LockRecord {
            index: LockIndex(index),
            kind: Kind::StopTheWorld,
            class: crate::trace::records::Class::Pause,
            address: Address(0x1000),
            lock: Address(0x1000),
            name: name.to_owned(),
            shape: 4,
        }
    }

    fn wait(thread: u32, lock: u32, from: u64, to: u64, waker: Option<u32>, at: u32) -> Wait {
        Wait {
            thread: ThreadIndex(thread),
            lock: LockIndex(lock),
            start: Monotonic(from),
            end: Monotonic(to),
            blocked: Ns(to - from),
            runq: Ns(0),
            episodes: 1,
            flags: 0,
            waker: waker.map(ThreadIndex),
            waiter_stack: SideStack::Stack(StackIndex(at)),
            waker_stack: SideStack::Stack(StackIndex(at + 1)),
            holder: None,
            holder_stack: SideStack::Missing(NoStack::NotTaken),
        }
    }

    fn pauses(waits: &[Wait]) -> Pauses {
        let mut fold = PauseFold::default();
        for (index, name) in ["stop-the-world request", "stop-the-world", "stop-the-world (GC)"]
            .into_iter()
            .enumerate()
        {
            fold.lock(&lock(u32::try_from(index).unwrap(), name));
        }
        waits.iter().for_each(|wait| fold.add(wait));
        fold.finish()
    }

    #[test]
    fn who_stopped_last_is_who_woke_the_requester() {
        let all = pauses(&[
            wait(0, 0, 100, 600, Some(2), 10),
            wait(1, 1, 150, 900, Some(0), 20),
            wait(2, 1, 590, 910, Some(0), 30),
            wait(9, 77, 0, 5_000, Some(0), 40), // no pause
        ]);
        let [one] = &all.requesters[..] else { panic!("{all:?}") };
        assert_eq!((one.requester, one.pauses, one.awaited), (REQUESTER, 1, 1));
        assert_eq!((one.to_stop, one.stopped), (Ns(500), Ns(310)));
        assert_eq!((one.threads, one.paused), (2, Ns(750 + 320)));
        let late = Late {
            thread: Some(ThreadIndex(2)),
            stack: SideStack::Stack(StackIndex(11)),
            pauses: 1,
            inferred: 0,
            to_stop: Ns(500),
        };
        assert_eq!(one.late, [late]);
    }

    #[test]
    fn a_request_that_nobody_ended_may_come_last() {
        let all = pauses(&[wait(1, 1, 150, 900, Some(0), 20), wait(0, 0, 100, 600, None, 10)]);
        let [one] = &all.requesters[..] else { panic!("{all:?}") };
        assert_eq!((one.pauses, one.to_stop, one.stopped), (1, Ns(500), Ns(300)));
        // It stood still shortly before.
        assert_eq!((one.late[0].thread, one.late[0].inferred), (Some(ThreadIndex(1)), 1));
    }

    #[test]
    fn who_stood_still_long_before_was_not_late() {
        let (end, late) = (10 * LOOKS_EVERY_NS, 11 * LOOKS_EVERY_NS);
        let all = pauses(&[wait(0, 0, 100, end, None, 10), wait(1, 1, 150, late, Some(0), 20)]);
        assert_eq!(
            (all.requesters[0].late[0].thread, all.requesters[0].late[0].inferred),
            (None, 0)
        );
    }

    #[test]
    fn who_is_stopped_again_at_once_is_stopped_twice() {
        let all = pauses(&[
            wait(1, 1, 150, 900, Some(0), 20),
            wait(2, 1, 160, 905, Some(0), 20),
            wait(1, 1, 950, 990, Some(0), 20),
            wait(1, 2, 1_000, 1_100, Some(0), 20),
        ]);
        let mut counts: Vec<_> =
            all.requesters.iter().map(|one| (one.collecting, one.pauses, one.threads)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(false, 2, 3), (true, 1, 1)]);
    }

    #[test]
    fn pauses_of_one_requester_are_told_apart() {
        let later = 10 * LET_GO_NS;
        let all = pauses(&[
            wait(1, 2, 150, 900, Some(0), 20),
            wait(1, 2, later, later + 50, Some(0), 20),
            wait(2, 2, later + 10, later + 60, Some(0), 20),
        ]);
        let [one] = &all.requesters[..] else { panic!("{all:?}") };
        assert!(one.collecting);
        assert_eq!((one.pauses, one.awaited, one.threads), (2, 0, 3));
        // Nobody was waited for: the world stood still once the last of them did.
        assert_eq!(one.stopped, Ns(750 + 50));
        assert!(one.late.is_empty());
    }
}
