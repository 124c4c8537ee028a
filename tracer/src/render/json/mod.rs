//! `report --format json`, schema 1.
//!
//! Times are integer nanoseconds, addresses `"0x…"` strings. What is not in the trace is `null` or
//! empty, never invented.

mod completeness;
mod lock;
mod process;
mod sums;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Value, json};

use self::completeness::completeness;
use self::lock::{lock, site};
use self::process::{process, target};
use self::sums::totals;
use super::energy::{self, Carbon};
use super::escape::harmful;
use super::people::People;
use super::{graph_json, pauses};
use crate::analyze::energy::{Amount, places};
use crate::analyze::sites::{SiteRow, rows};
use crate::analyze::{Pair, Quantiles, Side, Site, Summary, ThreadSummary};
use crate::trace::records::Class;

/// The report; `top` limits locks, threads, pairs, sites, chains, convoys and deadlocks each, and
/// never the sites of a lock: they sum to it.
#[must_use]
pub fn report(summary: &Summary, top: Option<usize>) -> Value {
    report_with(summary, top, None)
}

/// The same, with grams of CO2e beside joules.
#[must_use]
pub fn report_with(summary: &Summary, top: Option<usize>, carbon: Option<Carbon>) -> Value {
    let people = People::new(summary);
    let parts = parts(summary, &people, top, carbon).into_iter();
    let object = parts.map(|(key, part)| {
        let value = match part {
            Part::One(value) => value(),
            Part::Many(values) => values.collect(),
        };
        (key.to_owned(), value)
    });
    Value::Object(object.collect())
}

/// Writes [`report_with`] as [`text`], without ever having all of it in memory.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut impl Write,
    summary: &Summary,
    top: Option<usize>,
    carbon: Option<Carbon>,
) -> io::Result<()> {
    let people = People::new(summary);
    let mut separator = "{";
    for (key, part) in parts(summary, &people, top, carbon) {
        write!(out, "{separator}\n  \"{key}\": ")?;
        separator = ",";
        match part {
            Part::One(value) => out.write_all(indented(&value(), 1).as_bytes())?,
            Part::Many(values) => {
                let (mut begin, mut end) = ("[", "[]");
                for value in values {
                    write!(out, "{begin}\n    {}", indented(&value, 2))?;
                    (begin, end) = (",", "\n  ]");
                }
                out.write_all(end.as_bytes())?;
            }
        }
    }
    out.write_all(b"\n}\n")
}

/// As text at so many levels. No string of JSON has a line end of its own.
fn indented(value: &Value, levels: usize) -> String {
    let lines = format!("\n{}", "  ".repeat(levels));
    harmless(&format!("{value:#}")).replace('\n', &lines)
}

/// What there is under a key of the report.
enum Part<'a> {
    One(Box<dyn FnOnce() -> Value + 'a>),
    /// An array that may be long.
    Many(Box<dyn Iterator<Item = Value> + 'a>),
}

/// The report by key, in the order in which JSON objects are written here.
fn parts<'a>(
    summary: &'a Summary,
    people: &'a People<'a>,
    top: Option<usize>,
    carbon: Option<Carbon>,
) -> BTreeMap<&'static str, Part<'a>> {
    let top = top.unwrap_or(usize::MAX);
    let placed = energy::present(summary).map(|_| places::by_site(summary));
    let by_class = energy::present(summary).map(|_| places::by_class(summary));
    let one = |value: Box<dyn FnOnce() -> Value + 'a>| Part::One(value);
    BTreeMap::from([
        ("schema", one(Box::new(|| json!(1)))),
        ("target", one(Box::new(|| Value::Object(target(&summary.meta.target))))),
        ("recording", one(Box::new(|| recording(summary)))),
        ("completeness", one(Box::new(|| json!(completeness(summary))))),
        ("totals", one(Box::new(|| json!(totals(summary))))),
        (
            "locks",
            Part::Many(Box::new(
                summary
                    .locks
                    .iter()
                    .take(top)
                    .map(move |one| lock(summary, people, &placed, carbon, one)),
            )),
        ),
        (
            "threads",
            Part::Many(Box::new(
                summary.threads.iter().take(top).map(move |one| thread(summary, carbon, one)),
            )),
        ),
        (
            "processes",
            Part::Many(Box::new(
                summary.processes.iter().take(top).map(|one| json!(process(summary, one))),
            )),
        ),
        ("pairs", Part::Many(Box::new(summary.pairs.iter().take(top).map(pair)))),
        (
            "sites",
            Part::Many(Box::new(
                rows(summary, Side::Waiter)
                    .into_iter()
                    .take(top)
                    .map(move |row| site_row(summary, by_class.as_ref(), &row)),
            )),
        ),
        ("uses_elsewhere", one(Box::new(|| json!(summary.uses_elsewhere)))),
        ("chains", one(Box::new(move || graph_json::chains(summary, people, top)))),
        ("convoys", one(Box::new(move || graph_json::convoys(summary, people, top)))),
        ("pauses", one(Box::new(move || pauses::json(summary, people, top)))),
        ("deadlocks", one(Box::new(move || graph_json::deadlocks(summary, people, top)))),
        ("energy", one(Box::new(move || energy::json(summary, carbon)))),
        ("quantile_error", one(Box::new(|| json!(Quantiles::ERROR)))),
    ])
}

