//! Ring 4: `record --follow` and `-p` given more than once, on live interpreters.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, command, lockwatt, number, path, python, report, said, until};

/// `fight(seconds)`: three threads over one `threading.Lock`, which the caller may have made before a
/// fork.
const FIGHT: &str = "
import os, sys, threading, time
lock = threading.Lock()
def fight(seconds, over=None):
    over = over or lock
    end = time.monotonic() + seconds
    def run():
        while time.monotonic() < end:
            with over:
                time.sleep(0.001)
    threads = [threading.Thread(target=run) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
";

/// A program, in a file of its own (`multiprocessing` imports it again in its children).
fn program(folder: &TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("program.py");
    let mut out = std::fs::File::create(&file).expect("a file");
    out.write_all(FIGHT.as_bytes()).and_then(|()| out.write_all(text.as_bytes())).expect("written");
    file
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Records a program with all that it forks; its report.
fn follow(version: &str, text: &str, arguments: &[&str], options: &[&str]) -> (Value, Output) {
    follow_by(&[], version, text, arguments, options)
}

/// The same of one that another command starts.
fn follow_by(
    by: &[&str],
    version: &str,
    text: &str,
    arguments: &[&str],
    options: &[&str],
) -> (Value, Output) {
    let folder = folder();
    let file = program(&folder, text);
    let trace = folder.path().join("t.lockwatt");
    let interpreter = python(version);
    let mut all = vec!["record", "--follow", "-o", path(&trace)];
    all.extend(options);
    all.push("--");
    all.extend(by);
    all.extend([path(&interpreter), path(&file)]);
    all.extend(arguments);
    let output = lockwatt(&all);
    assert!(output.status.success(), "{}", said(&output));
    let report = report(&trace);
    assert_eq!(report["completeness"]["closed"], true);
    (report, output)
}

fn rows<'a>(report: &'a Value, key: &str) -> &'a [Value] {
    report[key].as_array().expect("rows")
}

/// Locks that were fought over for a while: three threads want one, two wait.
fn fights(report: &Value) -> Vec<&Value> {
    let long = |lock: &&Value| {
        lock["kind"] == "lock"
            && lock["class"] == "contention"
            && number(&lock["wait_ns"]) > 300_000_000
    };
    rows(report, "locks").iter().filter(long).collect()
}

fn process<'a>(report: &'a Value, pid: &Value) -> &'a Value {
    let found = rows(report, "processes").iter().find(|process| &process["pid"] == pid);
    found.unwrap_or_else(|| panic!("no process {pid} in {:#}", report["processes"]))
}

/// The share of a lock's waits that was at this function.
fn share_at(lock: &Value, function: &str) -> f64 {
    let sites = lock["waiters"].as_array().expect("sites").iter();
    let there =
        sites.filter(|site| site["function"].as_str().unwrap_or_default().contains(function));
    let time: u64 = there.map(|site| number(&site["wait_ns"])).sum();
    time as f64 / number(&lock["wait_ns"]) as f64
}

/// Nothing was lost but names of code that was gone.
fn is_whole(report: &Value) {
    let lost = report["completeness"]["lost"].as_object().expect("losses");
    let serious: Vec<_> = lost.iter().filter(|(reason, _)| *reason != "code_gone").collect();
    assert!(serious.is_empty(), "{serious:?}");
    assert_eq!(report["completeness"]["lost_waits"], 0);
}

