//! The energy section of the text report: the source and the rule, then domains, locks, overlays.

use std::fmt::Write;

use super::super::answer::label;
use super::super::escape;
use super::super::rows::{Limits, Rows};
use super::super::text::{count, plural};
use super::{Carbon, became, counted, counterfactual, per_contended, share, titled, words};
use crate::analyze::energy::{Amount, DomainEnergy, EnergySummary};
use crate::analyze::{LockSummary, Summary};
use crate::energy::{Microjoules, Part, Quality};
use crate::trace::energy::EnergySource;
use crate::units::Ns;

/// The section of the report.
pub(in crate::render) fn section(
    summary: &Summary,
    limits: Limits,
    carbon: Option<Carbon>,
) -> String {
    let Some(energy) = counted(summary) else { return String::new() };
    let mut out = policy(energy);
    out += &domains(energy, limits, carbon);
    if energy.any() {
        out += &locks(summary, energy, limits, carbon);
        out += &held(summary, energy, limits);
        out += &counterfactual::section(summary, energy, limits);
    }
    out += &time(energy);
    out
}

/// Where the numbers come from and by which rule they were divided.
fn policy(energy: &EnergySummary) -> String {
    let source = &energy.source;
    let kind = match source.quality {
        Quality::Measured => "measured",
        Quality::Simulated => {
            "SIMULATED: the readings are somebody's making, not a counter of this machine"
        }
        Quality::Estimated => "ESTIMATED: nothing was measured",
        Quality::None => "none",
    };
    let mut out = format!(
        " energy: {kind}\n source: {}; {} windows of about {}; no number of lockwatt's has been \
         validated against RAPL hardware\n",
        escape::whole(&source.source),
        energy.windows,
        source.window
    );
    if let Some(watts) = source.assumed_watts {
        let _ = writeln!(out, " {watts} W per busy core assumed, whatever it does");
    }
    let how = if source.futex_timed {
        "as timed at each yield and futex call"
    } else if source.spin_timed {
        "spinning as timed at each yield and futex calls by samples"
    } else {
        "by samples"
    };
    let rule = format!(
        " rule: {}. What a lock is given is waiting on the CPU, {how}; blocked time has no joules.",
        rule(source)
    );
    let nothing =
        " rule: nothing of it is divided, as no time on a CPU says what a whole machine uses";
    let _ = writeln!(out, "{}", if energy.any() { &rule } else { nothing });
    if source.quality == Quality::Measured {
        out += " whether the firmware filters the counter (as it may against side channels) is not known\n";
    }
    if energy.pooled {
        out += " which CPU is of which package is not known: each package's energy is divided over \
                 what ran anywhere\n";
    }
    for domain in &energy.domains {
        if let Some((known, since)) = domain.first_unknown {
            let what = became(known);
            let _ = writeln!(
                out,
                " INCOMPLETE: the counter of {} {what} {since} after the first reading; {} of its \
                 time are in no sum",
                escape::name(&domain.name),
                domain.unknown
            );
        }
    }
    out
}