/// How it was recorded.
fn recording(summary: &Summary) -> Value {
    let meta = &summary.meta;
    json!({
        "start": start(meta.start_realtime_ns),
        "duration_ns": summary.duration,
        "min_wait_ns": meta.options.min_wait,
        "time_unit_ns": meta.options.time_unit,
        "hooks": meta.options.hooks,
        "max_events_per_sec": meta.options.max_events_per_sec,
        "sample_hz": meta.options.sample_hz,
        "uprobes": meta.options.uprobes,
        "native": meta.options.native,
        "follow": meta.options.follow,
        "self_cost": summary.self_cost,
        "uprobe_cost": meta.uprobe_cost,
        "uprobe_cost_unknown_because": meta.uprobe_cost_unknown_because,
        "end": summary.end.as_ref().map(|end| &end.reason),
        "lockwatt": meta.lockwatt,
        "kernel": meta.kernel,
        "machine": meta.machine,
        "cpus": meta.cpus,
        "programs": meta.programs,
        "syscalls": summary.syscalls,
        "counters": summary.counters,
    })
}

/// One thread.
fn thread(summary: &Summary, carbon: Option<Carbon>, thread: &ThreadSummary) -> Value {
    json!({
        "tid": thread.tid,
        "pid": summary.homes.pid(thread.process),
        "process": thread.process,
        "index": thread.index,
        "name": thread.name,
        "comm": thread.comm,
        "waits": thread.sums.waits,
        "wait_ns": thread.sums.wait(),
        "contention_ns": thread.contention,
        "spin_ns": null,
        "blocked_ns": thread.sums.blocked,
        "runq_ns": thread.sums.runq,
        "max_ns": thread.sums.max,
        "oncpu_ns": thread.oncpu,
        "life_ns": thread.life,
        "off_ns": thread.off(),
        "futex_switches": thread.futex_switches,
        "yield_switches": thread.yield_switches,
        "energy_uj": energy::thread_keys(summary, thread.index).0,
        "energy": energy::thread_keys(summary, thread.index).1,
        "co2e_g": energy::grams_of_thread(summary, thread.index, carbon),
    })
}

/// Two threads and a lock.
fn pair(pair: &Pair) -> Value {
    json!({
        "waiter_tid": pair.waiter.1,
        "waiter": pair.waiter.0,
        "holder_tid": pair.holder.1,
        "holder": pair.holder.0,
        "lock": pair.lock.address.to_string(),
        "lock_index": pair.lock.index,
        "class": pair.lock.class,
        "waits": pair.sums.waits,
        "wait_ns": pair.sums.wait(),
        "source": pair.source.name(),
    })
}

/// One place.
fn site_row(
    summary: &Summary,
    by_class: Option<&BTreeMap<(Site, Class), Amount>>,
    row: &SiteRow,
) -> Value {
    let place = row.waiter.unwrap_or(Site::StackLost);
    let mut object = site(&summary.stacks, place, &row.sums);
    object.insert("class".to_owned(), Value::from(row.class.name()));
    object.insert("lock_index".to_owned(), Value::from(row.lock.0));
    object.insert("locks".to_owned(), Value::from(row.others + 1));
    let energy =
        by_class.map(|by_class| by_class.get(&(place, row.class)).copied().unwrap_or_default());
    object.insert("energy_uj".to_owned(), json!(energy.map(|energy| energy.energy)));
    let more = energy.map_or(Value::Null, |energy| energy::amount(&energy));
    object.insert("energy".to_owned(), more);
    Value::Object(object)
}

/// The report as text. JSON need not escape more than the lowest control characters; here all that
/// would harm a terminal are, so that the same can be shown.
#[must_use]
pub fn text(report: &Value) -> String {
    harmless(&format!("{report:#}\n"))
}

fn harmless(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        // Outside of strings all is ASCII, and in them ASCII is escaped already, up to DEL.
        if c >= '\u{7f}' && harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// RFC 3339, or null if the trace doesn't say.
fn start(realtime_ns: u64) -> Option<String> {
    if realtime_ns == 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(realtime_ns)).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_harmless_and_means_the_same() {
        let names =
            json!({"a\u{9b}2J\u{7f}": ["\u{1b}[31m\n", "\u{202e}x", "\u{e0041}", "Größe 🐍", ""]});
        let shown = text(&names);
        assert!(!shown.contains(|c| c != '\n' && harmful(c)), "{shown}");
        assert!(shown.contains(r"\u009b2J\u007f") && shown.contains("Größe 🐍"), "{shown}");
        assert!(shown.contains(r"\udb40\udc41"), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), names);
    }
}
