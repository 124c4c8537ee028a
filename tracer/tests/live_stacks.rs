//! Ring 4: the stacks that the kernel side walks are those that the threads note themselves, on
//! every interpreter, and hardly a walk fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tracer::trace::records::{SideStack, Wait};
use tracer::trace::{Trace, TraceReader};
use tracer_common::WalkEnd;
use tracer_common::stack::MAX_FRAMES;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, lock_at, number, path, record, report};

const PLACES: &str = include_str!("support/places.py");
const RELEASED: &str = "import signal, sys; sys.argv.append('--release')
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
";

/// Function, file, line.
type Place = (String, String, u64);

fn read(path: &Path) -> (Trace, Vec<Wait>) {
    let mut waits = Vec::new();
    let reader = TraceReader::open(path).expect("a trace");
    let trace = reader.read(|wait| waits.push(*wait)).expect("readable");
    (trace, waits)
}

/// A stack's frames, leaf first, and how the walk ended.
fn places(trace: &Trace, stack: SideStack) -> Option<(Vec<Place>, u32)> {
    let SideStack::Stack(index) = stack else { return None };
    let stack = &trace.stacks[&index];
    let frames = stack.frames.iter().map(|frame| {
        let frame = &trace.frames[frame];
        (frame.function.clone(), frame.file.clone(), u64::from(frame.line))
    });
    Some((frames.collect(), stack.end))
}

fn noted(thread: &Value) -> Vec<Place> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let frames = thread["frames"].as_array().expect("frames");
    frames.iter().map(|frame| (text(&frame[0]), text(&frame[1]), number(&frame[2]))).collect()
}

/// Every thread's wait is there and right. Where the kernel does not call the tracepoint when a thread
/// comes back that slept before the attach (docs/limitations.md), nothing is known of its wait: then with
/// another program.
fn waiters_are_right(version: &str) {
    let _alone = live::alone();
    let unseen: Vec<_> = (0..3).map_while(|_| all_waiters_are_right(version).err()).collect();
    assert!(unseen.len() < 3, "{version}: nobody was seen to wake {unseen:?}");
}

/// `Err`: the thread whose wait was not seen.
fn all_waiters_are_right(version: &str) -> Result<(), String> {
    let load = Workload::inline(version, &format!("{RELEASED}{PLACES}"));
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    let pid = load.pid().to_string();
    let mut recorder = live::command(&["record", "-q", "-p", &pid, "-d", "3s", "-o", path(&trace)])
        .spawn()
        .expect("lockwatt runs");
    // The metadata is written once everything is attached.
    live::until("attached", || std::fs::metadata(&trace).is_ok_and(|file| file.len() > 64));
    let sent = Command::new("kill").args(["-USR1", &pid]).status().expect("kill runs");
    assert!(sent.success() && recorder.wait().expect("an end").success());
    let (trace, waits) = read(&trace);

    let offset = u64::try_from(RELEASED.lines().count()).expect("small");
    let threads = load.first()["threads"].as_object().expect("threads");
    assert!(threads.len() >= 38, "{} threads", threads.len());
    for (tid, thread) in threads {
        let case = &thread["name"];
        let tid: u32 = tid.parse().expect("an id");
        let index = trace.threads.values().find(|thread| thread.tid.0 == tid).expect("it").index;
        // Woken by the main thread: both sides were walked in the kernel.
        let of_thread = |wait: &&Wait| wait.thread == index && wait.waker.is_some();
        let Some(wait) = waits.iter().find(of_thread) else {
            println!("{version} {case}: nobody was seen to wake it: {:?}", trace.totals);
            return Err(case.to_string());
        };
        let expected = noted(thread);
        let (found, end) = places(&trace, wait.waiter_stack)
            .unwrap_or_else(|| panic!("{version} {case}: {:?}", wait.waiter_stack));
        let kept = expected.get(..MAX_FRAMES).unwrap_or(&expected);
        assert_eq!(found, kept, "{version} {case}");
        let cut = expected.len() > MAX_FRAMES;
        let ends = if cut { WalkEnd::Truncated } else { WalkEnd::Complete };
        assert_eq!(end, ends as u32, "{version} {case}");

        let (waker, _) = places(&trace, wait.waker_stack)
            .unwrap_or_else(|| panic!("{version} {case}: waker {:?}", wait.waker_stack));
        let line = PLACES.lines().position(|line| line.trim() == "gate.release()");
        let line = u64::try_from(line.expect("it") + 1).expect("small") + offset;
        // Below it may be what an interpreter runs programs with.
        assert_eq!(waker[0], ("<module>".to_owned(), "<string>".to_owned(), line), "{version}");
    }
    assert!(trace.totals.drops.is_empty(), "{version}: {:?}", trace.totals.drops);
    Ok(())
}

