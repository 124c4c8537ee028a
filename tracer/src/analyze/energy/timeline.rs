//! Time in bins of 134 ms: when threads held or waited for a lock, to be brought together with when
//! energy was used. Waits are millions, bins are few, and a bin is about an energy window.

use std::collections::BTreeMap;

/// A bin is `2^27` ns of `CLOCK_MONOTONIC`.
const SHIFT: u32 = 27;

/// Cells that there is room for. What finds none is counted.
#[derive(Debug)]
pub(in crate::analyze) struct Cells {
    left: usize,
    /// Nanoseconds that found no room.
    pub(in crate::analyze) left_out: u64,
}

impl Cells {
    pub(in crate::analyze) fn new(cells: usize) -> Self {
        Self { left: cells, left_out: 0 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    /// Nanoseconds within this bin.
    partial: u64,
    /// How many spans more (or less) cover this bin and all that follow, whole.
    step: i64,
}

/// How much time spans have in each bin. A span costs the same however long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::analyze) struct Coverage {
    /// The bin of the last spans, which is mostly that of the next one, too.
    open: (u64, u64),
    cells: BTreeMap<u64, Cell>,
}

/// Consecutive bins with the same time in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) from: u64,
    /// The bin after the last one.
    pub(super) to: u64,
    /// Nanoseconds in each of them.
    pub(super) each: u64,
}

impl Coverage {
    /// Adds a span.
    #[inline]
    pub(in crate::analyze) fn add(&mut self, room: &mut Cells, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (first, last) = (from >> SHIFT, to >> SHIFT);
        if first == last && first == self.open.0 {
            self.open.1 = self.open.1.saturating_add(to - from);
            return;
        }
        self.across(room, (from, first), (to, last));
    }

    #[cold]
    fn across(&mut self, room: &mut Cells, (from, first): (u64, u64), (to, last): (u64, u64)) {
        self.close(room);
        if first == last {
            self.open = (first, to - from);
            return;
        }
        // The ends, and what is whole between them.
        if room.left < 3 {
            room.left_out = room.left_out.saturating_add(to - from);
            return;
        }
        self.partial(room, first, ((first + 1) << SHIFT) - from);
        if last > first + 1 {
            self.cell(room, first + 1).step += 1;
            self.cell(room, last).step -= 1;
        }
        self.open = (last, to - (last << SHIFT));
    }

    fn close(&mut self, room: &mut Cells) {
        let (bin, ns) = std::mem::take(&mut self.open);
        if ns == 0 {
            return;
        }
        if room.left == 0 && !self.cells.contains_key(&bin) {
            room.left_out = room.left_out.saturating_add(ns);
            return;
        }
        self.partial(room, bin, ns);
    }

    fn partial(&mut self, room: &mut Cells, bin: u64, ns: u64) {
        let cell = self.cell(room, bin);
        cell.partial = cell.partial.saturating_add(ns);
    }

    fn cell(&mut self, room: &mut Cells, bin: u64) -> &mut Cell {
        self.cells.entry(bin).or_insert_with(|| {
            room.left = room.left.saturating_sub(1);
            Cell::default()
        })
    }

    /// The bins with any time, in their order.
    pub(super) fn runs(&self) -> Vec<Run> {
        let mut cells = self.cells.clone();
        if self.open.1 > 0 {
            let cell = cells.entry(self.open.0).or_default();
            cell.partial = cell.partial.saturating_add(self.open.1);
        }
        let (mut out, mut whole, mut at) = (Vec::new(), 0i64, 0u64);
        for (bin, cell) in cells {
            let covered = length(whole);
            if covered > 0 && at < bin {
                out.push(Run { from: at, to: bin, each: covered });
            }
            whole += cell.step;
            let each = length(whole).saturating_add(cell.partial);
            if each > 0 {
                out.push(Run { from: bin, to: bin + 1, each });
            }
            at = bin + 1;
        }
        out
    }
}

/// Time in a bin that is covered by so many spans, in ns.
fn length(spans: i64) -> u64 {
    u64::try_from(spans).unwrap_or(0).saturating_mul(1 << SHIFT)
}

/// Of the time from `start` to `end` the part that is in each bin, for at most `most` bins.
#[expect(clippy::cast_precision_loss, reason = "parts")]
pub(super) fn parts(start: u64, end: u64, most: usize) -> impl Iterator<Item = (u64, f64)> {
    let whole = end.saturating_sub(start).max(1) as f64;
    (start >> SHIFT..=end.max(start) >> SHIFT).take(most).filter_map(move |bin| {
        let from = start.max(bin << SHIFT);
        let to = end.min((bin << SHIFT).saturating_add(1 << SHIFT));
        (from < to).then(|| (bin, (to - from) as f64 / whole))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BIN: u64 = 1 << SHIFT;

    #[test]
    fn a_long_span_is_whole_bins_between_its_ends() {
        let mut room = Cells::new(100);
        let mut coverage = Coverage::default();
        coverage.add(&mut room, 10, 10);
        coverage.add(&mut room, BIN / 2, 4 * BIN + 5);
        coverage.add(&mut room, 2 * BIN + 1, 2 * BIN + 8);
        let run = |from, to, each| Run { from, to, each };
        let expected =
            [run(0, 1, BIN / 2), run(1, 2, BIN), run(2, 3, BIN + 7), run(3, 4, BIN), run(4, 5, 5)];
        assert_eq!(coverage.runs(), expected);
        assert_eq!(room.left_out, 0);
        let mut full = Cells::new(2);
        let mut coverage = Coverage::default();
        coverage.add(&mut full, 0, 3 * BIN);
        assert_eq!((coverage.runs(), full.left_out), (vec![], 3 * BIN));
    }

    #[test]
    fn parts_of_a_window_are_all_of_it() {
        let all: Vec<_> = parts(BIN - 10, BIN + 30, 9).collect();
        assert_eq!(all, [(0, 0.25), (1, 0.75)]);
        assert_eq!(parts(5, 5, 9).count(), 0);
        assert_eq!(parts(0, BIN, 9).collect::<Vec<_>>(), [(0, 1.0)]);
        assert_eq!(parts(0, u64::MAX, 9).count(), 9);
        let last: Vec<_> = parts(u64::MAX - 4, u64::MAX, 9).collect();
        assert_eq!(last.len(), 1);
    }

    proptest! {
        #[test]
        fn bins_hold_what_spans_have(
            spans in prop::collection::vec((0u64..20 * BIN, 0u64..5 * BIN), 0..50),
        ) {
            let mut room = Cells::new(1_000);
            let mut coverage = Coverage::default();
            let mut truth: BTreeMap<u64, u64> = BTreeMap::new();
            for (from, length) in spans {
                let to = from + length;
                coverage.add(&mut room, from, to);
                for bin in from >> SHIFT..=to >> SHIFT {
                    let ns = to.min((bin + 1) * BIN).saturating_sub(from.max(bin * BIN));
                    *truth.entry(bin).or_default() += ns;
                }
            }
            truth.retain(|_, ns| *ns > 0);
            let mut found = BTreeMap::new();
            for run in coverage.runs() {
                found.extend((run.from..run.to).map(|bin| (bin, run.each)));
            }
            prop_assert_eq!(found, truth);
        }
    }
}
