//! Stop-the-world pauses in the text report and in JSON.

use serde_json::{Value, json};

use super::graph_json::{place, thread, with};
use super::people::People;
use super::place;
use super::rows::{Limits, Rows};
use super::text::{count, plural};
use crate::analyze::{Late, PauseSums, Summary};
use crate::trace::records::SideStack;
use crate::units::Ns;

/// Late threads that the text names under a requester.
const LATE: usize = 3;

/// A row per requester and place, and below it who was late.
pub(super) fn table(summary: &Summary, limits: Limits) -> String {
    let people = People::new(summary);
    let header =
        ["asked for by", "pauses", "to stop", "at most", "stopped", "at most", "threads paused"];
    let mut table = Rows::new(&header, 1, Limits { top: usize::MAX, width: limits.width });
    let all = &summary.pauses.requesters;
    for one in all.iter().take(limits.top) {
        table.row(one.to_stop + one.stopped, || {
            let gc = if one.collecting { " (GC)" } else { "" };
            vec![
                format!("{}{gc}{}", people.name(one.requester), at(summary, one.stack)),
                count(one.pauses),
                one.to_stop.to_string(),
                one.max_to_stop.to_string(),
                one.stopped.to_string(),
                one.max_stopped.to_string(),
                count(one.threads),
            ]
        });
        for late in one.late.iter().take(LATE) {
            table.row(Ns(0), || {
                let mut row = vec![String::new(); header.len()];
                row[0] = format!("  last to stop: {}", who(summary, &people, late));
                row[1] = count(late.pauses);
                row[2] = late.to_stop.to_string();
                row
            });
        }
    }
    let mut out = table.finish("requester");
    if let Some(rest @ [_, ..]) = all.get(limits.top..) {
        let pauses = rest.iter().map(|one| one.pauses).sum();
        let (more, pauses) = (plural(rest.len() as u64, "more requester"), plural(pauses, "pause"));
        out += &format!(" and {more} with {pauses}; --top shows more\n");
    }
    out
}

fn who(summary: &Summary, people: &People<'_>, late: &Late) -> String {
    match late.thread {
        Some(thread) => format!("{}{}", people.name(thread), at(summary, late.stack)),
        None => "one that left the interpreter, found by the requester".to_owned(),
    }
}

fn at(summary: &Summary, stack: SideStack) -> String {
    if !summary.completeness.stacks_taken() {
        return String::new();
    }
    format!(" at {}", place::site(&summary.stacks, summary.stacks.site(stack)))
}

/// `pauses`.
pub(super) fn json(summary: &Summary, people: &People<'_>, top: usize) -> Value {
    let requesters = summary.pauses.requesters.iter().take(top);
    requesters.map(|one| requester(summary, people, one)).collect()
}

fn requester(summary: &Summary, people: &People<'_>, one: &PauseSums) -> Value {
    let at = |stack| place(&summary.stacks, summary.stacks.site(stack));
    let late = one.late.iter().map(|late| {
        let sums = json!({
            "pauses": late.pauses,
            "inferred": late.inferred,
            "to_stop_ns": late.to_stop,
        });
        match late.thread {
            Some(index) => with(thread(people, index), &[at(late.stack), sums]),
            None => with(json!({"tid": null}), &[sums]),
        }
    });
    let sums = json!({
        "collecting": one.collecting,
        "pauses": one.pauses,
        "awaited": one.awaited,
        "to_stop_ns": one.to_stop,
        "max_to_stop_ns": one.max_to_stop,
        "stopped_ns": one.stopped,
        "max_stopped_ns": one.max_stopped,
        "threads": one.threads,
        "paused_ns": one.paused,
        "late": late.collect::<Value>(),
    });
    with(thread(people, one.requester), &[at(one.stack), sums])
}
