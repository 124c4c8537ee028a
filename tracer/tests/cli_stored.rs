//! The built binary over stored traces: no root, no kernel, no target.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

#[path = "support/golden.rs"]
mod golden;
mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{Content, sample};
use tempfile::TempDir;

/// What a run gave: exit code, standard output, standard error.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn lockwatt(arguments: &[&str]) -> Ran {
    ran(Command::new(env!("CARGO_BIN_EXE_lockwatt")).args(arguments).output().unwrap())
}

fn stored() -> String {
    golden::path("sample-v1.lockwatt").to_str().unwrap().to_owned()
}

/// A folder with a trace in it.
fn folder(trace: &[u8]) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.lockwatt");
    fs::write(&path, trace).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// Compared exactly with a golden file.
fn assert_golden(name: &str, text: &str) {
    let path = golden::path(name);
    if golden::bless() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} differs; got:\n{text}", path.display());
}

fn assert_one_line_error(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}", ran.err);
    assert_eq!(ran.out, "");
    assert!(ran.err.starts_with("lockwatt: ") && ran.err.lines().count() == 1, "{}", ran.err);
    for word in words {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
}

#[test]
fn report_text_is_as_it_was() {
    for (name, arguments) in [
        ("report.txt", &[][..]),
        ("report-by-lock.txt", &["--by", "lock"]),
        ("report-by-thread.txt", &["--by", "thread"]),
        ("report-by-site.txt", &["--by", "site"]),
        ("report-by-site-holder.txt", &["--by", "site", "--side", "holder", "--unverified"]),
        ("report-by-site-both.txt", &["--by", "site", "--side", "both", "--top", "10"]),
        ("report-by-lock-waiter.txt", &["--by", "lock", "--side", "waiter", "--top", "2"]),
        ("report-by-pair.txt", &["--by", "pair", "--top", "3"]),
        ("report-by-kind.txt", &["--by", "kind"]),
        ("report-by-graph.txt", &["--by", "graph", "--top", "4"]),
    ] {
        let ran = lockwatt(&[&["report", &stored()], arguments].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert_golden(name, &ran.out);
    }
}

#[test]
fn report_json_has_every_key_of_schema_1() {
    let ran = lockwatt(&["report", &stored(), "--format", "json"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    for (pointer, keys) in [
        (
            "",
            "schema target recording completeness totals locks threads pairs energy chains \
             convoys deadlocks",
        ),
        ("/target", "pid exe cmdline python free_threaded"),
        (
            "/recording",
            "start duration_ns min_wait_ns time_unit_ns hooks sample_hz uprobes self_cost",
        ),
        (
            "/completeness",
            "waits events lost below_min_wait unclassified unclassified_ns stacks_lost \
             spins_unattributed yielded_unattributed_ns woken_before_sleep wake_unseen \
             switch_in_unseen futex_switches stacks_missing stacks_truncated cut damage closed",
        ),
        (
            "/totals",
            "wait_ns contention_ns idle_ns pause_ns unclassified_ns spin_ns blocked_ns yielded_ns \
             runq_ns awake_ns by_kind",
        ),
        ("/totals/by_kind/gil", "waits wait_ns spin_ns blocked_ns runq_ns max_ns"),
        (
            "/locks/0",
            "kind class name address waits spins wait_ns spin_ns blocked_ns runq_ns yielded_ns \
             max_ns p50_ns p99_ns energy_uj waiters holders",
        ),
        (
            "/threads/0",
            "tid name wait_ns contention_ns spin_ns blocked_ns runq_ns oncpu_ns energy_uj",
        ),
        ("/locks/0/waiters/0", "function file line waits wait_ns"),
        ("/locks/0/holders/0", "function file line waits wait_ns source"),
        (
            "/locks/0/holds",
            "holds held_ns held_min_ns max_ns p50_ns p99_ns caused_ns max_caused_ns sites threads",
        ),
        ("/locks/0/holds/sites/0", "function file line holds held_ns max_ns caused_ns"),
        ("/locks/0/holds/threads/0", "tid index name holds held_ns max_ns caused_ns"),
        ("/chains/0", "locks waits wait_ns certain paths longest"),
        ("/chains/0/longest", "links holder end wait_ns"),
        ("/chains/0/longest/links/0", "tid name lock_index function file line source"),
        ("/sites/0", "function file line waits wait_ns class"),
        ("/pairs/0", "waiter_tid holder_tid lock waits wait_ns source"),
        ("/energy", "source quality domains"),
    ] {
        let object = report.pointer(pointer).and_then(Value::as_object).unwrap();
        for key in keys.split_whitespace() {
            assert!(object.contains_key(key), "{pointer}/{key}");
        }
    }
    assert_eq!(report["schema"], 1);
    assert_eq!(report["recording"]["start"], "2026-05-28T20:26:40.123456789Z");
    assert_eq!(report["locks"][0]["address"], "0x7f0000001000");
    assert_eq!(report["completeness"]["lost"]["ring_full_wait"], 3);
    let totals = &report["totals"];
    let ns = |key: &str| totals[key].as_u64().unwrap();
    assert_eq!(
        ns("wait_ns"),
        ns("contention_ns") + ns("idle_ns") + ns("pause_ns") + ns("unclassified_ns")
    );
    assert_eq!(ns("wait_ns"), ns("blocked_ns") + ns("runq_ns") + ns("yielded_ns"));

    let ran = lockwatt(&["report", &stored(), "--format", "json", "--top", "1"]);
    let top: Value = serde_json::from_str(&ran.out).unwrap();
    for key in ["locks", "chains"] {
        assert_eq!(top[key].as_array().unwrap().len(), 1, "{key}");
    }
    assert_eq!(top["totals"], report["totals"]);
}

#[test]
fn a_trace_is_read_from_standard_input() {
    let file = fs::File::open(stored()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockwatt"));
    let output = command.args(["report", "-"]).stdin(file).output().unwrap();
    assert_eq!(ran(output).out, lockwatt(&["report", &stored()]).out);
}

#[test]
fn folded_stacks_are_as_they_were() {
    let ran = lockwatt(&["flamegraph", &stored(), "-o", "-"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_golden("flamegraph.folded", &ran.out);
    for side in ["holder", "both"] {
        let ran = lockwatt(&["flamegraph", &stored(), "-o", "-", "--side", side]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert_golden(&format!("flamegraph-{side}.folded"), &ran.out);
    }
    let idle = lockwatt(&["flamegraph", &stored(), "-o", "-", "--idle"]);
    assert!(idle.out.contains(";join;") && !ran.out.contains(";join;"));
}

#[test]
fn the_picture_is_drawn_beside_the_trace_and_not_overwritten() {
    let (folder, trace) = folder(&sample().write(100));
    let drawn = lockwatt(&["flamegraph", &trace]);
    assert_eq!((drawn.code, drawn.out.as_str()), (Some(0), ""));
    let path = folder.path().join("t.svg");
    let svg = fs::read_to_string(&path).unwrap();
    for words in
        ["<svg", "time waited for locks", "left out (--idle)", "dict 0x7f0000001000", " µs, "]
    {
        assert!(svg.contains(words), "{words}");
    }
    assert_one_line_error(&lockwatt(&["flamegraph", &trace]), 1, &["exists", "--force"]);
    assert_eq!(lockwatt(&["flamegraph", &trace, "--force"]).code, Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), svg, "the same trace, the same picture");

    let named = folder.path().join("x.folded");
    let ran = lockwatt(&["flamegraph", &trace, "-o", named.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0));
    assert!(fs::read_to_string(named).unwrap().contains(";object;dict 0x7f0000001000 "));
    let itself = lockwatt(&["flamegraph", &trace, "-o", &trace, "--format", "svg"]);
    assert_one_line_error(&itself, 1, &["the trace itself"]);
    assert_eq!(lockwatt(&["report", &trace]).code, Some(0));
}

#[test]
fn every_weight_is_drawn_or_refused_in_words() {
    for weight in ["wait", "blocked", "runq", "count"] {
        let ran = lockwatt(&["flamegraph", &stored(), "-o", "-", "--weight", weight]);
        assert!(ran.code == Some(0) && ran.out.lines().count() > 10, "{weight}");
    }
    for (weight, words) in [("spin", "--hooks syscall"), ("energy", "no energy in this trace")] {
        let ran = lockwatt(&["flamegraph", &stored(), "-o", "-", "--weight", weight]);
        assert_one_line_error(&ran, 1, &[words]);
    }
}

#[test]
fn every_side_has_a_picture_and_unverified_owners_are_asked_for() {
    for side in ["waiter", "holder", "both"] {
        let ran =
            lockwatt(&["flamegraph", &stored(), "-o", "-", "--format", "svg", "--side", side]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert!(ran.out.contains("flush (pool.py:88)") == (side != "waiter"), "{side}");
        assert!(ran.out.contains("Cache.get (cache.py:77)") == (side != "holder"), "{side}");
    }
    let both = |more: &[&str]| {
        let json = lockwatt(&[&["report", &stored(), "--format", "json"], more].concat()).out;
        let side = ["flamegraph", &stored(), "-o", "-", "--side", "holder"];
        (json, lockwatt(&[&side, more].concat()).out)
    };
    let (json, folded) = both(&[]);
    assert!(json.contains("\"owner\"") && !json.contains("owner_unverified"));
    let (json, unverified) = both(&["--unverified"]);
    assert!(json.contains("\"owner_unverified\""));
    assert_ne!(folded, unverified);
    let sum = |text: &str| -> u64 {
        text.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    assert_eq!(sum(&folded), sum(&unverified));
}

#[test]
fn an_empty_recording_is_reported_and_drawn() {
    let (_folder, trace) = folder(&Content::default().write(1));
    let ran = lockwatt(&["report", &trace]);
    assert!(ran.code == Some(0) && ran.out.contains("No waits were recorded"), "{}", ran.out);
    let ran = lockwatt(&["flamegraph", &trace, "-o", "-", "--format", "svg"]);
    assert!(ran.code == Some(0) && ran.out.contains("</svg>"));
    assert!(ran.err.contains("no waits to draw"), "{}", ran.err);
}

#[test]
fn what_cannot_be_read_is_said_in_one_line() {
    let report = |path: &str| lockwatt(&["report", path]);
    assert_one_line_error(&report("/no/such/file"), 1, &["/no/such/file", "No such file"]);
    let (folder, path) = folder(b"");
    assert_one_line_error(&report(&path), 1, &[&path, "empty"]);
    let directory = folder.path().to_str().unwrap();
    assert_one_line_error(&report(directory), 1, &[directory, "directory"]);
    fs::write(&path, "this is a text, and no trace").unwrap();
    assert_one_line_error(&report(&path), 1, &["not a lockwatt trace"]);
    fs::write(&path, b"LOCKWATT\x09\0\0\0\0\0\0\0rest").unwrap();
    assert_one_line_error(&report(&path), 1, &["version 9", "newer lockwatt"]);
    fs::write(&path, b"LOCKW").unwrap();
    assert_one_line_error(&report(&path), 1, &["inside its header"]);
    let ran = lockwatt(&["flamegraph", &path, "-o", "-"]);
    assert_one_line_error(&ran, 1, &["inside its header"]);
}

#[test]
fn what_is_cut_or_damaged_is_read_as_far_as_it_goes() {
    let whole = sample().write(100);
    let (_folder, path) = folder(&whole[..whole.len() * 3 / 4]);
    let ran = lockwatt(&["report", &path]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.err.contains("the file ends inside the chunk"), "{}", ran.err);
    assert!(ran.out.contains("INCOMPLETE: the file was cut;") && ran.out.contains("CUT: "));

    // Cut inside its metadata: there is nothing to go on.
    fs::write(&path, &whole[..60]).unwrap();
    let ran = lockwatt(&["report", &path]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the file ends inside the chunk (metadata)"), "{}", ran.err);
    assert!(ran.err.contains("nothing of the recording is left to read"), "{}", ran.err);

    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    fs::write(&path, flipped).unwrap();
    let ran = lockwatt(&["report", &path]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.err.contains("checksum does not match"), "{}", ran.err);
    assert!(ran.err.contains("100 waits lost by the damage"), "{}", ran.err);
    assert!(ran.out.contains("DAMAGED: ") && ran.out.contains("trace_damaged 100"), "{}", ran.out);
    let ran = lockwatt(&["report", &path, "--format", "json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let completeness = &report["completeness"];
    assert_eq!(completeness["events"], 900);
    assert_eq!(completeness["lost"]["trace_damaged"], 100);
    assert_eq!(completeness["waits"], 1_413);
    assert_eq!(completeness["damage"].as_array().unwrap().len(), 1);
}

#[test]
fn outputs_that_cannot_be_written_are_said_in_one_line() {
    let nowhere = lockwatt(&["flamegraph", &stored(), "-o", "/no/such/folder/x.svg"]);
    assert_one_line_error(&nowhere, 1, &["/no/such/folder/x.svg", "No such file"]);
    let (folder, _) = folder(b"");
    let full: PathBuf = folder.path().join("full.svg");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let to_full = lockwatt(&["flamegraph", &stored(), "-o", full.to_str().unwrap()]);
    assert_one_line_error(&to_full, 1, &["full.svg", "No space left"]);
    let out = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockwatt"));
    let output = command.args(["report", &stored()]).stdout(out).output().unwrap();
    assert_one_line_error(&ran(output), 1, &["standard output", "No space left"]);
}

#[test]
fn wrong_usage_is_code_2() {
    for arguments in [
        &["report"][..],
        &["report", "x", "--by", "moon"],
        &["report", &stored(), "--by", "thread", "--side", "both"],
        &["report", &stored(), "--by", "graph", "--side", "both"],
        &["report", "x", "--side", "left"],
        &["flamegraph", "x", "--side", "left"],
        &["flamegraph", "x", "--weight", "gold"],
        &["flamegraph", "x", "-o", "x.png"],
        &["flamegraph", "-"],
        &["no-such-command"],
    ] {
        let ran = lockwatt(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ran.err);
        assert!(!ran.err.is_empty());
    }
}

#[test]
fn a_closed_pipe_is_success() {
    for arguments in [["report", "--format=json"], ["flamegraph", "-o-"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lockwatt"))
            .args(arguments)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Nobody reads: the pipe is closed before the trace is sent.
        drop(child.stdout.take());
        let trace = fs::read(Path::new(&stored())).unwrap();
        child.stdin.take().unwrap().write_all(&trace).unwrap();
        let ran = ran(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
