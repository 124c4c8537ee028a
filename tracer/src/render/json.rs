//! `report --format json`, schema 1.
//!
//! Times are integer nanoseconds, addresses `"0x…"` strings. What is not in the trace is `null` or
//! empty, never invented.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::energy::{self, Carbon};
use super::escape::harmful;
use super::people::People;
use super::{graph_json, pauses};
use crate::analyze::sites::rows;
use crate::analyze::{
    ProcessSummary, Quantile, Quantiles, Side, Site, SiteSums, Spin, StackTable, Summary, Sums,
};
use crate::trace::records::UseSums;
use crate::units::{Monotonic, Ns};

/// The report; `top` limits locks, threads, pairs, sites, chains, convoys and deadlocks each, and
/// never the sites of a lock: they sum to it.
#[must_use]
pub fn report(summary: &Summary, top: Option<usize>) -> Value {
    report_with(summary, top, None)
}

/// The same, with grams of CO2e beside joules.
#[must_use]
pub fn report_with(summary: &Summary, top: Option<usize>, carbon: Option<Carbon>) -> Value {
    let top = top.unwrap_or(usize::MAX);
    let (meta, target) = (&summary.meta, &summary.meta.target);
    let people = People::new(summary);
    json!({
        "schema": 1,
        "target": {
            "pid": target.pid,
            "exe": target.exe,
            "cmdline": target.cmdline,
            "python": target.python,
            "free_threaded": target.free_threaded,
            "unnamed_because": target.unnamed_because,
            "stackless_because": target.stackless_because,
        },
        "recording": {
            "start": start(meta.start_realtime_ns),
            "duration_ns": summary.duration,
            "min_wait_ns": meta.options.min_wait,
            "time_unit_ns": meta.options.time_unit,
            "hooks": meta.options.hooks,
            "max_events_per_sec": meta.options.max_events_per_sec,
            "sample_hz": meta.options.sample_hz,
            "uprobes": meta.options.uprobes,
            "native": meta.options.native,
            "follow": meta.options.follow,
            "self_cost": summary.self_cost,
            "uprobe_cost": meta.uprobe_cost,
            "uprobe_cost_unknown_because": meta.uprobe_cost_unknown_because,
            "end": summary.end.as_ref().map(|end| &end.reason),
            "lockwatt": meta.lockwatt,
            "kernel": meta.kernel,
            "machine": meta.machine,
            "cpus": meta.cpus,
            "programs": meta.programs,
            "syscalls": summary.syscalls,
            "counters": summary.counters,
        },
        "completeness": completeness(summary),
        "totals": totals(summary),
        "locks": summary.locks.iter().take(top).map(|lock| {
            let mut object = sums(summary, &lock.sums);
            let usage = lock.usage();
            let usage = usage.as_ref();
            let (p50, p99) = (lock.quantile(0.5), lock.quantile(0.99));
            object.extend(fields(json!({
                "kind": lock.lock.kind,
                "class": lock.lock.class,
                "name": lock.lock.name,
                "address": lock.lock.address.to_string(),
                "lock": lock.lock.lock.to_string(),
                "index": lock.lock.index,
                "pid": summary.homes.of_lock(lock.lock.index).and_then(|of| summary.homes.pid(of)),
                "shared_by": summary.homes.sharers(lock.lock.index),
                "p50_ns": p50.map(|p50| duration(p50, meta.options.min_wait)),
                "p50_is_bound": p50 == Some(Quantile::BelowThreshold),
                "p99_ns": p99.map(|p99| duration(p99, meta.options.min_wait)),
                "p99_is_bound": p99 == Some(Quantile::BelowThreshold),
                "short_waits": lock.short,
                "acquisitions": usage.map(|one| one.acquisitions),
                "failed_tries": usage.map(|one| one.failed),
                "releases": usage.map(|one| one.releases),
                "uprobe_holds": usage.map(|one| one.holds),
                "held_ns": usage.map(|one| one.held),
                "max_held_ns": usage.map(|one| one.max_held),
                "calls": calls(&lock.uses),
                "waiters": lock.waiters.iter().map(|one| {
                    Value::Object(site(&summary.stacks, one.site, &one.sums))
                }).collect::<Vec<_>>(),
                "holders": lock.holders.iter().map(|one| {
                    holder(&summary.stacks, one)
                }).collect::<Vec<_>>(),
                "holds": lock.holds.as_ref().map(|holds| graph_json::holds(summary, &people, holds)),
            })));
            object.extend(energy::lock_keys(summary, lock));
            Value::Object(object)
        }).collect::<Vec<_>>(),
        "threads": summary.threads.iter().take(top).map(|thread| json!({
            "tid": thread.tid,
            "pid": summary.homes.pid(thread.process),
            "process": thread.process,
            "index": thread.index,
            "name": thread.name,
            "comm": thread.comm,
            "waits": thread.sums.waits,
            "wait_ns": thread.sums.wait(),
            "contention_ns": thread.contention,
            "spin_ns": null,
            "blocked_ns": thread.sums.blocked,
            "runq_ns": thread.sums.runq,
            "max_ns": thread.sums.max,
            "oncpu_ns": thread.oncpu,
            "futex_switches": thread.futex_switches,
            "yield_switches": thread.yield_switches,
            "energy_uj": energy::thread_keys(summary, thread.index).0,
            "energy": energy::thread_keys(summary, thread.index).1,
        })).collect::<Vec<_>>(),
        "processes": summary.processes.iter().take(top).map(|one| process(summary, one))
            .collect::<Vec<_>>(),
        "pairs": summary.pairs.iter().take(top).map(|pair| json!({
            "waiter_tid": pair.waiter.1,
            "waiter": pair.waiter.0,
            "holder_tid": pair.holder.1,
            "holder": pair.holder.0,
            "lock": pair.lock.address.to_string(),
            "lock_index": pair.lock.index,
            "class": pair.lock.class,
            "waits": pair.sums.waits,
            "wait_ns": pair.sums.wait(),
            "source": pair.source.name(),
        })).collect::<Vec<_>>(),
        "sites": rows(summary, Side::Waiter).into_iter().take(top).map(|row| {
            let place = row.waiter.unwrap_or(Site::StackLost);
            let mut object = site(&summary.stacks, place, &row.sums);
            object.insert("class".to_owned(), Value::from(row.class.name()));
            object.insert("lock_index".to_owned(), Value::from(row.lock.0));
            object.insert("locks".to_owned(), Value::from(row.others + 1));
            Value::Object(object)
        }).collect::<Vec<_>>(),
        "uses_elsewhere": summary.uses_elsewhere,
        "chains": graph_json::chains(summary, &people, top),
        "convoys": graph_json::convoys(summary, &people, top),
        "pauses": pauses::json(summary, &people, top),
        "deadlocks": graph_json::deadlocks(summary, &people, top),
        "energy": energy::json(summary, carbon),
        "quantile_error": Quantiles::ERROR,
    })
}

