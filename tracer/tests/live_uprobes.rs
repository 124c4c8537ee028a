//! Ring 4: `--uprobes` counts every use of a lock, and times its holds.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, command, lock_at, lockwatt, number, path, record, report, until};

/// Locks that are used a known number of times, for known times, and by one thread each: nobody
/// ever waits for one.
const LIBRARY: &str = "
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <time.h>
#include <unistd.h>
pthread_mutex_t quick = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t tried = PTHREAD_MUTEX_INITIALIZER, guard = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t nested = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
sem_t slots;
void spam_quick(int n) {
    while (n--) { pthread_mutex_lock(&quick); pthread_mutex_unlock(&quick); }
}
void spam_held(int n, int us) {
    while (n--) { pthread_mutex_lock(&held); usleep(us); pthread_mutex_unlock(&held); }
}
void spam_tried(int n) {
    pthread_mutex_trylock(&tried);
    while (n--) pthread_mutex_trylock(&tried);
    pthread_mutex_unlock(&tried);
}
void spam_nested(int n, int us) {
    for (int i = 0; i < n; i++) pthread_mutex_lock(&nested);
    usleep(us);
    for (int i = 0; i < n; i++) pthread_mutex_unlock(&nested);
}
void spam_shared(int n, int us) {
    for (int i = 0; i < n; i++) pthread_rwlock_rdlock(&shared);
    usleep(us);
    for (int i = 0; i < n; i++) pthread_rwlock_unlock(&shared);
    pthread_rwlock_wrlock(&shared);
    usleep(us);
    pthread_rwlock_unlock(&shared);
}
void spam_slots(int n) {
    sem_init(&slots, 0, 0);
    for (int i = 0; i < n; i++) sem_post(&slots);
    for (int i = 0; i < n; i++) sem_wait(&slots);
    sem_trywait(&slots);
}
void spam_cond(int us) {
    struct timespec until;
    pthread_mutex_lock(&guard);
    usleep(us);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) { until.tv_nsec -= 1000000000; until.tv_sec++; }
    pthread_cond_timedwait(&cond, &guard, &until);
    usleep(us);
    pthread_mutex_unlock(&guard);
    pthread_cond_signal(&cond);
    pthread_cond_broadcast(&cond);
}
";

const PROGRAM: &str = "
import ctypes, json, os, threading, time
library = ctypes.CDLL('LIBRARY')
names = ['quick', 'held', 'tried', 'nested', 'shared', 'slots', 'guard', 'cond']
address = lambda name: hex(ctypes.addressof(ctypes.c_char.in_dll(library, name)))
def use():
    library.spam_quick(5000)
    library.spam_held(20, 5000)
    library.spam_tried(7)
    library.spam_nested(3, 6000)
    library.spam_shared(2, 7000)
    library.spam_slots(11)
    library.spam_cond(8000)
print(json.dumps({'objects': {name: {'id': address(name)} for name in names}}), flush=True)
while not os.path.exists('TRIGGER'): time.sleep(0.02)
thread = threading.Thread(target=use)
thread.start()
thread.join()
open('TRIGGER.done', 'w').close()
threading.Event().wait()
";

const MS: u64 = 1_000_000;

fn compile(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (folder.join("spam.c"), folder.join("_spam.so"));
    std::fs::write(&source, LIBRARY).expect("written");
    let compiled = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-pthread", "-o", path(&library), path(&source)])
        .status()
        .expect("cc runs: `cargo xtask setup` installs it");
    assert!(compiled.success());
    library
}

/// Records the program from before its first use of a lock until after its last.
fn recorded(version: &str, folder: &Path, library: &Path, uprobes: &str) -> (Workload, Value) {
    let trigger = folder.join(format!("{version}.go"));
    let program = PROGRAM.replace("LIBRARY", path(library)).replace("TRIGGER", path(&trigger));
    let load = Workload::inline(version, &program);
    let trace = folder.join(format!("{version}.lockwatt"));
    let pid = load.pid().to_string();
    let mut recorder = command(&["record", "-p", &pid, "-o", path(&trace), "--uprobes", uprobes])
        .stderr(Stdio::piped())
        .spawn()
        .expect("lockwatt runs");
    // The metadata is written once everything is attached.
    until("the recording begins", || trace.metadata().is_ok_and(|file| file.len() > 16));
    std::fs::write(&trigger, "").expect("written");
    let done = folder.join(format!("{version}.go.done"));
    until("the program is done", || done.exists());
    let interrupted = Command::new("kill").args(["-INT", &recorder.id().to_string()]).status();
    assert!(interrupted.expect("kill runs").success());
    assert!(recorder.wait().expect("an end").success());
    (load, report(&trace))
}