/// By which rule energy is divided: what is taken off first, and what time counts.
pub(in crate::render) fn rule(source: &EnergySource) -> String {
    let idle = if source.idle.iter().any(Option::is_some) {
        "calibrated idle power is taken off first (baseline)"
    } else {
        "no baseline is taken off (--idle none): idle power is in every part"
    };
    let smt = source.smt_weight.map_or_else(
        || "no two CPUs share a core".to_owned(),
        |weight| format!("time beside a busy sibling counts {:.2}", share(weight)),
    );
    let gamma = source.spin_weight.map_or_else(String::new, |weight| {
        let weight = share(weight);
        if source.spin_weighted {
            format!(
                "; waiting on the CPU counts {weight:.2}, as calibrated (γ), and 1 in the range of the \
                 model"
            )
        } else {
            format!(
                "; waiting on the CPU counts as other time does (γ = 1), and {weight:.2}, as \
                 calibrated, in the range of the model"
            )
        }
    });
    format!("divided by on-CPU time of all tasks; {idle}; {smt}{gamma}")
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
    let name = escape::name(&domain.name);
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
    let mut header = vec!["waiting on the CPU for", given, "range of the model", "blocked waits"];
    header.push("per contended acquisition");
    if carbon.is_some() {
        header.push("CO2e");
    }
    let mut table = Rows::new(&header, 1, limits);
    let mut row = |what: String, amount: &Amount, lock: Option<&LockSummary>| {
        table.row(Ns(0), || {
            let each = lock
                .and_then(|lock| per_contended(lock, amount))
                .map(|(each, at_most)| format!("{}{each}", if at_most { "at most " } else { "" }));
            let range = if amount.low == amount.high {
                "-".to_owned()
            } else {
                format!("{} to {}", amount.low, amount.high)
            };
            let dash = || "-".to_owned();
            let mut cells = vec![what, words(amount), range];
            cells.push(lock.map_or_else(dash, |lock| count(lock.sums.waits)));
            cells.push(each.unwrap_or_else(dash));
            cells.extend(carbon.map(|carbon| carbon.of(amount)));
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
        row(label(summary, &lock.lock), amount, Some(lock));
    }
    if energy.waiting_unknown.energy.0 > 0 {
        row("[lock not known]".to_owned(), &energy.waiting_unknown, None);
    }
    let out = table.finish("lock");
    let all = words(&energy.waiting);
    let sampling = if energy.source.futex_timed {
        "reading"
    } else if energy.source.spin_timed {
        "reading and of sampled futex calls"
    } else {
        "reading and sampling"
    };
    let bound = if summary.locks.iter().any(|lock| lock.sums.spins > 0) {
        "; who got a lock by spinning alone is not counted: \"at most\" is what it would be if nobody had"
    } else {
        ""
    };
    format!("{out} all waiting on the CPU: {all}; ± is 2σ of {sampling}, not of the rule{bound}\n")
}

/// Of the threads' energy, what they were given while they held a lock.
fn held(summary: &Summary, energy: &EnergySummary, limits: Limits) -> String {
    let mut locks: Vec<_> = summary
        .locks
        .iter()
        .filter_map(|lock| Some((lock, energy.held.get(&lock.lock.index)?)))
        .collect();
    if locks.is_empty() {
        return String::new();
    }
    locks.sort_by_key(|(_, held)| std::cmp::Reverse(held.energy));
    let header =
        ["of the threads' energy, while holding", "at most", "holds seen", "held, at most"];
    let mut table = Rows::new(&header, 1, limits);
    for (lock, held) in locks {
        table.row(Ns(0), || {
            let sums = lock.holds.as_ref().map(|holds| holds.sums).unwrap_or_default();
            vec![
                label(summary, &lock.lock),
                held.energy.to_string(),
                count(sums.holds),
                sums.held.to_string(),
            ]
        });
    }
    let mut out = table.finish("lock");
    let _ = writeln!(
        out,
        " that is an overlay ({}, in no sum): holds from a wait's end to the waking by the same \
         thread, and no more of them than the thread was on a CPU; others are not seen",
        energy.attributed()
    );
    if energy.held_left_out.0 > 0 {
        let _ = writeln!(out, " beyond the limit and not in it: {}", energy.held_left_out);
    }
    out
}

fn time(energy: &EnergySummary) -> String {
    let time = &energy.time;
    format!(
        " CPU time in {} of {} ({} in all): target {}, other programs {}, kernel {}, lockwatt {}, \
         idle {}, not accounted for {}\n",
        time.wall,
        plural(energy.source.cpus.len() as u64, "CPU"),
        time.cpus,
        time.traced,
        time.other,
        time.kernel,
        time.tracer,
        time.idle,
        time.lost
    )
}