/// A lock made before a fork is at the same address in parent and child, and is two locks.
#[test]
fn a_forked_worker_has_locks_of_its_own() {
    const PROGRAM: &str = "
pid = os.fork()
fight(1)
if pid:
    os.waitpid(pid, 0)
    fight(0.5)
os._exit(0)
";
    let _alone = live::alone();
    for version in ["3.11", "3.14", "3.14t"] {
        let (report, _) = follow(version, PROGRAM, &[], &["-q"]);
        is_whole(&report);
        let fights = fights(&report);
        assert_eq!(fights.len(), 2, "{version}: {:#}", report["locks"]);
        assert_eq!(fights[0]["address"], fights[1]["address"], "{version}");
        assert_ne!(fights[0]["pid"], fights[1]["pid"], "{version}");
        for lock in fights {
            let owner = process(&report, &lock["pid"]);
            assert_eq!(owner["free_threaded"], version.ends_with('t'), "{version}");
            assert!(owner["python"].as_str().unwrap_or_default().starts_with(&version[..4]));
            // Two of three threads wait, all the time.
            let fought = if owner["came"] == "fork" { 2_000_000_000 } else { 3_000_000_000_u64 };
            let off = number(&lock["wait_ns"]).abs_diff(fought);
            assert!(off < fought / 5, "{version}: {} of {fought}", lock["wait_ns"]);
            assert!(share_at(lock, "run") > 0.95, "{version}: {:#}", lock["waiters"]);
        }
        let child =
            rows(&report, "processes").iter().find(|p| p["came"] == "fork").expect("a child");
        let parent = rows(&report, "processes").iter().find(|p| p["came"] == "started");
        let parent = parent.expect("the command");
        assert_eq!(child["parent"], parent["pid"], "{version}");
        let (born, died) = (number(&child["started_ns"]), number(&child["ended_ns"]));
        assert!((900_000_000..2_000_000_000).contains(&(died - born)), "{version}: {child:#}");
        // The parent's last fight was after the child's end, and in the trace.
        assert!(number(&report["recording"]["duration_ns"]) > died + 400_000_000, "{version}");
    }
}

const POOL: &str = "
import multiprocessing as mp
def work(n):
    fight(0.6, threading.Lock())
    return os.getpid()
