//! Counterfactuals as text and JSON: what idle energy coincides with waits. Only on request, under this
//! name, and in no sum.

use std::fmt::Write;

use serde_json::{Value, json};

use super::super::answer::label;
use super::super::rows::{Limits, Rows};
use crate::analyze::energy::EnergySummary;
use crate::analyze::{LockSummary, Summary};
use crate::units::Ns;

const HEADER: [&str; 3] = [
    "COUNTERFACTUAL, in no sum",
    "idle energy coinciding with waits, at most",
    "upper bound: idle power × time with a waiter",
];

/// The table; empty unless it was asked for.
pub(super) fn section(summary: &Summary, energy: &EnergySummary, limits: Limits) -> String {
    let Some(imagined) = &energy.counterfactual else { return String::new() };
    let Some(idle) = imagined.idle_watts else {
        return " counterfactual: none, for there is no baseline: `lockwatt calibrate`, and record \
                with --idle calibrated\n"
            .to_owned();
    };
    let mut table = Rows::new(&HEADER, 1, limits);
    let mut locks: Vec<_> = summary
        .locks
        .iter()
        .filter_map(|lock| Some((lock, imagined.locks.get(&lock.lock.index)?)))
        .collect();
    locks.sort_by_key(|(_, one)| std::cmp::Reverse((one.coinciding, one.upper_bound)));
    for (lock, one) in locks {
        table.row(Ns(0), || {
            let name = label(summary, &lock.lock);
            vec![name, one.coinciding.to_string(), one.upper_bound.to_string()]
        });
    }
    let mut out = table.finish("lock");
    let _ = writeln!(
        out,
        " coinciding, all contended locks: {} of the {} of baseline that idle CPUs had ({} in all, \
         {idle} calibrated). Waits with a record only. The upper bounds don't add up. What a lock \
         really changes only a second run says: lockwatt compare",
        imagined.coinciding, imagined.idle_baseline, imagined.baseline
    );
    if imagined.left_out.0 > 0 {
        let _ = writeln!(out, " beyond the limit and not in it: {} of waits", imagined.left_out);
    }
    out
}

/// The same for programs; null unless it was asked for.
pub(super) fn json(energy: &EnergySummary) -> Value {
    energy.counterfactual.as_ref().map_or(Value::Null, |one| {
        json!({
            "kind": "counterfactual",
            "in_sum": false,
            "idle_watts": one.idle_watts,
            "none_because": one.idle_watts.is_none().then_some("no baseline: --idle none"),
            "baseline_uj": one.baseline,
            "idle_baseline_uj": one.idle_baseline,
            "idle_coinciding_at_most_uj": one.coinciding,
            "left_out_ns": one.left_out,
        })
    })
}

/// Of one lock.
pub(super) fn of_lock(energy: &EnergySummary, lock: &LockSummary) -> Option<Value> {
    let one = energy.counterfactual.as_ref().filter(|one| one.idle_watts.is_some())?;
    let one = one.locks.get(&lock.lock.index).copied().unwrap_or_default();
    Some(json!({
        "idle_coinciding_at_most_uj": one.coinciding,
        "upper_bound_uj": one.upper_bound,
        "in_sum": false,
    }))
}
