//! Ring 4: targets that become another program or fork while they are recorded, and tasks.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

#[path = "support/fight.rs"]
mod fight;
#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use fight::{FIGHT_LINE, fight, fight_on, folder, fought, has_in_order, sites, stacks, write};
use live::{Workload, number, path, record, report, said, until};

/// A program that waits for [`go`], with its threads in a fight, before it does something else.
fn fight_until_told(name: &str, then: &str) -> String {
    let block = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n";
    let wait = "print(json.dumps({}), flush=True)\nsignal.sigwait([signal.SIGUSR1])\n";
    format!("{}{block}{name}_start()\n{wait}{then}", fight(name))
}

fn go(load: &Workload) {
    let sent = Command::new("kill").args(["-USR1", &load.pid().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// Starts a recording; returns once everything is attached.
fn recorder(pid: u32, time: &str, trace: &Path) -> Child {
    let recorder =
        live::command(&["record", "-q", "-p", &pid.to_string(), "-d", time, "-o", path(trace)])
            .stderr(Stdio::piped())
            .spawn()
            .expect("lockwatt runs");
    // The metadata is written once everything is attached.
    until("attached", || fs::metadata(trace).is_ok_and(|file| file.len() > 64));
    recorder
}

/// A recording that must have ended well, for this reason; its report.
fn ended(recorder: Child, trace: &Path, reason: &str) -> Value {
    let output = recorder.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = report(trace);
    assert_eq!(report["recording"]["end"], reason);
    assert_eq!(report["completeness"]["closed"], true);
    report
}

/// Records a target that becomes another program.
fn record_exec(version: &str, exec: &str) -> (Value, String) {
    let folder = folder();
    let before = write(&folder, "before.py", &fight_until_told("before", exec));
    let mut command = Command::new(live::python(version));
    command.arg(&before);
    let load = Workload::spawn(command);
    let trace = folder.path().join("t.lockwatt");
    let recorder = recorder(load.pid(), "2500ms", &trace);
    std::thread::sleep(Duration::from_secs(1));
    go(&load);
    let report = ended(recorder, &trace, "duration");
    // No function is named with the other program's file, or with a library's.
    for site in report["sites"].as_array().expect("sites") {
        let text = |key: &str| site[key].as_str().expect("text");
        for name in ["before", "after"] {
            let of_it = text("function").starts_with(name);
            let in_it = text("file").ends_with(&format!("/{name}.py"));
            assert!(of_it == in_it || text("function") == "<module>", "{site}");
        }
    }
    (report, path(&before).to_owned())
}

/// Records a target that becomes another Python program after a while: both are understood.
fn exec_python(from: &str, to: &str, call: &str) {
    let folder = folder();
    let after = write(&folder, "after.py", &fight_on("after"));
    let call = call.replace("TO", &format!("{:?}", live::python(to)));
    let (report, before) = record_exec(from, &call.replace("AFTER", &format!("{after:?}")));
    fought(&report, "before", &before);
    fought(&report, "after", path(&after));
    let python = report["target"]["python"].as_str().unwrap_or_default();
    assert!(python.starts_with(to.trim_end_matches('t')), "{from} to {to}: {python:?}");
    assert_eq!(report["target"]["free_threaded"], to.ends_with('t'), "{from} to {to}");
    assert_eq!(report["target"]["cmdline"][1], path(&after), "{from} to {to}");
}

#[test]
fn a_target_that_becomes_another_script_has_the_sites_of_both() {
    let _alone = live::alone();
    for version in ["3.11", "3.14t"] {
        exec_python(version, version, "os.execv(TO, [TO, AFTER])");
    }
}

#[test]
fn a_target_that_becomes_another_version_is_looked_at_anew() {
    let _alone = live::alone();
    exec_python("3.14t", "3.11", "os.execv(TO, [TO, AFTER])");
}

/// The thread that calls `exec` gets the process's own id, and the main thread is gone.
#[test]
fn a_thread_can_make_the_target_another_script() {
    let _alone = live::alone();
    let call = "threading.Thread(target=os.execv, args=(TO, [TO, AFTER])).start()\ntime.sleep(60)";
    exec_python("3.11", "3.14t", call);
}

#[test]
fn a_target_that_becomes_no_python_is_recorded_on() {
    let _alone = live::alone();
    for version in ["3.11", "3.14t"] {
        let (report, before) = record_exec(version, "os.execvp('sleep', ['sleep', '60'])");
        fought(&report, "before", &before);
        let target = &report["target"];
        assert!(target["exe"].as_str().is_some_and(|exe| exe.ends_with("sleep")), "{target:#}");
        assert_eq!(target["python"], Value::Null);
        let why = target["unnamed_because"].as_str().unwrap_or_default();
        assert!(why.contains("no CPython"), "{why:?}");
        assert!(number(&report["recording"]["duration_ns"]) > 2_400_000_000);
    }
}

/// The child fights as well, for a lock of its own, and says at its end how often it waited; the
/// file's name is at `OUT`.
const FORK: &str = "
import warnings
warnings.simplefilter('ignore') # that a process with threads forks is the point
if os.fork() == 0:
    child_start()
    waits, end = 0, time.monotonic() + 2.5
    while time.monotonic() < end:
        waits += not child_lock.acquire(False)
        time.sleep(0.001)
    tids = [int(tid) for tid in os.listdir('/proc/self/task')]
    with open(OUT + '.part', 'w') as out:
        json.dump({'waits': waits, 'tids': tids}, out)
    os.rename(OUT + '.part', OUT)
    os._exit(0)
time.sleep(60)
";

#[test]
fn a_forked_child_is_counted_and_not_mixed_in() {
    let _alone = live::alone();
    for version in ["3.11", "3.14t"] {
        let folder = folder();
        let out = folder.path().join("child.json");
        let child = FORK.replace("OUT", &format!("{out:?}"));
        let program = fight("child") + &fight_until_told("parent", &child);
        let mut load = Workload::inline(version, &program);
        let trace = folder.path().join("t.lockwatt");
        let recorder = recorder(load.pid(), "60s", &trace);
        go(&load);
        std::thread::sleep(Duration::from_millis(1200));
        // The child is still there, and the pipe that it inherited is open: neither keeps the
        // recording from ending.
        load.child.kill().expect("killed");
        load.child.wait().expect("ended");
        let report = ended(recorder, &trace, "target_exited");
        assert!(!out.exists(), "{version}: the child ended before its parent");
        until("the child ends", || out.exists());
        let child: Value = serde_json::from_slice(&fs::read(&out).expect("read")).expect("JSON");

        assert!(number(&child["waits"]) > 20, "{version}: {child}");
        assert_eq!(number(&report["recording"]["counters"]["forked_children"]), 1, "{version}");
        for part in ["sites", "locks", "threads", "pairs"] {
            let text = report[part].to_string();
            assert!(text.len() > 100 && !text.contains("child"), "{version}: {text}");
        }
        assert!(stacks(&trace).iter().flatten().all(|frame| !frame.contains("child")));
        let offset = fight("child").lines().count() as u64;
        let parents = sites(&report, "parent_inner");
        let there = |site: &&Value| number(&site["line"]) == FIGHT_LINE + offset;
        assert!(parents.iter().any(there), "{version}: {parents:#?}");
        let tids = child["tids"].as_array().expect("tids");
        assert!(tids.len() >= 4, "{version}: {child}");
        for thread in report["threads"].as_array().expect("threads") {
            assert!(!tids.contains(&thread["tid"]), "{version}: {thread} is the child's");
        }
    }
}

const TASKS: &str = "import asyncio, json, threading, time
lock = threading.Lock()
def holder():
    while True:
        with lock:
            time.sleep(0.01)
        time.sleep(0.001)
async def inner():
    lock.acquire()
    lock.release()
async def middle():
    await inner()
async def outer():
    await middle()
async def main():
    while True:
        await asyncio.create_task(outer())
        await asyncio.sleep(0.001)
threading.Thread(target=holder, daemon=True).start()
print(json.dumps({}), flush=True)
asyncio.run(main())
";

fn tasks_have_their_coroutines(version: &str) {
    let _alone = live::alone();
    let load = Workload::inline(version, TASKS);
    let folder = folder();
    let trace = folder.path().join("t.lockwatt");
    record(load.pid(), "1s", &trace, &["-q"]);
    let stacks = stacks(&trace);
    let coroutines = ["outer (<string>:14)", "middle (<string>:12)", "inner (<string>:9)"];
    let found: Vec<_> = stacks.iter().filter(|stack| has_in_order(stack, &coroutines)).collect();
    assert!(!found.is_empty(), "{version}: {stacks:#?}");
    for stack in found {
        let frame = |name: &str| stack.iter().position(|frame| frame.starts_with(name));
        let loop_runs = frame("BaseEventLoop._run_once").expect("the loop");
        assert!(loop_runs < frame("outer").expect("it"), "{version}: {stack:#?}");
        // The task's creator waits for it elsewhere.
        assert_eq!(frame("main "), None, "{version}: {stack:#?}");
    }
}

macro_rules! on_each {
    ($($name:ident $version:literal;)+) => {$(
        #[test]
        fn $name() {
            tasks_have_their_coroutines($version);
        }
    )+};
}

on_each! {
    tasks_have_their_coroutines_on_3_11 "3.11";
    tasks_have_their_coroutines_on_3_13 "3.13";
    tasks_have_their_coroutines_on_3_14 "3.14";
    tasks_have_their_coroutines_on_3_15 "3.15";
}

/// The free-threaded builds may come without what asyncio needs.
#[test]
fn tasks_have_their_coroutines_without_a_gil_where_there_is_asyncio() {
    for version in ["3.14t", "3.15t"] {
        let import = Command::new(live::python(version)).args(["-c", "import asyncio"]).output();
        if import.expect("it runs").status.success() {
            tasks_have_their_coroutines(version);
        } else {
            eprintln!("NOT TESTED on {version}: it has no asyncio");
        }
    }
}
