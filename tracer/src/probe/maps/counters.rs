//! Counters, summed over the CPUs.

use std::collections::BTreeMap;

use aya::Pod;
use aya::maps::{MapData, PerCpuArray};
use tracer_common::counter::LOCK_SLOTS;
use tracer_common::{DropReason, SampleTotals, Shape, ShapeTotals, Stat, SyscallTotals};

use super::{Maps, sum};
use crate::trace::records::ShapeSums;
use crate::units::Address;

/// Why a wait has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// It was below the threshold.
    Below,
    /// It was beyond the limit.
    Limited,
    /// There was no room in the ring buffer.
    Lost,
}

impl Maps {
    /// Losses by reason; zeros are left out.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<String, u64> {
        DropReason::ALL
            .iter()
            .map(|&(reason, name)| (name.to_owned(), sum(&self.drops, reason as u32)))
            .filter(|&(_, count)| count != 0)
            .collect()
    }

    /// The other counters, by name.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<String, u64> {
        Stat::ALL
            .iter()
            .map(|&(stat, name)| (name.to_owned(), sum(&self.stats, stat as u32)))
            .collect()
    }

    /// Waits without a record, by shape number, but for those in [`Self::by_lock`].
    #[must_use]
    pub fn by_shape(&self, why: Without) -> BTreeMap<u32, ShapeSums> {
        shapes(match why {
            Without::Below => &self.below,
            Without::Limited => &self.limited,
            Without::Lost => &self.lost,
        })
    }

    /// Those by shape number and lock.
    #[must_use]
    pub fn by_lock(&self, why: Without) -> BTreeMap<(u32, Address), ShapeSums> {
        let map = match why {
            Without::Below => &self.below_locks,
            Without::Limited => &self.limited_locks,
            Without::Lost => &self.lost_locks,
        };
        let mut out = BTreeMap::new();
        for slot in 0..LOCK_SLOTS {
            // Each CPU gives the slot to the first lock that it sees.
            for one in map.get(&slot, 0).iter().flat_map(|values| values.iter()) {
                if one.totals.waits != 0 {
                    let sums: &mut ShapeSums =
                        out.entry((one.shape, Address(one.lock))).or_default();
                    sums.add(&one.totals);
                }
            }
        }
        out
    }

    /// All samples, summed over the CPUs.
    #[must_use]
    pub fn sampled(&self) -> SampleTotals {
        let mut sums = SampleTotals::default();
        for totals in self.sampled.get(&0, 0).iter().flat_map(|values| values.iter()) {
            sums.ticks += totals.ticks;
            sums.target += totals.target;
            sums.spinning += totals.spinning;
            sums.ambiguous += totals.ambiguous;
            sums.lost += totals.lost;
        }
        sums
    }

    /// What the system-call hooks counted, by name.
    #[must_use]
    pub fn syscalls(&self) -> BTreeMap<String, u64> {
        let mut sums = SyscallTotals::default();
        for totals in self.syscalls.get(&0, 0).iter().flat_map(|values| values.iter()) {
            sums.waits_woken += totals.waits_woken;
            sums.waits_again += totals.waits_again;
            sums.waits_timed_out += totals.waits_timed_out;
            sums.waits_interrupted += totals.waits_interrupted;
            sums.waits_failed += totals.waits_failed;
            sums.wakes += totals.wakes;
            sums.wakes_empty += totals.wakes_empty;
            sums.yields += totals.yields;
        }
        [
            ("waits_woken", sums.waits_woken),
            ("waits_again", sums.waits_again),
            ("waits_timed_out", sums.waits_timed_out),
            ("waits_interrupted", sums.waits_interrupted),
            ("waits_failed", sums.waits_failed),
            ("wakes", sums.wakes),
            ("wakes_empty", sums.wakes_empty),
            ("yields", sums.yields),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
    }
}

fn shapes<T>(map: &PerCpuArray<T, ShapeTotals>) -> BTreeMap<u32, ShapeSums>
where
    T: std::borrow::Borrow<MapData>,
    ShapeTotals: Pod,
{
    Shape::ALL
        .iter()
        .filter_map(|&shape| {
            let per_cpu = map.get(&(shape as u32), 0).ok()?;
            let mut sums = ShapeSums::default();
            per_cpu.iter().for_each(|totals| sums.add(totals));
            (sums.waits != 0).then_some((shape as u32, sums))
        })
        .collect()
}
