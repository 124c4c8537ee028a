//! Threads that fight for a lock in functions that bear the test's name for them, and whether a
//! trace shows them so.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::live::{lockwatt, number, path, said};

/// Three threads that wait for each other in `NAME_inner`, called by `NAME_outer`.
const FIGHT: &str = "import json, os, signal, sys, threading, time
NAME_lock = threading.Lock()
def NAME_inner():
    with NAME_lock:
        time.sleep(0.002)
def NAME_outer():
    while True:
        NAME_inner()
def NAME_start():
    for _ in range(3):
        threading.Thread(target=NAME_outer, daemon=True).start()
";
/// `with NAME_lock`.
pub(crate) const FIGHT_LINE: u64 = 4;

pub(crate) fn fight(name: &str) -> String {
    FIGHT.replace("NAME", name)
}

/// A fight that says when it began, and then goes on.
pub(crate) fn fight_on(name: &str) -> String {
    fight(name) + &format!("{name}_start()\nprint(json.dumps({{}}), flush=True)\ntime.sleep(60)\n")
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Writes a file into a folder; where it is.
pub(crate) fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let file = folder.path().join(name);
    fs::write(&file, text).expect("written");
    file
}

/// What a function was seen to wait for, at this line and elsewhere.
pub(crate) fn sites<'a>(report: &'a Value, function: &str) -> Vec<&'a Value> {
    let sites = report["sites"].as_array().expect("sites").iter();
    sites.filter(|site| site["function"] == function).collect()
}

/// Waits of a fight are where they were, in this file and in no other.
pub(crate) fn fought(report: &Value, name: &str, file: &str) {
    let found = sites(report, &format!("{name}_inner"));
    let here = |site: &&Value| site["line"] == FIGHT_LINE;
    assert!(found.iter().any(here), "{name}: {:#}", report["sites"]);
    assert!(found.iter().all(|site| site["file"] == file), "{name}: {found:#?}");
    let waits: u64 = found.iter().map(|site| number(&site["waits"])).sum();
    assert!(waits > 20, "{name}: {waits} waits");
}

/// The frames of each folded stack, root first.
pub(crate) fn stacks(trace: &Path) -> Vec<Vec<String>> {
    let output = lockwatt(&["flamegraph", path(trace), "-o", "-"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("text");
    let stack = |line: &str| {
        let (frames, weight) = line.rsplit_once(' ').expect("a weight");
        assert!(weight.parse::<u64>().is_ok(), "{line:?}");
        frames.split(';').map(str::to_owned).collect()
    };
    text.lines().map(stack).collect()
}

/// Whether the frames are there, each called by the one before it.
pub(crate) fn has_in_order(stack: &[String], wanted: &[&str]) -> bool {
    stack.windows(wanted.len()).any(|frames| frames == wanted)
}