macro_rules! on_each {
    ($($name:ident $version:literal;)+) => {$(
        #[test]
        fn $name() {
            waiters_are_right($version);
        }
    )+};
}

on_each! {
    waiters_are_right_on_3_11 "3.11";
    waiters_are_right_on_3_13 "3.13";
    waiters_are_right_on_3_14 "3.14";
    waiters_are_right_on_3_15 "3.15";
    waiters_are_right_on_3_14t "3.14t";
    waiters_are_right_on_3_15t "3.15t";
}

/// 3.12 and 3.13t are not to be had from where the others come from: `cargo xtask test` says so.
#[test]
fn waiters_are_right_on_3_12_and_3_13t_where_there_are() {
    for version in ["3.12", "3.13t"] {
        if live::has_python(version) {
            waiters_are_right(version);
        }
    }
}

/// Eight threads that fight for a lock at the bottom of deep stacks, never the same twice in a row.
const CHANGING: &str = "
import json, random, sys, threading
lock = threading.Lock()
table = {}
print(json.dumps({'objects': {'lock': {'id': hex(id(lock))}}}), flush=True)

def left(n, rng):
    if n <= 0:
        with lock:
            table[n] = rng.random()
            return sum(range(200))
    return rng.choice((left, right, Tree().down))(n - 1, rng)

def right(n, rng):
    return [left(n - 1, rng) for _ in 'a'][0]

class Tree:
    def down(self, n, rng):
        return max(right(n - 1, rng) for _ in 'a')

def work(seed):
    rng = random.Random(seed)
    while True:
        left(rng.randrange(1, 60), rng)

for seed in range(8):
    threading.Thread(target=work, args=(seed,), daemon=True).start()
threading.Event().wait()
";

fn hardly_a_walk_fails(version: &str) {
    let _alone = live::alone();
    let load = Workload::inline(version, CHANGING);
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    record(load.pid(), "6s", &trace, &[]);
    let report = report(&trace);
    let walked = number(&report["recording"]["counters"]["stacks_walked"]);
    assert!(walked > 1_000, "{version}: only {walked} walks");
    let lost: BTreeMap<String, u64> =
        serde_json::from_value(report["completeness"]["lost"].clone()).expect("counts");
    let failed: u64 =
        lost.iter().filter(|(name, _)| name.starts_with("stack_")).map(|(_, count)| count).sum();
    assert!(failed * 1_000 <= walked, "{version}: {failed} of {walked} walks failed: {lost:?}");
    eprintln!("{version}: {failed} of {walked} walks failed");
}

#[test]
fn hardly_a_walk_of_changing_stacks_fails() {
    for version in ["3.11", "3.13", "3.14", "3.14t", "3.15t"] {
        hardly_a_walk_fails(version);
    }
}

