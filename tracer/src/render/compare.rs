//! `lockwatt compare` as text and JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::escape;
use super::rows::{Limits, Rows};
use crate::analyze::compare::{Comparison, Difference};
use crate::energy::{Microjoules, Watts};
use crate::units::Ns;

/// What a figure is in.
type Unit = fn(f64) -> String;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floating point saturate"
)]
fn time(ns: f64) -> String {
    Ns(ns as u64).to_string()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floating point saturate"
)]
fn energy(uj: f64) -> String {
    Microjoules(uj as u64).to_string()
}

fn power(watts: f64) -> String {
    Watts(watts).to_string()
}

/// The comparison for people. `kind` is the word for what is attributed, `why` says why there is no
/// energy.
#[must_use]
pub fn text(comparison: &Comparison, kind: &str, why: Option<&str>, top: usize) -> String {
    let limits = Limits { top: usize::MAX, width: None };
    let mut table = Rows::new(&["", "A", "B", "B − A", "95 % interval", "sure"], 1, limits);
    let mut row = |what: &str, one: &Difference, unit: Unit| {
        table.row(Ns(0), || {
            let change = one.change();
            let sign = if change < 0.0 { "−" } else { "+" };
            let half = one.half.map_or_else(|| "-".to_owned(), |half| format!("±{}", unit(half)));
            let sure = if one.is_sure() { "yes" } else { "no" };
            vec![
                what.to_owned(),
                unit(one.a),
                unit(one.b),
                format!("{sign}{}", unit(change.abs())),
                half,
                sure.to_owned(),
            ]
        });
    };
    row("wall time", &comparison.wall, time);
    row("CPU time", &comparison.cpu, time);
    row("  waiting on the CPU (sampled)", &comparison.spin, time);
    row("  the rest: not explained by lock waits", &comparison.cpu_unexplained, time);
    let energies = [
        ("energy, all of the machine that is counted", &comparison.energy),
        ("  attributed to the command", &comparison.target),
        ("  attributed to waiting on the CPU", &comparison.waiting),
        ("  the rest: not explained by lock waits", &comparison.energy_unexplained),
    ];
    for (what, one) in energies {
        if let Some(one) = one {
            row(what, one, energy);
        }
    }
    if let Some(watts) = &comparison.watts {
        row("average power", watts, power);
    }
    for (what, one) in comparison.kinds.iter().take(top) {
        row(&format!("contention, {what}"), one, time);
    }
    for (what, one) in comparison.locks.iter().take(top) {
        row(&format!("contention, {}", escape::name(what)), one, time);
    }
    let mut out = table.finish("row");
    let n = comparison.runs;
    let _ = writeln!(
        out,
        " means of {n} runs each, in turns, both traced; intervals over pairs of runs"
    );
    match why {
        Some(why) => {
            let _ = writeln!(out, " energy: no live counter ({})", escape::whole(why));
        }
        None => {
            let _ = writeln!(
                out,
                " energy of locks and of the command is {kind}; no number of lockwatt's has been \
                 validated against RAPL hardware"
            );
        }
    }
    out
}

/// The comparison for programs.
#[must_use]
pub fn json(comparison: &Comparison, kind: &str, why: Option<&str>) -> Value {
    let one = |one: &Difference| json!({"a": one.a, "b": one.b, "change": one.change(), "half_95": one.half, "sure": one.is_sure()});
    let maybe = |difference: &Option<Difference>| difference.as_ref().map(one);
    let named = |rows: &[(String, Difference)]| -> serde_json::Map<String, Value> {
        rows.iter().map(|(name, difference)| (name.clone(), one(difference))).collect()
    };
    json!({
        "schema": 1,
        "runs": comparison.runs,
        "wall_ns": one(&comparison.wall),
        "cpu_ns": one(&comparison.cpu),
        "spin_ns": one(&comparison.spin),
        "cpu_unexplained_ns": one(&comparison.cpu_unexplained),
        "energy_uj": maybe(&comparison.energy),
        "average_watts": maybe(&comparison.watts),
        "traced_uj": maybe(&comparison.target),
        "waiting_uj": maybe(&comparison.waiting),
        "energy_unexplained_uj": maybe(&comparison.energy_unexplained),
        "contention_by_kind_ns": named(&comparison.kinds),
        "contention_by_lock_ns": named(&comparison.locks),
        "energy_kind": kind,
        "no_energy_because": why,
        "validated_on_hardware": false,
    })
}
