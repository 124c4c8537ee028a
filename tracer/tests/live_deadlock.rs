//! Ring 4: deadlocks that were there before the attach are found, on live interpreters.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use tracer::cpython::{CodeNames, Detected, detect, held_locks, thread_states};
use tracer::target::{Memory, Process, blocked_futex, ns_tid};
use tracer::units::{Pid, Tid};

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::Workload;

const HELD: &str = include_str!("support/held.py");
const DEADLOCK: &str = include_str!("support/deadlock.py");

/// Versions of each way to keep a `with` block's lock, and of each kind of lock object.
const VERSIONS: [&str; 4] = ["3.11", "3.13", "3.14", "3.14t"];

fn with_blocks_are_seen_on(version: &str) {
    let load = Workload::inline(version, HELD);
    let pid = Pid(load.pid());
    let process = Process::open(pid).expect("alive");
    let Detected::Interpreter(python) = detect(&process).expect("readable") else {
        panic!("{version} is no interpreter")
    };
    let memory = Memory::open(pid).expect("alive");
    let states = thread_states(&memory, &python);
    let mut names = CodeNames::new();
    let threads = load.first()["threads"].as_object().expect("threads");
    assert_eq!(threads.len(), 14);
    for (tid, thread) in threads {
        let tid = Tid(tid.parse().expect("a number"));
        live::until("every thread blocks", || blocked_futex(pid, tid).is_some());
        let id = ns_tid(pid, tid).expect("alive");
        let state = states.iter().find(|&&(of, _)| of == id).expect("a thread state").1;
        let mut found: Vec<_> = held_locks(&memory, &python, &mut names, state)
            .into_iter()
            .map(|held| (held.object.to_string(), u64::from(held.depth)))
            .collect();
        let expected = thread["held"].as_array().expect("a list").iter();
        let mut expected: Vec<_> = expected
            .map(|held| (held[0].as_str().expect("an id").to_owned(), live::number(&held[1])))
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{} on {version}", thread["name"]);
    }
}

#[test]
fn locks_of_with_blocks_are_seen_and_no_others() {
    let _alone = live::alone();
    for version in VERSIONS {
        with_blocks_are_seen_on(version);
    }
    for version in ["3.12", "3.13t", "3.15", "3.15t"] {
        if live::has_python(version) {
            with_blocks_are_seen_on(version);
        }
    }
}

/// The report of a recording of two threads with each other's lock, of this type.
fn recorded(version: &str, locks: &str) -> (Value, Value, String) {
    let mut command = Command::new(live::python(version));
    command.args(["-c", DEADLOCK, locks]);
    let load = Workload::spawn(command);
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    live::record(load.pid(), "1s", &trace, &[]);
    let text = live::lockwatt(&["report", live::path(&trace)]);
    let text = String::from_utf8(text.stdout).expect("text");
    (load.first().clone(), live::report(&trace), text)
}

/// One circle of `payer` and `payee`, with both stacks and the auditor behind it.
fn assert_deadlock(version: &str, dead: &Value) {
    let threads = dead["threads"].as_array().expect("threads");
    let by_name: BTreeMap<_, _> =
        threads.iter().map(|thread| (thread["name"].as_str().expect("a name"), thread)).collect();
    assert_eq!(by_name.keys().copied().collect::<Vec<_>>(), ["payee", "payer"], "{version}");
    for (name, other) in [("payer", "payee"), ("payee", "payer")] {
        let thread = by_name[name];
        assert_eq!(thread["held_by"]["name"], other, "{version}");
        let stack = thread["stack"].as_array().expect("a stack");
        let functions: Vec<_> = stack.iter().map(|frame| frame["function"].as_str()).collect();
        assert_eq!(functions[..2], [Some("settle"), Some("pay")], "{version}");
    }
    assert_eq!(dead["before_recording"], true, "{version}");
    assert_eq!(dead["behind"][0]["name"], "auditor", "{version}");
    assert!(live::number(&dead["lasted_ns"]) > 900_000_000, "{version}: {dead:#}");
}

#[test]
fn a_deadlock_of_plain_locks_is_suspected() {
    let _alone = live::alone();
    for version in VERSIONS {
        let (program, report, text) = recorded(version, "Lock");
        let deadlocks = report["deadlocks"].as_array().expect("deadlocks");
        assert_eq!(deadlocks.len(), 1, "{version}: {:#}", report["deadlocks"]);
        let dead = &deadlocks[0];
        assert_deadlock(version, dead);
        assert_eq!((&dead["certain"], &dead["inferred"]), (&false.into(), &2.into()), "{version}");
        for thread in dead["threads"].as_array().expect("threads") {
            assert_eq!(thread["source"], "with", "{version}");
            assert_eq!(thread["held_at"]["function"], "pay", "{version}");
            let expected = if thread["name"] == "payer" { "right" } else { "left" };
            // Before 3.13.5 a lock is a semaphore, at an address of its own.
            if thread["waits_for"]["kind"] == "lock" {
                assert_eq!(thread["waits_for"]["address"], program[expected], "{version}");
            }
        }
        assert!(text.contains("\nSUSPECTED DEADLOCK: threads seem to wait"), "{version}: {text}");
    }
}

#[test]
fn a_deadlock_of_rlocks_is_found() {
    let _alone = live::alone();
    for version in VERSIONS {
        let (_, report, text) = recorded(version, "RLock");
        let deadlocks = report["deadlocks"].as_array().expect("deadlocks");
        assert_eq!(deadlocks.len(), 1, "{version}: {:#}", report["deadlocks"]);
        assert_deadlock(version, &deadlocks[0]);
        let dead = &deadlocks[0];
        assert_eq!((&dead["certain"], &dead["inferred"]), (&true.into(), &0.into()), "{version}");
        assert!(text.contains("DEADLOCK: threads "), "{version}: {text}");
    }
}
