//! Holds, as far as waits show them: from the end of a thread's wait for a lock to the moment when
//! the same thread wakes a waiter of that lock.
//!
//! **What is seen.** A thread waited for a lock, so it has it once it runs again; later it wakes
//! another waiter, so it lets go there. Both moments are in the trace, without any probe on the
//! lock itself. The stack of the hold is the waker's: the line at which it let go.
//!
//! **What is not.** A hold that began without a wait, and one after which nobody was woken: that
//! is most holds of a lock with little contention, so that the number and the sum are of seen holds
//! only, and their quantiles are those of holds under contention. Also waits below the threshold,
//! lost ones, and releases whose waking was not seen. A thread that loses the lock to a third one
//! between its waking and its running on either waits again (then its hold begins at the end of
//! that wait) or spins for it (then the hold is too long by that time).
//!
//! **At least and at most.** While nobody waits a lock can be let go and taken again unseen. So the
//! time from the end of the wait to the waking is what a hold lasted **at most**; the part of it at
//! the end during which somebody waited all the time is what it lasted **at least**.
//!
//! Holds of one lock never overlap: a waking says that nobody else has the lock at that moment.
//!
//! **What a hold caused** is the waiting of all threads in the lock's queue while it lasted, summed
//! up: ten waiters behind a hold of 1 ms are 10 ms. So the caused waiting of all holds of a lock is
//! at most the waiting for it, and the rest fell into holds that were not seen, and between them.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::analyze::{Quantiles, Site};
use crate::units::{Monotonic, Ns, ThreadIndex};

/// Holds added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldSums {
    /// How many were seen.
    pub holds: u64,
    /// How long they lasted together, at most.
    pub held: Ns,
    /// How long they lasted together, at least.
    pub sure: Ns,
    /// The longest, at most.
    pub max: Ns,
    /// The waiting of others while they lasted.
    pub caused: Ns,
    /// The most that one of them caused.
    pub max_caused: Ns,
}

impl AddAssign for HoldSums {
    fn add_assign(&mut self, other: Self) {
        self.holds = self.holds.saturating_add(other.holds);
        self.held += other.held;
        self.sure += other.sure;
        self.max = self.max.max(other.max);
        self.caused += other.caused;
        self.max_caused = self.max_caused.max(other.max_caused);
    }
}

/// The holds of one lock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockHolds {
    /// All of them.
    pub sums: HoldSums,
    /// How long they lasted, at most.
    pub durations: Quantiles,
    /// By where the lock was let go, the most waiting caused first. Their sum is `sums`.
    pub sites: Vec<(Site, HoldSums)>,
    /// By who held it, likewise.
    pub threads: Vec<(ThreadIndex, HoldSums)>,
}

/// A moment, and how much had been waited for the lock by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: Monotonic,
    pub(super) waited: Ns,
}

/// Threads that may have one lock at the same time, at most: of those that ran on after a wait for
/// it and have let nobody in since. More are a hostile trace's.
const MAX_TAKERS: usize = 64;

/// Follows who has one lock.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// Who ran on after a wait since the last waking, and when.
    takers: Vec<(ThreadIndex, Moment)>,
    /// Since when somebody waits all the time, if somebody does.
    contended: Option<Monotonic>,
    pub(super) sums: HoldSums,
    pub(super) durations: Quantiles,
}

impl Holding {
    /// A thread runs on after its wait.
    pub(super) fn taken(&mut self, thread: ThreadIndex, now: Moment) {
        if let Some((_, moment)) = self.takers.iter_mut().find(|(taker, _)| *taker == thread) {
            *moment = now;
        } else if self.takers.len() < MAX_TAKERS {
            self.takers.push((thread, now));
        }
    }

    /// Nobody waited, and somebody does now.
    pub(super) fn contended(&mut self, at: Monotonic) {
        self.contended.get_or_insert(at);
    }

    /// Nobody waits any more.
    pub(super) fn uncontended(&mut self) {
        self.contended = None;
    }

