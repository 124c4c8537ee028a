//! Ring 4: what is recorded of live interpreters is named, timed and complete.

use std::process::{Command, Stdio};

use serde_json::Value;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, lock_at, number};

fn recorded(load: &Workload, time: &str, options: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    live::record(load.pid(), time, &trace, options);
    live::report(&trace)
}

fn nothing_lost(report: &Value) {
    assert_eq!(report["completeness"]["lost"], serde_json::json!({}));
}

#[test]
fn free_threaded_locks_have_their_type_and_address() {
    let _alone = live::alone();
    let load = Workload::start("3.14t", "three_locks", &[]);
    let report = recorded(&load, "4s", &["--min-wait", "0"]);
    nothing_lost(&report);
    assert_eq!(report["target"]["free_threaded"], true);
    assert!(report["target"]["python"].as_str().expect("a version").starts_with("3.14."));
    for (object, kind, name, class) in [
        ("lock", "lock", "_thread.lock", "contention"),
        ("dict", "object", "dict", "contention"),
        ("list", "object", "list", "contention"),
    ] {
        let lock = lock_at(&report, load.object(object));
        assert_eq!(
            (&lock["kind"], &lock["name"], &lock["class"]),
            (&kind.into(), &name.into(), &class.into())
        );
        assert!(number(&lock["waits"]) > 10, "{lock:#}");
        assert!(number(&lock["spins"]) > 1_000, "{lock:#}");
    }
    // The registers name the lock of nearly every yield; what they don't is counted.
    let completeness = &report["completeness"];
    let spun: u64 = locks(&report).iter().map(|lock| number(&lock["spins"])).sum();
    let lost = number(&completeness["spins_unattributed"]);
    assert!(lost * 20 < spun, "{lost} yields unattributed beside {spun}");
    // The yields are on the objects that the program fights over.
    let named: u64 = ["lock", "dict", "list"]
        .iter()
        .map(|name| number(&lock_at(&report, load.object(name))["spins"]))
        .sum();
    assert!(named * 100 > spun * 95, "{named} of {spun} yields on the three objects");
}

fn locks(report: &Value) -> &Vec<Value> {
    report["locks"].as_array().expect("locks")
}

#[test]
fn a_cpu_bound_program_waits_for_the_gil_first() {
    let _alone = live::alone();
    let load = Workload::start("3.11", "gil_spin", &["--threads", "4"]);
    let report = recorded(&load, "3s", &[]);
    nothing_lost(&report);
    assert_eq!(report["target"]["free_threaded"], false);
    let first = &locks(&report)[0];
    assert_eq!((&first["kind"], &first["class"]), (&"gil".into(), &"contention".into()));
    // Three of four threads wait for it at any time, in waits of several 5 ms timeouts each.
    let waited =
        number(&first["wait_ns"]) as f64 / number(&report["recording"]["duration_ns"]) as f64;
    assert!((2.5..3.3).contains(&waited), "waited {waited:.2} s per second");
    let mean = number(&first["wait_ns"]) / number(&first["waits"]).max(1);
    assert!(mean > 8_000_000, "waits of {mean} ns: the 5 ms timeouts are not stitched");
}

#[test]
fn a_program_with_gil_and_lock_shows_both() {
    let _alone = live::alone();
    let load = Workload::start("3.11", "lock_and_gil", &[]);
    let report = recorded(&load, "3s", &[]);
    nothing_lost(&report);
    let kinds = &report["totals"]["by_kind"];
    assert!(number(&kinds["gil"]["wait_ns"]) > 0, "{kinds:#}");
    // threading.Lock of 3.11 is a semaphore, which the waiters' frames lead from to the Lock; three of
    // four threads wait for it.
    let lock = lock_at(&report, load.object("lock"));
    assert_eq!(
        (&lock["kind"], &lock["class"], &lock["name"]),
        (&"lock".into(), &"contention".into(), &"_thread.lock".into())
    );
    assert!(number(&lock["wait_ns"]) > number(&report["recording"]["duration_ns"]));
}

#[test]
fn idle_workers_are_not_contention() {
    let _alone = live::alone();
    for version in ["3.11", "3.14t"] {
        let load = Workload::start(version, "idle_pool", &[]);
        let report = recorded(&load, "2s", &[]);
        let totals = &report["totals"];
        let (contention, wait) = (number(&totals["contention_ns"]), number(&totals["wait_ns"]));
        assert!(wait > 4_000_000_000, "{version}: the workers wait: {wait} ns");
        // What little there is, is the GIL's or an object's own.
        assert!(contention * 1000 < wait, "{version}: {contention} of {wait} ns");
        let unclassified = number(&totals["unclassified_ns"]);
        assert!(unclassified * 100 < wait, "{version}: {unclassified} of {wait} ns");
    }
}

/// Where every CPU is busy, a yield of a thread that is about to sleep lasts for milliseconds, and often it
/// is notified meanwhile: it idled all the same.
#[test]
fn idle_workers_are_idle_on_a_busy_machine_too() {
    let _alone = live::alone();
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let _busy: Vec<_> = (0..cpus)
        .map(|_| Workload::inline("3.11", "print('{}', flush=True)\nwhile True: pass"))
        .collect();
    let load = Workload::start("3.14t", "idle_pool", &[]);
    let report = recorded(&load, "4s", &[]);
    let totals = &report["totals"];
    let [wait, spins, unclassified] =
        ["wait_ns", "spins", "unclassified_ns"].map(|key| number(&totals[key]));
    println!("{spins} yields, {unclassified} of {wait} ns unclassified");
    assert!(spins > 10, "nobody yields: {totals:#}");
    assert!(unclassified * 50 < wait, "{unclassified} of {wait} ns");
}

