//! Time in bins of 134 ms: when threads held or waited for a lock, to be brought together with when
//! energy was used. Waits are millions, bins are few, and a bin is about an energy window.

use std::collections::BTreeMap;

/// A bin is `2^27` ns of `CLOCK_MONOTONIC`, as long as there is room for all of them.
const SHIFT: u32 = 27;
/// Bins are doubled at most so often: to ten hours.
pub(super) const MOST_DOUBLINGS: u32 = 18;

/// Cells that there is room for. When few are left bins are to be doubled; what finds no room is
/// counted.
#[derive(Debug)]
pub(in crate::analyze) struct Cells {
    room: usize,
    used: usize,
    /// How often bins were doubled.
    doubled: u32,
    /// Nanoseconds that found no room.
    pub(in crate::analyze) left_out: u64,
}

impl Cells {
    pub(in crate::analyze) fn new(cells: usize) -> Self {
        Self { room: cells, used: 0, doubled: 0, left_out: 0 }
    }

    /// Less than an eighth is left, and longer bins can help: then each [`Coverage`] has to
    /// [keep to them](Coverage::keep_to).
    pub(in crate::analyze) fn doubles(&mut self) -> bool {
        let scarce = self.left() < self.room / 8 && self.doubled < MOST_DOUBLINGS;
        self.doubled += u32::from(scarce);
        scarce
    }

    /// Takes the room that one more [`Coverage`] needs by itself, if there is any; else its first
    /// span, of so many nanoseconds, is left out.
    pub(in crate::analyze) fn one_more(&mut self, ns: u64) -> bool {
        let room = self.left() > 0;
        if room {
            self.used += 1;
        } else {
            self.left_out = self.left_out.saturating_add(ns);
        }
        room
    }