    /// A thread waits: it doesn't have the lock.
    pub(super) fn queues(&mut self, thread: ThreadIndex) {
        self.takers.retain(|(taker, _)| *taker != thread);
    }

    /// A thread wakes a waiter: it had the lock until now, and nobody else did. Returns its hold,
    /// if the beginning was seen.
    pub(super) fn let_go(&mut self, thread: ThreadIndex, now: Moment) -> Option<HoldSums> {
        let taken = self.takers.iter().find(|(taker, _)| *taker == thread).map(|(_, taken)| *taken);
        self.takers.clear();
        let taken = taken?;
        let held = now.at.since(taken.at);
        let caused = Ns(now.waited.0.saturating_sub(taken.waited.0));
        let sure = self.contended.map_or(Ns(0), |since| now.at.since(since.max(taken.at)));
        let hold = HoldSums { holds: 1, held, sure, max: held, caused, max_caused: caused };
        self.sums += hold;
        self.durations.add(held);
        Some(hold)
    }

    /// Who took the lock last and has let nobody in since, if somebody did.
    pub(super) fn last_taker(&self) -> Option<(ThreadIndex, Monotonic)> {
        let takers = self.takers.iter().map(|&(thread, moment)| (moment.at, thread));
        takers.max().map(|(at, thread)| (thread, at))
    }
}

/// By a key, the most waiting caused first.
pub(super) fn ranked<K: Ord + Copy>(
    parts: impl Iterator<Item = (K, HoldSums)>,
) -> Vec<(K, HoldSums)> {
    let mut sums: BTreeMap<K, HoldSums> = BTreeMap::new();
    for (key, part) in parts {
        *sums.entry(key).or_default() += part;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(key, sums)| {
        (std::cmp::Reverse(sums.caused), std::cmp::Reverse(sums.held), *key)
    });
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn moment(at: u64, waited: u64) -> Moment {
        Moment { at: Monotonic(at), waited: Ns(waited) }
    }

    #[test]
    fn a_hold_goes_from_the_end_of_a_wait_to_the_next_waking() {
        let (one, two) = (ThreadIndex(1), ThreadIndex(2));
        let mut holding = Holding::default();
        assert_eq!(holding.let_go(one, moment(5, 0)), None, "its beginning was not seen");
        holding.taken(one, moment(10, 100));
        holding.contended(Monotonic(25));
        assert_eq!(holding.last_taker(), Some((one, Monotonic(10))));
        let hold = holding.let_go(one, moment(30, 160)).unwrap();
        assert_eq!((hold.held, hold.sure, hold.caused), (Ns(20), Ns(5), Ns(60)));
        assert_eq!(holding.let_go(one, moment(40, 200)), None, "taken again without a wait");
        // Woken, but another one was faster: the hold begins after the second wait.
        holding.taken(two, moment(50, 200));
        holding.queues(two);
        assert_eq!(holding.last_taker(), None);
        holding.taken(two, moment(70, 220));
        // Somebody has waited since before: there was no moment to let go.
        assert_eq!(holding.let_go(two, moment(71, 221)).unwrap().sure, Ns(1));
        assert_eq!((holding.sums.holds, holding.sums.held), (2, Ns(21)));
        assert_eq!((holding.sums.max_caused, holding.durations.count()), (Ns(60), 2));
    }

    #[test]
    fn a_waking_ends_what_others_may_have_held() {
        let (one, two) = (ThreadIndex(1), ThreadIndex(2));
        let mut holding = Holding::default();
        holding.taken(one, moment(10, 0));
        assert_eq!(holding.let_go(two, moment(20, 10)), None);
        assert_eq!(holding.let_go(one, moment(30, 20)), None, "or two holds would overlap");
    }

    #[test]
    fn takers_are_few() {
        let mut holding = Holding::default();
        for thread in 0..1_000 {
            holding.taken(ThreadIndex(thread), moment(u64::from(thread), 0));
        }
        assert_eq!(holding.takers.len(), MAX_TAKERS);
    }
}
