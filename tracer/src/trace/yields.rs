//! How long runs of yields are stored: lock by lock, in the order of their ends, in columns
//! ([`super::planes`]).

use serde::Deserialize;

use super::format::MAX_ITEMS;
use super::planes::{Payload, Planes, fits, unpack};
use super::records::{SideStack, YieldRun};
use super::time_unit::{NoTimeUnit, TimeUnit};
use super::waits::low;
use crate::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// Payload of a chunk of the first [`MAX_ITEMS`] of `runs`, with times in this unit.
pub(super) fn payload(runs: &[YieldRun], unit: TimeUnit) -> Payload {
    debug_assert!(runs.len() <= MAX_ITEMS);
    let mut runs = runs[..runs.len().min(MAX_ITEMS)].to_vec();
    runs.sort_by_key(|run| (run.lock, run.end));
    runs.iter_mut().for_each(|run| *run = unit.yield_run(run));
    let base = runs.first().map_or(0, |run| run.end.0);
    let (mut lock, mut end) = (0, base);
    let length = |run: &YieldRun| run.end.0.wrapping_sub(run.start.0);
    let mut payload = Payload::default();
    payload.raw.push(unit.shift());
    payload.number(unit.units(base));
    payload.number(runs.len() as u64);
    for column in [
        Planes::of(&runs, |run| {
            let index = u64::from(run.lock.0);
            index - std::mem::replace(&mut lock, index)
        }),
        Planes::of(&runs, |run| u64::from(run.thread.0)),
        Planes::of(&runs, |run| {
            unit.signed_units(run.end.0.wrapping_sub(std::mem::replace(&mut end, run.end.0)))
        }),
        Planes::of(&runs, |run| unit.units(length(run))),
        Planes::of(&runs, |run| unit.signed_units(length(run).wrapping_sub(run.yielded.0))),
        Planes::of(&runs, |run| run.yields),
        Planes::of(&runs, |run| run.stack.to_u64()),
    ] {
        payload.column(&column);
    }
    payload
}

/// The same as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct YieldColumns<'a> {
    /// Times are in units of `1 << shift` ns.
    shift: u8,
    /// What the first end is counted from.
    base: u64,
    count: u32,
    /// Each index minus that of the one before.
    locks: &'a [u8],
    threads: &'a [u8],
    /// End minus the end of the one before, zigzag.
    ends: &'a [u8],
    /// End minus start.
    lengths: &'a [u8],
    /// What of that was on the CPU, zigzag.
    awake: &'a [u8],
    yields: &'a [u8],
    stacks: &'a [u8],
}

impl YieldColumns<'_> {
    /// What times are in.
    pub(super) fn unit(&self) -> Result<TimeUnit, NoTimeUnit> {
        TimeUnit::from_shift(self.shift)
    }

    /// The runs in the order of their ends; none if the columns don't fit together, or a value not its
    /// field.
    pub(super) fn runs(&self) -> Option<Vec<YieldRun>> {
        let unit = self.unit().ok()?;
        let n = self.count as usize;
        let index = |value: u64| value <= u64::from(u32::MAX);
        let side = |value| SideStack::from_u64(value).is_some();
        let fit = n <= MAX_ITEMS
            && [self.locks, self.threads].into_iter().all(|column| fits(column, n, index))
            && [self.ends, self.lengths, self.awake, self.yields]
                .into_iter()
                .all(|column| fits(column, n, |_| true))
            && fits(self.stacks, n, side);
        if !fit {
            return None;
        }
        let column = |bytes| {
            let mut values = vec![0; n];
            unpack(bytes, n, 0, &mut values);
            values
        };
        let (locks, threads, ends) = (column(self.locks), column(self.threads), column(self.ends));
        let (lengths, awake) = (column(self.lengths), column(self.awake));
        let (yields, stacks) = (column(self.yields), column(self.stacks));
        let (mut lock, mut end) = (0u32, unit.ns(self.base));
        let mut runs = Vec::with_capacity(n);
        for i in 0..n {
            lock = lock.checked_add(low(locks[i]))?;
            end = end.wrapping_add(unit.signed_ns(ends[i]));
            let length = unit.ns(lengths[i]);
            runs.push(YieldRun {
                thread: ThreadIndex(low(threads[i])),
                lock: LockIndex(lock),
                start: Monotonic(end.wrapping_sub(length)),
                end: Monotonic(end),
                yielded: Ns(length.wrapping_sub(unit.signed_ns(awake[i]))),
                yields: yields[i],
                stack: SideStack::from_u64(stacks[i]).unwrap_or_default(),
            });
        }
        runs.sort_by_key(|run| run.end);
        Some(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::StackIndex;

    #[test]
    fn any_run_survives() {
        let run = |thread, lock, start, end, yielded| YieldRun {
            thread: ThreadIndex(thread),
            lock: LockIndex(lock),
            start: Monotonic(start),
            end: Monotonic(end),
            yielded: Ns(yielded),
            yields: u64::from(thread),
            stack: SideStack::Stack(StackIndex(lock)),
        };
        let mut runs = vec![
            run(1, u32::MAX, 0, u64::MAX, u64::MAX),
            run(u32::MAX, 0, u64::MAX, 0, 7),
            run(3, 5, 100, 200, 90),
            run(4, 5, 100, 150, 50),
        ];
        let raw = payload(&runs, TimeUnit::RECORDED).raw;
        let columns: YieldColumns<'_> = postcard::from_bytes(&raw).unwrap();
        runs.sort_by_key(|run| run.end);
        let rounded: Vec<_> = runs.iter().map(|run| TimeUnit::RECORDED.yield_run(run)).collect();
        let last = rounded.iter().find(|run| run.thread.0 == 4).unwrap();
        let times = (last.start.0, last.end.0, last.yielded.0);
        assert_eq!(times, (96, 128, 32), "of 100 to 150, all of it off the CPU");
        assert_eq!(columns.runs(), Some(rounded));
        assert_eq!(YieldColumns { shift: 21, ..columns }.runs(), None);
        let raw = payload(&runs, TimeUnit::EXACT).raw;
        let columns: YieldColumns<'_> = postcard::from_bytes(&raw).unwrap();
        assert_eq!(columns.runs(), Some(runs));
        assert_eq!(YieldColumns { count: 3, ..columns }.runs(), None);
        // Two locks' indices that sum up to more than there are.
        assert_eq!(YieldColumns { count: 2, locks: &[255; 8], ..EMPTY }.runs(), None);
    }

    const EMPTY: YieldColumns<'_> = YieldColumns {
        shift: 0,
        base: 0,
        count: 0,
        locks: &[],
        threads: &[],
        ends: &[],
        lengths: &[],
        awake: &[],
        yields: &[],
        stacks: &[],
    };
}
