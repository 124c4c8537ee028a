//! Energy as text and JSON. Every number says what it is: measured, attributed, estimated, simulated.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::answer::label;
use super::rows::{Limits, Rows};
use crate::analyze::energy::{Amount, DomainEnergy, EnergySummary};
use crate::analyze::{LockSummary, Summary};
use crate::energy::{Known, Microjoules, Part, Quality};
use crate::trace::energy::ONE;
use crate::units::Ns;

/// Grams of CO2e for a kilowatt-hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carbon(pub f64);

impl Carbon {
    /// Grams for this energy.
    #[must_use]
    pub fn grams(self, energy: Microjoules) -> f64 {
        energy.joules() / 3.6e6 * self.0
    }

    fn words(self, energy: Microjoules) -> String {
        let grams = self.grams(energy);
        if grams < 0.001 {
            format!("{:.3} µg CO2e", grams * 1e6)
        } else if grams < 1.0 {
            format!("{:.3} mg CO2e", grams * 1e3)
        } else {
            format!("{grams:.3} g CO2e")
        }
    }
}

/// The one line about energy at the head of a report; empty if the trace says nothing of it.
pub(super) fn head(summary: &Summary) -> String {
    let Some(energy) = &summary.energy else { return String::new() };
    match missing(energy) {
        Some(words) => words + "\n",
        None => String::new(),
    }
}

/// `energy: no live counter (why)`, if there is no energy.
pub(super) fn missing(energy: &EnergySummary) -> Option<String> {
    let because = energy.source.none_because.as_ref()?;
    Some(format!("energy: no live counter ({})", super::escape::whole(because)))
}

/// What there is to show of energy.
pub(super) fn present(summary: &Summary) -> Option<&EnergySummary> {
    summary.energy.as_ref().filter(|energy| energy.any())
}

/// The column of a lock table.
pub(super) fn title(summary: &Summary) -> Option<&'static str> {
    present(summary).map(titled)
}

fn titled(energy: &EnergySummary) -> &'static str {
    match energy.source.quality {
        Quality::Simulated => "energy (attributed, simulated)",
        Quality::Estimated => "energy (estimated)",
        Quality::Measured | Quality::None => "energy (attributed)",
    }
}

/// What a lock's on-CPU waiting comes to.
pub(super) fn of_lock(summary: &Summary, lock: &LockSummary) -> String {
    let amount = present(summary).and_then(|energy| energy.locks.get(&lock.lock.index));
    amount.map_or_else(|| "-".to_owned(), words)
}

