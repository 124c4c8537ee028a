//! Ring 4: waits that are known by construction have the right kind, class, name and address, on every
//! interpreter that there is. `docs/accuracy.md` has the whole table.

#[expect(dead_code, reason = "the bench uses the rest")]
#[path = "../benches/accuracy/mod.rs"]
mod accuracy;
#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use std::time::Duration;

use accuracy::measure::{Outcome, measure};
use accuracy::recorder::How;
use accuracy::score::Share;
use accuracy::workloads::{divide, workloads};
use tracer::probe::Hooks;
use tracer::units::Ns;

/// Each with one of its own: the newest with and without the GIL, one with a lock of each old form.
const VERSIONS: [&str; 5] = ["3.11", "3.13", "3.13t", "3.14t", "3.15"];

fn whole(share: Share) -> bool {
    share.of > 0 && share.part == share.of
}

fn how() -> How {
    How { hooks: Hooks::Sched, min_wait: Ns(10_000), long: false, waiters: None, keep: None }
}

fn assert_right(families: &[&str]) {
    let _alone = live::alone();
    let how = how();
    for version in VERSIONS {
        if version == "3.13t" && !live::has_python(version) {
            continue; // optional; the test run says so
        }
        let python = live::python(version);
        for family in families {
            let score = match measure(python.as_ref(), version, family, &how).outcome {
                Outcome::Measured(score) => score,
                Outcome::NotHere => continue,
                Outcome::Failed(why) => panic!("{family} on {version}: {why}"),
            };
            // One that ends by a time-out in the truth may not have slept at all: one of each program, or
            // 2 %.
            let Share { part, of, .. } = score.matched;
            let enough = part * 50 >= of * 49 || of > 10 && part + 1 == of;
            assert!(of > 0 && enough, "{family} on {version}: saw {part} of {of}");
            for (what, share) in [
                ("kind", score.kind),
                ("class", score.class),
                ("name", score.name),
                ("address", score.address),
                ("parts", score.parts),
            ] {
                // The GIL and the runtime's locks have no object.
                let none = what == "address" && share.of == 0;
                assert!(none || whole(share), "{family} on {version}, {what}: {share:?}");
            }
            let Share { part, of, .. } = score.unclassified;
            assert!(part * 100 < of, "{family} on {version}: {part} of {of} ns unclassified");
        }
    }
}

#[test]
fn locks_and_semaphores_are_what_they_are() {
    assert_right(&["lock", "rlock", "semaphore"]);
}

#[test]
fn what_idles_is_what_it_idles_on() {
    assert_right(&["condition", "event", "queue", "join"]);
}

#[test]
fn objects_and_the_interpreters_own_locks_are_what_they_are() {
    assert_right(&["object", "runtime", "gil_handoff"]);
}

/// Whatever a program of `scripts/workloads` waits for is known to be contention, idling or a pause.
#[test]
fn nearly_nothing_of_the_workloads_is_unclassified() {
    let _alone = live::alone();
    let length = Duration::from_millis(700);
    for version in ["3.11", "3.14", "3.14t"] {
        let python = live::python(version);
        for name in workloads().expect("scripts/workloads") {
            let row = divide(python.as_ref(), version, &name, &how(), length);
            let shares = row.outcome.unwrap_or_else(|why| panic!("{name} on {version}: {why}"));
            let Share { part, of } = shares.unclassified;
            assert!(of > 0, "{name} on {version}: nobody waited");
            assert!(part * 100 < of, "{name} on {version}: {part} of {of} ns unclassified");
        }
    }
}

/// Threads that have nothing to do, and do it at different times, fight over nothing.
#[test]
fn idling_is_no_contention() {
    let _alone = live::alone();
    for version in VERSIONS {
        if version == "3.13t" && !live::has_python(version) {
            continue;
        }
        // A thread that loses its CPU while it has the GIL makes others wait for it, which is contention
        // indeed: on a busy machine there may be some, but not each time.
        let mut seen = Vec::new();
        let idle = (0..3).any(|_| {
            let python = live::python(version);
            let score = match measure(python.as_ref(), version, "idle", &how()).outcome {
                Outcome::Measured(score) => score,
                other => panic!("idle on {version}: {other:?}"),
            };
            let shares = [("contention", score.contention), ("unclassified", score.unclassified)];
            let idle = shares.iter().all(|(_, Share { part, of })| *of > 0 && part * 1_000 < *of);
            seen.push(shares);
            idle
        });
        assert!(idle, "idle on {version}: {seen:?}");
    }
}
