//! The tables of the text report.

use std::collections::BTreeMap;

use super::answer::label;
use super::escape;
use super::rows::{Limits, Rows};
use super::text::{count, or_unknown, percent};
use crate::analyze::{
    LockSummary, Pair, ProcessSummary, Quantile, Spin, SpinSource, Summary, Sums, ThreadSummary,
};
use crate::trace::records::Class;
use crate::units::{Ns, Pid};

pub(super) fn locks<'a>(
    locks: impl Iterator<Item = &'a LockSummary>,
    summary: &Summary,
    whole: Ns,
    limits: Limits,
) -> String {
    let spin = spin_title(summary);
    let energy = super::energy::title(summary);
    let header: Vec<_> =
        ["kind", "lock", "waits", "yields", "waited", "blocked", "run queue", "yielded"]
            .into_iter()
            .chain(spin)
            .chain(["p50", "p99", "longest", "share"])
            .chain(energy)
            .collect();
    let mut table = Rows::new(&header, 2, limits);
    for lock in locks {
        let quantile = |q| match lock.quantile(q) {
            Some(Quantile::Known(ns)) => ns.to_string(),
            Some(Quantile::BelowThreshold) => format!("<{}", summary.meta.options.min_wait),
            None => "-".to_owned(),
        };
        table.row(lock.sums.wait(), || {
            let mut cells = vec![
                lock.lock.kind.name().to_owned(),
                label(summary, &lock.lock),
                count(lock.sums.waits),
                count(lock.sums.spins),
                lock.sums.wait().to_string(),
                lock.sums.blocked.to_string(),
                lock.sums.runq.to_string(),
                lock.sums.yielded.to_string(),
            ];
            cells.extend(spin.map(|_| spin_words(summary, &lock.sums)));
            cells.extend([
                quantile(0.5),
                quantile(0.99),
                lock.sums.max.to_string(),
                percent(lock.sums.wait(), whole),
            ]);
            cells.extend(energy.as_ref().map(|_| super::energy::of_lock(summary, lock)));
            cells
        });
    }
    table.finish("lock")
}

pub(super) fn kinds(summary: &Summary, limits: Limits) -> String {
    let spin = spin_title(summary);
    // Only waits of several sleeps have such time.
    let awake = (summary.totals.awake.0 > 0).then_some("awake between");
    let header: Vec<_> = ["kind", "waits", "yields", "waited", "blocked", "run queue", "yielded"]
        .into_iter()
        .chain(awake)
        .chain(spin)
        .chain(["longest", "share"])
        .collect();
    let mut table = Rows::new(&header, 1, limits);
    let mut kinds: Vec<_> = summary.by_kind.iter().collect();
    kinds.sort_by_key(|(kind, sums)| (std::cmp::Reverse(sums.wait()), **kind));
    for (kind, sums) in kinds {
        table.row(sums.wait(), || {
            let mut cells = vec![
                kind.name().to_owned(),
                count(sums.waits),
                count(sums.spins),
                sums.wait().to_string(),
                sums.blocked.to_string(),
                sums.runq.to_string(),
                sums.yielded.to_string(),
            ];
            cells.extend(awake.map(|_| sums.awake.to_string()));
            cells.extend(spin.map(|_| spin_words(summary, sums)));
            cells.extend([sums.max.to_string(), percent(sums.wait(), summary.totals.wait())]);
            cells
        });
    }
    table.finish("kind")
}

pub(super) fn classes(summary: &Summary, limits: Limits) -> String {
    let mut table = Rows::new(&["class", "waits", "yields", "waited", "share"], 1, limits);
    for class in [Class::Contention, Class::Pause, Class::Unclassified, Class::Idle] {
        let Sums { waits, spins, samples, .. } = summary.class(class);
        let wait = summary.class(class).wait();
        if waits > 0 || spins > 0 || samples > 0 {
            table.row(wait, || {
                let share = percent(wait, summary.totals.wait());
                vec![class.name().to_owned(), count(waits), count(spins), wait.to_string(), share]
            });
        }
    }
    table.finish("class")
}

/// The column of time spent spinning, if the trace has such times.
fn spin_title(summary: &Summary) -> Option<&'static str> {
    summary.spin(&summary.totals).map(|spin| match spin.source {
        SpinSource::Measured => "spinning",
        SpinSource::Sampled => "spinning (sampled)",
    })
}

/// `1.02 s`, or if it was sampled `1.02 s ±4 %`.
pub(super) fn spin_words(summary: &Summary, sums: &Sums) -> String {
    match summary.spin(sums) {
        Some(Spin { time, high, source: SpinSource::Sampled, .. }) if time.0 > 0 => {
            // The upper half of the interval is the wider one.
            format!("{time} ±{}", percent(Ns(high.0.saturating_sub(time.0)), time))
        }
        Some(spin) => spin.time.to_string(),
        None => "-".to_owned(),
    }
}

