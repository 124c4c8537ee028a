//! Sites: the lines of the program at which was waited, and at which locks were held.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tracer_common::NoStack;

use super::sides::{OtherSide, Source};
use super::stacks::StackTable;
use super::summary::{Summary, rank};
use super::sums::Sums;
use crate::trace::records::{Class, Kind, SideStack};
use crate::units::{FrameIndex, LockIndex, Ns};

/// Where somebody was: the leaf frame of a stack, or what stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// A function at a line. Each place has one index, even if the trace has it twice.
    Frame(FrameIndex),
    /// There was a stack, and it was lost.
    StackLost,
    /// There was none to be had.
    NoStack(NoStack),
    /// Yields of a lock that have no stack.
    Yields,
    /// Nobody was seen on the other side.
    Nobody,
}

impl Site {
    /// The words that stand for a site without a frame; none for one with a frame.
    #[must_use]
    pub fn words(self) -> Option<String> {
        match self {
            Self::Frame(_) => None,
            Self::StackLost => Some("[stack lost]".to_owned()),
            Self::NoStack(reason) => Some(format!("[no stack: {}]", reason.name())),
            Self::Yields => Some("[yields]".to_owned()),
            Self::Nobody => Some("[nobody seen]".to_owned()),
        }
    }

    /// The site of yields.
    #[must_use]
    pub fn of_yields(stacks: &StackTable, stack: SideStack) -> Self {
        match stack {
            SideStack::Missing(_) => Self::Yields,
            SideStack::Stack(_) => stacks.site(stack),
        }
    }

    /// The site of the other side of a wait.
    #[must_use]
    pub fn of_other(stacks: &StackTable, other: OtherSide) -> Self {
        match other.thread {
            Some(_) => stacks.site(other.stack),
            None => Self::Nobody,
        }
    }
}

/// What one site comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteSums {
    /// Where.
    pub site: Site,
    /// How that is known; [`Source::None`] for a waiter, of whom it always is.
    pub source: Source,
    /// How often and how long.
    pub sums: Sums,
}

/// Sites of one lock, longest first.
pub(super) type SitesByLock = BTreeMap<LockIndex, Vec<SiteSums>>;

/// The waiting sites of each lock, with the yields made there.
pub(super) fn waiters<'a>(
    stacks: &StackTable,
    waiting: impl Iterator<Item = (LockIndex, SideStack, &'a Sums)>,
    yielding: &'a BTreeMap<(LockIndex, SideStack), Sums>,
) -> SitesByLock {
    let waits = waiting.map(|(lock, stack, sums)| (lock, stacks.site(stack), Source::None, sums));
    let yields = yielding
        .iter()
        .map(|(&(lock, stack), sums)| (lock, Site::of_yields(stacks, stack), Source::None, sums));
    by_lock(waits.chain(yields))
}

/// The sites of each lock that were in the way, by how they are known.
pub(super) fn holders(
    stacks: &StackTable,
    holding: &BTreeMap<(LockIndex, OtherSide), Sums>,
) -> SitesByLock {
    by_lock(
        holding.iter().map(|(&(lock, other), sums)| {
            (lock, Site::of_other(stacks, other), other.source, sums)
        }),
    )
}

fn by_lock<'a>(parts: impl Iterator<Item = (LockIndex, Site, Source, &'a Sums)>) -> SitesByLock {
    let mut sums: BTreeMap<(LockIndex, Site, Source), Sums> = BTreeMap::new();
    for (lock, site, source, part) in parts {
        *sums.entry((lock, site, source)).or_default() += *part;
    }
    let mut out = SitesByLock::new();
    for ((lock, site, source), sums) in sums {
        out.entry(lock).or_default().push(SiteSums { site, source, sums });
    }
    out.values_mut().for_each(|sites| longest_first(sites));
    out
}

pub(super) fn longest_first(sites: &mut [SiteSums]) {
    sites.sort_by_key(|s| (Reverse(s.sums.wait()), Reverse(s.sums.waits), s.site, s.source));
}

/// Which side of the waits is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// Where was waited.
    #[default]
    Waiter,
    /// Where the lock was held, or let go.
    Holder,
    /// Both, together.
    Both,
}

/// One site, or two that met, over all locks of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRow {
    /// Where was waited; none if only the other side is looked at.
    pub waiter: Option<Site>,
    /// Where the lock was held, and how that is known; none if only the waiter is looked at.
    pub holder: Option<(Site, Source)>,
    /// What the waiting means.
    pub class: Class,
    /// The lock that was waited for longest there.
    pub lock: LockIndex,
    /// Its kind.
    pub kind: Kind,
    /// How many other locks were waited for there.
    pub others: usize,
    /// How often and how long, for all of them.
    pub sums: Sums,
}

type RowKey = (Option<Site>, Option<(Site, Source)>);

/// The sites of a whole trace by class, contention first, then by time waited, longest first.
/// What has no record of its own (below the threshold, lost) has no site and is not in them.
#[must_use]
pub fn rows(summary: &Summary, side: Side) -> Vec<SiteRow> {
    let stacks = &summary.stacks;
    let mut rows: BTreeMap<RowKey, BTreeMap<LockIndex, Sums>> = BTreeMap::new();
    let mut add = |key: RowKey, lock: LockIndex, sums: &Sums| {
        *rows.entry(key).or_default().entry(lock).or_default() += *sums;
    };
    let holder = |other: &OtherSide| Some((Site::of_other(stacks, *other), other.source));
    match side {
        Side::Waiter => {
            for ((_, lock, stack), sums) in &summary.waiting {
                add((Some(stacks.site(*stack)), None), *lock, sums);
            }
        }
        Side::Holder => {
            for ((lock, other), sums) in &summary.holding {
                add((None, holder(other)), *lock, sums);
            }
        }
        Side::Both => {
            for (((_, lock, stack), other), sums) in &summary.links {
                add((Some(stacks.site(*stack)), holder(other)), *lock, sums);
            }
        }
    }
    if side != Side::Holder {
        for ((lock, stack), yields) in &summary.yielding {
            add((Some(Site::of_yields(stacks, *stack)), None), *lock, yields);
        }
    }
    let kinds: BTreeMap<LockIndex, (Class, Kind)> = summary
        .locks
        .iter()
        .map(|lock| (lock.lock.index, (lock.lock.class, lock.lock.kind)))
        .collect();
    let mut out: Vec<_> = rows
        .into_iter()
        .flat_map(|((waiter, holder), locks)| {
            let mut classes: BTreeMap<Class, (SiteRow, Ns)> = BTreeMap::new();
            for (lock, sums) in locks {
                let (class, kind) =
                    kinds.get(&lock).copied().unwrap_or((Class::Unclassified, Kind::Unclassified));
                let Some((row, most)) = classes.get_mut(&class) else {
                    let row = SiteRow { waiter, holder, class, lock, kind, others: 0, sums };
                    classes.insert(class, (row, sums.wait()));
                    continue;
                };
                row.sums += sums;
                row.others += 1;
                if sums.wait() > *most {
                    (row.lock, row.kind, *most) = (lock, kind, sums.wait());
                }
            }
            classes.into_values().map(|(row, _)| row)
        })
        .collect();
    out.sort_by_key(|row| (rank(row.class), Reverse(row.sums.wait()), row.waiter, row.holder));
    out
}
