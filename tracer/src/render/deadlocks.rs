//! Deadlocks in words: the first thing that anybody should read.

use std::fmt::Write;

use super::people::People;
use super::place;
use super::text::plural;
use crate::analyze::graph::{Deadlock, DeadlockLink, Why};
use crate::analyze::{Site, Summary};
use crate::units::Ns;

/// Frames of a stack that are shown; JSON has them all.
const FRAMES: usize = 12;

/// Deadlocks that are shown unless it is said otherwise.
const TOP: usize = 20;

/// Each deadlock with the stacks of its threads; empty if there is none.
#[must_use]
pub fn deadlocks(summary: &Summary, top: Option<usize>) -> String {
    let people = People::new(summary);
    let all = &summary.graph.deadlocks;
    let top = top.unwrap_or(TOP);
    let mut out = String::new();
    for deadlock in all.iter().take(top) {
        one(&mut out, summary, &people, deadlock);
    }
    if let more @ 1.. = all.len().saturating_sub(top) {
        let more = plural(more as u64, "more deadlock");
        let _ = writeln!(out, "{more}, certain or suspected; --top shows more\n");
    }
    out
}

fn one(out: &mut String, summary: &Summary, people: &People<'_>, deadlock: &Deadlock) {
    let title = if deadlock.certain { "DEADLOCK" } else { "SUSPECTED DEADLOCK" };
    let waits = match (deadlock.links.len(), deadlock.certain) {
        (1, true) => "a thread waits for a lock that it has itself",
        (1, false) => "a thread seems to wait for a lock that it has itself",
        (_, true) => "threads wait for each other in a circle",
        (_, false) => "threads seem to wait for each other in a circle",
    };
    let end = summary.end.as_ref().map(|end| end.at);
    let lasted = end.map_or(Ns(0), |end| end.since(deadlock.since));
    let since = if deadlock.before {
        format!("all through the recording ({lasted}) and since before it")
    } else {
        format!("for the last {lasted} of the recording")
    };
    let _ = writeln!(out, "{title}: {waits}, {since}.");
    if !deadlock.certain {
        out.push_str(" Not every lock says who has it: where it says \"inferred\", it was.\n");
    }
    for link in &deadlock.links {
        let _ = writeln!(
            out,
            " {} waits for {}, {}:",
            people.name(link.thread),
            people.lock_name(link.lock),
            held(summary, people, link)
        );
        stack(out, summary, link);
    }
    if !deadlock.behind.is_empty() {
        let names: Vec<_> =
            deadlock.behind.iter().take(FRAMES).map(|&thread| people.name(thread)).collect();
        let dots = if deadlock.behind.len() > FRAMES { ", …" } else { "" };
        let more = plural(deadlock.behind.len() as u64, "more thread");
        let _ = writeln!(out, " {more} behind them: {}{dots}", names.join(", "));
    }
    out.push('\n');
}

/// Who has the lock, and how that is known.
fn held(summary: &Summary, people: &People<'_>, link: &DeadlockLink) -> String {
    let holder = people.name(link.holder);
    let at = link.held_at.map_or_else(String::new, |frame| {
        format!(" at {}", place::site(&summary.stacks, Site::Frame(frame)))
    });
    match link.why {
        Why::Owner => format!("which {holder} owns"),
        Why::With => {
            format!(
                "which {holder} seems to have (inferred: it is inside a `with` block of it{at})"
            )
        }
        Why::Acquire => {
            format!("which {holder} seems to have (inferred: it called `acquire` of it{at})")
        }
        Why::Taken => format!(
            "which {holder} seems to have (inferred: it got it after a wait, and woke nobody since)"
        ),
    }
}

fn stack(out: &mut String, summary: &Summary, link: &DeadlockLink) {
    let stacks = &summary.stacks;
    match stacks.stack(link.stack) {
        Ok(stack) => {
            for &frame in stack.frames.iter().take(FRAMES) {
                let _ = writeln!(out, "   {}", place::site(stacks, Site::Frame(frame)));
            }
            let more = stack.frames.len().saturating_sub(FRAMES);
            if more > 0 {
                let _ = writeln!(out, "   and {}", plural(more as u64, "outer frame"));
            }
            if stacks.truncated(link.stack) {
                out.push_str("   [truncated]\n");
            }
        }
        Err(reason) => {
            let _ = writeln!(out, "   [no stack: {}]", reason.name());
        }
    }
}
