//! The wait-for graph in JSON: `holds` of a lock, `chains`, `convoys`, `deadlocks`.

use serde_json::{Value, json};

use super::people::People;
use crate::analyze::graph::{Chain, Deadlock, DeadlockLink, HoldSums, LockHolds, convoys};
use crate::analyze::{Site, StackTable, Summary};
use crate::trace::records::SideStack;
use crate::units::{FrameIndex, LockIndex, ThreadIndex};

/// The holds of a lock.
pub(super) fn holds(summary: &Summary, people: &People<'_>, holds: &LockHolds) -> Value {
    let sums = |sums: &HoldSums| {
        json!({
            "holds": sums.holds,
            "held_ns": sums.held,
            "held_min_ns": sums.sure,
            "max_ns": sums.max,
            "caused_ns": sums.caused,
            "max_caused_ns": sums.max_caused,
        })
    };
    let mut all = sums(&holds.sums);
    all["p50_ns"] = json!(holds.durations.at(0.5));
    all["p99_ns"] = json!(holds.durations.at(0.99));
    let sites =
        holds.sites.iter().map(|(site, part)| with(sums(part), &[place(&summary.stacks, *site)]));
    all["sites"] = sites.collect();
    let threads =
        holds.threads.iter().map(|(index, part)| with(sums(part), &[thread(people, *index)]));
    all["threads"] = threads.collect();
    all
}

/// `chains`.
pub(super) fn chains(summary: &Summary, people: &People<'_>, top: usize) -> Value {
    summary.graph.chains.iter().take(top).map(|chain| one_chain(summary, people, chain)).collect()
}

fn one_chain(summary: &Summary, people: &People<'_>, chain: &Chain) -> Value {
    let links = chain.longest.iter().map(|link| {
        let place = place(&summary.stacks, summary.stacks.site(link.stack));
        let more = json!({"lock_index": link.lock, "source": link.source.name()});
        with(thread(people, link.waiter), &[place, more])
    });
    json!({
        "locks": chain.locks.iter().map(|&index| lock(people, index)).collect::<Value>(),
        "waits": chain.waits,
        "wait_ns": chain.time,
        "certain": chain.certain,
        "paths": chain.paths,
        "longest": {
            "wait_ns": chain.longest_time,
            "links": links.collect::<Value>(),
            "holder": chain.holder.map(|holder| thread(people, holder)),
            "end": chain.end.name(),
        },
    })
}

/// `convoys`.
pub(super) fn convoys(summary: &Summary, people: &People<'_>, top: usize) -> Value {
    let one = |(index, queue): &(LockIndex, convoys::Queue)| {
        let more = json!({
            "min_waiters": convoys::QUEUE,
            "queued_ns": queue.queued,
            "queued_share": share(queue.queued.0, summary.duration.0),
            "contended_ns": queue.contended,
            "queue_ns": queue.waited,
            "longest_queue": queue.longest_queue,
            "mean_queue": queue.mean(),
            "convoys": queue.convoys,
            "longest_ns": queue.longest.length(),
            "longest_start_ns": queue.longest.from.since(summary.meta.start),
        });
        with(lock(people, *index), &[more])
    };
    summary.graph.convoys.iter().take(top).map(one).collect()
}

/// `deadlocks`.
pub(super) fn deadlocks(summary: &Summary, people: &People<'_>, top: usize) -> Value {
    let one = |deadlock: &Deadlock| {
        let inferred = deadlock.links.iter().filter(|link| !link.why.certain()).count();
        let end = summary.end.as_ref().map(|end| end.at);
        json!({
            "certain": deadlock.certain,
            "inferred": inferred,
            "since_ns": deadlock.since.since(summary.meta.start),
            "before_recording": deadlock.before,
            "lasted_ns": end.map(|end| end.since(deadlock.since)),
            "threads": deadlock.links.iter()
                .map(|link| deadlocked(summary, people, link))
                .collect::<Value>(),
            "behind": deadlock.behind.iter()
                .map(|&index| thread(people, index))
                .collect::<Value>(),
        })
    };
    summary.graph.deadlocks.iter().take(top).map(one).collect()
}

fn deadlocked(summary: &Summary, people: &People<'_>, link: &DeadlockLink) -> Value {
    let stacks = &summary.stacks;
    let end = summary.end.as_ref().map(|end| end.at);
    let more = json!({
        "waits_for": lock(people, link.lock),
        "wait_ns": end.map(|end| end.since(link.start)),
        "stack": stack(stacks, link.stack),
        "stack_truncated": stacks.truncated(link.stack),
        "stack_missing": stacks.stack(link.stack).err().map(tracer_common::NoStack::name),
        "held_by": thread(people, link.holder),
        "source": link.why.name(),
        "inferred": !link.why.certain(),
        "held_at": link.held_at.map(|index| frame(stacks, index)),
    });
    with(thread(people, link.thread), &[more])
}

pub(super) fn thread(people: &People<'_>, index: ThreadIndex) -> Value {
    let known = people.thread(index);
    json!({
        "tid": known.map_or(0, |thread| thread.tid.0),
        "index": index,
        "name": known.map_or("[thread lost]", |thread| thread.name.as_str()),
    })
}

fn lock(people: &People<'_>, index: LockIndex) -> Value {
    match people.lock(index) {
        Some(known) => json!({
            "lock_index": index,
            "kind": known.lock.kind,
            "class": known.lock.class,
            "name": known.lock.name,
            "address": known.lock.address.to_string(),
        }),
        None => json!({"lock_index": index, "name": "[lock lost]"}),
    }
}

/// Leaf first.
fn stack(stacks: &StackTable, side: SideStack) -> Value {
    let frames = stacks.stack(side).map(|stack| stack.frames.as_slice()).unwrap_or_default();
    frames.iter().map(|&index| frame(stacks, index)).collect()
}

fn frame(stacks: &StackTable, index: FrameIndex) -> Value {
    match stacks.frame(index) {
        Some(frame) => json!({
            "function": frame.function,
            "file": frame.file,
            "line": frame.line,
            "native": frame.native,
        }),
        None => json!({"function": "[frame lost]", "file": "", "line": 0, "native": false}),
    }
}

pub(super) fn place(stacks: &StackTable, site: Site) -> Value {
    let frame = match site {
        Site::Frame(index) => stacks.frame(index),
        _ => None,
    };
    let words = || site.words().unwrap_or_default();
    json!({
        "function": frame.map_or_else(words, |frame| frame.function.clone()),
        "file": frame.map_or("", |frame| frame.file.as_str()),
        "line": frame.map_or(0, |frame| frame.line),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Objects put together.
pub(super) fn with(mut object: Value, more: &[Value]) -> Value {
    if let Value::Object(map) = &mut object {
        for (key, value) in more.iter().filter_map(Value::as_object).flatten() {
            map.insert(key.clone(), value.clone());
        }
    }
    object
}
