//! Deadlocks: threads that wait for each other when the recording ends.
//!
//! A cycle of which every step is a fact (the runtime says who owns the lock) is a deadlock. If any
//! step is inferred it is a suspected one. A thread stands in one cycle at most, a certain one if
//! there is one.

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::event::WAIT_CLIPPED_START;

use super::blocked::{Edge, Edges, Facts, Why};
use crate::trace::records::SideStack;
use crate::units::{FrameIndex, LockIndex, Monotonic, ThreadIndex};

/// Cycles that are told, at most.
const MAX_CYCLES: usize = 1_000;

/// Threads that wait for each other in a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlock {
    /// Each waits for a lock that the next one has, the last one for one that the first has.
    pub links: Vec<DeadlockLink>,
    /// Each holder is known from the runtime's own record; else at least one is inferred.
    pub certain: bool,
    /// When the last of these waits began, which closed the cycle.
    pub since: Monotonic,
    /// That was before the recording, whose beginning `since` is.
    pub before: bool,
    /// Other threads that wait for one of these, directly or behind others.
    pub behind: Vec<ThreadIndex>,
}

/// One thread in a [`Deadlock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlockLink {
    /// Who waits.
    pub thread: ThreadIndex,
    /// For what.
    pub lock: LockIndex,
    /// Where.
    pub stack: SideStack,
    /// Since when, or since the recording's beginning.
    pub start: Monotonic,
    /// Who has it: the next link's thread.
    pub holder: ThreadIndex,
    /// How that is known.
    pub why: Why,
    /// The holder's frame from which that is inferred.
    pub held_at: Option<FrameIndex>,
}

/// All cycles, certain ones first, then those that have lasted longest.
pub(super) fn deadlocks(facts: &Facts<'_>) -> Vec<Deadlock> {
    let edges = facts.edges();
    let certain: Edges = edges
        .iter()
        .map(|(&thread, edges)| {
            (thread, edges.iter().copied().filter(|edge| edge.why.certain()).collect())
        })
        .collect();
    let mut found = cycles(&certain, &BTreeSet::new());
    let used = found.iter().flatten().map(|&(thread, _)| thread).collect();
    found.extend(cycles(&edges, &used));
    found.truncate(MAX_CYCLES);

    let behind = behind(&edges, &found);
    let mut deadlocks: Vec<_> = found
        .iter()
        .zip(behind)
        .map(|(cycle, behind)| {
            let links: Vec<_> = cycle
                .iter()
                .filter_map(|&(thread, edge)| {
                    let wait = facts.blocked.get(&thread)?;
                    let (lock, stack, start) = (wait.lock, wait.waiter_stack, wait.start);
                    let Edge { why, holder, frame: held_at } = edge;
                    Some(DeadlockLink { thread, lock, stack, start, holder, why, held_at })
                })
                .collect();
            let clipped = |&(thread, _): &(ThreadIndex, Edge)| {
                facts.blocked.get(&thread).is_some_and(|wait| wait.flags & WAIT_CLIPPED_START != 0)
            };
            Deadlock {
                certain: links.iter().all(|link| link.why.certain()),
                since: links.iter().map(|link| link.start).max().unwrap_or_default(),
                before: cycle.iter().all(clipped),
                links,
                behind,
            }
        })
        .collect();
    deadlocks.sort_by_key(|deadlock| {
        (!deadlock.certain, deadlock.since, deadlock.links.first().map(|link| link.thread))
    });
    deadlocks
}

type Cycle = Vec<(ThreadIndex, Edge)>;

/// Cycles without a thread in common and without those in `used`. There is one wherever there is
/// any: what is left once everything without a way on, or a way in, is gone leads into a cycle.
fn cycles(edges: &Edges, used: &BTreeSet<ThreadIndex>) -> Vec<Cycle> {
    let mut alive = Alive::new(edges, used);
    let mut found = Vec::new();
    while found.len() < MAX_CYCLES {
        alive.trim();
        let Some(first) = alive.first() else { break };
        let mut path: Cycle = Vec::new();
        let mut places = BTreeMap::new();
        let mut at = first;
        while !places.contains_key(&at) {
            let Some(edge) = alive.on(at) else { break };
            places.insert(at, path.len());
            path.push((at, edge));
            at = edge.holder;
        }
        // What is alive has a way on: it comes back to where it was.
        let Some(&start) = places.get(&at) else { break };
        let mut cycle = path.split_off(start);
        for (thread, _) in &cycle {
            alive.remove(*thread);
        }
        // The same cycle is always told from the same thread on.
        let least = cycle.iter().enumerate().min_by_key(|(_, (thread, _))| *thread);
        let least = least.map_or(0, |(place, _)| place);
        cycle.rotate_left(least);
        found.push(cycle);
    }
    found
}

/// Threads that can still be in a cycle, each with its number of ways in and ways on.
struct Alive<'a> {
    edges: &'a Edges,
    into: BTreeMap<ThreadIndex, Vec<ThreadIndex>>,
    ways: BTreeMap<ThreadIndex, (usize, usize)>,
    /// Those that have lost their last way.
    dead: Vec<ThreadIndex>,
}

