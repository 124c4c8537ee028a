//! Ring 4: spinning on the CPU, by samples of the CPU clock.

use std::time::Duration;

use serde_json::Value;
use tracer::target::tids;
use tracer::units::Pid;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, lock_at, lockwatt, number, path, said};

fn recorded(load: &Workload, time: &str, options: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    live::record(load.pid(), time, &trace, options);
    live::report(&trace)
}

fn spin_only(version: &str) -> Workload {
    let load = Workload::start(version, "spin_only", &[]);
    std::thread::sleep(Duration::from_millis(300));
    load
}

/// Voluntary context switches of the process's threads per second, over one second.
fn sleeps(pid: u32) -> u64 {
    let count = || -> u64 {
        let of = |tid: tracer::units::Tid| -> u64 {
            let status = std::fs::read_to_string(format!("/proc/{pid}/task/{}/status", tid.0));
            let status = status.expect("alive");
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.expect("a count").trim().parse().expect("a number")
        };
        tids(Pid(pid)).expect("alive").into_iter().map(of).sum()
    };
    let before = count();
    std::thread::sleep(Duration::from_secs(1));
    count() - before
}

/// A tool that looks at futexes has nothing to look at here.
#[test]
fn a_program_that_only_spins_shows_what_it_spins_on() {
    let _alone = live::alone();
    for version in ["3.14t", "3.15t"] {
        let load = spin_only(version);
        let asleep = sleeps(load.pid());
        let report = recorded(&load, "5s", &["--sample-hz", "999"]);
        let seconds = number(&report["recording"]["duration_ns"]) as f64 / 1e9;
        let list = lock_at(&report, load.object("list"));
        println!("{version}: {asleep} sleeps a second; {list:#}");
        assert_eq!(
            (&list["kind"], &list["name"], &list["class"]),
            (&"object".into(), &"list".into(), &"contention".into())
        );
        assert_eq!(list["spin_source"], "sampled");
        // It spins for a good part of the time of its two CPUs, and hardly sleeps. (Run-queue and
        // yielded time is what other processes on these CPUs take, the recorder among them.)
        let (spin, blocked) = (number(&list["spin_ns"]), number(&list["blocked_ns"]));
        assert!(spin as f64 / seconds > 30e6, "{spin} ns of spinning in {seconds} s");
        assert!(blocked * 10 < spin, "{blocked} ns blocked, {spin} ns spinning");
        // Parks mostly are of spins that an interrupt or another process met with.
        assert!(asleep < 3_000, "{asleep} sleeps a second: this does not only spin");
        // It is listed first, and the answer names it.
        assert_eq!(report["locks"][0]["address"], list["address"]);
        let sampled = &report["completeness"]["sampled"];
        assert_eq!(report["recording"]["sample_hz"], 999);
        let (on_list, all) = (number(&list["sampled"]["samples"]), number(&sampled["spinning"]));
        assert!(on_list * 100 >= all * 97, "{on_list} of {all} samples are on the list");
        let ambiguous = number(&sampled["ambiguous"]);
        assert!(ambiguous * 20 <= all, "{ambiguous} ambiguous beside {all}");
        let ticks = number(&sampled["ticks"]) as f64;
        let expected = 999.0 * seconds * cpus() as f64;
        assert!((0.97..1.03).contains(&(ticks / expected)), "{ticks} ticks, {expected} expected");
    }
}

fn cpus() -> usize {
    let online = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    online.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count()
}

/// What the samples say beside what `--hooks syscall` measures, in one and the same recording.
#[test]
fn sampled_spinning_agrees_with_what_is_measured() {
    let _alone = live::alone();
    let load = spin_only("3.14t");
    let report = recorded(&load, "10s", &["--hooks", "syscall", "--sample-hz", "1999"]);
    let list = lock_at(&report, load.object("list"));
    assert_eq!(list["spin_source"], "measured");
    let sampled = &list["sampled"];
    let measured = number(&list["spin_ns"]);
    let [estimate, low, high] = ["spin_ns", "low_ns", "high_ns"].map(|key| number(&sampled[key]));
    println!(
        "measured {measured} ns, sampled {estimate} ({low} to {high}), {} yields, {}",
        list["spins"], report["completeness"]["sampled"]
    );
    assert!(number(&sampled["samples"]) > 1_000, "{list:#}");
    let (low, high) = (low as f64 / (1.0 + SYSTEMATIC), high as f64 / (1.0 - SYSTEMATIC));
    assert!((low..high).contains(&(measured as f64)), "{measured} ns outside {low} to {high}");
}

/// What is allowed beyond the interval. In eight recordings of 5 s at 1999 Hz (3.13t, 3.14t, 3.15t) sampled
/// by measured was 0.965 to 1.036, 0.999 on average, all within their intervals of 4 %: this is for the
/// one in twenty that is not, and for what samples count and yields don't (the way into the first yield
/// and out of the last: some 2 % here).
const SYSTEMATIC: f64 = 0.05;

#[test]
fn without_a_sampler_nothing_is_said_to_be_sampled() {
    let _alone = live::alone();
    let load = spin_only("3.14t");
    let report = recorded(&load, "1s", &["--sample-hz", "0"]);
    assert_eq!(report["recording"]["sample_hz"], Value::Null);
    assert_eq!(report["completeness"]["sampled"], Value::Null);
    assert_eq!(report["totals"]["spin_ns"], Value::Null);
    let programs = report["recording"]["programs"].as_array().expect("programs");
    assert!(programs.iter().all(|program| program["name"] != "lw_sample"));
}

#[test]
fn the_sample_rate_has_a_limit_that_is_said() {
    let _alone = live::alone();
    for rate in ["10001", "-1", "many"] {
        let option = format!("--sample-hz={rate}");
        let output = lockwatt(&["record", "-p", "1", "-d", "1s", &option]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("10000"), "{}", said(&output));
    }
}

/// The machine's own limit is a reason to go on without a sampler.
#[test]
fn a_refused_sampler_is_a_missing_feature_with_its_reason() {
    let _alone = live::alone();
    const LIMIT: &str = "/proc/sys/kernel/perf_event_max_sample_rate";
    let Ok(before) = std::fs::read_to_string(LIMIT) else { return };
    let load = spin_only("3.14t");
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    std::fs::write(LIMIT, "100").expect("root may set it");
    let pid = load.pid().to_string();
    let options = ["-d", "1s", "--sample-hz", "199", "-o", path(&trace)];
    let output = lockwatt(&[&["record", "-p", &pid], &options[..]].concat());
    std::fs::write(LIMIT, before.trim()).expect("set back");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("no sampler"), "{}", said(&output));
    let report = live::report(&trace);
    assert_eq!(report["recording"]["sample_hz"], Value::Null);
    let programs = report["recording"]["programs"].as_array().expect("programs");
    let sampler = programs.iter().find(|program| program["name"] == "lw_sample");
    let sampler = sampler.expect("it is listed");
    assert_eq!(sampler["attached"], false);
    assert!(sampler["reason"].as_str().is_some_and(|reason| reason.contains("perf_event_open")));
}
