//! How version 1 stored a block of waits: in the order of the file, one column for each field. It is
//! read, and no more written: see [`super::waits`].

use serde::Deserialize;

use super::format::MAX_ITEMS;
use super::planes::{PIECE, fits, unpack, unzigzag};
use super::records::{SideStack, Wait};
use super::waits::{low, optional_thread};
use crate::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// Payload of a chunk of waits; the columns stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct FlatColumns<'a> {
    base: u64,
    count: u32,
    threads: &'a [u8],
    locks: &'a [u8],
    /// End minus the previous wait's end, zigzag.
    ends: &'a [u8],
    blocked: &'a [u8],
    runq: &'a [u8],
    /// `end − start − blocked − runq`, zigzag.
    gaps: &'a [u8],
    episodes: &'a [u8],
    flags: &'a [u8],
    /// The waker's index plus one; 0: none.
    wakers: &'a [u8],
    waiter_stacks: &'a [u8],
    waker_stacks: &'a [u8],
    holders: &'a [u8],
    holder_stacks: &'a [u8],
}

impl FlatColumns<'_> {
    /// How many waits.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The columns fit together and every value fits its field: then all waits can be decoded.
    #[must_use]
    pub fn fit(&self) -> bool {
        let n = self.count();
        let index = |value: u64| value <= u64::from(u32::MAX);
        let optional = |value: u64| value <= u64::from(u32::MAX) + 1;
        let side = |value| SideStack::from_u64(value).is_some();
        n <= MAX_ITEMS
            && [self.threads, self.locks, self.episodes, self.flags]
                .into_iter()
                .all(|column| fits(column, n, index))
            && [self.ends, self.blocked, self.runq, self.gaps]
                .into_iter()
                .all(|column| fits(column, n, |_| true))
            && [self.wakers, self.holders].into_iter().all(|column| fits(column, n, optional))
            && [self.waiter_stacks, self.waker_stacks, self.holder_stacks]
                .into_iter()
                .all(|column| fits(column, n, side))
    }

    /// The lock of every wait, in order, instead of what was in `locks`.
    pub fn locks(&self, locks: &mut Vec<u32>) {
        let n = self.count().min(MAX_ITEMS);
        let mut values = [0; PIECE];
        locks.clear();
        for from in (0..n).step_by(PIECE) {
            let values = &mut values[..PIECE.min(n - from)];
            unpack(self.locks, n, from, values);
            locks.extend(values.iter().map(|&value| low(value)));
        }
    }

    /// Shows every wait, in order, if they [`Self::fit`]; else shows some nonsense.
    pub fn for_each(&self, mut visit: impl FnMut(&Wait)) {
        let n = self.count().min(MAX_ITEMS);
        let mut end = self.base;
        let mut columns = Box::new([[0; PIECE]; 13]);
        for from in (0..n).step_by(PIECE) {
            let len = PIECE.min(n - from);
            let sources = [
                self.threads,
                self.locks,
                self.ends,
                self.blocked,
                self.runq,
                self.gaps,
                self.episodes,
                self.flags,
                self.wakers,
                self.waiter_stacks,
                self.waker_stacks,
                self.holders,
                self.holder_stacks,
            ];
            for (column, source) in columns.iter_mut().zip(sources) {
                unpack(source, n, from, &mut column[..len]);
            }
            for i in 0..len {
                let of = |column: usize| columns[column][i];
                end = end.wrapping_add(unzigzag(of(2)));
                let (blocked, runq) = (of(3), of(4));
                let spent = unzigzag(of(5)).wrapping_add(blocked).wrapping_add(runq);
                visit(&Wait {
                    thread: ThreadIndex(low(of(0))),
                    lock: LockIndex(low(of(1))),
                    start: Monotonic(end.wrapping_sub(spent)),
                    end: Monotonic(end),
                    blocked: Ns(blocked),
                    runq: Ns(runq),
                    episodes: low(of(6)),
                    flags: low(of(7)),
                    waker: optional_thread(of(8)),
                    waiter_stack: SideStack::from_u64(of(9)).unwrap_or_default(),
                    waker_stack: SideStack::from_u64(of(10)).unwrap_or_default(),
                    holder: optional_thread(of(11)),
                    holder_stack: SideStack::from_u64(of(12)).unwrap_or_default(),
                });
            }
        }
    }
}
