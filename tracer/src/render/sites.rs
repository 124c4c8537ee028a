//! The lines of the program in the text report: at which was waited, and at which locks were held.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::answer::label;
use super::energy;
use super::place;
use super::rows::{Limits, Rows};
use super::text::{count, percent, plural};
use crate::analyze::energy::places;
use crate::analyze::sites::rows;
use crate::analyze::{LockSummary, Side, Site, SiteSums, Source, Summary, Sums};
use crate::trace::records::{Class, LockRecord};
use crate::units::{LockIndex, Ns};

/// The title of [`by_site`].
pub(super) fn title(side: Side) -> &'static str {
    match side {
        Side::Waiter => "Where was waited",
        Side::Holder => "Where the locks were held, or let go",
        Side::Both => "Where was waited, and where the locks were held or let go",
    }
}

/// A row per site over all locks, or per pair of sites.
pub(super) fn by_site(summary: &Summary, side: Side, limits: Limits) -> String {
    let locks: BTreeMap<LockIndex, &LockRecord> =
        summary.locks.iter().map(|lock| (lock.lock.index, &lock.lock)).collect();
    let (waiter, holder) = (side != Side::Holder, side != Side::Waiter);
    let words: Vec<&str> = [("waiting at", waiter), ("held at", holder), ("source", holder)]
        .into_iter()
        // Two places take a line nearly whole; the lock's name says its kind mostly.
        .chain([("class", true), ("kind", side != Side::Both), ("lock", true)])
        .filter_map(|(title, there)| there.then_some(title))
        .collect();
    let figures = ["waits", "waited", "blocked", "run queue", "longest", "share"];
    // It is the waiters'.
    let energy = (side == Side::Waiter).then(|| energy::title(summary)).flatten();
    let by_class = energy.as_ref().map(|_| places::by_class(summary)).unwrap_or_default();
    let header = [&words[..], &figures, energy.as_slice()].concat();
    let mut table = Rows::new(&header, words.len(), limits);
    let place = |site| place::site(&summary.stacks, site);
    for row in rows(summary, side) {
        table.row(row.sums.wait(), || {
            let mut cells = Vec::new();
            if waiter {
                cells.push(row.waiter.map_or_else(String::new, place));
            }
            if holder {
                let (site, source) = row.holder.map_or_else(
                    || ("-".to_owned(), "-"),
                    |(site, source)| (place(site), source.name()),
                );
                cells.extend([site, source.to_owned()]);
            }
            let lock = locks.get(&row.lock).map_or_else(String::new, |lock| label(summary, lock));
            let more = match row.others {
                0 => String::new(),
                n => format!(" (+{})", count(n as u64)),
            };
            cells.push(row.class.name().to_owned());
            if side != Side::Both {
                cells.push(row.kind.name().to_owned());
            }
            cells.extend([
                lock + &more,
                count(row.sums.waits),
                row.sums.wait().to_string(),
                row.sums.blocked.to_string(),
                row.sums.runq.to_string(),
                row.sums.max.to_string(),
                percent(row.sums.wait(), summary.totals.wait()),
            ]);
            if energy.is_some() {
                let amount = row.waiter.and_then(|site| by_class.get(&(site, row.class)));
                cells.push(amount.map_or_else(|| "-".to_owned(), energy::words));
            }
            cells
        });
    }
    let note = if energy.is_some() {
        " each lock's energy is spread over its places by the yields there, or by the waits (estimated)\n"
    } else {
        ""
    };
    table.finish("site") + note
}

/// The leading locks that are not idle, each with its leading sites; empty if no stacks were
/// recorded.
pub(super) fn by_lock(
    summary: &Summary,
    side: Side,
    locks: usize,
    sites: usize,
    width: Option<u16>,
) -> String {
    if !summary.completeness.stacks_taken() {
        return String::new();
    }
    let header = ["lock", "source", "waits", "waited", "longest", "share"];
    let mut table = Rows::new(&header, 2, Limits { top: usize::MAX, width });
    // Chosen by time waited, listed in the order of the other tables.
    let mut leading: Vec<_> =
        summary.locks.iter().enumerate().filter(|(_, l)| l.lock.class != Class::Idle).collect();
    leading.sort_by_key(|(place, lock)| (Reverse(lock.sums.wait()), *place));
    leading.truncate(locks);
    leading.sort_by_key(|(place, _)| *place);
    for (_, lock) in leading {
        let head = format!("{} ({})", label(summary, &lock.lock), lock.lock.kind.name());
        row(&mut table, head, Source::None, &lock.sums, lock.sums.wait());
        if side != Side::Holder {
            list(&mut table, summary, lock, "waiting at", &lock.waiters, sites);
        }
        if side != Side::Waiter {
            list(&mut table, summary, lock, "held at", &lock.holders, sites);
        }
    }
    table.finish("lock")
}

fn list(
    table: &mut Rows,
    summary: &Summary,
    lock: &LockSummary,
    what: &str,
    sites: &[SiteSums],
    most: usize,
) {
    let whole = lock.sums.wait();
    // One that would be "and 1 more" is shown instead.
    let most = if sites.len() == most.saturating_add(1) { sites.len() } else { most };
    for one in sites.iter().take(most) {
        let what = match (one.site, one.source) {
            (Site::Yields | Site::Nobody, _) => String::new(),
            (_, Source::Waker) => "let go at ".to_owned(),
            _ => format!("{what} "),
        };
        let place = place::site(&summary.stacks, one.site);
        row(table, format!("  {what}{place}"), one.source, &one.sums, whole);
    }
    let rest = sites.get(most..).unwrap_or_default();
    if !rest.is_empty() {
        let mut sums = Sums::default();
        rest.iter().for_each(|one| sums += one.sums);
        let words = format!("  {what} {}", plural(rest.len() as u64, "other place"));
        row(table, words, Source::None, &sums, whole);
    }
}

fn row(table: &mut Rows, words: String, source: Source, sums: &Sums, whole: Ns) {
    table.row(sums.wait(), || {
        vec![
            words,
            if source == Source::None { String::new() } else { source.name().to_owned() },
            count(sums.waits),
            sums.wait().to_string(),
            sums.max.to_string(),
            percent(sums.wait(), whole),
        ]
    });
}
