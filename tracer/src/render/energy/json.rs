//! Energy in the JSON report.

use serde_json::{Map, Value, json};

use super::{Carbon, counterfactual, per_contended, present, share};
use crate::analyze::energy::{Amount, Held};
use crate::analyze::{LockSummary, Summary};

/// The `energy` object of the JSON report.
pub(in crate::render) fn json(summary: &Summary, carbon: Option<Carbon>) -> Value {
    let Some(energy) = &summary.energy else {
        return json!({"source": "none", "quality": "none", "domains": []});
    };
    let source = &energy.source;
    let grams = |uj| carbon.map(|carbon| carbon.grams(uj));
    let domains = energy.domains.iter().map(|domain| json!({
        "name": domain.name,
        "part": domain.part,
        "parent": domain.parent.and_then(|n| energy.domains.get(n as usize)).map(|one| &one.name),
        "split": domain.split,
        "energy_uj": domain.energy,
        "sigma_uj": rounded(domain.sigma),
        "baseline_uj": domain.baseline,
        "traced_uj": domain.traced,
        "other_tasks_uj": domain.other,
        "kernel_uj": domain.kernel,
        "tracer_uj": domain.tracer,
        "lost_uj": domain.lost,
        "idle_active_uj": domain.idle_active,
        "average_watts": domain.watts,
        "known_ns": domain.time,
        "unknown_ns": domain.unknown,
        "unknown_because": domain.first_unknown.map(|(known, _)| known),
        "unknown_since_ns": domain.first_unknown.map(|(_, since)| since),
        "co2e_g": grams(domain.energy),
    }));
    let time = &energy.time;
    json!({
        "source": if source.source.is_empty() { "none" } else { source.source.as_str() },
        "quality": source.quality.name(),
        "none_because": source.none_because,
        "kind": energy.attributed(),
        "validated_on_hardware": false,
        "window_ns": source.window,
        "windows": energy.windows,
        "idle_policy": source.idle_policy(),
        "smt_weight": source.smt_weight.map(share),
        "spin_weight": source.spin_weight.map(share),
        "spin_weight_shown": share(source.spin_weights().0),
        "spin_split": if source.spin_timed { "timed" } else { "sampled" },
        "futex_split": if source.futex_timed { "timed" } else { "sampled" },
        "assumed_watts_per_core": source.assumed_watts,
        "pooled": energy.pooled,
        "carbon_g_per_kwh": carbon.map(|carbon| carbon.0),
        "domains": domains.collect::<Vec<_>>(),
        "waiting": energy.any().then(|| amount(&energy.waiting)),
        "places": "each lock's spread over its places by the yields there, or by the waits",
        "waiting_unknown_lock": energy.any().then(|| amount(&energy.waiting_unknown)),
        "held_left_out_ns": energy.held_left_out,
        "counterfactual": counterfactual::json(energy),
        "time": {
            "wall_ns": time.wall,
            "cpus_ns": time.cpus,
            "idle_ns": time.idle,
            "traced_ns": time.traced,
            "other_tasks_ns": time.other,
            "kernel_ns": time.kernel,
            "tracer_ns": time.tracer,
            "lost_ns": time.lost,
        },
    })
}

/// Keys of a lock.
pub(in crate::render) fn lock_keys(
    summary: &Summary,
    lock: &LockSummary,
    carbon: Option<Carbon>,
) -> Map<String, Value> {
    let found = present(summary)
        .map(|energy| energy.locks.get(&lock.lock.index).copied().unwrap_or_default());
    let mut out = Map::new();
    out.insert("energy_uj".to_owned(), json!(found.map(|one| one.energy)));
    out.insert("energy".to_owned(), found.map_or(Value::Null, |one| amount(&one)));
    out.insert("co2e_g".to_owned(), json!(found.and_then(|one| grams(carbon, &one))));
    let of_lock = |energy: &crate::analyze::energy::EnergySummary| {
        energy.held.get(&lock.lock.index).cloned().unwrap_or_default()
    };
    let held = present(summary).map(of_lock);
    out.insert("held_energy".to_owned(), held.map_or(Value::Null, |one| overlay(&one)));
    let imagined = present(summary).and_then(|energy| counterfactual::of_lock(energy, lock));
    out.insert("counterfactual".to_owned(), imagined.unwrap_or(Value::Null));
    let each = found.and_then(|one| per_contended(lock, &one));
    out.insert("energy_per_contended_uj".to_owned(), json!(each.map(|(each, _)| each)));
    out.insert("energy_per_contended_is_bound".to_owned(), json!(each.map(|(_, at_most)| at_most)));
    out
}

/// Grams of what was attributed, if they are asked for and it is more than noise.
fn grams(carbon: Option<Carbon>, amount: &Amount) -> Option<f64> {
    carbon.filter(|_| !amount.is_noise()).map(|carbon| carbon.grams(amount.energy))
}

/// Those of a thread.
pub(in crate::render) fn grams_of_thread(
    summary: &Summary,
    thread: crate::units::ThreadIndex,
    carbon: Option<Carbon>,
) -> Option<f64> {
    grams(carbon, &present(summary)?.threads.get(&thread)?.all)
}

/// Keys of a thread.
pub(in crate::render) fn thread_keys(
    summary: &Summary,
    thread: crate::units::ThreadIndex,
) -> (Value, Value) {
    let found =
        present(summary).map(|energy| energy.threads.get(&thread).copied().unwrap_or_default());
    let more = found.map_or(Value::Null, |one| {
        json!({
            "all": amount(&one.all),
            "waiting": amount(&one.waiting),
            "undivided_uj": one.undivided,
        })
    });
    (json!(found.map(|one| one.all.energy)), more)
}

/// What threads were given while they held a lock: at most, and in no sum.
fn overlay(held: &Held) -> Value {
    let threads = held
        .threads
        .iter()
        .map(|(thread, energy)| json!({"thread": thread, "energy_at_most_uj": energy}));
    json!({
        "energy_at_most_uj": held.energy,
        "in_sum": false,
        "threads": threads.collect::<Vec<_>>(),
    })
}

/// An amount, and how sure it is.
pub(in crate::render) fn amount(amount: &Amount) -> Value {
    json!({
        "energy_uj": amount.energy,
        "sigma_uj": rounded(amount.sigma),
        "low_uj": amount.low,
        "high_uj": amount.high,
        "noise": amount.is_noise(),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floating point saturate"
)]
fn rounded(uj: f64) -> u64 {
    uj.ceil() as u64
}
