//! Chains: a thread waits for a lock whose holder waits itself, for a lock whose holder …
//!
//! Each moment of each wait has one chain: from the waiter to who has its lock then, on to what
//! that thread waits for at the same moment, and so on. A chain is told if it has at least two
//! locks, under the head of it: so the time of all chains that begin with one thread is at most the
//! time that this thread waited.
//!
//! Who has a lock is known from the runtime's own record (`owner`), or is the thread that wakes a
//! waiter of it next (`waker`): right for a lock that one thread has at a time, if the wakings were
//! seen. Each link says which. A thread that waits for the very lock that it should have does not
//! have it: the chain ends there as unknown.

mod path;
mod walk;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use self::path::Path;
use self::walk::Walk;
use super::links::Links;
use super::span::Span;
use crate::analyze::Source;
use crate::analyze::bounded::Bounded;
use crate::trace::records::SideStack;
use crate::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// Locks in a chain, at most.
pub const MAX_LINKS: usize = 8;

/// Moments at which something changes that are looked at for one wait, and for all of a window.
const STEPS_PER_WAIT: u32 = 512;
const STEPS: u32 = 1 << 22;

/// A thread and what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Who waits.
    pub waiter: ThreadIndex,
    /// For what.
    pub lock: LockIndex,
    /// Where.
    pub stack: SideStack,
    /// How it is known who has the lock: the next link's waiter, or the chain's end.
    pub source: Source,
}

/// Why a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainEnd {
    /// The last holder waits for nothing that was recorded.
    Running,
    /// Who has the last lock is not known.
    Unknown,
    /// The last holder is in the chain already.
    Cycle,
    /// It has more than [`MAX_LINKS`] links.
    Longer,
}

impl ChainEnd {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::Cycle => "cycle",
            Self::Longer => "longer",
        }
    }
}

/// A sequence of locks, and the time during which threads waited for each other over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The locks, from the head on: at least two.
    pub locks: Vec<LockIndex>,
    /// Waits that it was the chain of, at least for a part.
    pub waits: u64,
    /// How long, summed up over those waits.
    pub time: Ns,
    /// Every link is known from the runtime's own record.
    pub certain: bool,
    /// Different threads, places and ends with these locks.
    pub paths: u64,
    /// The one of them that took longest: a link for each of the locks.
    pub longest: Vec<Link>,
    /// Who had the last lock in it, if that is known.
    pub holder: Option<ThreadIndex>,
    /// Why it ends there.
    pub end: ChainEnd,
    /// How long it took.
    pub longest_time: Ns,
}

/// What a path comes to.
#[derive(Clone, Copy, Debug, Default)]
struct PathSums {
    waits: u64,
    time: Ns,
}

/// All chains so far.
#[derive(Debug)]
pub(in crate::analyze::graph) struct Chains {
    paths: Bounded<Path, PathSums>,
    unfollowed: u64,
}

impl Chains {
    /// At most `limit` different paths.
    pub(in crate::analyze::graph) fn new(limit: usize) -> Self {
        Self { paths: Bounded::new(limit), unfollowed: 0 }
    }

    /// Goes on from `done` to `cut`. In `spans` are all that reach into that time.
    pub(in crate::analyze::graph) fn pass(
        &mut self,
        spans: &[Span],
        done: Monotonic,
        cut: Monotonic,
    ) {
        let links = Links::new(spans);
        let mut steps = STEPS;
        for span in spans {
            let (from, to) = (span.from.max(done), span.to.min(cut));
            if from >= to {
                continue;
            }
            let allowed = steps.min(STEPS_PER_WAIT);
            let mut walk = Walk::new(&links, allowed);
            walk.wait(span, from, to);
            steps -= allowed - walk.steps;
            self.unfollowed += u64::from(walk.steps == 0);
            // A carried wait was counted in an earlier part.
            let mut counted = Vec::new();
            let mut found: Vec<_> = walk.found.into_iter().collect();
            found.sort_unstable();
            for (path, time) in found {
                let locks = path.locks();
                let first = !span.carried && !counted.contains(&locks);
                counted.push(locks);
                let sums = self.paths.get(path, Path::EMPTY).1;
                sums.waits += u64::from(first);
                sums.time += time;
            }
        }
    }

    /// Waits of which not every moment was followed: there was too much to follow.
    pub(in crate::analyze::graph) fn unfollowed(&self) -> u64 {
        self.unfollowed
    }

