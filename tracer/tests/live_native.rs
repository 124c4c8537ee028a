//! Ring 4: `--native` shows which C function waits, and whose mutex it is.

use std::path::PathBuf;
use std::process::Command;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use serde_json::Value;

use live::{Workload, lockwatt, number, path, record, report};

/// A C library with a mutex of its own, and one on the heap that only its callers give away.
const LIBRARY: &str = "
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static pthread_mutex_t fixed = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t *heap;
__attribute__((noinline)) int spam_wait(pthread_mutex_t *lock, int us) {
    int failed = pthread_mutex_lock(lock);
    usleep(us);
    return failed | pthread_mutex_unlock(lock);
}
void spam_init(void) {
    heap = calloc(1, sizeof *heap);
    pthread_mutex_init(heap, NULL);
}
int spam_fixed(int us) { return spam_wait(&fixed, us) + 1; }
int spam_heap(int us) { return spam_wait(heap, us) + 1; }
";

const PROGRAM: &str = "
import ctypes, json, threading
library = ctypes.CDLL('LIBRARY')
library.spam_init()
def fixed():
    while True: library.spam_fixed(2000)
def heap():
    while True: library.spam_heap(2000)
for target in (fixed, fixed, heap, heap):
    threading.Thread(target=target, daemon=True).start()
print(json.dumps({}), flush=True)
threading.Event().wait()
";

/// A shared library made of C source.
fn compiled(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let source = folder.path().join(format!("{name}.c"));
    let library = folder.path().join(format!("{name}.so"));
    std::fs::write(&source, text).expect("written");
    let done = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-pthread", "-o", path(&library), path(&source)])
        .status()
        .expect("cc runs: `cargo xtask setup` installs it");
    assert!(done.success());
    library
}

#[test]
fn a_c_librarys_mutexes_show_function_and_module() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let library = compiled(&folder, "_spam", LIBRARY);
    for version in ["3.11", "3.14", "3.14t"] {
        let load = Workload::inline(version, &PROGRAM.replace("LIBRARY", path(&library)));
        let trace = folder.path().join(format!("{version}.lockwatt"));
        record(load.pid(), "2s", &trace, &["--native"]);

        let report = report(&trace);
        assert_eq!(report["completeness"]["lost"], serde_json::json!({}), "{version}");
        let locks = report["locks"].as_array().expect("locks");
        let ours: Vec<_> = locks.iter().filter(|l| l["name"] == "mutex of _spam.so").collect();
        assert_eq!(ours.len(), 2, "{version}: {locks:#?}");
        for lock in ours {
            assert_eq!(
                (&lock["kind"], &lock["class"]),
                (&"pthread_mutex".into(), &"contention".into())
            );
            // The mutex says who has it, and that thread is the one that then lets go.
            let holders = lock["holders"].as_array().expect("holders");
            let owned = holders.iter().filter(|holder| holder["source"] == "owner");
            let owned: u64 = owned.map(|holder| number(&holder["waits"])).sum();
            assert!(owned * 10 > number(&lock["waits"]) * 9, "{version}: {lock:#}");
            assert!(number(&lock["waits"]) > 200, "{version}: {lock:#}");
            // Sites are Python lines, native frames or not.
            let site = &lock["waiters"][0];
            assert!(site["function"] == "fixed" || site["function"] == "heap", "{lock:#}");
            assert_ne!(number(&site["line"]), 0);
        }

        let output = lockwatt(&["flamegraph", path(&trace), "-o", "-"]);
        let text = String::from_utf8(output.stdout).expect("text");
        for function in ["fixed", "heap"] {
            let line = text.lines().find(|line| {
                let python = line.find(&format!(";{function} (<string>:"));
                let native = line.find(
                    ";spam_wait (_spam.so);pthread_mutex_lock (libc.so.6);pthread_mutex;mutex of _spam.so",
                );
                python.zip(native).is_some_and(|(python, native)| python < native)
            });
            assert!(line.is_some(), "{version} {function}: {text}");
        }
    }
}

/// What else C code waits in: each with a partner that keeps it waiting for milliseconds.
const PRIMITIVES: &str = "
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <unistd.h>
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t book = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t gate;
static sem_t work;
static int word = 0;
void eggs_init(void) { pthread_barrier_init(&gate, NULL, 2); sem_init(&work, 0, 0); }
void eggs_cond_wait(void) {
    pthread_mutex_lock(&guard);
    pthread_cond_wait(&news, &guard);
    pthread_mutex_unlock(&guard);
}
void eggs_tell(void) {
    usleep(3000);
    pthread_cond_broadcast(&news);
    sem_post(&work);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
void eggs_book(void) { pthread_rwlock_wrlock(&book); usleep(3000); pthread_rwlock_unlock(&book); }
void eggs_gate(int us) { usleep(us); pthread_barrier_wait(&gate); }
void eggs_sem(void) { sem_wait(&work); }
void eggs_futex(void) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
";

const WAITS: &str = "
import ctypes, json, threading
eggs = ctypes.CDLL('LIBRARY')
eggs.eggs_init()
def forever(function, *arguments):
    while True: function(*arguments)
for call in [(eggs.eggs_cond_wait,), (eggs.eggs_tell,), (eggs.eggs_book,), (eggs.eggs_book,),
             (eggs.eggs_gate, 0), (eggs.eggs_gate, 3000), (eggs.eggs_sem,), (eggs.eggs_futex,)]:
    threading.Thread(target=forever, args=call, daemon=True).start()
print(json.dumps({}), flush=True)
threading.Event().wait()
";

/// Without `--native`: what a futex is, is learned from a few native stacks a second.
#[test]
fn primitives_of_c_code_have_kind_and_module() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let library = compiled(&folder, "_eggs", PRIMITIVES);
    for version in ["3.11", "3.14", "3.14t"] {
        let load = Workload::inline(version, &WAITS.replace("LIBRARY", path(&library)));
        let trace = folder.path().join(format!("{version}.lockwatt"));
        record(load.pid(), "2s", &trace, &[]);
        let report = report(&trace);
        let locks = report["locks"].as_array().expect("locks");
        // glibc's own functions between these two and the futex have no names, and newer ones are
        // jumped to.
        let either = "semaphore or condition of _eggs.so";
        let named = |name: &'static str| {
            if locks.iter().any(|lock| lock["name"] == name) { name } else { either }
        };
        let condition = match named("condition of _eggs.so") {
            name if name == either => (either, "futex", "unclassified"),
            name => (name, "pthread_cond", "idle"),
        };
        for (name, kind, class) in [
            condition,
            (either, "futex", "unclassified"),
            ("rwlock of _eggs.so", "pthread_rwlock", "contention"),
            ("barrier of _eggs.so", "barrier", "idle"),
            ("futex of _eggs.so", "futex", "unclassified"),
        ] {
            let (told, untold): (Vec<_>, Vec<_>) = locks
                .iter()
                .filter(|lock| lock["name"] == name)
                .partition(|lock| (&lock["kind"], &lock["class"]) == (&kind.into(), &class.into()));
            // A barrier and a condition have several words that are slept on.
            let waits =
                |locks: &[&Value]| -> u64 { locks.iter().map(|lock| number(&lock["waits"])).sum() };
            assert!(waits(&told) > 100, "{version}, {name}: {locks:#?}");
            // Of a wait that began before the recording there is no native stack.
            assert!(waits(&untold) <= 2, "{version}, {name}: {untold:#?}");
            assert!(untold.iter().all(|lock| lock["class"] == "unclassified"), "{untold:#?}");
        }
    }
}