    fn left(&self) -> usize {
        self.room.saturating_sub(self.used)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    /// Nanoseconds within this bin; less than nothing if `step` says too much.
    partial: i64,
    /// How many spans more (or less) cover this bin and all that follow, whole.
    step: i64,
}

/// How much time spans have in each bin. A span costs the same however long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::analyze) struct Coverage {
    /// The bin of the last spans, which is mostly that of the next one, too.
    open: (u64, u64),
    cells: BTreeMap<u64, Cell>,
    /// How often its bins were doubled.
    doubled: u32,
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
        if self.doubled != room.doubled {
            self.keep_to(room);
        }
        let (first, last) = (from >> self.shift(), to >> self.shift());
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
        if room.left() < 3 {
            room.left_out = room.left_out.saturating_add(to - from);
            return;
        }
        let shift = self.shift();
        self.partial(room, first, ((first + 1) << shift) - from);
        if last > first + 1 {
            self.cell(room, first + 1).step += 1;
            self.cell(room, last).step -= 1;
        }
        self.open = (last, to - (last << shift));
    }

    fn close(&mut self, room: &mut Cells) {
        let (bin, ns) = std::mem::take(&mut self.open);
        if ns == 0 {
            return;
        }
        if room.left() == 0 && !self.cells.contains_key(&bin) {
            room.left_out = room.left_out.saturating_add(ns);
            return;
        }
        self.partial(room, bin, ns);
    }

    fn partial(&mut self, room: &mut Cells, bin: u64, ns: u64) {
        let cell = self.cell(room, bin);
        cell.partial = cell.partial.saturating_add_unsigned(ns);
    }

    fn cell(&mut self, room: &mut Cells, bin: u64) -> &mut Cell {
        self.cells.entry(bin).or_insert_with(|| {
            room.used += 1;
            Cell::default()
        })
    }

    fn shift(&self) -> u32 {
        SHIFT + self.doubled
    }

    /// Doubles its bins as often as the others', and gives back the room that this saves.
    pub(in crate::analyze) fn keep_to(&mut self, room: &mut Cells) {
        let before = self.cells.len();
        self.double(room.doubled);
        room.used = (room.used + self.cells.len()).saturating_sub(before);
    }

    /// How often its bins were doubled.
    pub(super) fn doubled(&self) -> u32 {
        self.doubled
    }

    /// Doubles its bins until that was done so often. What they hold stays the same; spans that cover
    /// whole bins may take up to twice their cells.
    pub(super) fn double(&mut self, times: u32) {
        while self.doubled < times {
            let mut cells: BTreeMap<u64, Cell> = BTreeMap::new();
            for (bin, cell) in std::mem::take(&mut self.cells) {
                let half = bin & 1 == 1;
                // Of a bin whose second half alone is covered whole it is a part.
                let part = if half { cell.step.saturating_mul(1 << self.shift()) } else { 0 };
                let to = cells.entry(bin >> 1).or_default();
                to.partial = to.partial.saturating_add(cell.partial).saturating_add(part);
                cells.entry((bin >> 1) + u64::from(half)).or_default().step += cell.step;
            }
            cells.retain(|_, cell| *cell != Cell::default());
            self.cells = cells;
            self.open.0 >>= 1;
            self.doubled += 1;
        }
    }

    /// The bins with any time, in their order.
    pub(super) fn runs(&self) -> Vec<Run> {
        let mut cells = self.cells.clone();
        if self.open.1 > 0 {
            let cell = cells.entry(self.open.0).or_default();
            cell.partial = cell.partial.saturating_add_unsigned(self.open.1);
        }
        let (mut out, mut whole, mut at) = (Vec::new(), 0i64, 0u64);
        for (bin, cell) in cells {
            let covered = self.length(whole, 0);
            if covered > 0 && at < bin {
                out.push(Run { from: at, to: bin, each: covered });
            }
            whole += cell.step;
            let each = self.length(whole, cell.partial);
            if each > 0 {
                out.push(Run { from: bin, to: bin + 1, each });
            }
            at = bin + 1;
        }
        out
    }

    /// Time in a bin that is covered by so many spans and in part, in ns.
    fn length(&self, spans: i64, partial: i64) -> u64 {
        let ns = (i128::from(spans) << self.shift()) + i128::from(partial);
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// Of the time from `start` to `end` the part that is in each bin, for at most `most` bins, which were
/// `doubled` so often.
#[expect(clippy::cast_precision_loss, reason = "parts")]
pub(super) fn parts(
    (start, end): (u64, u64),
    doubled: u32,
    most: usize,
) -> impl Iterator<Item = (u64, f64)> {
    let shift = SHIFT + doubled;
    let whole = end.saturating_sub(start).max(1) as f64;
    (start >> shift..=end.max(start) >> shift).take(most).filter_map(move |bin| {
        let from = start.max(bin << shift);
        let to = end.min((bin << shift).saturating_add(1 << shift));
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
        let all: Vec<_> = parts((BIN - 10, BIN + 30), 0, 9).collect();
        assert_eq!(all, [(0, 0.25), (1, 0.75)]);
        assert_eq!(parts((5, 5), 0, 9).count(), 0);
        assert_eq!(parts((0, BIN), 0, 9).collect::<Vec<_>>(), [(0, 1.0)]);
        assert_eq!(parts((0, u64::MAX), 0, 9).count(), 9);
        let last: Vec<_> = parts((u64::MAX - 4, u64::MAX), 0, 9).collect();
        assert_eq!(last.len(), 1);
    }

    /// However long a recording is, its cells are no more than there is room for, and none is left out.
    #[test]
    fn a_long_recording_finds_room_in_longer_bins() {
        const ROOM: usize = 1_000;
        let mut room = Cells::new(ROOM);
        let mut all = vec![Coverage::default(); 20];
        assert!(all.iter().all(|_| room.one_more(0)));
        let mut total = 0;
        for bin in 0..5_000 {
            for coverage in &mut all {
                coverage.add(&mut room, bin * BIN + 7, bin * BIN + 1_007);
                total += 1_000;
            }
            if room.doubles() {
                all.iter_mut().for_each(|coverage| coverage.keep_to(&mut room));
            }
            let cells: usize = all.iter().map(|coverage| coverage.cells.len()).sum();
            assert_eq!(room.used, cells + all.len());
            assert!(room.used <= ROOM);
        }
        assert!(room.doubled > 0 && room.left_out == 0);
        let runs = all.iter().flat_map(Coverage::runs);
        assert_eq!(runs.map(|run| (run.to - run.from) * run.each).sum::<u64>(), total);
        // Without longer bins there is an end.
        let mut full = Cells { doubled: MOST_DOUBLINGS, ..Cells::new(1) };
        assert!(full.one_more(5) && !full.one_more(5) && !full.doubles());
        assert_eq!(full.left_out, 5);
    }

    proptest! {
        /// However often they are doubled, and whenever: bins hold what is in their halves.
        #[test]
        fn doubled_bins_hold_what_their_halves_did(
            spans in prop::collection::vec((0u64..40 * BIN, 0u64..9 * BIN, 0u32..8), 1..40),
        ) {
            let mut room = Cells::new(10_000);
            let (mut coverage, mut whole) = (Coverage::default(), Coverage::default());
            for (from, length, more) in spans {
                coverage.add(&mut room, from, from + length);
                whole.add(&mut Cells::new(10_000), from, from + length);
                // In one of eight.
                room.doubled += u32::from(more == 0 && room.doubled < 3);
            }
            coverage.keep_to(&mut room);
            let pairs: BTreeMap<u64, u64> = whole
                .runs()
                .iter()
                .flat_map(|run| (run.from..run.to).map(|bin| (bin, run.each)))
                .fold(BTreeMap::new(), |mut sums, (bin, each)| {
                    *sums.entry(bin >> room.doubled).or_default() += each;
                    sums
                });
            let mut found = BTreeMap::new();
            for run in coverage.runs() {
                found.extend((run.from..run.to).map(|bin| (bin, run.each)));
            }
            prop_assert_eq!(found, pairs);
            prop_assert_eq!(room.left_out, 0);
            prop_assert_eq!(room.used, coverage.cells.len());
        }

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