/// The report as text. JSON need not escape more than the lowest control characters; here all that
/// would harm a terminal are, so that the same can be shown.
#[must_use]
pub fn text(report: &Value) -> String {
    let raw = format!("{report:#}\n");
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        // Outside of strings all is ASCII, and in them ASCII is escaped already, up to DEL.
        if c >= '\u{7f}' && harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// One process. Times since the recording's beginning; null if they are not within it.
fn process(summary: &Summary, one: &ProcessSummary) -> Value {
    let (record, target) = (&one.record, &one.record.target);
    let since = |at: Option<Monotonic>| at.map(|at| at.since(summary.meta.start));
    let mut object = sums(summary, &one.sums);
    object.extend(fields(json!({
        "pid": target.pid,
        "index": record.index,
        "parent": record.parent.and_then(|parent| summary.homes.pid(parent)),
        "parent_index": record.parent,
        "exe": target.exe,
        "cmdline": target.cmdline,
        "python": target.python,
        "free_threaded": target.free_threaded,
        "unnamed_because": target.unnamed_because,
        "stackless_because": target.stackless_because,
        "came": record.came.name(),
        "execs": record.execs,
        "recorded": record.recorded,
        "started_ns": since(record.started),
        "ended_ns": since(record.ended),
        "threads": one.threads,
        "contention_ns": one.contention,
        "oncpu_ns": one.oncpu,
    })));
    Value::Object(object)
}

/// A quantile; of one that is only known to be below the threshold, the threshold.
fn duration(quantile: Quantile, threshold: Ns) -> Ns {
    match quantile {
        Quantile::Known(ns) => ns,
        Quantile::BelowThreshold => threshold,
    }
}

fn completeness(summary: &Summary) -> Value {
    let c = &summary.completeness;
    json!({
        "waits": c.waits(),
        "events": c.events,
        "lost": c.lost,
        "energy_switches_unseen": c.unseen.map(|unseen| json!({
            "switches": unseen.switches,
            "cpu_time_at_most_ns": unseen.at_most,
            "of_cpu_time_ns": unseen.of,
            "little": unseen.is_little(),
        })),
        "lost_waits": c.lost_waits,
        "below_min_wait": c.below,
        "below_by_lock": c.placed,
        "rate_limited": c.limited,
        "unclassified": c.unclassified.waits,
        "unclassified_ns": c.unclassified.wait(),
        "stacks_lost": c.stacks_lost(),
        "stacks_missing": c.stacks_missing.iter()
            .map(|(reason, n)| (reason.name().to_owned(), Value::from(*n)))
            .collect::<Map<_, _>>(),
        "stacks_truncated": c.stacks_truncated,
        "spins_unattributed": c.spins_unattributed,
        "yielded_unattributed_ns": c.yielded_unattributed,
        "sampled": summary.sampling.map(|sampling| json!({
            "ticks": sampling.ticks,
            "target": sampling.target,
            "spinning": sampling.spinning,
            "ambiguous": sampling.ambiguous,
            "inexact_functions": sampling.inexact,
        })),
        "woken_before_sleep": c.woken_before_sleep,
        "wake_unseen": c.wake_unseen,
        "switch_in_unseen": c.switch_in_unseen,
        "places_estimated": c.places_estimated,
        "futex_switches": c.futex_switches,
        "closed": c.file.closed,
        "cut": c.file.cut,
        "damage": c.file.damage,
        "unknown_chunks": c.file.unknown_chunks,
        "left_out": c.file.left_out,
        "graph_late": summary.graph.late,
        "chains_not_followed": summary.graph.not_followed,
        "crowded": {
            "threads": c.crowded.cells,
            "waiters": c.crowded.waiting,
            "holders": c.crowded.holding,
            "pairs": c.crowded.pairs,
            "links": c.crowded.links,
            "yielders": c.crowded.yielders,
            "yielding": c.crowded.yielding,
        },
        "chains_unfollowed": summary.graph.unfollowed,
        "chains_left_out_ns": summary.graph.chains_left_out,
        "graph_locks_left_out": summary.graph.locks_left_out,
    })
}

fn totals(summary: &Summary) -> Value {
    use crate::trace::records::Class;

    let mut object = sums(summary, &summary.totals);
    for (key, class) in [
        ("contention_ns", Class::Contention),
        ("idle_ns", Class::Idle),
        ("pause_ns", Class::Pause),
        ("unclassified_ns", Class::Unclassified),
    ] {
        object.insert(key.to_owned(), ns(summary.class(class).wait()));
    }
    let kinds = summary
        .by_kind
        .iter()
        .map(|(kind, kind_sums)| (kind.name().to_owned(), Value::Object(sums(summary, kind_sums))));
    object.insert("by_kind".to_owned(), Value::Object(kinds.collect()));
    Value::Object(object)
}

/// One place and what it comes to. A place that is none has its words as function, as in text.
fn site(stacks: &StackTable, site: Site, sums: &Sums) -> Map<String, Value> {
    let frame = match site {
        Site::Frame(index) => stacks.frame(index),
        _ => None,
    };
    let words = || site.words().unwrap_or_default();
    fields(json!({
        "function": frame.map_or_else(words, |frame| frame.function.clone()),
        "file": frame.map_or("", |frame| frame.file.as_str()),
        "line": frame.map_or(0, |frame| frame.line),
        "waits": sums.waits,
        "wait_ns": sums.wait(),
    }))
}

fn holder(stacks: &StackTable, one: &SiteSums) -> Value {
    let mut object = site(stacks, one.site, &one.sums);
    object.insert("source".to_owned(), Value::from(one.source.name()));
    Value::Object(object)
}

/// The keys that a lock, a kind and the totals share.
fn sums(summary: &Summary, sums: &Sums) -> Map<String, Value> {
    let spin = summary.spin(sums);
    let sampled = summary.sampling.map(|sampling| {
        let Spin { time, low, high, .. } = sampling.estimate(sums.samples);
        json!({"samples": sums.samples, "spin_ns": time, "low_ns": low, "high_ns": high})
    });
    fields(json!({
        "waits": sums.waits,
        "spins": sums.spins,
        "wait_ns": sums.wait(),
        "spin_ns": spin.map(|spin| spin.time),
        "spin_low_ns": spin.map(|spin| spin.low),
        "spin_high_ns": spin.map(|spin| spin.high),
        "spin_source": spin.map(|spin| spin.source.name()),
        "sampled": sampled,
        "blocked_ns": sums.blocked,
        "runq_ns": sums.runq,
        "yielded_ns": sums.yielded,
        "awake_ns": sums.awake,
        "max_ns": sums.max,
    }))
}

/// Calls by function; of a condition, waits and signals.
fn calls(uses: &[UseSums]) -> Map<String, Value> {
    let mut calls = Map::new();
    for one in uses.iter().filter(|one| !one.is_lock()) {
        let entry = json!({"calls": one.calls, "signals": one.releases});
        calls.insert(one.what.clone(), entry);
    }
    calls
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn ns(ns: Ns) -> Value {
    Value::from(ns.0)
}

/// RFC 3339, or null if the trace doesn't say.
fn start(realtime_ns: u64) -> Option<String> {
    if realtime_ns == 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(realtime_ns)).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_harmless_and_means_the_same() {
        let names =
            json!({"a\u{9b}2J\u{7f}": ["\u{1b}[31m\n", "\u{202e}x", "\u{e0041}", "Größe 🐍", ""]});
        let shown = text(&names);
        assert!(!shown.contains(|c| c != '\n' && harmful(c)), "{shown}");
        assert!(shown.contains(r"\u009b2J\u007f") && shown.contains("Größe 🐍"), "{shown}");
        assert!(shown.contains(r"\udb40\udc41"), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), names);
    }
}
