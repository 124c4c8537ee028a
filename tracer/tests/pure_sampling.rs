//! Samples of spinning in a trace: in every output, marked, and in no time waited.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod support;

use serde_json::Value;
use support::{Content, sample};
use tracer::analyze::{Summary, summarize};
use tracer::render::folded::{self, Picture, Weight};
use tracer::render::text::{By, View};
use tracer::render::{flamegraph, json, text};
use tracer::trace::TraceReader;
use tracer::trace::records::{LockSamples, Sampled};
use tracer::units::{LockIndex, Ns};

fn summary(content: &Content) -> Summary {
    let bytes = content.write(100);
    summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap()
}

/// 10 s on two CPUs; 400 samples of the list (2.01 s), 100 of a lock that nobody waited for.
fn sampled() -> Content {
    let mut content = sample();
    content.meta.options.sample_hz = Some(199);
    let mut unwaited = content.locks[1].clone();
    unwaited.index = LockIndex(7);
    unwaited.address.0 += 0x10_0000;
    unwaited.lock.0 += 0x10_0000;
    content.locks.push(unwaited);
    let on = |lock, samples| LockSamples { lock: LockIndex(lock), samples };
    content.totals.sampled = Some(Sampled {
        ticks: 3_980,
        target: 2_000,
        spinning: 500,
        ambiguous: 9,
        locks: vec![on(1, 400), on(7, 100)],
        ..Sampled::default()
    });
    content
}

fn lock(report: &Value, index: u64) -> &Value {
    let locks = report["locks"].as_array().unwrap();
    locks.iter().find(|lock| lock["index"] == index).unwrap()
}

#[test]
fn samples_are_spin_time_with_an_interval_and_no_time_waited() {
    let (before, content) = (summary(&sample()), sampled());
    let after = summary(&content);
    assert_eq!(after.totals.wait(), before.totals.wait());
    let report = json::report(&after, None);
    let list = lock(&report, 1);
    assert_eq!(list["spin_ns"], 400_000_000_000u64 / 199);
    assert_eq!(list["spin_source"], "sampled");
    let [low, time, high] =
        ["spin_low_ns", "spin_ns", "spin_high_ns"].map(|key| list[key].as_u64().unwrap());
    assert!(low < time && time < high && high - low < time / 4, "{low} {time} {high}");
    assert_eq!(list["sampled"]["samples"], 400);
    assert_eq!(lock(&report, 7)["wait_ns"], 0);
    assert_eq!(lock(&report, 0)["spin_ns"], 0, "looked at and not seen spinning");
    assert_eq!(report["totals"]["sampled"]["samples"], 500);
    assert_eq!(report["totals"]["by_kind"]["object"]["sampled"]["samples"], 500);
    assert_eq!(report["completeness"]["sampled"]["ambiguous"], 9);
    // What costs most is what costs most, waiting or spinning.
    assert_eq!(report["locks"][0]["index"], 1);
}

#[test]
fn what_was_measured_is_the_value_and_the_samples_stand_beside_it() {
    let mut content = sampled();
    content.totals.spins[1].spin = Some(Ns(2_000_000_000));
    let report = json::report(&summary(&content), None);
    let list = lock(&report, 1);
    assert_eq!(
        (&list["spin_ns"], &list["spin_source"]),
        (&2_000_000_000u64.into(), &"measured".into())
    );
    assert_eq!(list["spin_low_ns"], list["spin_high_ns"]);
    assert_eq!(list["sampled"]["spin_ns"], 400_000_000_000u64 / 199);
}

#[test]
fn people_are_told_that_it_is_sampled() {
    let summary = summary(&sampled());
    let report = text::report(&summary, View::default());
    for words in [
        "list 0x7f0000002000 costs most",
        "2.01 s ±9.7 % spinning (sampled)",
        " spinning (sampled) ",
        "SAMPLED at 199 Hz per CPU: spinning 2.51 s",
        "samples of spinning not tied to a lock: 9 (45.2 ms",
    ] {
        assert!(report.contains(words), "no {words:?} in {report}");
    }
    let kinds = text::report(&summary, View { by: Some(By::Kind), ..View::default() });
    assert!(kinds.contains("2.51 s ±8.5 %"), "{kinds}");
    let picture = Picture { weight: Weight::Spin, ..Picture::default() };
    let stacks = folded::stacks(&summary, picture).unwrap();
    assert_eq!(
        folded::text(&stacks),
        "[spinning, sampled];object;list 0x7f0000002000 2010050251\n\
         [spinning, sampled];object;list 0x7f0000102000 502512562\n"
    );
    let svg = String::from_utf8(flamegraph::svg(&stacks, &summary, picture).unwrap()).unwrap();
    assert!(svg.contains("time spinning on locks (sampled)"));
}
