//! `lockwatt compare` as JSON.

use serde_json::{Value, json};

use super::gaps::gap;
use super::{About, LETTERS};
use crate::analyze::compare::{Comparison, Difference, Energy};
use crate::trace::energy::ONE;

/// The comparison for programs.
#[must_use]
pub fn json(comparison: &Comparison, about: &About) -> Value {
    let one = |one: &Difference| json!({"a": one.a, "b": one.b, "change": one.change(), "half_95": one.half, "sure": one.is_sure()});
    let named = |rows: &[(String, Difference)]| -> serde_json::Map<String, Value> {
        rows.iter().map(|(name, difference)| (name.clone(), one(difference))).collect()
    };
    let found = comparison.energy.as_ref();
    let energy = |get: &dyn Fn(&Energy) -> Difference| found.map(|found| one(&get(found)));
    let parts = found.and_then(|found| found.waiting);
    let waiting = comparison.waiting.as_ref();
    let incomplete = comparison.incomplete.iter().map(|run| {
        json!({
            "command": LETTERS[run.command].to_lowercase(),
            "run": run.run,
            "because": run.gaps.iter().map(gap).collect::<Vec<_>>(),
            "energy_left_out": run.no_energy(),
        })
    });
    let source = &about.source;
    json!({
        "schema": 1,
        "commands": {"a": about.commands[0], "b": about.commands[1]},
        "runs": comparison.runs,
        "incomplete": incomplete.collect::<Vec<_>>(),
        "wall_ns": one(&comparison.wall),
        "cpu_ns": one(&comparison.cpu),
        "waiting_on_cpu_ns": waiting.map(|waiting| one(&waiting.time)),
        "waiting_on_cpu_source": waiting.map(|waiting| waiting.source.name()),
        "waiting_on_cpu_has_futex_calls": waiting.map(|waiting| waiting.futex),
        "cpu_unexplained_ns": waiting.map(|waiting| one(&waiting.rest)),
        "energy_pairs": found.map_or(0, |found| found.pairs),
        "energy_uj": energy(&|found| found.all),
        "average_watts": energy(&|found| found.watts),
        "traced_uj": energy(&|found| found.target),
        "waiting_uj": parts.map(|parts| one(&parts.waiting)),
        "traced_rest_uj": parts.map(|parts| one(&parts.target_rest)),
        "machine_rest_uj": energy(&|found| found.others),
        "baseline_uj": energy(&|found| found.baseline),
        "energy_unexplained_uj": parts.map(|parts| one(&parts.unexplained)),
        "contention_by_kind_ns": named(&comparison.kinds),
        "contention_by_lock_ns": named(&comparison.locks),
        "contention_in_no_lock_ns": one(&comparison.in_no_lock),
        "energy_source": source.source,
        "energy_quality": source.quality.name(),
        "energy_kind": source.quality.attributed(),
        "idle_policy": source.idle_policy(),
        "spin_weight_shown": f64::from(source.spin_weights().0) / f64::from(ONE),
        "no_energy_because": source.none_because,
        "validated_on_hardware": false,
    })
}
