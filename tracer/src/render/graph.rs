//! The wait-for graph in the text report: chains, convoys, holds.

use super::people::People;
use super::place;
use super::rows::{Limits, Rows};
use super::text::{count, percent, plural};
use crate::analyze::graph::{Chain, ChainEnd};
use crate::analyze::{LockSummary, Site, Source, Summary};
use crate::trace::records::Class;
use crate::units::Ns;

/// Sections of the graph: a title and a body each, those with nothing to say left out.
pub(super) fn sections(summary: &Summary, limits: Limits) -> Vec<(&'static str, String)> {
    let graph = &summary.graph;
    let mut sections = Vec::new();
    if !graph.chains.is_empty() {
        let title = "Wait-for graph: chains (who waits for a thread that waits itself)";
        sections.push((title, chains(summary, limits)));
    }
    if !graph.convoys.is_empty() {
        let title = "Wait-for graph: convoys (locks with a queue of two or more)";
        sections.push((title, convoys(summary, limits)));
    }
    let held = held(summary);
    if !held.is_empty() {
        let title = "Holds between waits, and the waiting behind them (others are not seen; p50, p99 \
                     and longest are of what they lasted at most)";
        sections.push((title, holds(summary, &held, limits)));
    }
    sections
}

/// A row per sequence of locks, and below it the threads of its longest path.
fn chains(summary: &Summary, limits: Limits) -> String {
    let people = People::new(summary);
    let header = ["chain", "source", "waits", "waited"];
    let mut table = Rows::new(&header, 2, Limits { top: usize::MAX, width: limits.width });
    let taken = summary.completeness.stacks_taken();
    let shown = summary.graph.chains.iter().take(limits.top);
    for chain in shown {
        let locks: Vec<_> = chain.locks.iter().map(|&lock| people.lock_name(lock)).collect();
        table.row(chain.time, || {
            vec![locks.join(" → "), String::new(), count(chain.waits), chain.time.to_string()]
        });
        for (n, link) in chain.longest.iter().enumerate() {
            let what = if n == 0 { "most of it: " } else { "of " };
            let place = place::site(&summary.stacks, summary.stacks.site(link.stack));
            let time = if n == 0 { chain.longest_time.to_string() } else { String::new() };
            table.row(Ns(0), || {
                let place = if taken { format!(" at {place}") } else { String::new() };
                let words = format!("  {what}{}{place}", people.name(link.waiter));
                vec![words, source(link.source), String::new(), time]
            });
        }
        table.row(Ns(0), || vec![end(chain, &people), String::new(), String::new(), String::new()]);
    }
    let mut out = table.finish("chain");
    let rest = summary.graph.chains.get(limits.top..).unwrap_or_default();
    if !rest.is_empty() {
        let time: Ns = rest.iter().map(|chain| chain.time).sum();
        let more = plural(rest.len() as u64, "more chain");
        out += &format!(" and {more}, {time} together; --top shows more\n");
    }
    out
}

fn source(source: Source) -> String {
    if source == Source::None { String::new() } else { source.name().to_owned() }
}

fn end(chain: &Chain, people: &People<'_>) -> String {
    let holder = chain.holder.map_or_else(|| "a thread".to_owned(), |index| people.name(index));
    match chain.end {
        ChainEnd::Running => format!("  of {holder}, which waited for nothing that was recorded"),
        ChainEnd::Unknown => "  of a thread that is not known".to_owned(),
        ChainEnd::Cycle => format!("  of {holder}, which is in the chain: a cycle"),
        ChainEnd::Longer => format!("  of {holder}, and so on"),
    }
}

fn convoys(summary: &Summary, limits: Limits) -> String {
    let people = People::new(summary);
    let header = [
        "kind",
        "lock",
        "with a queue",
        "share",
        "contended",
        "most waiting",
        "mean",
        "convoys",
        "longest convoy",
    ];
    let mut table = Rows::new(&header, 2, limits);
    for (lock, queue) in &summary.graph.convoys {
        table.row(queue.queued, || {
            let kind = people.lock(*lock).map_or("unclassified", |lock| lock.lock.kind.name());
            vec![
                kind.to_owned(),
                people.lock_name(*lock),
                queue.queued.to_string(),
                percent(queue.queued, summary.duration),
                queue.contended.to_string(),
                count(queue.longest_queue),
                format!("{:.2}", queue.mean()),
                count(queue.convoys),
                queue.longest.length().to_string(),
            ]
        });
    }
    table.finish("lock")
}

/// Locks of which holds were seen, the most waiting caused first.
fn held(summary: &Summary) -> Vec<&LockSummary> {
    let caused = |lock: &LockSummary| lock.holds.as_ref().map_or(Ns(0), |holds| holds.sums.caused);
    let mut held: Vec<_> = summary
        .locks
        .iter()
        .filter(|lock| !matches!(lock.lock.class, Class::Idle | Class::Pause))
        .filter(|lock| lock.holds.as_ref().is_some_and(|holds| holds.sums.holds > 0))
        .collect();
    held.sort_by_key(|lock| std::cmp::Reverse(caused(lock)));
    held
}

fn holds(summary: &Summary, held: &[&LockSummary], limits: Limits) -> String {
    let people = People::new(summary);
    let header = [
        "lock",
        "mostly let go at",
        "holds",
        "at least",
        "at most",
        "p50",
        "p99",
        "longest",
        "caused",
        "of the waiting",
        "most by one",
    ];
    let mut table = Rows::new(&header, 2, limits);
    for lock in held {
        let Some(holds) = &lock.holds else { continue };
        let sums = holds.sums;
        let quantile =
            |q| holds.durations.at(q).map_or_else(|| "-".to_owned(), |ns| ns.to_string());
        table.row(sums.caused, || {
            let known = holds.sites.iter().find(|(site, _)| matches!(site, Site::Frame(_)));
            let site = known.or(holds.sites.first());
            let taken = summary.completeness.stacks_taken();
            let place = site.filter(|_| taken).map_or_else(String::new, |(site, part)| {
                let share = percent(part.caused, sums.caused);
                format!("{} ({share})", place::site(&summary.stacks, *site))
            });
            vec![
                people.lock_name(lock.lock.index),
                place,
                count(sums.holds),
                sums.sure.to_string(),
                sums.held.to_string(),
                quantile(0.5),
                quantile(0.99),
                sums.max.to_string(),
                sums.caused.to_string(),
                percent(sums.caused, lock.sums.blocked + lock.sums.runq),
                sums.max_caused.to_string(),
            ]
        });
    }
    table.finish("lock")
}
