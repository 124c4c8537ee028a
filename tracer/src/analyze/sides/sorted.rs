//! The sums of all locks by each side, in order.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::key::{REST_PLACE, from_place};
use super::other::{OtherSide, Source};
use super::{Met, SideSums, Waiting};
use crate::analyze::shard::REST;
use crate::analyze::sums::Sums;
use crate::trace::records::SideStack;
use crate::units::{LockIndex, ThreadIndex};

/// [`SideSums`] of all locks, in order.
#[derive(Debug, Default)]
pub(in crate::analyze) struct SortedSides {
    /// Runs of yields too.
    pub(in crate::analyze) cells: BTreeMap<(ThreadIndex, LockIndex), Sums>,
    pub(in crate::analyze) waiting: BTreeMap<Waiting, Sums>,
    pub(in crate::analyze) holding: BTreeMap<(LockIndex, OtherSide), Sums>,
    pub(in crate::analyze) pairs: BTreeMap<Met, Sums>,
    pub(in crate::analyze) links: BTreeMap<(Waiting, OtherSide), Sums>,
    /// Runs of yields only.
    pub(in crate::analyze) yielding: BTreeMap<(LockIndex, SideStack), Sums>,
}

impl SideSums {
    pub(in crate::analyze) fn sorted(
        locks: impl Iterator<Item = (LockIndex, Self)>,
    ) -> SortedSides {
        let (mut cells, mut waiting, mut holding) = (Vec::new(), Vec::new(), Vec::new());
        let (mut pairs, mut links) = (Vec::new(), Vec::new());
        let (mut yielders, mut yielding) = (Vec::new(), Vec::new());
        for (lock, sides) in locks {
            let all = sides.cells.into_entries();
            cells.extend(all.map(|(thread, sums)| ((ThreadIndex(thread), lock), sums)));
            let all = sides.waiting.into_entries();
            waiting.extend(all.map(|(place, sums)| {
                let (thread, stack) = from_place(place);
                ((thread, lock, stack), sums)
            }));
            let all = sides.holding.into_entries();
            holding.extend(all.map(|(other, sums)| ((lock, other.other()), sums)));
            let all = sides.pairs.into_entries();
            let rest = Source::ALL.map(|source| (REST_PLACE, source)).into_iter();
            let rest = rest.zip(sides.more_pairs).filter(|(_, sums)| sums.waits() > 0);
            pairs.extend(all.chain(rest).map(|((pair, source), sums)| {
                let [waiter, holder] = [pair >> 32, pair & u64::from(u32::MAX)];
                let thread = |n| ThreadIndex(u32::try_from(n).unwrap_or(REST));
                ((thread(waiter), thread(holder), lock, source), sums)
            }));
            let all = sides.links.into_entries();
            links.extend(all.map(|((place, other), sums)| {
                let (thread, stack) = from_place(place);
                (((thread, lock, stack), other.other()), sums)
            }));
            let all = sides.yielders.into_entries();
            yielders.extend(all.map(|(thread, sums)| ((thread, lock), sums)));
            let all = sides.yielding.into_entries();
            yielding.extend(all.map(|(stack, sums)| ((lock, stack), sums)));
        }
        let mut cells = together(cells);
        for (cell, sums) in together(yielders) {
            *cells.entry(cell).or_default() += sums;
        }
        SortedSides {
            cells,
            waiting: together(waiting),
            holding: together(holding),
            pairs: together(pairs),
            links: together(links),
            yielding: together(yielding),
        }
    }
}

/// In order. Locks that found no room have the same keys in several shards.
fn together<K: Copy + Ord, V: Copy + AddAssign + Into<Sums>>(
    mut sums: Vec<(K, V)>,
) -> BTreeMap<K, Sums> {
    sums.sort_unstable_by_key(|(key, _)| *key);
    sums.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 += later.1;
        }
        same
    });
    sums.into_iter().map(|(key, sums)| (key, sums.into())).collect()
}