pub(super) fn threads<'a>(
    threads: impl Iterator<Item = &'a ThreadSummary>,
    summary: &Summary,
    limits: Limits,
) -> String {
    let several = summary.several();
    let figures =
        ["tid", "waits", "waited", "contention", "blocked", "run queue", "longest", "on CPU"];
    let energy = super::energy::title(summary);
    let header: Vec<_> = std::iter::once("thread")
        .chain(several.then_some("pid"))
        .chain(figures)
        .chain(energy)
        .collect();
    let mut table = Rows::new(&header, 1, limits);
    for thread in threads {
        table.row(thread.sums.wait(), || {
            let mut cells = vec![escape::name(&thread.name)];
            cells.extend(several.then(|| pid_words(summary.homes.pid(thread.process))));
            cells.extend([
                thread.tid.0.to_string(),
                count(thread.sums.waits),
                thread.sums.wait().to_string(),
                thread.contention.to_string(),
                thread.sums.blocked.to_string(),
                thread.sums.runq.to_string(),
                thread.sums.max.to_string(),
                thread.oncpu.to_string(),
            ]);
            cells.extend(energy.map(|_| super::energy::of_thread(summary, thread)));
            cells
        });
    }
    table.finish("thread")
}

/// A process's id; `-` if it is not known which process it is.
fn pid_words(pid: Option<Pid>) -> String {
    pid.map_or_else(|| "-".to_owned(), |pid| pid.0.to_string())
}

/// Which processes there were, and what each comes to.
pub(super) fn processes(summary: &Summary, limits: Limits) -> String {
    let header = [
        "process",
        "python",
        "came",
        "pid",
        "parent",
        "threads",
        "waits",
        "waited",
        "contention",
        "yields",
        "on CPU",
        "lived",
    ];
    let mut table = Rows::new(&header, 3, limits);
    let recorded = summary.processes.iter().filter(|process| process.record.recorded);
    let mut not = 0;
    for process in recorded {
        table.row(process.sums.wait(), || process_cells(summary, process));
    }
    let others: Vec<_> = summary.processes.iter().filter(|one| !one.record.recorded).collect();
    for process in &others {
        // Their waits are not recorded; one that was a CPython before an exec may have some.
        if process.sums.waits > 0 {
            table.row(process.sums.wait(), || process_cells(summary, process));
        } else {
            not += 1;
        }
    }
    let mut out = table.finish("process");
    if not > 0 {
        let mut programs: BTreeMap<&str, u64> = BTreeMap::new();
        for process in others.iter().filter(|process| process.sums.waits == 0) {
            let program = summary.homes.program(process.record.index).unwrap_or_default();
            *programs.entry(program).or_default() += 1;
        }
        let words: Vec<_> = programs
            .iter()
            .take(8)
            .map(|(program, n)| {
                let program = or_unknown(program);
                if *n == 1 { program } else { format!("{} × {program}", count(*n)) }
            })
            .collect();
        let more = if programs.len() > 8 { ", …" } else { "" };
        let what = if not == 1 { "process that runs" } else { "processes that run" };
        out += &format!(
            " not recorded: {} {what} no CPython ({}{more})\n",
            count(not),
            words.join(", ")
        );
    }
    out
}

fn process_cells(summary: &Summary, process: &ProcessSummary) -> Vec<String> {
    let record = &process.record;
    let target = &record.target;
    let program = summary.homes.program(record.index).unwrap_or_default();
    let python = match (&target.python, target.free_threaded) {
        (Some(version), Some(true)) => format!("{}t", escape::name(version)),
        (Some(version), _) => escape::name(version),
        (None, _) => "-".to_owned(),
    };
    let exec = if record.execs > 0 { ", exec" } else { "" };
    let end = summary.end.as_ref().map(|end| end.at);
    let from = record.started.unwrap_or(summary.meta.start);
    let lived =
        record.ended.or(end).map_or_else(|| "-".to_owned(), |at| at.since(from).to_string());
    vec![
        or_unknown(program),
        python,
        format!("{}{exec}", record.came.name()),
        pid_words(Some(target.pid)),
        pid_words(record.parent.and_then(|parent| summary.homes.pid(parent))),
        count(process.threads),
        count(process.sums.waits),
        process.sums.wait().to_string(),
        process.contention.to_string(),
        count(process.sums.spins),
        process.oncpu.to_string(),
        lived,
    ]
}

pub(super) fn pairs<'a>(
    pairs: impl Iterator<Item = &'a Pair>,
    summary: &Summary,
    limits: Limits,
) -> String {
    let threads: BTreeMap<_, _> = summary.threads.iter().map(|t| (t.index, t)).collect();
    let name = |index| {
        threads.get(&index).map_or_else(
            || "[thread lost]".to_owned(),
            |thread| format!("{} ({})", escape::name(&thread.name), thread.tid.0),
        )
    };
    let header = ["waiter", "held by", "source", "lock", "class", "waits", "waited", "longest"];
    let mut table = Rows::new(&header, 5, limits);
    for pair in pairs {
        table.row(pair.sums.wait(), || {
            vec![
                name(pair.waiter.0),
                name(pair.holder.0),
                pair.source.name().to_owned(),
                label(summary, &pair.lock),
                pair.lock.class.name().to_owned(),
                count(pair.sums.waits),
                pair.sums.wait().to_string(),
                pair.sums.max.to_string(),
            ]
        });
    }
    table.finish("pair")
}
