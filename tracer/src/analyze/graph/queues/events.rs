//! What happens to a lock's queue, in order.

use super::Stay;

/// No event is at this time: the last moment that there is.
pub(super) const NEVER: u64 = u64::MAX;

/// Places by which events are moved to where they belong, for each of them: more are sorted.
const MOVES: usize = 8;

/// What happens to a lock's queue: a moment and a stay each, in the order of time and thread.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) queues: Vec<(u64, u32)>,
    pub(super) woken: Vec<(u64, u32)>,
    pub(super) runs: Vec<(u64, u32)>,
    pub(super) ends: Vec<u64>,
}

impl Events {
    /// Those of a lock's stays after `done` and until `cut`.
    pub(super) fn fill(&mut self, stays: &[Stay], done: u64, cut: u64) {
        self.queues.clear();
        self.woken.clear();
        self.runs.clear();
        let now = |at: u64| done < at && at <= cut && at < NEVER;
        for (n, stay) in (0..).zip(stays) {
            if stay.from.max(done) < stay.to.min(cut) {
                self.queues.push((stay.from.max(done), n));
            }
            if now(stay.to) {
                self.woken.push((stay.to, n));
            }
            if now(stay.end) && !stay.unfinished {
                self.runs.push((stay.end, n));
            }
        }
        for events in [&mut self.queues, &mut self.woken, &mut self.runs] {
            sort(events, |n| stays[n as usize].thread);
            events.push((NEVER, 0));
        }
    }
}

/// By time and thread. Mostly they are in order; if not, then nearly, and each has a short way.
fn sort(events: &mut [(u64, u32)], thread: impl Fn(u32) -> u32) {
    let after =
        |a: &(u64, u32), b: &(u64, u32)| a.0 > b.0 || a.0 == b.0 && thread(a.1) > thread(b.1);
    let mut moves = events.len() * MOVES;
    for n in 1..events.len() {
        let event = events[n];
        let mut to = n;
        while to > 0 && after(&events[to - 1], &event) {
            events[to] = events[to - 1];
            to -= 1;
        }
        events[to] = event;
        moves = moves.saturating_sub(n - to);
        if moves == 0 {
            events.sort_by_key(|&(at, n)| (at, thread(n)));
            return;
        }
    }
}
