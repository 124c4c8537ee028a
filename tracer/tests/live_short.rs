//! Ring 4: waits that get no record of their own still have a lock, a thread and a place.

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, number};
use serde_json::Value;

/// Two threads on one CPU that hand over a token: each operation waits for a few microseconds, for a
/// lock and for the GIL.
const TOKEN: &str = "\
import json, os, threading
os.sched_setaffinity(0, {0})
locks = threading.Lock(), threading.Lock()
locks[1].acquire()
def hand_over(me):
    mine, theirs = locks[me], locks[1 - me]
    while True:
        mine.acquire()
        theirs.release()
threads = [threading.Thread(target=hand_over, args=(n,), daemon=True) for n in range(2)]
for thread in threads: thread.start()
print(json.dumps({'locks': [hex(id(lock)) for lock in locks]}), flush=True)
threads[0].join()
";

fn recorded(load: &Workload, options: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    live::record(load.pid(), "2s", &trace, options);
    live::report(&trace)
}

fn waits(of: &Value) -> u64 {
    number(&of["waits"])
}

fn list(report: &Value, key: &str) -> Vec<Value> {
    report[key].as_array().expect("a list").clone()
}

fn assert_all_waits_are_somewhere(report: &Value) {
    let c = &report["completeness"];
    let parts = ["events", "below_min_wait", "rate_limited", "lost_waits"];
    assert_eq!(parts.map(|part| number(&c[part])).iter().sum::<u64>(), waits(c));
    // Of one sleep each, but for some that went on after a timeout; and what each of the three threads
    // was in at the beginning began unseen.
    let switches = number(&c["futex_switches"]) + 3;
    assert!(waits(c) <= switches && waits(c) * 10 > switches * 9, "{} of {switches}", waits(c));
    assert_eq!(number(&c["lost_waits"]), 0);
}

#[test]
fn short_waits_are_told_by_lock_thread_and_place() {
    let _alone = live::alone();
    let load = Workload::inline("3.11", TOKEN);
    let report = recorded(&load, &[]);
    assert_all_waits_are_somewhere(&report);
    let c = &report["completeness"];
    let (below, placed) = (number(&c["below_min_wait"]), number(&c["below_by_lock"]));
    assert!(below > 10_000, "{below} short waits");
    assert!(placed <= below && placed * 10 > below * 9, "{placed} of {below} have a lock");

    let locks = list(&report, "locks");
    let mut found = 0;
    for lock in load.first()["locks"].as_array().expect("two locks") {
        let Some(lock) = locks.iter().find(|one| one["address"] == *lock) else { continue };
        found += 1;
        assert_eq!(lock["kind"], "lock");
        assert!(number(&lock["short_waits"]) * 2 > waits(lock), "most of them are short");
        assert_eq!(lock["p50_is_bound"], true);
        for side in ["waiters", "holders"] {
            let sites = lock[side].as_array().expect("sites");
            assert_eq!(sites.iter().map(waits).sum::<u64>(), waits(lock), "{side}");
            let here = sites.iter().filter(|site| site["function"] == "hand_over");
            assert!(here.map(waits).sum::<u64>() * 10 > waits(lock) * 9, "{side}: {sites:?}");
        }
    }
    assert_eq!(found, 2, "both locks are named");
    let by_lock: u64 = locks.iter().map(waits).sum();
    assert_eq!(by_lock, waits(c) - (below - placed));
    // A storm runs them all the time, so that a look of some milliseconds sees it.
    let cost = &report["recording"]["self_cost"];
    let [looked, run, runs] = ["bpf_sampled_ns", "bpf_sampled_run_ns", "bpf_sampled_runs"]
        .map(|name| number(&cost[name]));
    assert!(run > 0 && run < looked * 64, "{run} ns of {looked} ns");
    assert!(runs > 1_000, "{runs} runs in {looked} ns");
    let pairs: u64 = list(&report, "pairs").iter().map(waits).sum();
    assert!(pairs * 10 > by_lock * 9, "{pairs} of {by_lock} have a waker");
}

#[test]
fn waits_beyond_the_limit_are_counted() {
    let _alone = live::alone();
    let load = Workload::inline("3.11", TOKEN);
    for limit in [300, 5_000] {
        let words = limit.to_string();
        let options = ["--min-wait", "0", "--max-events-per-sec", &words];
        let report = recorded(&load, &options);
        assert_all_waits_are_somewhere(&report);
        let c = &report["completeness"];
        let (events, limited) = (number(&c["events"]), number(&c["rate_limited"]));
        assert_eq!(report["recording"]["max_events_per_sec"], limit);
        // A second's worth at once, and what CPUs count at the same moment.
        let most = limit + limit * number(&report["recording"]["duration_ns"]) / 1_000_000_000;
        assert!(events < most * 11 / 10, "{events} of {limit} a second");
        assert!(
            events > most * 9 / 10,
            "{events} of {limit} a second: no more was skipped than that"
        );
        assert!(limited > 10_000, "{limited} beyond {limit} a second");
        let totals = number(&report["totals"]["by_kind"]["gil"]["waits"]);
        assert!(totals > limited / 4, "they are in the totals: {totals}");
        // What a Lock is for is known of the waits that have a record, and so of the others.
        let unclassified = number(&c["unclassified"]);
        assert!(unclassified * 4 < limited, "{unclassified} of {limited} are of no known lock");
    }
}

/// Threads that meet at a barrier, so that their waits come all at once.
const BARRIER: &str = "\
import json, threading, time
barrier = threading.Barrier(20)
def meet():
    while True:
        time.sleep(0.1)
        barrier.wait()
threads = [threading.Thread(target=meet, daemon=True) for _ in range(20)]
for thread in threads: thread.start()
print(json.dumps({}), flush=True)
threads[0].join()
";

#[test]
fn bursts_below_the_limit_have_records() {
    let _alone = live::alone();
    let load = Workload::inline("3.11", BARRIER);
    let report = recorded(&load, &["--min-wait", "0", "--max-events-per-sec", "1000"]);
    let c = &report["completeness"];
    let (events, limited) = (number(&c["events"]), number(&c["rate_limited"]));
    println!("{events} waits with a record");
    assert!(events > 200, "twenty meet ten times a second: {events}");
    assert_eq!(limited, 0, "of {}", waits(c));
}

/// Who reads a trace from a pipe is told on standard error what is missing in it.
#[test]
fn a_pipe_is_told_of_what_has_no_record() {
    let _alone = live::alone();
    let load = Workload::inline("3.11", TOKEN);
    let pid = load.pid().to_string();
    let mut arguments = vec!["record", "-p", &pid, "-d", "1s", "-o", "-", "--min-wait", "0"];
    let mut said = |options: &[&'static str]| {
        arguments.truncate(9);
        arguments.extend(options);
        let output = live::lockwatt(&arguments);
        assert!(output.status.success(), "{}", live::said(&output));
        live::said(&output)
    };
    let text = said(&["--max-events-per-sec", "100"]);
    assert!(text.contains(": complete, but ") && text.contains("beyond the limit"), "{text}");
    assert!(text.contains("none lost"), "{text}");
    // A page of buffer, in a storm of 100,000 waits a second.
    let text = said(&["--max-events-per-sec", "0", "--buffer", "4"]);
    assert!(text.contains(": INCOMPLETE: ") && text.contains(" lost; losses: "), "{text}");
    assert!(text.contains("ring_full_wait"), "{text}");
}
