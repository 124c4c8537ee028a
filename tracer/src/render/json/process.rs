//! One process.

use serde_json::{Map, Value, json};

use super::sums::{fields, sums};
use crate::analyze::{ProcessSummary, Summary};
use crate::trace::records::Target;
use crate::units::Monotonic;

/// What a process is.
pub(super) fn target(target: &Target) -> Map<String, Value> {
    fields(json!({
        "pid": target.pid,
        "exe": target.exe,
        "cmdline": target.cmdline,
        "python": target.python,
        "free_threaded": target.free_threaded,
        "unnamed_because": target.unnamed_because,
        "stackless_because": target.stackless_because,
    }))
}

/// One process. Times since the recording's beginning; null if they are not within it.
pub(super) fn process(summary: &Summary, one: &ProcessSummary) -> Value {
    let record = &one.record;
    let since = |at: Option<Monotonic>| at.map(|at| at.since(summary.meta.start));
    let mut object = sums(summary, &one.sums);
    object.extend(target(&record.target));
    object.extend(fields(json!({
        "index": record.index,
        "parent": record.parent.and_then(|parent| summary.homes.pid(parent)),
        "parent_index": record.parent,
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