#[test]
fn every_use_is_counted_and_holds_are_timed() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let library = compile(folder.path());
    for version in ["3.11", "3.14t"] {
        let (load, report) = recorded(version, folder.path(), &library, "pthread");
        assert_eq!(report["completeness"]["lost"], serde_json::json!({}), "{version}");
        let of = |name: &str| lock_at(&report, load.object(name));
        // acquired, failed, released, holds, held at least, and the longest.
        for (name, kind, expected, at_least) in [
            ("quick", "pthread_mutex", [5000, 0, 5000, 5000], [0, 0]),
            ("held", "pthread_mutex", [20, 0, 20, 20], [100, 5]),
            ("tried", "pthread_mutex", [1, 7, 1, 1], [0, 0]),
            ("nested", "pthread_mutex", [3, 0, 3, 1], [6, 6]),
            ("shared", "pthread_rwlock", [3, 0, 3, 2], [14, 7]),
            ("guard", "pthread_mutex", [2, 0, 2, 2], [16, 8]),
        ] {
            let lock = of(name);
            assert_eq!(lock["kind"], kind, "{version} {name}: {lock:#}");
            let keys = ["acquisitions", "failed_tries", "releases", "uprobe_holds"];
            assert_eq!(keys.map(|key| number(&lock[key])), expected, "{version} {name}: {lock:#}");
            let held = ["held_ns", "max_held_ns"].map(|key| number(&lock[key]));
            for (held, at_least) in held.into_iter().zip(at_least) {
                assert!(held >= at_least * MS, "{version} {name}: {lock:#}");
                // A busy machine sleeps longer than it was told to.
                assert!(held <= at_least * MS * 4 + 500 * MS, "{version} {name}: {lock:#}");
            }
            assert_eq!(number(&lock["waits"]), 0, "{version} {name}: nobody waits: {lock:#}");
        }
        let slots = of("slots");
        let counts = ["acquisitions", "failed_tries", "releases"].map(|key| number(&slots[key]));
        assert_eq!(counts, [11, 1, 11], "{version}: {slots:#}");
        let cond = of("cond");
        let calls = serde_json::json!({"pthread_cond": {"calls": 1, "signals": 2}});
        assert_eq!(cond["calls"], calls, "{version}: {cond:#}");
        assert_eq!(cond["acquisitions"], Value::Null, "a condition is no lock: {cond:#}");
        cost_is_told(&report);
    }
}

/// Where libc has USDT probes (Debian's of 2.43 does, that of 2.36 does not), they give the same
/// counts and holds of mutexes and rwlocks, at half the hits.
#[test]
fn usdt_probes_count_what_uprobes_count() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let library = compile(folder.path());
    let (load, report) = recorded("3.14", folder.path(), &library, "usdt");
    let programs = report["recording"]["programs"].as_array().expect("programs");
    let usdt = |hook: &Value| hook.as_str().is_some_and(|hook| hook.starts_with("uprobe/usdt:"));
    let of: Vec<_> = programs.iter().filter(|one| usdt(&one["hook"])).collect();
    if of.iter().all(|one| one["reason"].to_string().contains("no such USDT probe")) {
        eprintln!("NOT TESTED: the libc of this 3.14 has no USDT probes");
        return;
    }
    assert!(of.iter().all(|one| one["attached"] == true), "{of:#?}");
    assert_eq!(report["completeness"]["lost"], serde_json::json!({}));
    // acquired, released, holds, held at least. Inner locks of a recursive mutex make no hit.
    for (name, expected, at_least) in [
        ("quick", [5000, 5000, 5000], 0),
        ("held", [20, 20, 20], 100),
        ("nested", [1, 1, 1], 6),
        ("shared", [3, 3, 2], 14),
        ("guard", [2, 2, 2], 16),
    ] {
        let lock = lock_at(&report, load.object(name));
        let keys = ["acquisitions", "releases", "uprobe_holds"];
        assert_eq!(keys.map(|key| number(&lock[key])), expected, "{name}: {lock:#}");
        let held = number(&lock["held_ns"]);
        assert!((at_least * MS..at_least * MS * 4 + 500 * MS).contains(&held), "{name}: {lock:#}");
    }
}

#[test]
fn groups_that_count_the_same_are_refused() {
    let output = lockwatt(&["record", "-p", "1", "--uprobes", "pthread,usdt"]);
    let said = live::said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("give one of them"), "{said}");
}

fn cost_is_told(report: &Value) {
    let recording = &report["recording"];
    let own = &recording["self_cost"];
    let (entry, at_return) =
        (number(&own["uprobe_entry_hits"]), number(&own["uprobe_return_hits"]));
    assert!(entry > 10_000 && at_return > 5_000, "{own:#}");
    let cost = &recording["uprobe_cost"];
    let (each_entry, each_return) = (number(&cost["entry"]), number(&cost["at_return"]));
    assert!((100..1_000_000).contains(&each_entry), "{cost:#}");
    // 0: less than a busy machine scatters by.
    assert!(each_return < 1_000_000, "{cost:#}");
    let all = entry * each_entry + at_return * each_return;
    assert_eq!(number(&own["uprobe_ns"]), all, "{own:#}");
    assert_eq!(recording["uprobes"], serde_json::json!(["pthread"]));
}