    /// The chains, longest time first, and the time of those that found no room.
    pub(in crate::analyze::graph) fn finish(self) -> (Vec<Chain>, Ns) {
        let mut chains: BTreeMap<[Option<LockIndex>; MAX_LINKS], Chain> = BTreeMap::new();
        let mut left_out = Ns(0);
        let mut paths: Vec<_> = self.paths.into_iter().collect();
        paths.sort_by_key(|(path, sums)| (Reverse(sums.time), *path));
        for (path, sums) in paths {
            let links = path.links();
            if links.is_empty() {
                left_out += sums.time;
                continue;
            }
            let chain = chains.entry(path.locks()).or_insert_with(|| Chain {
                locks: links.iter().map(|link| link.lock).collect(),
                waits: 0,
                time: Ns(0),
                certain: true,
                paths: 0,
                longest: links.to_vec(),
                holder: path.holder,
                end: path.end,
                longest_time: sums.time,
            });
            chain.waits = chain.waits.saturating_add(sums.waits);
            chain.time += sums.time;
            chain.paths += 1;
            chain.certain &= links.iter().all(|link| link.source == Source::Owner);
        }
        let mut chains: Vec<_> = chains.into_values().collect();
        chains.sort_by_key(|chain| (Reverse(chain.time), chain.locks.clone()));
        (chains, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::tests::span;
    use super::*;

    fn chains(spans: &[Span]) -> Vec<Chain> {
        let mut chains = Chains::new(1_000);
        chains.pass(spans, Monotonic(0), Monotonic(u64::MAX));
        assert_eq!(chains.unfollowed(), 0);
        let (chains, left_out) = chains.finish();
        assert_eq!(left_out, Ns(0));
        chains
    }

    fn locks(chain: &Chain) -> Vec<u32> {
        chain.locks.iter().map(|lock| lock.0).collect()
    }

    #[test]
    fn a_holder_that_waits_is_followed() {
        // 1 waits for lock 0, which 2 has; 2 waits for lock 1 from 20 to 70, which 3 has; 3 waits
        // for lock 2 from 30 to 50, which 4 has.
        let spans = [
            span(1, 0, (0, 100, 100), Some(2)),
            span(2, 1, (20, 70, 75), Some(3)),
            span(3, 2, (30, 50, 50), Some(4)),
        ];
        let chains = chains(&spans);
        let times: Vec<_> = chains.iter().map(|c| (locks(c), c.time.0, c.waits)).collect();
        assert_eq!(
            times,
            [(vec![0, 1], 30, 1), (vec![0, 1, 2], 20, 1), (vec![1, 2], 20, 1)],
            "from 20 to 30 and 50 to 70 by two, from 30 to 50 by three"
        );
        let longest = &chains[1];
        let waiters: Vec<_> = longest.longest.iter().map(|link| link.waiter.0).collect();
        assert_eq!((waiters, longest.holder), (vec![1, 2, 3], Some(ThreadIndex(4))));
        assert_eq!((longest.end, longest.certain), (ChainEnd::Running, false));
    }

    #[test]
    fn a_queue_for_one_lock_is_no_chain() {
        // 1 and 2 wait for lock 0, which 3 has until 50, then 2 until 100.
        let spans = [span(1, 0, (0, 100, 100), Some(2)), span(2, 0, (0, 50, 55), Some(3))];
        assert_eq!(chains(&spans), []);
    }

    #[test]
    fn an_owner_makes_a_chain_certain() {
        let mut spans = [span(1, 0, (0, 100, 100), Some(9)), span(2, 1, (20, 70, 70), Some(9))];
        spans[0].owner = Some((ThreadIndex(2), Source::Owner));
        spans[1].owner = Some((ThreadIndex(3), Source::Owner));
        let found = chains(&spans);
        assert_eq!((locks(&found[0]), found[0].time, found[0].certain), (vec![0, 1], Ns(50), true));
        spans[1].owner = None;
        assert!(!chains(&spans)[0].certain);
    }

    #[test]
    fn a_cycle_ends_a_chain() {
        let mut spans = [span(1, 0, (0, 100, 100), None), span(2, 1, (20, 100, 100), None)];
        spans[0].owner = Some((ThreadIndex(2), Source::Owner));
        spans[1].owner = Some((ThreadIndex(1), Source::Owner));
        let found = chains(&spans);
        let ends: Vec<_> = found.iter().map(|c| (locks(c), c.time.0, c.end)).collect();
        assert_eq!(ends, [(vec![0, 1], 80, ChainEnd::Cycle), (vec![1, 0], 80, ChainEnd::Cycle)]);
    }

    #[test]
    fn the_longest_chain_has_eight_locks() {
        let mut spans: Vec<_> = (0..20).map(|n| span(n, n, (0, 100, 100), None)).collect();
        for (n, span) in (1..).zip(&mut spans) {
            span.owner = Some((ThreadIndex(n), Source::Owner));
        }
        let found = chains(&spans);
        assert_eq!(found.iter().map(|chain| chain.locks.len()).max(), Some(MAX_LINKS));
        assert_eq!(found.iter().filter(|chain| chain.end == ChainEnd::Longer).count(), 12);
    }

    #[test]
    fn work_and_paths_are_bounded() {
        // 1 waits for lock 0 while 2, its owner, waits 10,000 times for locks of different holders.
        let mut spans: Vec<_> = (0..10_000)
            .map(|n| {
                span(
                    2,
                    1 + n % 5,
                    (u64::from(n) * 10, u64::from(n) * 10 + 5, u64::from(n) * 10 + 5),
                    None,
                )
            })
            .map(|mut span| {
                span.owner = Some((ThreadIndex(10 + span.lock.0), Source::Owner));
                span
            })
            .collect();
        let mut head = span(1, 0, (0, 100_000, 100_000), None);
        head.owner = Some((ThreadIndex(2), Source::Owner));
        spans.push(head);
        let mut chains = Chains::new(3);
        chains.pass(&spans, Monotonic(0), Monotonic(u64::MAX));
        assert_eq!(chains.unfollowed(), 1);
        let (chains, left_out) = chains.finish();
        assert_eq!(chains.len(), 3);
        assert!(left_out > Ns(0));
    }
}