#[test]
fn locks_are_waited_for_at_their_lines_and_let_go_there() {
    let _alone = live::alone();
    let load = Workload::start("3.14t", "three_locks", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    record(load.pid(), "4s", &trace, &[]);
    let report = report(&trace);
    for name in ["lock", "dict", "list"] {
        let lock = lock_at(&report, load.object(name));
        for side in ["waiters", "holders"] {
            let sites = lock[side].as_array().expect("sites");
            let most = sites.iter().find(|site| site["line"] != 0).expect("a place");
            assert_eq!(most["function"], format!("use_{name}"), "{side} of {name}: {sites:?}");
            assert!(most["file"].as_str().expect("a file").ends_with("three_locks.py"));
        }
        let sum: u64 =
            lock["waiters"].as_array().expect("sites").iter().map(|s| number(&s["wait_ns"])).sum();
        assert_eq!(sum, number(&lock["wait_ns"]), "{name}");
    }
}

/// As in a container: its own PID namespace, so that CPython knows other thread ids than the host.
#[test]
fn threads_of_another_pid_namespace_have_stacks() {
    let _alone = live::alone();
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    for version in ["3.11", "3.14t"] {
        let load = Workload::start_under(&unshare, version, "three_locks");
        let folder = tempfile::tempdir().expect("a folder");
        let trace = folder.path().join("t.lockwatt");
        record(load.only_child(), "3s", &trace, &[]);
        let report = report(&trace);
        let missing = &report["completeness"]["stacks_missing"]["no_thread_state"];
        assert_eq!(missing.as_u64().unwrap_or(0), 0, "{version}: {missing}");
        let sites: Vec<_> = report["sites"].as_array().expect("sites").iter().collect();
        let names = |wanted: &str| sites.iter().any(|site| site["function"] == wanted);
        assert!(names("use_dict") && names("use_lock"), "{version}: {sites:#?}");
    }
}

/// Two subinterpreters with a GIL each (PEP 684), and three threads that share it.
const SUBINTERPRETERS: &str = "
import json, threading
import _interpreters
FIGHT = '''
import threading
class Tree_NUMBER:
    def __init__(self, depth):
        self.sides = [Tree_NUMBER(depth - 1), Tree_NUMBER(depth - 1)] if depth else []
def compute_NUMBER():
    while True:
        Tree_NUMBER(5)
for _ in range(2):
    threading.Thread(target=compute_NUMBER).start()
compute_NUMBER()
'''
for number in range(2):
    text = FIGHT.replace('NUMBER', str(number))
    arguments = (_interpreters.create(), text)
    threading.Thread(target=_interpreters.exec, args=arguments, daemon=True).start()
print(json.dumps({}), flush=True)
threading.Event().wait()
";

#[test]
fn threads_of_subinterpreters_have_stacks_and_a_gil_each() {
    let _alone = live::alone();
    for version in ["3.13", "3.14", "3.15"] {
        let load = Workload::inline(version, SUBINTERPRETERS);
        let seven = || tracer::target::tids(tracer::units::Pid(load.pid())).expect("alive").len();
        live::until("all threads run", || seven() == 7);
        let folder = tempfile::tempdir().expect("a folder");
        let trace = folder.path().join("t.lockwatt");
        record(load.pid(), "3s", &trace, &[]);
        let report = report(&trace);
        let gil_of = |number: u32| {
            let gils = report["locks"].as_array().expect("locks").iter().filter(|lock| {
                let sites = lock["waiters"].as_array().expect("sites");
                let ours = format!("_{number}");
                let in_it =
                    |site: &Value| site["function"].as_str().is_some_and(|f| f.contains(&ours));
                lock["kind"] == "gil" && sites.iter().any(in_it)
            });
            let addresses: Vec<_> = gils.map(|lock| lock["address"].clone()).collect();
            assert_eq!(addresses.len(), 1, "{version} {number}: {addresses:?}");
            addresses
        };
        assert_ne!(gil_of(0), gil_of(1), "{version}");
        let missing = &report["completeness"]["stacks_missing"]["no_thread_state"];
        assert_eq!(missing.as_u64().unwrap_or(0), 0, "{version}: {missing}");
    }
}