/// 10,000 long waits against an independent observer of the same run.
#[test]
fn the_sum_of_long_waits_agrees_with_bpftrace() {
    let _alone = live::alone();
    let mut load = Workload::start(
        "3.14t",
        "long_waits",
        &["--busy", "--delay", "8", "--waits", "10500", "--threads", "4"],
    );
    let pid = load.pid();
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    // The workers sleep in nothing but futex waits; the main thread only joins.
    let script = format!(
        "tracepoint:sched:sched_switch /pid == {pid} && tid != {pid} && args->prev_state == 1/ \
             {{ @out[tid] = nsecs; }} \
         tracepoint:sched:sched_switch /@out[args->next_pid]/ \
             {{ @sum = sum(nsecs - @out[args->next_pid]); @waits = count(); \
                delete(@out[args->next_pid]); }} \
         END {{ clear(@out); }}"
    );
    let mut observer = Command::new("bpftrace")
        .args(["-q", "-e", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bpftrace runs: `cargo xtask setup` installs it");
    let mut recorder = live::command(&[
        "record",
        "-q",
        "-p",
        &pid.to_string(),
        "-o",
        live::path(&trace),
        "--min-wait",
        "0",
    ])
    .spawn()
    .expect("lockwatt runs");
    let acquires = load.finish();
    assert!(recorder.wait().expect("an end").success());
    Command::new("kill").args(["-INT", &observer.id().to_string()]).status().expect("kill runs");
    let mut text = String::new();
    let mut stdout = observer.stdout.take().expect("piped");
    std::io::Read::read_to_string(&mut stdout, &mut text).expect("text");
    observer.wait().expect("an end");
    let count = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text:?}"));
        line.trim().parse().expect("a number")
    };
    let (their_sum, their_waits) = (count("@sum:"), count("@waits:"));

    let report = live::report(&trace);
    nothing_lost(&report);
    let lock = lock_at(&report, load.object("lock"));
    let main = u64::from(pid);
    let workers = |key: &str| -> u64 {
        let threads = report["threads"].as_array().expect("threads");
        threads.iter().filter(|thread| thread["tid"] != main).map(|t| number(&t[key])).sum()
    };
    let (sum, waits) = (workers("wait_ns"), workers("waits"));
    println!("{acquires}: lockwatt {sum} ns in {waits}, bpftrace {their_sum} ns in {their_waits}");
    assert!(number(&lock["waits"]) >= 9_000, "{lock:#}");
    assert!(number(&lock["p50_ns"]) >= 1_000_000, "long waits: {lock:#}");
    assert!(sum.abs_diff(their_sum) * 50 <= their_sum, "{sum} ns against {their_sum} ns");
    assert!(waits.abs_diff(their_waits) * 50 <= their_waits, "{waits} against {their_waits} waits");
}

/// A wait that begins before the recording and ends after it is as long as the recording.
#[test]
fn waits_under_way_at_both_ends_are_clipped_to_the_recording() {
    let _alone = live::alone();
    const PROGRAM: &str = "
import json, os, threading, time
lock = threading.Lock()
lock.acquire()
threading.Thread(target=lock.acquire, daemon=True).start()
time.sleep(0.3)
print(json.dumps({'pid': os.getpid(), 'objects': {'lock': {'id': hex(id(lock))}}}), flush=True)
time.sleep(60)
";
    let load = Workload::inline("3.14t", PROGRAM);
    let report = recorded(&load, "1s", &[]);
    let lock = lock_at(&report, load.object("lock"));
    assert_eq!((&lock["kind"], &lock["waits"]), (&"lock".into(), &1.into()));
    lasts_as_long(lock, &report);
    assert_eq!(report["recording"]["time_unit_ns"], 32);
    let load = Workload::inline("3.11", PROGRAM);
    let report = recorded(&load, "1s", &["--exact-times"]);
    let lock = lock_at(&report, load.object("lock"));
    lasts_as_long(lock, &report);
    assert_eq!(report["recording"]["time_unit_ns"], 1);
}

/// The lock's one wait is as long as the recording, but for the unit that its times are in.
#[track_caller]
fn lasts_as_long(lock: &Value, report: &Value) {
    let (wait, recording) = (number(&lock["wait_ns"]), &report["recording"]);
    let off = wait.abs_diff(number(&recording["duration_ns"]));
    assert!(off < number(&recording["time_unit_ns"]), "{off} ns: {lock:#}");
}

#[test]
fn threads_born_and_ended_during_the_recording_are_named_and_kept() {
    let _alone = live::alone();
    const PROGRAM: &str = "
import json, os, threading, time
print(json.dumps({'pid': os.getpid()}), flush=True)
lock = threading.Lock()
def wait(): 
    with lock: pass
while True:
    with lock:
        threads = [threading.Thread(target=wait, name=f'brief-{n}') for n in range(3)]
        for thread in threads: thread.start()
        time.sleep(0.02)
    for thread in threads: thread.join()
";
    let load = Workload::inline("3.14t", PROGRAM);
    let report = recorded(&load, "2s", &[]);
    nothing_lost(&report);
    let threads = report["threads"].as_array().expect("threads");
    let brief: Vec<_> = threads
        .iter()
        .filter(|thread| thread["name"].as_str().is_some_and(|name| name.starts_with("brief-")))
        .collect();
    assert!(brief.len() > 50, "{} of {} threads named", brief.len(), threads.len());
    let waited = brief.iter().filter(|thread| number(&thread["wait_ns"]) > 5_000_000).count();
    assert!(waited * 10 > brief.len() * 9, "{waited} of {} waited for the lock", brief.len());
}
