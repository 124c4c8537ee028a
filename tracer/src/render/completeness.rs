//! How complete a report is, in words.

use super::text::{count, or_unknown, percent, plural};
use super::{energy, escape};
use crate::analyze::completeness::EnergyGap;
use crate::analyze::stacks::is_loss;
use crate::analyze::{Completeness, Summary, UnseenSwitches};
use crate::trace::TimeUnit;
use crate::units::Ns;

/// How much of what happened is in the report, and what is not; a line each.
pub(super) fn completeness(summary: &Summary) -> String {
    let c = &summary.completeness;
    let limited = if c.limited > 0 {
        format!(" + {} beyond --max-events-per-sec", count(c.limited))
    } else {
        String::new()
    };
    let mut lines = vec![format!(
        "waits: {} = {} with a record + {} below {}{limited} + {} lost",
        count(c.waits()),
        count(c.events),
        count(c.below),
        summary.meta.options.min_wait,
        count(c.lost_waits)
    )];
    if c.placed > 0 {
        lines.push(format!(
            "of those below, {} are summed up by thread and lock; each sum has the place of its last wait, \
             and the places of the others are estimated by it",
            count(c.placed)
        ));
    }
    for (reason, n) in c.losses() {
        lines.push(format!("LOST: {} {}", escape::name(reason), count(n)));
    }
    lines.extend(c.unseen.as_ref().map(unseen));
    lines.extend(times(summary.meta.options.time_unit));
    lines.push(match &c.file.cut {
        Some(cut) => format!("CUT: {cut}"),
        None => "file: closed properly".to_owned(),
    });
    lines.extend(c.file.damage.iter().map(|damage| format!("DAMAGED: {damage}")));
    if c.file.unknown_chunks > 0 {
        let n = count(c.file.unknown_chunks);
        lines.push(format!("skipped: {n} chunks of kinds that this lockwatt doesn't know"));
    }
    if c.file.left_out > 0 {
        lines.push(format!(
            "LEFT OUT: {} locks, threads, frames and stacks beyond the limit",
            count(c.file.left_out)
        ));
    }
    lines.push(format!(
        "unclassified: {} of the time waited ({} in {})",
        percent(c.unclassified.wait(), summary.totals.wait()),
        c.unclassified.wait(),
        plural(c.unclassified.waits, "wait")
    ));
    lines.extend(stacks(c));
    lines.extend(graph(summary));
    lines.extend(crowded(c));
    if c.spins_unattributed > 0 {
        lines.push(format!(
            "yields not tied to a lock: {} ({} off the CPU, in no sum above)",
            count(c.spins_unattributed),
            c.yielded_unattributed
        ));
    }
    if summary.totals.spins > 0 {
        lines.push(
            "yields are known by lock and line; a thread's time waited holds long runs of them only"
                .to_owned(),
        );
    }
    if c.woken_before_sleep > 0 || c.wake_unseen > 0 {
        lines.push(format!(
            "woken before they slept: {}; waking not seen: {}",
            count(c.woken_before_sleep),
            count(c.wake_unseen)
        ));
    }
    if c.switch_in_unseen > 0 {
        lines.push(format!(
            "ends of waits not seen by the kernel's tracepoint, and known from the thread's time on the \
             CPU: {}",
            count(c.switch_in_unseen)
        ));
    }
    for program in summary.meta.programs.iter().filter(|program| !program.attached) {
        lines.push(format!(
            "not attached: {} ({}): {}",
            escape::name(&program.name),
            escape::name(&program.hook),
            or_unknown(program.reason.as_deref().unwrap_or_default())
        ));
    }
    lines.extend(spinning(summary));
    lines.extend(self_cost(summary));
    lines.iter().fold(String::new(), |out, line| out + " " + line + "\n")
}

/// How far the times of recorded waits are rounded, if they are.
fn times(unit: TimeUnit) -> Option<String> {
    (!unit.is_exact()).then(|| {
        format!(
            "times: in units of {0}, each wait less than {0} too long or too short, as often one as the \
             other",
            unit.length()
        )
    })
}

/// What chains, convoys and holds don't hold.
fn graph(summary: &Summary) -> Option<String> {
    let graph = &summary.graph;
    let mut words = Vec::new();
    if graph.not_followed > 0 {
        words.push(format!(
            "chains of {} ({} of all: of a long recording only stretches are followed)",
            plural(graph.not_followed, "wait"),
            share(graph.not_followed, summary.completeness.events)
        ));
    }
    if graph.late > 0 {
        words.push(format!("the beginning of {} that came late", plural(graph.late, "wait")));
    }
    if graph.unfollowed > 0 {
        words.push(format!("some moments of {}", plural(graph.unfollowed, "wait")));
    }
    if graph.chains_left_out.0 > 0 {
        words.push(format!("{} of chains beyond the limit", graph.chains_left_out));
    }
    if graph.locks_left_out > 0 {
        words.push("locks beyond the limit".to_owned());
    }
    (!words.is_empty()).then(|| format!("not in the wait-for graph: {}", words.join(", ")))
}