def locked(shared, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with shared:
            time.sleep(0.002)
if __name__ == '__main__':
    context = mp.get_context(sys.argv[1])
    shared = context.Lock()
    users = [context.Process(target=locked, args=(shared, 1.5)) for _ in range(2)]
    [user.start() for user in users]
    with context.Pool(2) as pool:
        print(*set(pool.map(work, range(4), chunksize=1)))
    [user.join() for user in users]
    print(*(user.pid for user in users))
";

/// Pools by every way to start a process, and a lock that processes share.
#[test]
fn pools_of_multiprocessing_are_followed() {
    let _alone = live::alone();
    for (version, method) in
        [("3.11", "fork"), ("3.14", "spawn"), ("3.14", "forkserver"), ("3.14t", "fork")]
    {
        let (report, output) = follow(version, POOL, &[method], &["-q"]);
        is_whole(&report);
        let what = format!("{version} {method}");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = printed.lines().map(|line| {
            line.split(' ').map(|pid| pid.parse().expect("a pid")).collect::<Vec<u64>>()
        });
        let (workers, users) = (lines.next().expect("workers"), lines.next().expect("users"));
        assert_eq!(workers.len(), 2, "{what}");
        for pid in workers.iter().chain(&users) {
            let process = process(&report, &(*pid).into());
            assert_eq!(process["recorded"], true, "{what}");
            assert!(process["python"].is_string(), "{what}");
            assert_eq!(process["execs"], u64::from(method == "spawn"), "{what}: {process:#}");
        }
        for pid in &workers {
            let own: Vec<_> =
                fights(&report).into_iter().filter(|lock| lock["pid"] == *pid).collect();
            // Its two tasks have a lock each, maybe one after the other at one address.
            let waited: u64 = own.iter().map(|lock| number(&lock["wait_ns"])).sum();
            assert!(waited.abs_diff(2_400_000_000) < 600_000_000, "{what}: {waited}");
            assert!(own.iter().all(|lock| share_at(lock, "run") > 0.9), "{what}: {own:#?}");
        }
        // One lock, whatever its address in each.
        let shared: Vec<_> = rows(&report, "locks")
            .iter()
            .filter(|lock| {
                lock["name"] == "_multiprocessing.SemLock" && number(&lock["waits"]) > 50
            })
            .collect();
        assert_eq!(shared.len(), 1, "{what}: {shared:#?}");
        let shared = shared[0];
        assert_eq!((&shared["pid"], &shared["shared_by"]), (&Value::Null, &2.into()), "{what}");
        assert_eq!((&shared["class"], &shared["kind"]), (&"contention".into(), &"lock".into()));
        assert!(share_at(shared, "SemLock.__enter__") > 0.7, "{what}: {:#}", shared["waiters"]);
        // Who let go is of the other process, and known.
        let index = &shared["index"];
        let pairs = rows(&report, "pairs").iter().filter(|pair| &pair["lock_index"] == index);
        let of = |tid: &Value| {
            let threads = rows(&report, "threads").iter();
            threads.filter(|thread| &thread["tid"] == tid).map(|thread| &thread["pid"]).next_back()
        };
        let mut seen = 0;
        for pair in pairs {
            assert_ne!(of(&pair["waiter_tid"]), of(&pair["holder_tid"]), "{what}: {pair:#}");
            seen += number(&pair["waits"]);
        }
        let waits = number(&shared["waits"]);
        assert!(seen * 10 >= waits * 9, "{what}: {seen} of {waits} wakers");
    }
}

#[test]
fn an_executor_s_workers_idle_and_fight() {
    const PROGRAM: &str = "
from concurrent.futures import ProcessPoolExecutor
def work(n):
    fight(0.5, threading.Lock())
    return os.getpid()
if __name__ == '__main__':
    with ProcessPoolExecutor(2) as pool:
        print(*set(pool.map(work, range(4))))
";
    let _alone = live::alone();
    let (report, output) = follow("3.14", PROGRAM, &[], &["-q"]);
    is_whole(&report);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for pid in printed.split_whitespace().map(|pid| pid.parse::<u64>().expect("a pid")) {
        assert!(
            fights(&report).iter().any(|lock| lock["pid"] == pid),
            "{pid}: {:#}",
            report["locks"]
        );
    }
    // Waiting for work is no contention.
    let semaphores = rows(&report, "locks").iter().filter(|lock| {
        lock["class"] == "contention"
            && lock["name"].as_str().unwrap_or_default().contains("SemLock")
    });
    let time: u64 = semaphores.map(|lock| number(&lock["wait_ns"])).sum();
    assert!(time < 100_000_000, "{time}: {:#}", report["locks"]);
}

/// A server that has forked its workers before anybody looks.
const PREFORK: &str = "
import json, socket
lock = threading.Lock()
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen(16)
def serve():
    while True:
        connection, _ = server.accept()
        with lock:
            connection.recv(1)
            time.sleep(0.002)
        connection.close()
workers = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        [threading.Thread(target=serve, daemon=True).start() for _ in range(3)]
        time.sleep(60)
        os._exit(0)
    workers.append(pid)
print(json.dumps({'workers': workers, 'port': server.getsockname()[1]}), flush=True)
def ask():
    while True:
        try:
            with socket.create_connection(server.getsockname()) as client:
                client.send(b'x')
                client.recv(1)
        except OSError:
            return
[threading.Thread(target=ask, daemon=True).start() for _ in range(8)]
time.sleep(60)
";

fn server(folder: &TempDir) -> Workload {
    let mut command = Command::new(python("3.14"));
    command.arg(program(folder, PREFORK));
    Workload::spawn(command)
}

fn workers(load: &Workload) -> Vec<u64> {
    load.first()["workers"].as_array().expect("workers").iter().map(number).collect()
}

/// `-p MASTER --follow` also takes the workers that there are; it ends after its time.
#[test]
fn workers_that_were_there_before_are_followed() {
    let _alone = live::alone();
    let folder = folder();
    let load = server(&folder);
    let trace = folder.path().join("t.lockwatt");
    live::record(load.pid(), "2s", &trace, &["--follow", "-q"]);
    let report = report(&trace);
    is_whole(&report);
    assert_eq!(report["recording"]["end"], "duration");
    for pid in workers(&load) {
        assert_eq!(process(&report, &pid.into())["came"], "attached");
        let own = fights(&report).into_iter().find(|lock| lock["pid"] == pid).expect("its lock");
        assert!(share_at(own, "serve") > 0.9, "{own:#}");
        signal(pid, "KILL");
    }
}

/// The same two processes, named; the master is not in the trace.
#[test]
fn several_pids_make_one_trace() {
    let _alone = live::alone();
    let folder = folder();
    let load = server(&folder);
    let trace = folder.path().join("t.lockwatt");
    let pids: Vec<String> = workers(&load).iter().map(u64::to_string).collect();
    let output = lockwatt(&[
        "record",
        "-p",
        &pids[0],
        "-p",
        &pids[1],
        "-d",
        "1500ms",
        "-q",
        "-o",
        path(&trace),
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let report = report(&trace);
    is_whole(&report);
    assert_eq!(rows(&report, "processes").len(), 2);
    assert_eq!(fights(&report).len(), 2, "{:#}", report["locks"]);
    // Both are gone: so is what there is to record.
    let trace = folder.path().join("u.lockwatt");
    let child = command(&["record", "-p", &pids[0], "-p", &pids[1], "-q", "-o", path(&trace)])
        .spawn()
        .expect("lockwatt runs");
    until("the recording begins", || trace.exists());
    std::thread::sleep(Duration::from_millis(500));
    workers(&load).into_iter().for_each(|pid| signal(pid, "KILL"));
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let report = live::report(&trace);
    assert_eq!(report["recording"]["end"], "target_exited");
    assert!(rows(&report, "processes").iter().all(|process| process["ended_ns"].is_u64()));
}

fn signal(pid: u64, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// A child that execs another Python is that one, whatever its parent is; one that is no Python is said
/// to be none.
#[test]
fn a_child_is_what_it_execs() {
    const PROGRAM: &str = "
import subprocess
code = open(__file__).read().split('#END')[0] + '\\nfight(1)'
other = subprocess.Popen([sys.argv[1], '-c', code])
sleeper = subprocess.Popen(['sleep', '1'])
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], '-c', code])
print(other.pid, pid, sleeper.pid)
other.wait(); sleeper.wait(); os.waitpid(pid, 0)
";
    let _alone = live::alone();
    let other = python("3.14t");
    let folder = folder();
    let text = format!("#END{PROGRAM}");
    let (report, output) = follow("3.11", &text, &[path(&other)], &["-q"]);
    drop(folder);
    is_whole(&report);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let pids: Vec<u64> =
        printed.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
    for pid in &pids[..2] {
        let process = process(&report, &(*pid).into());
        assert!(process["python"].as_str().unwrap_or_default().starts_with("3.14"), "{process:#}");
        assert_eq!(process["free_threaded"], true);
        let lock = fights(&report).into_iter().find(|lock| lock["pid"] == *pid).expect("its lock");
        assert!(share_at(lock, "run") > 0.95, "{lock:#}");
    }
    let sleeper = process(&report, &pids[2].into());
    assert_eq!(
        (&sleeper["recorded"], &sleeper["python"], &sleeper["waits"]),
        (&false.into(), &Value::Null, &0.into())
    );
    let why = sleeper["unnamed_because"].as_str().unwrap_or_default();
    assert!(why.ends_with("is no CPython"), "{why}");
    assert!(report["target"]["python"].as_str().unwrap_or_default().starts_with("3.11"));
}

/// Hundreds of children that live for some milliseconds: each is there, with its waits and their lines.
#[test]
fn a_storm_of_forks_loses_nothing() {
    const CHILDREN: usize = 400;
    const PROGRAM: &str = "
def child():
    def run():
        for _ in range(3):
            with lock:
                time.sleep(0.0005)
    threads = [threading.Thread(target=run) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    os._exit(0)
live = []
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        child()
    live.append(pid)
    if len(live) >= 8:
        os.waitpid(live.pop(0), 0)
for pid in live:
    os.waitpid(pid, 0)
";
    let _alone = live::alone();
    let count = CHILDREN.to_string();
    let (report, _) = follow("3.11", PROGRAM, &[&count], &["-q", "--min-wait", "0"]);
    is_whole(&report);
    let children: Vec<_> =
        rows(&report, "processes").iter().filter(|process| process["came"] == "fork").collect();
    assert_eq!(children.len(), CHILDREN);
    for child in &children {
        assert_eq!(child["threads"], 4, "{child:#}");
        assert!(child["ended_ns"].is_u64() && child["started_ns"].is_u64(), "{child:#}");
    }
    // Three threads that sleep while they have the lock: in each child somebody waits.
    let waiting = children.iter().filter(|child| number(&child["contention_ns"]) > 0).count();
    assert!(waiting >= CHILDREN * 95 / 100, "{waiting}");
    // Each child's lock is its own. (Not each short wait is walked: a child of which none was has a lock
    // that is unclassified.)
    let mut owners: Vec<u64> = rows(&report, "locks")
        .iter()
        .filter(|lock| lock["kind"] == "lock" && lock["class"] != "idle")
        .map(|lock| number(&lock["pid"]))
        .collect();
    owners.sort_unstable();
    owners.dedup();
    assert!(owners.len() >= CHILDREN * 95 / 100, "{}", owners.len());
    let sum = |key: &str| rows(&report, "processes").iter().map(|p| number(&p[key])).sum::<u64>();
    assert_eq!(sum("waits"), number(&report["completeness"]["events"]));
    // Code objects of a child that is gone are those of its parent.
    let gone: u64 = rows(&report, "sites")
        .iter()
        .filter(|site| site["function"] == "[code gone]")
        .map(|site| number(&site["waits"]))
        .sum();
    let waits = number(&report["completeness"]["events"]);
    assert!(gone * 100 <= waits, "{gone} of {waits}");
}

/// The numbers that a program printed.
fn printed(output: &Output) -> Vec<u64> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

/// In a PID namespace of its own a process has another id, and its threads have others, than outside.
#[test]
fn a_child_in_a_pid_namespace_of_its_own_is_followed() {
    // Its first process has id 1 there, and a child of its own.
    const INSIDE: &str = "
def inside():
    assert os.getpid() == 1
    pid = os.fork()
    fight(0.8)
    if pid:
        os.waitpid(pid, 0)
    os._exit(0)
";
    const UNSHARED: &str = "
os.unshare(os.CLONE_NEWPID)
pid = os.fork()
if pid == 0:
    inside()
print(pid)
os.waitpid(pid, 0)
";
    const STARTED: &str = "
inside()
";
    let _alone = live::alone();
    let unshare = ["unshare", "--pid", "--fork", "--kill-child"];
    for (version, by, text) in [
        ("3.14", &[][..], UNSHARED),
        ("3.14t", &[], UNSHARED),
        ("3.11", &unshare, STARTED),
        ("3.14t", &unshare, STARTED),
    ] {
        let what = format!("{version} {by:?}");
        let text = format!("{INSIDE}{text}");
        let (report, output) = follow_by(by, version, &text, &[], &["-q"]);
        is_whole(&report);
        let fights = fights(&report);
        assert_eq!(fights.len(), 2, "{what}: {:#}", report["locks"]);
        let pids: Vec<&Value> = fights.iter().map(|lock| &lock["pid"]).collect();
        assert_ne!(pids[0], pids[1], "{what}");
        for lock in &fights {
            let owner = process(&report, &lock["pid"]);
            assert_eq!((&owner["came"], &owner["recorded"]), (&"fork".into(), &true.into()));
            assert!(number(&lock["pid"]) > 2, "{what}: as it is numbered outside");
            // Two of three threads wait, all the time.
            let off = number(&lock["wait_ns"]).abs_diff(1_600_000_000);
            assert!(off < 400_000_000, "{what}: {}", lock["wait_ns"]);
            assert!(share_at(lock, "run") > 0.95, "{what}: {:#}", lock["waiters"]);
            let of_it = rows(&report, "threads").iter().filter(|one| one["pid"] == lock["pid"]);
            assert_eq!(of_it.count(), 4, "{what}: {:#}", report["threads"]);
        }
        if by.is_empty() {
            let first = printed(&output)[0];
            assert!(pids.iter().any(|pid| number(pid) == first), "{what}: {pids:?}");
        } else {
            let command = rows(&report, "processes").iter().find(|one| one["came"] == "started");
            assert_eq!(command.expect("unshare")["recorded"], false, "{what}");
        }
    }
}

/// Programs that end before anybody can look at them have the name that the kernel gave them.
#[test]
fn children_that_end_at_once_have_their_program_s_name() {
    const PROGRAM: &str = "
import subprocess
for _ in range(40):
    subprocess.run(['true'])
";
    let _alone = live::alone();
    let (report, _) = follow("3.14", PROGRAM, &[], &["-q"]);
    is_whole(&report);
    let children: Vec<_> =
        rows(&report, "processes").iter().filter(|one| one["came"] == "fork").collect();
    assert_eq!(children.len(), 40);
    for child in children {
        let exe = child["exe"].as_str().unwrap_or_default();
        assert!(exe == "true" || exe.ends_with("/true"), "{child:#}");
        assert_eq!((&child["recorded"], &child["execs"]), (&false.into(), &1.into()), "{child:#}");
        assert_eq!(child["python"], Value::Null, "{child:#}");
    }
}

/// What finds no room among the processes is counted and not traced; the others are as ever, and there is
/// room again once some have ended.
#[test]
fn a_full_table_of_processes_says_so() {
    const PROGRAM: &str = "
def children(n):
    pids = []
    for _ in range(n):
        pid = os.fork()
        if pid == 0:
            fight(0.8)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    print(*pids, flush=True)
children(6)
time.sleep(4)
children(1)
";
    let _alone = live::alone();
    let (report, output) = follow("3.14", PROGRAM, &[], &["-q", "--max-processes", "3"]);
    assert_eq!(report["completeness"]["lost"]["process_table_full"], 4, "{report:#}");
    assert_eq!(report["completeness"]["lost_waits"], 0);
    let children = printed(&output);
    let traced: Vec<u64> = rows(&report, "processes")
        .iter()
        .filter(|process| process["came"] == "fork")
        .map(|process| number(&process["pid"]))
        .collect();
    // The first two, and the one that came later.
    assert_eq!(traced.len(), 3, "{:#}", report["processes"]);
    for pid in [children[0], children[1], children[6]] {
        assert!(traced.contains(&pid), "{children:?} {traced:?}");
        let lock = fights(&report).into_iter().find(|lock| lock["pid"] == pid);
        let lock = lock.unwrap_or_else(|| panic!("{pid}: {:#}", report["locks"]));
        assert!(share_at(lock, "run") > 0.95, "{pid}: {:#}", lock["waiters"]);
    }
    assert_eq!(fights(&report).len(), 3);
}

/// As before: children are counted, and not followed.
#[test]
fn without_follow_nothing_changes() {
    const PROGRAM: &str = "
pid = os.fork()
fight(0.6)
if pid:
    os.waitpid(pid, 0)
os._exit(0)
";
    let _alone = live::alone();
    let folder = folder();
    let file = program(&folder, PROGRAM);
    let trace = folder.path().join("t.lockwatt");
    let interpreter = python("3.14");
    let all = ["record", "-q", "-o", path(&trace), "--", path(&interpreter), path(&file)];
    let output = lockwatt(&all);
    assert!(output.status.success(), "{}", said(&output));
    let report = report(&trace);
    is_whole(&report);
    assert_eq!(rows(&report, "processes").len(), 1);
    assert_eq!(report["recording"]["counters"]["forked_children"], 1);
    assert_eq!(fights(&report).len(), 1, "{:#}", report["locks"]);
    let names = rows(&report["recording"], "programs").iter().map(|one| &one["name"]);
    assert!(names.into_iter().all(|name| !name.as_str().unwrap_or_default().ends_with("_all")));
    assert!(!text(&trace).contains("Processes"));
}

fn text(trace: &Path) -> String {
    let output = lockwatt(&["report", path(trace)]);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A command that ends before its children: the recording goes on, says so, and passes the command's
/// own code on.
#[test]
fn the_recording_outlives_the_command() {
    const PROGRAM: &str = "
if os.fork() == 0:
    fight(1)
    os._exit(0)
os._exit(7)
";
    let _alone = live::alone();
    let folder = folder();
    let file = program(&folder, PROGRAM);
    let trace = folder.path().join("t.lockwatt");
    let interpreter = python("3.14");
    let all = ["record", "--follow", "-o", path(&trace), "--", path(&interpreter), path(&file)];
    let output = command(&all).stdin(Stdio::null()).output().expect("lockwatt runs");
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(said(&output).contains("the command has ended"), "{}", said(&output));
    let report = report(&trace);
    assert_eq!(fights(&report).len(), 1, "{:#}", report["locks"]);
    assert!(text(&trace).contains("Processes"));
}

#[test]
fn uprobes_are_of_one_process() {
    let output = lockwatt(&["record", "--follow", "--uprobes", "pthread", "--", "true"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--follow"), "{}", said(&output));
}
