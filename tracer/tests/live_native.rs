//! Ring 4: `--native` shows which C function waits, and whose mutex it is.

use std::process::Command;

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

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

#[test]
fn a_c_librarys_mutexes_show_function_and_module() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let (source, library) = (folder.path().join("spam.c"), folder.path().join("_spam.so"));
    std::fs::write(&source, LIBRARY).expect("written");
    let compiled = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-pthread", "-o", path(&library), path(&source)])
        .status()
        .expect("cc runs: `cargo xtask setup` installs it");
    assert!(compiled.success());
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
            assert_eq!((&lock["kind"], &lock["class"]), (&"futex".into(), &"unclassified".into()));
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
                    ";spam_wait (_spam.so);pthread_mutex_lock (libc.so.6);futex;mutex of _spam.so",
                );
                python.zip(native).is_some_and(|(python, native)| python < native)
            });
            assert!(line.is_some(), "{version} {function}: {text}");
        }
    }
}
