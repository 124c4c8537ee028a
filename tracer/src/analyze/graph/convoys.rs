//! Convoys: locks with a standing queue.
//!
//! One thread that waits now and then is contention; a queue that is there whenever somebody looks
//! is a convoy: each holder finds the next waiters waiting already, and throughput is that of the
//! lock.

use crate::units::{Monotonic, Ns};

/// This many waiters at the same time are a queue.
pub const QUEUE: u64 = 2;

/// The queue of one lock over the recording, from waits with a record: shorter ones are not seen,
/// so that every figure is a lower bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Waiters × time: the sum of all their waiting, up to their waking.
    pub waited: Ns,
    /// Time with at least one waiter.
    pub contended: Ns,
    /// Time with at least [`QUEUE`] waiters.
    pub queued: Ns,
    /// The most waiters at the same time.
    pub longest_queue: u64,
    /// Convoys: stretches from a moment with a queue to another one, with a queue for at least half
    /// of the time up to the beginning of each further queue in it.
    pub convoys: u64,
    /// The longest of them.
    pub longest: Stretch,
    /// The one that may go on.
    open: Option<Stretch>,
}

/// A part of the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Its beginning.
    pub from: Monotonic,
    /// Its end.
    pub to: Monotonic,
    /// How long of it there was a queue.
    pub queued: Ns,
}

impl Stretch {
    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Ns {
        self.to.since(self.from)
    }
}

impl Queue {
    /// Mean number of waiters while there were any; 0 if there never were.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean, of which two digits are shown")]
    pub fn mean(&self) -> f64 {
        if self.contended.0 == 0 { 0.0 } else { self.waited.0 as f64 / self.contended.0 as f64 }
    }

    /// From `from` to `to` there were `waiters`. Called in the order of time.
    pub(super) fn pass(&mut self, from: Monotonic, to: Monotonic, waiters: u64) {
        let length = to.since(from);
        if length.0 == 0 || waiters == 0 {
            return;
        }
        self.waited += Ns(length.0.saturating_mul(waiters));
        self.contended += length;
        self.longest_queue = self.longest_queue.max(waiters);
        if waiters < QUEUE {
            return;
        }
        self.queued += length;
        match &mut self.open {
            Some(open) if open.queued.0.saturating_mul(2) >= from.since(open.from).0 => {
                open.to = to;
                open.queued += length;
            }
            _ => {
                self.close();
                self.open = Some(Stretch { from, to, queued: length });
            }
        }
    }

    /// No more will come.
    pub(super) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.convoys += 1;
            if open.length() > self.longest.length() {
                self.longest = open;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_close_to_each_other_are_one_convoy() {
        let mut queue = Queue::default();
        let mut pass = |from, to, waiters| queue.pass(Monotonic(from), Monotonic(to), waiters);
        pass(0, 100, 1);
        pass(100, 200, 3);
        pass(200, 220, 1);
        pass(220, 300, 2);
        // 180 of the 190 up to here: goes on.
        pass(300, 310, 0);
        pass(310, 320, 2);
        // 190 of 900: another one.
        pass(1_000, 1_050, 5);
        queue.close();
        assert_eq!(queue.convoys, 2);
        let (from, to) = (Monotonic(100), Monotonic(320));
        assert_eq!(queue.longest, Stretch { from, to, queued: Ns(190) });
        assert_eq!((queue.queued, queue.contended), (Ns(240), Ns(360)));
        assert_eq!(queue.waited, Ns(100 + 300 + 20 + 160 + 20 + 250));
        assert_eq!(queue.longest_queue, 5);
        assert!((queue.mean() - 850.0 / 360.0).abs() < 1e-9);
    }

    #[test]
    fn one_waiter_at_a_time_is_no_convoy() {
        let mut queue = Queue::default();
        for n in 0..100 {
            queue.pass(Monotonic(n * 10), Monotonic(n * 10 + 10), 1);
        }
        queue.close();
        assert_eq!((queue.convoys, queue.queued, queue.contended), (0, Ns(0), Ns(1_000)));
    }

    #[test]
    fn times_near_the_limit_saturate() {
        let mut queue = Queue::default();
        queue.pass(Monotonic(0), Monotonic(u64::MAX), u64::MAX);
        queue.pass(Monotonic(0), Monotonic(u64::MAX), 2);
        queue.close();
        assert_eq!(queue.waited, Ns(u64::MAX));
    }
}