#[test]
fn slow_paths_of_the_interpreter_are_counted_by_lock() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    let storm = Workload::start("3.14t", "three_locks", &[]);
    record(storm.pid(), "2s", &trace, &["--uprobes", "cpython"]);
    let report = report(&trace);
    assert_eq!(report["recording"]["uprobes"], serde_json::json!(["cpython"]));
    let locks = report["locks"].as_array().expect("locks");
    for function in ["_PyCriticalSection_BeginSlow", "_PyMutex_LockTimed"] {
        let calls = |lock: &Value| lock["calls"][function]["calls"].as_u64().unwrap_or(0);
        let most = locks.iter().max_by_key(|lock| calls(lock)).expect("a lock");
        assert!(calls(most) > 10, "{function}: {most:#}");
        // The argument is the lock: an object that the program fights over.
        let objects = storm.first()["objects"].as_object().expect("objects");
        let known = objects.values().any(|object| object["id"] == most["address"]);
        assert!(known, "{function}: {most:#}\n{objects:#?}");
        assert_eq!(most["acquisitions"], Value::Null, "{most:#}");
    }
    let output = lockwatt(&["report", path(&trace)]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("_PyCriticalSection_BeginSlow"), "{text}");
    assert!(text.contains("uprobe hits cost the target's threads about"), "{text}");
}

/// A command is hooked when its interpreter is there.
#[test]
fn a_command_is_hooked_once_it_is_an_interpreter() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    let program = "
import threading, time
time.sleep(1)
for _ in range(500):
    lock = threading.Lock()
    thread = threading.Thread(target=lock.acquire)
    lock.acquire(); thread.start(); lock.release(); thread.join()
";
    let python = live::python("3.11");
    let arguments =
        ["record", "-o", path(&trace), "--uprobes", "pthread,cpython", "--", path(&python)];
    let output = command(&arguments).args(["-c", program]).output().expect("lockwatt runs");
    assert!(output.status.success(), "{}", live::said(&output));
    let report = report(&trace);
    let programs = report["recording"]["programs"].as_array().expect("programs");
    let named = |hook: &str| programs.iter().find(|one| one["hook"] == hook).expect("a program");
    assert_eq!(named("uprobe/sem_wait (libc.so.6)")["attached"], true);
    // 3.11 has no PyMutex, and says so.
    let absent = named("uprobe/PyMutex_Lock");
    assert_eq!(absent["attached"], false);
    assert!(absent["reason"].as_str().is_some_and(|why| why.contains("no such function")));
    let locks = report["locks"].as_array().expect("locks");
    let acquired: u64 = locks.iter().filter_map(|lock| lock["acquisitions"].as_u64()).sum();
    assert!(acquired > 1_000, "{acquired}");
}

/// Uses before and after an exec are of different locks, whatever their addresses, and each is counted
/// once.
#[test]
fn an_exec_begins_other_locks() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let library = compile(folder.path());
    let (trace, script) = (folder.path().join("t.lockwatt"), folder.path().join("spam.py"));
    let program = "
import ctypes, os, sys, time
time.sleep(1)
ctypes.CDLL('LIBRARY').spam_quick(5000)
time.sleep(1.5)
if len(sys.argv) < 2: os.execv(sys.executable, [sys.executable, sys.argv[0], 'again'])
";
    std::fs::write(&script, program.replace("LIBRARY", path(&library))).expect("written");
    let python = live::python("3.11");
    let arguments = ["record", "-o", path(&trace), "--uprobes", "pthread", "--", path(&python)];
    let output = command(&arguments).arg(&script).output().expect("lockwatt runs");
    assert!(output.status.success(), "{}", live::said(&output));
    let report = report(&trace);
    assert_eq!(report["completeness"]["lost"], serde_json::json!({}));
    let locks = report["locks"].as_array().expect("locks");
    let ours = locks.iter().filter(|lock| lock["acquisitions"] == 5000);
    let ours: Vec<_> = ours.map(|lock| (&lock["kind"], &lock["uprobe_holds"])).collect();
    assert_eq!(ours, [(&"pthread_mutex".into(), &5000.into()); 2], "{locks:#?}");
}

#[test]
fn without_the_option_there_are_no_uprobes() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    let storm = Workload::start("3.14t", "short_storm", &[]);
    record(storm.pid(), "1s", &trace, &[]);
    let report = report(&trace);
    let programs = report["recording"]["programs"].to_string();
    assert!(!programs.contains("uprobe") && !programs.contains("uretprobe"), "{programs}");
    assert_eq!(report["recording"]["uprobe_cost"], Value::Null);
    for lock in report["locks"].as_array().expect("locks") {
        assert_eq!((&lock["acquisitions"], &lock["held_ns"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn an_unknown_group_is_refused_with_those_there_are() {
    let output = lockwatt(&["record", "-p", "1", "--uprobes", "pthread,spam"]);
    let said = live::said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("spam") && said.contains("cpython"), "{said}");
}