/// What the recording itself took.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "three digits are shown; a rate is at least 0"
)]
fn self_cost(summary: &Summary) -> Option<String> {
    let number = |name: &str| summary.self_cost.get(name).copied();
    let cpu = Ns(number("recorder_cpu_ns")?);
    // Most of it is the kernel's check of the programs, before the recording: no share of that.
    let mut line = format!("lockwatt itself: {cpu} of CPU time, attaching included");
    if let Some(bytes) = number("recorder_peak_bytes") {
        line += &format!(", at most {:.0} MB of memory", bytes as f64 / 1e6);
    }
    if let Some(bytes) = number("kernel_map_bytes") {
        line += &format!(" and {:.0} MB of kernel maps", bytes as f64 / 1e6);
    }
    let c = &summary.completeness;
    if let Some(bytes) = number("bytes_written") {
        line += &format!(", {:.1} MB written", bytes as f64 / 1e6);
        if c.events > 0 {
            let each = bytes as f64 / c.events as f64;
            line += &format!(" ({each:.1} bytes per wait with a record)");
        }
    }
    let seconds = summary.duration.0 as f64 / 1e9;
    if seconds > 0.0 {
        line += &format!(", {:.0} waits/s", c.waits() as f64 / seconds);
    }
    let sampled = ["bpf_sampled_ns", "bpf_sampled_run_ns", "bpf_sampled_runs"].map(number);
    line += &match (number("bpf_run_ns"), number("bpf_runs"), sampled) {
        (Some(ns), Some(runs), _) => {
            let time = Ns(ns);
            format!("; its kernel programs: {time} in {} runs (counted by the kernel)", count(runs))
        }
        (_, _, [Some(looked), Some(run), Some(runs)]) => format!(
            "; its kernel programs: {} of a CPU, {} runs/s (estimated from {} of the recording)",
            percent(Ns(run), Ns(looked)),
            count((runs as f64 * 1e9 / looked.max(1) as f64).round() as u64),
            Ns(looked)
        ),
        _ => "; its kernel programs: not counted (record --self-stats)".to_owned(),
    };
    Some(line)
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn share(part: u64, whole: u64) -> String {
    format!("{:.0} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// What was too much to be told apart.
fn crowded(c: &Completeness) -> Option<String> {
    let tables = [
        (c.crowded.cells, "wait", "by thread"),
        (c.crowded.waiting, "wait", "by place"),
        (c.crowded.holding, "wait", "by holder"),
        (c.crowded.pairs, "wait", "by pair of threads"),
        (c.crowded.links, "wait", "by both places"),
        (c.crowded.yielders, "run", "of yields by thread"),
        (c.crowded.yielding, "run", "of yields by place"),
    ];
    let words = tables.iter().filter(|(n, ..)| *n > 0);
    let words: Vec<_> = words.map(|(n, of, by)| format!("{} {by}", plural(*n, of))).collect();
    (!words.is_empty())
        .then(|| format!("beyond the limit, and told apart by lock only: {}", words.join(", ")))
}

/// How time spent spinning is known, and how much of it.
fn spinning(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    let measured = summary.spin_measured();
    if let Some(sampling) = &summary.sampling {
        let all = sampling.estimate(summary.totals.samples);
        lines.push(format!(
            "SAMPLED at {} Hz per CPU: spinning {} ({} to {}, 95 %) in {} of the target's {}{}",
            count(sampling.hz.into()),
            all.time,
            all.low,
            all.high,
            count(sampling.spinning),
            plural(sampling.target, "sample"),
            if measured { "; shown is what was measured" } else { "" }
        ));
        if sampling.ambiguous > 0 {
            lines.push(format!(
                "samples of spinning not tied to a lock: {} ({}, in no sum above)",
                count(sampling.ambiguous),
                sampling.estimate(sampling.ambiguous).time
            ));
        }
        if sampling.inexact > 0 {
            lines.push(format!(
                "functions that spin and whose ends are not known: {} (sampled around the yield)",
                count(sampling.inexact)
            ));
        }
    }
    if !measured {
        let spin =
            if summary.sampling.is_some() { "sampled" } else { "not measured with default hooks" };
        lines.push(format!(
            "spin time on the CPU is {spin}; yields counted are those that gave up the CPU"
        ));
    }
    lines
}

/// How many waits have a stack, and why the others have none.
fn stacks(c: &Completeness) -> Vec<String> {
    if c.events == 0 {
        return vec![];
    }
    if !c.stacks_taken() {
        return vec!["stacks: none was recorded".to_owned()];
    }
    let reasons = |lost: bool| {
        let some = c.stacks_missing.iter().filter(|(reason, _)| is_loss(**reason) == lost);
        some.map(|(reason, n)| format!("{} {}", reason.name(), count(*n))).collect::<Vec<_>>()
    };
    let missing = c.stacks_missing.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    let mut line = format!("stacks: {}", plural(c.events.saturating_sub(missing), "wait"));
    line += " with one";
    if c.stacks_truncated > 0 {
        line += &format!(" ({} without its outer frames)", count(c.stacks_truncated));
    }
    let without = reasons(false);
    if !without.is_empty() {
        line += &format!("; none for {}", without.join(", "));
    }
    let mut lines = vec![line];
    if c.places_estimated > 0 {
        lines.push(format!(
            "places ESTIMATED: {} (times are measured; in a storm a sample by time is walked, and the \
             others are placed like the last walked wait of the same thread, lock and length)",
            plural(c.places_estimated, "wait")
        ));
    }
    let lost = reasons(true);
    if !lost.is_empty() {
        lines.push(format!(
            "STACKS LOST: {} (the time of these waits is in every sum)",
            lost.join(", ")
        ));
    }
    lines
}

/// What unseen switches mean for the energy of tasks.
pub(super) fn unseen(unseen: &UnseenSwitches) -> String {
    let what = format!(
        "energy: {} not seen by the program that times CPUs (energy_switch_unseen)",
        plural_of_switches(unseen.switches)
    );
    match unseen.at_most {
        Some(time) => format!(
            "{what}: at most {time} of {} of CPU time ({}) may be in the wrong hands; waits and totals \
             don't depend on it",
            unseen.of,
            percent(time, unseen.of)
        ),
        None => format!("{what}: without a sampler it is not known how much CPU time that is"),
    }
}

fn plural_of_switches(n: u64) -> String {
    format!(
        "{} of a CPU",
        if n == 1 { "1 switch".to_owned() } else { format!("{} switches", count(n)) }
    )
}

/// `energy: 7 switches unseen, at most 35 ms of 12 s`, where they are little; else they are a loss.
pub(super) fn unseen_words(c: &Completeness) -> Option<String> {
    let unseen = c.unseen.filter(UnseenSwitches::is_little)?;
    let time = unseen.at_most?;
    let switches = plural_of_switches(unseen.switches);
    Some(format!("energy: {switches} not seen, at most {time} of {} of CPU time", unseen.of))
}

/// What is missing, in one phrase.
pub(super) fn condition_words(c: &Completeness) -> String {
    let mut words = vec![missing_words(c)];
    let others = c.losses().filter(|(reason, _)| *reason != "trace_damaged");
    let others: Vec<_> =
        others.map(|(reason, n)| format!("{} {}", escape::name(reason), count(n))).collect();
    if !others.is_empty() {
        words.push(format!("losses: {}", others.join(", ")));
    }
    words.join("; ")
}

/// The same without reasons, for where there is little room.
pub(super) fn missing_words(c: &Completeness) -> String {
    let mut words = Vec::new();
    if c.lost_waits > 0 {
        words.push(format!("{} of {} lost", count(c.lost_waits), plural(c.waits(), "wait")));
    }
    if c.file.cut.is_some() {
        words.push("the file was cut".to_owned());
    }
    if !c.file.damage.is_empty() {
        words.push(match c.file.damage.len() {
            1 => "the file is damaged in one place".to_owned(),
            n => format!("the file is damaged in {n} places"),
        });
    }
    if words.is_empty() {
        words.push("no waits lost".to_owned());
    }
    words.extend(stacks_lost_words(c));
    words.extend(c.energy_gap.as_ref().map(gap_words));
    words.join("; ")
}

/// `energy of package-0 not known for 2 s of 10 s (the counter stood still)`.
fn gap_words(gap: &EnergyGap) -> String {
    let name = escape::name(&gap.domain);
    let what = energy::became(gap.known);
    format!("energy of {name} not known for {} of {} (its counter {what})", gap.unknown, gap.of)
}

/// `3 stacks lost`, one for each wait without its own, if any were.
pub(super) fn stacks_lost_words(c: &Completeness) -> Option<String> {
    let lost = c.stacks_lost();
    (lost > 0).then(|| format!("{} lost", plural(lost, "stack")))
}
