//! Ring 4: how a recording begins, ends and fails.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, lockwatt, number, path, said, until};

fn one_line(text: &str, wanted: &[&str]) {
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "one line, not {text:?}");
    for word in wanted {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

#[test]
fn a_pid_without_a_process_is_not_traceable() {
    let _alone = live::alone();
    let output = lockwatt(&["record", "-p", "4194303"]);
    assert_eq!(output.status.code(), Some(4));
    one_line(&said(&output), &["4194303"]);
}

#[test]
fn a_process_without_cpython_is_not_traceable() {
    let _alone = live::alone();
    let mut sleeper = Command::new("sleep").arg("60").spawn().expect("sleep");
    let output = lockwatt(&["record", "-p", &sleeper.id().to_string(), "-d", "1s"]);
    let _ = (sleeper.kill(), sleeper.wait());
    assert_eq!(output.status.code(), Some(4));
    one_line(&said(&output), &["no CPython", "sleep"]);
    let file = format!("lockwatt-{}.lockwatt", sleeper.id());
    assert!(!std::path::Path::new(&file).exists(), "no trace is left behind");
}

#[test]
fn a_thread_id_is_told_from_a_process_id() {
    let _alone = live::alone();
    let load = Workload::start("3.11", "idle_pool", &[]);
    let second = || {
        let tids = tracer::target::tids(tracer::units::Pid(load.pid())).expect("alive");
        tids.into_iter().find(|tid| tid.0 != load.pid())
    };
    until("a second thread", || second().is_some());
    let thread = second().expect("a second thread");
    let output = lockwatt(&["record", "-p", &thread.0.to_string(), "-d", "1s"]);
    assert_eq!(output.status.code(), Some(4));
    one_line(&said(&output), &["thread of process", &load.pid().to_string()]);
}

#[test]
fn without_capabilities_it_is_not_permitted() {
    let _alone = live::alone();
    let load = Workload::start("3.11", "idle_pool", &[]);
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_lockwatt")])
        .args(["record", "-p", &load.pid().to_string(), "-d", "1s"])
        .output()
        .expect("setpriv runs");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    one_line(&said(&output), &["CAP_BPF", "CAP_PERFMON", "root", "doctor"]);
}

#[test]
fn an_output_that_cant_be_written_is_said_before_attaching() {
    let _alone = live::alone();
    let load = Workload::start("3.11", "idle_pool", &[]);
    let pid = load.pid().to_string();
    let output = lockwatt(&["record", "-p", &pid, "-d", "1s", "-o", "/proc/none/t.lockwatt"]);
    assert_eq!(output.status.code(), Some(1));
    one_line(&said(&output), &["/proc/none/t.lockwatt", "No such file"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kept");
    fs::write(&file, "precious").expect("written");
    let output = lockwatt(&["record", "-p", &pid, "-d", "1s", "-o", path(&file)]);
    assert_eq!(output.status.code(), Some(1));
    one_line(&said(&output), &["exists", "--force"]);
    assert_eq!(fs::read_to_string(&file).expect("read"), "precious");
}

#[test]
fn a_full_disk_ends_the_recording_and_keeps_what_was_written() {
    let _alone = live::alone();
    let load = Workload::start("3.14t", "short_storm", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let mount = |arguments: &[&str]| {
        assert!(Command::new("mount").args(arguments).status().expect("mount runs").success());
    };
    mount(&["-t", "tmpfs", "-o", "size=32k", "tmpfs", path(folder.path())]);
    let trace = folder.path().join("t.lockwatt");
    let pid = load.pid().to_string();
    let output =
        lockwatt(&["record", "-p", &pid, "-d", "20s", "-o", path(&trace), "--min-wait", "0"]);
    let report = live::report(&trace);
    let unmounted = Command::new("umount").arg(folder.path()).status().expect("umount runs");
    assert!(unmounted.success());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    one_line(&said(&output), &["No space left", "t.lockwatt"]);
    assert!(number(&report["completeness"]["events"]) > 0, "what was recorded is readable");
}

#[test]
fn a_killed_recorder_leaves_a_readable_trace() {
    let _alone = live::alone();
    let load = Workload::start("3.14t", "three_locks", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    let mut recorder =
        live::command(&["record", "-q", "-p", &load.pid().to_string(), "-o", path(&trace)])
            .spawn()
            .expect("lockwatt runs");
    until("a trace of some size", || fs::metadata(&trace).is_ok_and(|file| file.len() > 20_000));
    recorder.kill().expect("killed");
    recorder.wait().expect("an end");
    let report = live::report(&trace);
    assert!(number(&report["completeness"]["events"]) > 100);
    assert_eq!(report["completeness"]["closed"], false);
    let text = lockwatt(&["report", path(&trace)]);
    assert!(text.status.success());
}

#[test]
fn interrupt_and_target_exit_both_close_the_file() {
    let _alone = live::alone();
    for (how, reason) in [("INT", "interrupted"), ("TERM", "terminated"), ("", "target_exited")] {
        let seconds = if how.is_empty() { "5" } else { "60" };
        let mut load = Workload::start("3.14t", "three_locks", &["--seconds", seconds]);
        let folder = tempfile::tempdir().expect("a folder");
        let trace = folder.path().join("t.lockwatt");
        let recorder =
            live::command(&["record", "-p", &load.pid().to_string(), "-o", path(&trace)])
                .stderr(Stdio::piped())
                .spawn()
                .expect("lockwatt runs");
        // The metadata is written once everything is attached.
        until("attached", || fs::metadata(&trace).is_ok_and(|file| file.len() > 64));
        std::thread::sleep(Duration::from_millis(1000));
        if !how.is_empty() {
            let signal = format!("-{how}");
            let killed = Command::new("kill").args([&signal, &recorder.id().to_string()]).status();
            assert!(killed.expect("kill runs").success());
        }
        let output = recorder.wait_with_output().expect("an end");
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("lockwatt report"), "{}", said(&output));
        let report = live::report(&trace);
        assert_eq!(report["recording"]["end"], reason);
        assert_eq!(report["completeness"]["closed"], true);
        assert!(number(&report["completeness"]["events"]) > 10);
        if !how.is_empty() {
            let _ = load.child.kill();
        }
    }
}

fn record_command(trace: &std::path::Path, command: &[&str]) -> std::process::Output {
    let mut arguments = vec!["record", "-q", "-o", path(trace), "--force", "--"];
    arguments.extend(command);
    lockwatt(&arguments)
}

#[test]
fn a_commands_exit_code_is_passed_on() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    for version in ["3.11", "3.14t"] {
        let python = live::python(version);
        let python = path(&python);
        let output = record_command(&trace, &[python, "-c", "raise SystemExit(7)"]);
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        let report = live::report(&trace);
        let found = report["target"]["python"].as_str().unwrap_or_default().to_owned();
        assert!(found.starts_with(version.trim_end_matches('t')), "{version}: {found:?}");
    }
    let output = record_command(&trace, &["sh", "-c", "kill -9 $$"]);
    assert_eq!(output.status.code(), Some(128 + 9));
    let output = record_command(&trace, &["/no/such/command"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(said(&output).contains("/no/such/command"));
    let output = lockwatt(&["record", "-o", "/proc/none/t", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "our own failure");
    let output = lockwatt(&["record"]);
    assert_eq!(output.status.code(), Some(2), "usage");
}

#[test]
fn a_command_is_recorded_from_its_start_and_its_locks_are_named() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    let python = live::python("3.14t");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/workloads/three_locks.py");
    let output = record_command(&trace, &[path(&python), script, "--seconds", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let first: serde_json::Value =
        serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
    let report = live::report(&trace);
    for name in ["lock", "dict", "list"] {
        let address = first["objects"][name]["id"].as_str().expect("an address");
        let lock = live::lock_at(&report, address);
        assert_ne!(number(&lock["waits"]) + number(&lock["spins"]), 0, "{lock:#}");
    }
    assert_eq!(report["recording"]["end"], "target_exited");
}

#[test]
fn a_target_that_ends_during_the_attach_is_a_clear_failure_or_an_empty_trace() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    for delay in [0, 20, 60, 120, 200] {
        let mut load = Workload::start("3.11", "idle_pool", &[]);
        let trace = folder.path().join(format!("{delay}.lockwatt"));
        let recorder =
            live::command(&["record", "-q", "-p", &load.pid().to_string(), "-o", path(&trace)])
                .stderr(Stdio::piped())
                .spawn()
                .expect("lockwatt runs");
        std::thread::sleep(Duration::from_millis(delay));
        load.child.kill().expect("killed");
        load.child.wait().expect("an end");
        let output = recorder.wait_with_output().expect("an end");
        match output.status.code() {
            Some(0) => assert_eq!(live::report(&trace)["recording"]["end"], "target_exited"),
            Some(4) => {
                one_line(&said(&output), &[&load.pid().to_string()]);
                assert!(!trace.exists(), "no empty trace is left behind");
            }
            code => panic!("{code:?}: {}", said(&output)),
        }
    }
}

#[test]
fn standard_output_takes_the_trace() {
    let _alone = live::alone();
    let load = Workload::start("3.11", "gil_spin", &[]);
    let output = lockwatt(&["record", "-p", &load.pid().to_string(), "-d", "1s", "-o", "-"]);
    assert!(output.status.success(), "{}", said(&output));
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    fs::write(&trace, &output.stdout).expect("written");
    assert_eq!(live::report(&trace)["locks"][0]["kind"], "gil");
}

/// The programs are detached one after the other: a thread that is born meanwhile is none that somebody
/// forgot.
#[test]
fn threads_born_while_a_recording_ends_are_no_loss() {
    const CHURN: &str = "\
import json, threading
lock = threading.Lock()
def request():
    with lock: sum(range(2000))
print(json.dumps({}), flush=True)
while True:
    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
";
    let _alone = live::alone();
    let load = Workload::inline("3.11", CHURN);
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..4 {
        let trace = folder.path().join(format!("{n}.lockwatt"));
        live::record(load.pid(), "500ms", &trace, &[]);
        let report = live::report(&trace);
        assert!(report["threads"].as_array().expect("threads").len() > 100);
        assert_eq!(report["completeness"]["lost"]["thread_unknown"], serde_json::Value::Null);
    }
}

#[test]
fn doctor_says_what_works_here_and_what_a_process_is() {
    let _alone = live::alone();
    let load = Workload::start("3.14t", "idle_pool", &[]);
    let output = lockwatt(&["doctor", "-p", &load.pid().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", said(&output));
    for word in [
        "energy       powercap",
        "lw_switch",
        "tp_btf/sched_waking",
        "the default",
        "CPython 3.14",
        "free-threaded",
    ] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_lockwatt"), "doctor"])
        .output()
        .expect("setpriv runs");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("MISSING: CAP_BPF"));
}