impl<'a> Alive<'a> {
    fn new(edges: &'a Edges, used: &BTreeSet<ThreadIndex>) -> Self {
        let unused = edges.keys().filter(|thread| !used.contains(*thread));
        let mut ways: BTreeMap<_, _> = unused.map(|&thread| (thread, (0, 0))).collect();
        let mut into: BTreeMap<ThreadIndex, Vec<ThreadIndex>> = BTreeMap::new();
        for (&thread, edges) in edges.iter().filter(|(thread, _)| !used.contains(*thread)) {
            for holder in edges.iter().map(|edge| edge.holder) {
                let Some((ways_in, _)) = ways.get_mut(&holder) else { continue };
                *ways_in += 1;
                into.entry(holder).or_default().push(thread);
                if let Some((_, ways_on)) = ways.get_mut(&thread) {
                    *ways_on += 1;
                }
            }
        }
        let dead = ways.iter().filter(|(_, (ways_in, ways_on))| *ways_in == 0 || *ways_on == 0);
        let dead = dead.map(|(&thread, _)| thread).collect();
        Self { edges, into, ways, dead }
    }

    fn first(&self) -> Option<ThreadIndex> {
        self.ways.keys().next().copied()
    }

    /// The best known way on.
    fn on(&self, thread: ThreadIndex) -> Option<Edge> {
        let edges = self.edges.get(&thread)?;
        edges.iter().find(|edge| self.ways.contains_key(&edge.holder)).copied()
    }

    fn trim(&mut self) {
        while let Some(thread) = self.dead.pop() {
            self.remove(thread);
        }
    }

    fn remove(&mut self, thread: ThreadIndex) {
        if self.ways.remove(&thread).is_none() {
            return;
        }
        for edge in self.edges.get(&thread).into_iter().flatten() {
            if let Some((ways_in, _)) = self.ways.get_mut(&edge.holder) {
                *ways_in -= 1;
                if *ways_in == 0 {
                    self.dead.push(edge.holder);
                }
            }
        }
        for other in self.into.get(&thread).into_iter().flatten() {
            if let Some((_, ways_on)) = self.ways.get_mut(other) {
                *ways_on -= 1;
                if *ways_on == 0 {
                    self.dead.push(*other);
                }
            }
        }
    }
}

/// Who waits behind each cycle.
fn behind(edges: &Edges, cycles: &[Cycle]) -> Vec<Vec<ThreadIndex>> {
    let mut into: BTreeMap<ThreadIndex, Vec<ThreadIndex>> = BTreeMap::new();
    for (&thread, edges) in edges {
        // What is known best about a thread says where it belongs.
        if let Some(edge) = edges.first() {
            into.entry(edge.holder).or_default().push(thread);
        }
    }
    let mut seen: BTreeSet<_> = cycles.iter().flatten().map(|&(thread, _)| thread).collect();
    let behind = cycles.iter().map(|cycle| {
        let mut next: Vec<_> = cycle.iter().map(|&(thread, _)| thread).collect();
        let mut found = Vec::new();
        while let Some(thread) = next.pop() {
            for &other in into.get(&thread).into_iter().flatten() {
                if seen.insert(other) {
                    found.push(other);
                    next.push(other);
                }
            }
        }
        found.sort_unstable();
        found
    });
    behind.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(why: Why, holder: u32) -> Edge {
        Edge { why, holder: ThreadIndex(holder), frame: None }
    }

    fn edges(all: &[(u32, &[u32])]) -> Edges {
        let edges = |to: &[u32]| to.iter().map(|&holder| edge(Why::With, holder)).collect();
        all.iter().map(|&(from, to)| (ThreadIndex(from), edges(to))).collect()
    }

    fn threads(cycles: &[Cycle]) -> Vec<Vec<u32>> {
        cycles.iter().map(|cycle| cycle.iter().map(|(thread, _)| thread.0).collect()).collect()
    }

    #[test]
    fn a_circle_is_found_and_a_line_is_not() {
        let none = BTreeSet::new();
        let circle = edges(&[(3, &[1]), (1, &[2]), (2, &[3]), (4, &[1]), (5, &[4]), (6, &[7])]);
        let found = cycles(&circle, &none);
        assert_eq!(threads(&found), [[1, 2, 3]]);
        assert_eq!(behind(&circle, &found), [[ThreadIndex(4), ThreadIndex(5)]]);
        assert_eq!(cycles(&edges(&[(1, &[2]), (2, &[3])]), &none).len(), 0);
        assert_eq!(threads(&cycles(&edges(&[(1, &[1])]), &none)), [[1]]);
        assert_eq!(cycles(&circle, &[ThreadIndex(2)].into()).len(), 0);
    }

    #[test]
    fn a_way_that_leads_nowhere_does_not_hide_a_circle() {
        let none = BTreeSet::new();
        // 1's best known holder runs; another one waits for 1.
        let found = cycles(&edges(&[(1, &[9, 2]), (2, &[8, 1])]), &none);
        assert_eq!(threads(&found), [[1, 2]]);
        // Two circles, with a bridge between them.
        let two = edges(&[(1, &[2]), (2, &[1, 3]), (3, &[4]), (4, &[3])]);
        assert_eq!(threads(&cycles(&two, &none)), [[1, 2], [3, 4]]);
    }

    #[test]
    fn many_threads_take_no_time() {
        let line: Vec<(u32, Vec<u32>)> = (0..50_000).map(|n| (n, vec![n + 1, n / 2])).collect();
        let line: Vec<_> = line.iter().map(|(n, to)| (*n, to.as_slice())).collect();
        assert!(!cycles(&edges(&line), &BTreeSet::new()).is_empty());
    }
}
