//! One lock, and places.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::sums::{fields, sums};
use crate::analyze::{LockSummary, Quantile, Site, SiteSums, StackTable, Summary, Sums};
use crate::energy::Microjoules;
use crate::render::energy::Carbon;
use crate::render::people::People;
use crate::render::{energy, graph_json};
use crate::trace::records::UseSums;
use crate::units::{LockIndex, Ns};

/// Energy by lock and place, if there is any.
pub(super) type Placed = Option<BTreeMap<(LockIndex, Site), Microjoules>>;

/// One lock, with where it was waited for and held.
pub(super) fn lock(
    summary: &Summary,
    people: &People<'_>,
    placed: &Placed,
    carbon: Option<Carbon>,
    lock: &LockSummary,
) -> Value {
    let threshold = summary.meta.options.min_wait;
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
        "p50_ns": p50.map(|p50| duration(p50, threshold)),
        "p50_is_bound": p50 == Some(Quantile::BelowThreshold),
        "p99_ns": p99.map(|p99| duration(p99, threshold)),
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
            let mut object = site(&summary.stacks, one.site, &one.sums);
            let energy = placed.as_ref().map(|placed| {
                placed.get(&(lock.lock.index, one.site)).copied().unwrap_or_default()
            });
            object.insert("energy_uj".to_owned(), json!(energy));
            Value::Object(object)
        }).collect::<Vec<_>>(),
        "holders": lock.holders.iter().map(|one| {
            holder(&summary.stacks, one)
        }).collect::<Vec<_>>(),
        "holds": lock.holds.as_ref().map(|holds| graph_json::holds(summary, people, holds)),
    })));
    object.extend(energy::lock_keys(summary, lock, carbon));
    Value::Object(object)
}

/// A quantile; of one that is only known to be below the threshold, the threshold.
fn duration(quantile: Quantile, threshold: Ns) -> Ns {
    match quantile {
        Quantile::Known(ns) => ns,
        Quantile::BelowThreshold => threshold,
    }
}

/// One place and what it comes to. A place that is none has its words as function, as in text.
pub(super) fn site(stacks: &StackTable, site: Site, sums: &Sums) -> Map<String, Value> {
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

/// Calls by function; of a condition, waits and signals.
fn calls(uses: &[UseSums]) -> Map<String, Value> {
    let mut calls = Map::new();
    for one in uses.iter().filter(|one| !one.is_lock()) {
        let entry = json!({"calls": one.calls, "signals": one.releases});
        calls.insert(one.what.clone(), entry);
    }
    calls
}
