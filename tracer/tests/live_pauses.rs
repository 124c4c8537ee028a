//! Ring 4: who stopped the world, for how long, and who was late to stop.

use serde_json::Value;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, number};

/// One thread is in C calls of a known length most of the time, one stops the world, one runs on.
const PROGRAM: &str = r#"
import gc, json, os, sys, threading, time

gc.disable()
numbers = range(2_000_000)

def compute():
    while True:
        sum(numbers)

def stop():
    while True:
        time.sleep(0.02)
        sys._current_frames()
        gc.collect()

def run_on():
    while True:
        for _ in range(1000):
            pass
        time.sleep(0.0001)

for function in (compute, stop, run_on):
    threading.Thread(target=function, name=function.__name__, daemon=True).start()
print(json.dumps({"pid": os.getpid()}), flush=True)
time.sleep(60)
"#;

/// The lines of the program that stop the world.
const LOOKS: u64 = 14;
const COLLECTS: u64 = 15;

fn requesters(version: &str) -> Vec<Value> {
    let load = Workload::inline(version, PROGRAM);
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    live::record(load.pid(), "4s", &trace, &[]);
    let text = live::lockwatt(&["report", live::path(&trace)]);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(
        text.contains("\nWho stopped the world, and who was late to stop"),
        "{version}: {text}"
    );
    assert!(text.contains("last to stop: compute ("), "{version}: {text}");
    live::report(&trace)["pauses"].as_array().expect("pauses").clone()
}

#[test]
fn who_is_in_a_long_call_is_late_to_stop() {
    let _alone = live::alone();
    for version in ["3.13t", "3.14t", "3.15t"] {
        if version == "3.13t" && !live::has_python(version) {
            continue; // optional; the test run says so
        }
        let requesters = requesters(version);
        for collecting in [false, true] {
            let one = requesters
                .iter()
                .filter(|one| one["name"] == "stop" && one["collecting"] == collecting)
                .max_by_key(|one| number(&one["to_stop_ns"]))
                .unwrap_or_else(|| panic!("{version}, {collecting}: {requesters:#?}"));
            assert_eq!(one["function"], "stop", "{version}");
            // Each has its line in the program.
            let line = if collecting { COLLECTS } else { LOOKS };
            assert_eq!(number(&one["line"]), line, "{version}: {requesters:#?}");
            let (awaited, to_stop) = (number(&one["awaited"]), number(&one["to_stop_ns"]));
            assert!(awaited >= 1, "{version}: {one:#}"); // some find the others stopped already
            assert!(number(&one["pauses"]) >= awaited, "{version}: {one:#}");
            assert!(number(&one["max_to_stop_ns"]) <= to_stop, "{version}: {one:#}");
            let late = &one["late"][0];
            assert_eq!((&late["name"], &late["function"]), (&"compute".into(), &"compute".into()));
            // The other thread stops at once: what takes time is the call. Three quarters of it, since
            // on a busy machine who asks can be kept from its CPU for as long as a call takes.
            assert!(number(&late["to_stop_ns"]) * 4 >= to_stop * 3, "{version}: {one:#}");
        }
    }
}