/// `1.23 mJ ±4 %`, or `< 45 µJ` where it is no more than noise.
pub(super) fn words(amount: &Amount) -> String {
    if amount.energy.0 == 0 && amount.sigma == 0.0 {
        return "-".to_owned();
    }
    if amount.is_noise() {
        return format!("< {}", amount.two_sigma());
    }
    format!("{} ±{}", amount.energy, part(2.0 * amount.sigma, amount.energy))
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn part(uj: f64, whole: Microjoules) -> String {
    let share = 100.0 * uj / (whole.0.max(1)) as f64;
    if share < 9.95 { format!("{share:.1} %") } else { format!("{share:.0} %") }
}

/// The section of the report.
pub(super) fn section(summary: &Summary, limits: Limits, carbon: Option<Carbon>) -> String {
    let Some(energy) = present(summary) else { return String::new() };
    let mut out = policy(energy);
    out += &domains(energy, limits, carbon);
    out += &locks(summary, energy, limits, carbon);
    out += &time(energy);
    out
}

/// Where the numbers come from and by which rule they were divided.
fn policy(energy: &EnergySummary) -> String {
    let source = &energy.source;
    let mut out = format!(
        " source: {}, {}; {} windows of about {}; no number of lockwatt's has been validated \
         against RAPL hardware\n",
        super::escape::whole(&source.source),
        source.quality.name(),
        energy.windows,
        source.window
    );
    let idle = if source.idle.iter().any(Option::is_some) {
        "calibrated idle power is taken off first (baseline)"
    } else {
        "no baseline is taken off (--idle none): idle power is in every part"
    };
    let smt = source.smt_weight.map_or_else(
        || "no two CPUs share a core".to_owned(),
        |weight| format!("time beside a busy sibling counts {:.2}", share(weight)),
    );
    let _ = writeln!(
        out,
        " rule: divided by on-CPU time of all tasks; {idle}; {smt}. What a lock is given is \
         waiting on the CPU, by samples; blocked time has no joules."
    );
    if let Some(watts) = source.assumed_watts {
        let _ = writeln!(out, " ESTIMATED: {watts} W per busy core assumed; nothing was measured");
    }
    if source.quality == Quality::Simulated {
        out += " SIMULATED: the readings are somebody's making, not a counter of this machine\n";
    }
    if energy.pooled {
        out += " which CPU is of which package is not known: each package's energy is divided over \
                 what ran anywhere\n";
    }
    for domain in &energy.domains {
        if let Some((known, since)) = domain.first_unknown {
            let what = match known {
                Known::Reset => "began anew",
                Known::Frozen => "stood still",
                Known::Gone => "was gone",
                Known::Measured | Known::Modelled => continue,
            };
            let _ = writeln!(
                out,
                " INCOMPLETE: the counter of {} {what} {since} after the first reading; {} of its \
                 time are in no sum",
                super::escape::name(&domain.name),
                domain.unknown
            );
        }
    }
    out
}

fn share(weight: u32) -> f64 {
    f64::from(weight) / f64::from(ONE)
}

fn domains(energy: &EnergySummary, limits: Limits, carbon: Option<Carbon>) -> String {
    let measured = match energy.source.quality {
        Quality::Measured => "energy (measured)",
        Quality::Estimated => "energy (estimated)",
        Quality::Simulated => "energy (simulated)",
        Quality::None => "energy",
    };
    let mut header = vec!["domain", measured, "power", "baseline", "target", "other programs"];
    header.extend(["kernel", "lockwatt", "not accounted for", "idle, above baseline"]);
    if carbon.is_some() {
        header.push("CO2e");
    }
    let mut table = Rows::new(&header, 1, limits);
    for domain in &energy.domains {
        table.row(Ns(0), || {
            let mut cells = vec![name(domain), domain.energy.to_string(), domain.watts.to_string()];
            let parts = [
                domain.baseline,
                domain.traced,
                domain.other,
                domain.kernel,
                domain.tracer,
                domain.lost,
                domain.idle_active,
            ];
            let shown = |part: Microjoules| {
                if domain.split { part.to_string() } else { "-".to_owned() }
            };
            cells.extend(parts.map(shown));
            cells.extend(carbon.map(|carbon| carbon.words(domain.energy)));
            cells
        });
    }
    let mut out = table.finish("domain");
    if let Some(Carbon(factor)) = carbon {
        let _ = writeln!(out, " CO2e: {factor} g per kWh, as given; nothing else is counted");
    }
    out
}

fn name(domain: &DomainEnergy) -> String {
    let name = super::escape::name(&domain.name);
    match (domain.split, domain.part) {
        (true, Part::Dram) => format!("{name} (less sure)"),
        (true, _) => name,
        (false, _) => format!("{name} (not divided)"),
    }
}

/// What waiting on the CPU comes to, by lock.
fn locks(
    summary: &Summary,
    energy: &EnergySummary,
    limits: Limits,
    carbon: Option<Carbon>,
) -> String {
    let given = titled(energy);
    let mut header = vec!["waiting on the CPU for", given, "range of the model", "contended"];
    header.push("per contended acquisition");
    if carbon.is_some() {
        header.push("CO2e");
    }
    let mut table = Rows::new(&header, 1, limits);
    let mut row = |what: String, amount: &Amount, contended: Option<u64>| {
        table.row(Ns(0), || {
            let each = contended
                .filter(|&n| n > 0 && !amount.is_noise())
                .map(|n| Microjoules(amount.energy.0 / n).to_string());
            let range = if amount.low == amount.high {
                "-".to_owned()
            } else {
                format!("{} to {}", amount.low, amount.high)
            };
            let dash = || "-".to_owned();
            let mut cells = vec![what, words(amount), range];
            cells.push(contended.map_or_else(dash, super::text::count));
            cells.push(each.unwrap_or_else(dash));
            cells.extend(carbon.map(|carbon| carbon.words(amount.energy)));
            cells
        });
    };
    let mut locks: Vec<&LockSummary> = summary
        .locks
        .iter()
        .filter(|lock| energy.locks.get(&lock.lock.index).is_some_and(|one| one.energy.0 > 0))
        .collect();
    locks.sort_by_key(|lock| std::cmp::Reverse(energy.locks[&lock.lock.index].energy));
    for lock in locks {
        let amount = &energy.locks[&lock.lock.index];
        row(label(summary, &lock.lock), amount, Some(lock.sums.waits));
    }
    if energy.waiting_unknown.energy.0 > 0 {
        row("[lock not known]".to_owned(), &energy.waiting_unknown, None);
    }
    let out = table.finish("lock");
    let all = words(&energy.waiting);
    format!(
        "{out} all waiting on the CPU: {all}; ± is 2σ of reading and sampling, not of the rule\n"
    )
}

fn time(energy: &EnergySummary) -> String {
    let time = &energy.time;
    format!(
        " CPU time in {} of {} ({} in all): target {}, other programs {}, kernel {}, lockwatt {}, \
         idle {}, not accounted for {}\n",
        time.wall,
        super::text::plural(energy.source.cpus.len() as u64, "CPU"),
        time.cpus,
        time.traced,
        time.other,
        time.kernel,
        time.tracer,
        time.idle,
        time.lost
    )
}

/// The `energy` object of the JSON report.
pub(super) fn json(summary: &Summary, carbon: Option<Carbon>) -> Value {
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
        "idle_policy": if source.idle.iter().any(Option::is_some) { "calibrated" } else { "none" },
        "smt_weight": source.smt_weight.map(share),
        "spin_weight": source.spin_weight.map(share),
        "assumed_watts_per_core": source.assumed_watts,
        "pooled": energy.pooled,
        "carbon_g_per_kwh": carbon.map(|carbon| carbon.0),
        "domains": domains.collect::<Vec<_>>(),
        "waiting": amount(&energy.waiting),
        "waiting_unknown_lock": amount(&energy.waiting_unknown),
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
pub(super) fn lock_keys(summary: &Summary, lock: &LockSummary) -> Map<String, Value> {
    let found = present(summary)
        .map(|energy| energy.locks.get(&lock.lock.index).copied().unwrap_or_default());
    let mut out = Map::new();
    out.insert("energy_uj".to_owned(), json!(found.map(|one| one.energy)));
    out.insert("energy".to_owned(), found.map_or(Value::Null, |one| amount(&one)));
    let each = found.filter(|_| lock.sums.waits > 0).map(|one| one.energy.0 / lock.sums.waits);
    out.insert("energy_per_contended_uj".to_owned(), json!(each));
    out
}

/// Keys of a thread.
pub(super) fn thread_keys(summary: &Summary, thread: crate::units::ThreadIndex) -> (Value, Value) {
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

fn amount(amount: &Amount) -> Value {
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
