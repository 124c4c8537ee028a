//! The keys that a lock, a kind, a process and the totals share.

use serde_json::{Map, Value, json};

use crate::analyze::{Spin, Summary, Sums};
use crate::units::Ns;

pub(super) fn totals(summary: &Summary) -> Value {
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

/// The keys that a lock, a kind and the totals share.
pub(super) fn sums(summary: &Summary, sums: &Sums) -> Map<String, Value> {
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

pub(super) fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn ns(ns: Ns) -> Value {
    Value::from(ns.0)
}
