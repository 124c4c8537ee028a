//! What the opt-in uprobes saw, and what they cost.

use std::cmp::Reverse;

use super::answer::label;
use super::rows::{Limits, Rows};
use super::text::{count, plural};
use crate::analyze::Summary;
use crate::trace::records::UseSums;
use crate::units::Ns;

/// What is said wherever figures of a recording with uprobes are shown.
const DISTURBS: &str = "Uprobes delay whoever locks, and so change the contention that they measure: \
                        the waits of a recording without them are others.";

/// The section of the text report.
pub(super) fn section(summary: &Summary, limits: Limits) -> String {
    let mut out = locks(summary, limits);
    let calls = calls(summary, limits);
    if !calls.is_empty() {
        out = out + "\n" + &calls;
    }
    for line in cost_words(summary) {
        out += &format!(" {line}\n");
    }
    out
}

fn locks(summary: &Summary, limits: Limits) -> String {
    let header =
        ["kind", "lock", "acquired", "failed", "waits", "holds", "held", "mean hold", "longest"];
    let mut rows: Vec<_> =
        summary.locks.iter().filter_map(|lock| Some((lock, lock.usage()?))).collect();
    rows.sort_by_key(|(lock, sums)| (Reverse((sums.held, sums.acquisitions)), lock.lock.index));
    let mut table = Rows::new(&header, 2, limits);
    let cells = |kind: &str, name: String, waits: Option<u64>, sums: &UseSums| {
        let mean = sums.held.0.checked_div(sums.holds).map(Ns);
        vec![
            kind.to_owned(),
            name,
            count(sums.acquisitions),
            count(sums.failed),
            waits.map_or_else(|| "-".to_owned(), count),
            count(sums.holds),
            sums.held.to_string(),
            mean.map_or_else(|| "-".to_owned(), |mean| mean.to_string()),
            sums.max_held.to_string(),
        ]
    };
    for (lock, sums) in &rows {
        table.row(sums.held, || {
            cells(lock.lock.kind.name(), label(summary, &lock.lock), Some(lock.sums.waits), sums)
        });
    }
    let elsewhere: Vec<_> = summary.uses_elsewhere.iter().filter(|one| one.is_lock()).collect();
    for one in &elsewhere {
        table.row(one.held, || cells(&one.what, "[other locks]".to_owned(), None, one));
    }
    if rows.is_empty() && elsewhere.is_empty() {
        return String::new();
    }
    table.finish("lock")
}

/// Calls by function, and the locks that they were for, if that is known.
fn calls(summary: &Summary, limits: Limits) -> String {
    let known = summary.locks.iter().flat_map(|lock| {
        lock.uses.iter().filter(|one| !one.is_lock()).map(move |one| (one, Some(lock)))
    });
    let unknown = summary.uses_elsewhere.iter().filter(|one| !one.is_lock());
    let mut rows: Vec<_> = known.chain(unknown.map(|one| (one, None))).collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_by_key(|(one, _)| Reverse((one.calls, one.releases)));
    let all = Limits { top: usize::MAX, ..limits };
    let mut table = Rows::new(&["function", "lock", "calls", "signals"], 2, all);
    let more = rows.len().saturating_sub(limits.top);
    for (one, lock) in rows.into_iter().take(limits.top) {
        table.row(Ns(0), || {
            let name = lock.map_or_else(|| "-".to_owned(), |lock| label(summary, &lock.lock));
            vec![super::escape::name(&one.what), name, count(one.calls), count(one.releases)]
        });
    }
    let mut out = table.finish("row");
    if more > 0 {
        out += &format!(" and {} with fewer calls; --top shows more\n", plural(more as u64, "row"));
    }
    out
}

/// What the uprobes of a recording cost, a sentence each; none without uprobes.
pub(super) fn cost_words(summary: &Summary) -> Vec<String> {
    if summary.meta.options.uprobes.is_empty() {
        return vec![];
    }
    if !summary.meta.programs.iter().any(|program| program.is_uprobe() && program.attached) {
        return vec!["No uprobe was attached: no interpreter was found, or see `not attached` in the report.".to_owned()];
    }
    let number = |name: &str| summary.self_cost.get(name).copied().unwrap_or(0);
    let (entry, at_return) = (number("uprobe_entry_hits"), number("uprobe_return_hits"));
    let hits = plural(entry.saturating_add(at_return), "uprobe hit");
    let first = match &summary.meta.uprobe_cost {
        Some(cost) => {
            let all = Ns(number("uprobe_ns"));
            let at_return = match cost.at_return {
                Ns(0) => "nothing measurable".to_owned(),
                more => more.to_string(),
            };
            format!(
                "{hits} cost the target's threads about {all} together in {}: {} each at an entry \
                 and {at_return} more at a return, measured at the start.",
                summary.duration, cost.entry
            )
        }
        None => {
            let because = summary.meta.uprobe_cost_unknown_because.as_deref();
            let because = super::text::or_unknown(because.unwrap_or_default());
            format!("{hits}; what one costs could not be measured: {because}.")
        }
    };
    vec![first, DISTURBS.to_owned()]
}
