//! The words and columns of energy: the built binary over traces made here, without root.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tracer::energy::domain::arrange;
use tracer::energy::topology::Cpu;
use tracer::energy::{Domain, Known, Microjoules, Quality, Watts};
use tracer::trace::TraceWriter;
use tracer::trace::energy::{
    CpuTime, Doing, EnergyInterval, EnergyReading, EnergySamples, EnergySource, EnergyWindow,
    IdlePower, Shares, ThreadTime,
};
use tracer::trace::records::{
    Class, End, Kind, LockRecord, Meta, Options, Sampled, SideStack, ThreadRecord, Totals, Wait,
};
use tracer::units::{Address, LockIndex, Monotonic, Ns, ThreadIndex, Tid};

const SECOND: u64 = 1_000_000_000;
const WINDOW: u64 = SECOND / 10;
const VIEWS: [&[&str]; 8] = [
    &[],
    &["--by", "lock"],
    &["--by", "thread"],
    &["--by", "process"],
    &["--by", "site"],
    &["--by", "pair"],
    &["--by", "kind"],
    &["--by", "graph"],
];

fn lockwatt(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockwatt")).args(arguments).output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = lockwatt(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What can be different in a trace.
#[derive(Clone)]
struct Made {
    source: EnergySource,
    hz: Option<u32>,
    unseen: u64,
}

impl Default for Made {
    fn default() -> Self {
        let mut domains = vec![Domain::of_zone("package-0", None)];
        arrange(&mut domains);
        let idle = IdlePower { watts: Watts(4.0), spread: Watts(0.1) };
        let cpu = |cpu| Cpu { cpu, package: Some(0), die: None, sibling: None };
        let source = EnergySource {
            source: "powercap (/somewhere)".to_owned(),
            quality: Quality::Simulated,
            domains,
            cpus: vec![cpu(0), cpu(1)],
            window: Ns(WINDOW),
            idle: vec![Some(idle)],
            spin_weight: Some(800_000),
            ..EnergySource::default()
        };
        Self { source, hz: Some(1_000), unseen: 0 }
    }
}

/// Two seconds: two threads hand a lock to each other, each on a CPU for a part of the time.
fn trace(made: &Made) -> (TempDir, String) {
    let mut writer = TraceWriter::new(Vec::new()).unwrap();
    let options = Options { sample_hz: made.hz, ..Options::default() };
    let meta = Meta { options, start: Monotonic(SECOND), cpus: 2, ..Meta::default() };
    writer.meta(&meta).unwrap();
    writer.energy_source(&made.source).unwrap();
    let lock = LockRecord {
        index: LockIndex(0),
        kind: Kind::Lock,
        class: Class::Contention,
        address: Address(0xbeef),
        lock: Address(0xbeef),
        name: "_thread.lock".to_owned(),
        shape: 0,
    };
    writer.lock(lock).unwrap();
    let thread = |n: u32| ThreadRecord {
        index: ThreadIndex(n),
        tid: Tid(100 + n),
        name: format!("worker-{n}"),
        oncpu: Ns(SECOND),
        ..ThreadRecord::default()
    };
    writer.threads(&[thread(0), thread(1)]).unwrap();
    let mut windows = Vec::new();
    for n in 0..20 {
        let start = SECOND + n * WINDOW;
        // In turns: who has it computes for half a window, who waits for it sleeps.
        for (n, thread) in [(0, 0), (1, 1)] {
            let from = start + n * WINDOW / 2;
            let to = from + WINDOW / 2;
            writer
                .wait(Wait {
                    thread: ThreadIndex(thread),
                    lock: LockIndex(0),
                    start: Monotonic(from),
                    end: Monotonic(to),
                    blocked: Ns(to - from),
                    runq: Ns(0),
                    episodes: 1,
                    flags: 0,
                    waker: Some(ThreadIndex(1 - thread)),
                    waiter_stack: SideStack::default(),
                    waker_stack: SideStack::default(),
                    holder: None,
                    holder_stack: SideStack::default(),
                })
                .unwrap();
        }
        let time = Shares { alone: Ns(WINDOW / 2), shared: Ns(0) };
        let of = |n: u32| ThreadTime { thread: ThreadIndex(n), cpu: n, time };
        windows.push(EnergyWindow {
            start: Monotonic(start),
            end: Monotonic(start + WINDOW),
            read: Ns(1_000),
            readings: vec![EnergyReading {
                energy: Microjoules(1_400_000),
                known: Known::Measured,
            }],
            cpus: (0..2)
                .map(|cpu| CpuTime { cpu, idle: Ns(WINDOW / 2), ..CpuTime::default() })
                .collect(),
            threads: vec![of(0), of(1)],
        });
    }
    let samples = |doing, lock, samples| EnergySamples {
        thread: ThreadIndex(0),
        cpu: 0,
        doing,
        lock,
        samples,
    };
    if made.source.quality != Quality::None {
        let lock = Some(LockIndex(0));
        let samples = vec![
            samples(Doing::Anything, None, 1_000),
            samples(Doing::Spinning, lock, 250),
            samples(Doing::Timed, lock, 200_000_000),
        ];
        writer.energy(&[EnergyInterval { windows, samples }]).unwrap();
    }
    let mut totals = Totals { at: Monotonic(3 * SECOND), events: 40, ..Totals::default() };
    if made.unseen > 0 {
        totals.drops.insert("energy_switch_unseen".to_owned(), made.unseen);
    }
    totals.sampled = made.hz.map(|_| Sampled { ticks: 4_000, target: 2_000, ..Sampled::default() });
    writer.totals(&totals).unwrap();
    let end = End { at: Monotonic(3 * SECOND), reason: "duration".to_owned() };
    let bytes = writer.finish(&end).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.lockwatt");
    std::fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// The picture, as it is written.
fn flamegraph(path: &str) -> String {
    let picture = format!("{path}.svg");
    text(&["flamegraph", path, "-o", &picture]);
    std::fs::read_to_string(picture).unwrap()
}

fn report(path: &str, options: &[&str]) -> Value {
    let arguments = [&["report", path, "--format", "json"], options].concat();
    serde_json::from_str(&text(&arguments)).unwrap()
}

#[test]
fn every_number_says_what_it_is() {
    let (_folder, path) = trace(&Made::default());
    for view in [VIEWS[0], VIEWS[1], VIEWS[2]] {
        let text = text(&[&["report", &path, "--counterfactual"], view].concat());
        assert_eq!(text.matches("energy: SIMULATED").count(), 1, "{text}");
        for words in [
            "energy (attributed, simulated)",
            "no number of lockwatt's has been validated against RAPL hardware",
            "calibrated idle power is taken off first (baseline)",
            "waiting on the CPU counts as other time does (γ = 1), and 0.80, as calibrated",
            "that is an overlay (attributed, simulated, in no sum)",
            "COUNTERFACTUAL, in no sum",
            "idle energy coinciding with waits, at most",
            "The upper bounds don't add up",
        ] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
        for never in ["wasted", "saved", "consumed", "cost of the lock"] {
            assert!(!text.contains(never), "{never:?} in {text}");
        }
    }
    // The other weight of waiting.
    let weighted = EnergySource { spin_weighted: true, ..Made::default().source };
    let (_folder, path) = trace(&Made { source: weighted, ..Made::default() });
    let said = text(&["report", &path]);
    let words =
        "waiting on the CPU counts 0.80, as calibrated (γ), and 1 in the range of the model";
    assert!(said.contains(words), "{said}");
    assert_eq!(report(&path, &[])["energy"]["spin_weight_shown"], 0.8);
    let estimated = EnergySource { quality: Quality::Estimated, ..Made::default().source };
    let (_folder, path) = trace(&Made { source: estimated, ..Made::default() });
    assert!(text(&["report", &path]).contains(" energy: ESTIMATED: nothing was measured\n"));
    let measured = EnergySource { quality: Quality::Measured, ..Made::default().source };
    let (_folder, path) = trace(&Made { source: measured, ..Made::default() });
    assert!(text(&["report", &path]).contains(" energy: measured\n"));
}

#[test]
fn counterfactuals_are_on_request_and_in_no_sum() {
    let (_folder, path) = trace(&Made::default());
    let plain = text(&["report", &path]);
    assert!(!plain.to_lowercase().contains("counterfactual"), "{plain}");
    let (without, with) = (report(&path, &[]), report(&path, &["--counterfactual"]));
    assert_eq!(without["energy"]["counterfactual"], Value::Null);
    assert_eq!(without["locks"][0]["counterfactual"], Value::Null);
    let one = &with["energy"]["counterfactual"];
    assert_eq!((&one["kind"], &one["in_sum"]), (&"counterfactual".into(), &false.into()));
    // 4 W for 2 s; half of the CPUs idle, one thread waiting all the time: all of what idles.
    assert_eq!(one["baseline_uj"], 8_000_000);
    let number = |value: &Value| value.as_u64().unwrap();
    assert!(number(&one["idle_baseline_uj"]).abs_diff(4_000_000) <= 1);
    assert!(number(&one["idle_coinciding_at_most_uj"]).abs_diff(4_000_000) <= 3);
    let lock = &with["locks"][0]["counterfactual"];
    assert_eq!(lock["upper_bound_uj"], 8_000_000);
    assert_eq!(lock["idle_coinciding_at_most_uj"], one["idle_coinciding_at_most_uj"]);
    // All else is as without.
    assert_eq!(without["energy"]["domains"], with["energy"]["domains"]);
    assert_eq!(without["locks"][0]["energy_uj"], with["locks"][0]["energy_uj"]);
    let domain = &with["energy"]["domains"][0];
    let parts = ["baseline", "traced", "other_tasks", "kernel", "tracer", "lost", "idle_active"];
    let sum: u64 = parts.iter().map(|part| number(&domain[format!("{part}_uj")])).sum();
    assert_eq!(sum, number(&domain["energy_uj"]));

    let none = EnergySource { idle: vec![], ..Made::default().source };
    let (_folder, path) = trace(&Made { source: none, ..Made::default() });
    let words = text(&["report", &path, "--counterfactual"]);
    assert!(words.contains("counterfactual: none, for there is no baseline"), "{words}");
    let one = &report(&path, &["--counterfactual"])["energy"]["counterfactual"];
    assert_eq!(one["none_because"], "no baseline: --idle none");
}

#[test]
fn a_thread_has_a_column_and_a_lock_its_holders() {
    let (_folder, path) = trace(&Made::default());
    let text = text(&["report", &path, "--by", "thread"]);
    let table = &text[text.find("\nThreads\n").unwrap()..];
    assert!(table.lines().nth(2).unwrap().contains("energy (attributed, simulated)"), "{table}");
    // 28 J less 8 J of baseline, for two threads that ran for the same time.
    let row = table.lines().find(|line| line.contains("worker-0")).unwrap();
    assert!(row.contains("10.0 J ±"), "{row}");
    let report = report(&path, &[]);
    assert_eq!(report["threads"][0]["energy_uj"], 10_000_000);
    // Each has it from when it ran on to when it woke the other: half of the time that the trace
    // has, and at most what it ran.
    let held = &report["locks"][0]["held_energy"];
    assert_eq!(held["in_sum"], false);
    let threads = held["threads"].as_array().unwrap();
    let parts: Vec<u64> =
        threads.iter().map(|one| one["energy_at_most_uj"].as_u64().unwrap()).collect();
    assert_eq!(parts.iter().sum::<u64>(), held["energy_at_most_uj"].as_u64().unwrap());
    assert!(parts.iter().all(|part| (8_000_000..=10_000_000).contains(part)), "{parts:?}");
}

#[test]
fn timed_yields_are_said_to_be() {
    let sampled = trace(&Made::default());
    let source = EnergySource { spin_timed: true, ..Made::default().source };
    let timed = trace(&Made { source, ..Made::default() });
    let of = |path: &str| report(path, &[])["locks"][0]["energy_uj"].as_u64().unwrap();
    // A quarter of the samples, or 0.2 of 1 s, of thread 0's 10 J.
    assert_eq!((of(&sampled.1), of(&timed.1)), (2_500_000, 2_000_000));
    assert!(text(&["report", &sampled.1]).contains("waiting on the CPU, by samples"));
    assert!(text(&["report", &timed.1]).contains("spinning as timed at each yield"));
    let energy = &report(&timed.1, &[])["energy"];
    assert_eq!(
        (&energy["spin_split"], &energy["futex_split"]),
        (&"timed".into(), &"sampled".into())
    );
    let source = EnergySource { spin_timed: true, futex_timed: true, ..Made::default().source };
    let timed = trace(&Made { source, ..Made::default() });
    let said = text(&["report", &timed.1]);
    assert!(said.contains("as timed at each yield and futex call"), "{said}");
    assert_eq!(report(&timed.1, &[])["energy"]["futex_split"], "timed");
}

/// Where that little time is in question a recording is complete, and says so in each output; without
/// a bound, or with much, it is not.
#[test]
fn unseen_switches_are_put_into_proportion() {
    let (_folder, path) = trace(&Made { unseen: 7, ..Made::default() });
    for view in VIEWS {
        let text = text(&[&["report", &path], view].concat());
        assert!(!text.contains("INCOMPLETE") && !text.contains("LOST"), "{text}");
        for words in [
            "energy: 7 switches of a CPU not seen, at most 7.00 ms of 4.00 s of CPU time",
            "(energy_switch_unseen): at most 7.00 ms of 4.00 s of CPU time (0.2 %) may be in the wrong",
        ] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
    }
    let json = report(&path, &[]);
    assert_eq!(json["completeness"]["lost"]["energy_switch_unseen"], 7);
    assert_eq!(json["completeness"]["energy_switches_unseen"]["cpu_time_at_most_ns"], 7_000_000);
    let svg = flamegraph(&path);
    assert!(svg.contains("energy: 7 switches of a CPU not seen"), "{svg}");
    for made in
        [Made { unseen: 41, ..Made::default() }, Made { unseen: 1, hz: None, ..Made::default() }]
    {
        let (_folder, path) = trace(&made);
        let text = text(&["report", &path]);
        assert!(
            text.contains("INCOMPLETE") && text.contains("LOST: energy_switch_unseen"),
            "{text}"
        );
    }
}

/// Said once, in every view, and everything else is there.
#[test]
fn without_a_live_counter_each_view_says_so_once() {
    let source = EnergySource {
        none_because: Some("this machine shows none".to_owned()),
        ..EnergySource::default()
    };
    let (_folder, path) = trace(&Made { source, ..Made::default() });
    for view in VIEWS {
        let text = text(&[&["report", &path, "--counterfactual"], view].concat());
        let said = "energy: no live counter (this machine shows none)";
        assert_eq!(text.matches(said).count(), 1, "{text}");
        assert_eq!(text.matches("energy:").count(), 1, "{text}");
        assert!(text.contains("_thread.lock 0xbeef costs most"), "{text}");
    }
    let svg = flamegraph(&path);
    assert_eq!(svg.matches("energy: no live counter").count(), 1, "{svg}");
    let json = report(&path, &[]);
    assert_eq!(json["energy"]["domains"], serde_json::json!([]));
    assert_eq!(json["threads"][0]["energy_uj"], Value::Null);
    assert_eq!(json["totals"]["wait_ns"], 2 * SECOND);
}

/// Before anything is looked at, and before root is asked for.
#[test]
fn options_that_contradict_each_other_are_refused() {
    for (options, words) in [
        (
            &["--energy", "perf", "--powercap-root", "/x"][..],
            "--powercap-root is for --energy powercap",
        ),
        (&["--energy", "model:3", "--powercap-root", "/x"], "reads no such tree"),
        (&["--energy", "none", "--powercap-root", "/x"], "reads no such tree"),
        (&["--energy-window", "4ms"], "not below 5ms"),
        (&["--energy-window", "61s"], "not above 60s"),
    ] {
        for target in [&["-p", "1"][..], &["--", "true"]] {
            let output = lockwatt(&[&["record"], options, target].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{options:?}: {said}");
            assert!(said.contains(words), "no {words:?} in {said}");
        }
    }
}

/// It is shown, and no thread and no lock has any of it.
#[test]
fn what_is_of_the_whole_machine_is_of_no_lock() {
    let mut domains = vec![Domain::of_zone("psys", None)];
    arrange(&mut domains);
    let source = EnergySource { domains, idle: vec![], ..Made::default().source };
    let (_folder, path) = trace(&Made { source, ..Made::default() });
    for view in VIEWS {
        let text = text(&[&["report", &path], view].concat());
        assert_eq!(text.matches("energy: of no thread and no lock").count(), 1, "{text}");
        assert!(!text.contains("(attributed"), "{text}");
        assert!(text.contains("_thread.lock 0xbeef costs most"), "{text}");
    }
    let words = text(&["report", &path]);
    for part in ["nothing of it is divided", "psys (not divided)", "28.0 J"] {
        assert!(words.contains(part), "no {part:?} in {words}");
    }
    assert!(!words.contains("waiting on the CPU for"), "{words}");
    let json = report(&path, &[]);
    let psys = &json["energy"]["domains"][0];
    assert_eq!((&psys["energy_uj"], &psys["split"]), (&28_000_000.into(), &false.into()));
    for nothing in [
        &json["locks"][0]["energy_uj"],
        &json["threads"][0]["energy_uj"],
        &json["energy"]["waiting"],
    ] {
        assert_eq!(nothing, &Value::Null);
    }
    assert!(flamegraph(&path).contains("energy: of no thread and no lock"));
    let output = lockwatt(&["flamegraph", &path, "--weight", "energy", "-o", "-"]);
    assert_eq!(output.status.code(), Some(1));
}

/// Before anything is run, and before root is asked for.
#[test]
fn compare_wants_two_commands_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("ran");
    let marker = marker.to_str().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    let plain = plain.to_str().unwrap();
    let own = folder.path().to_str().unwrap();
    for (second, words) in [
        ("no-such-command", "no such command: no-such-command"),
        ("/no/such/command", "no such command: /no/such/command"),
        (plain, "plain is not executable"),
        (own, "is not executable"),
    ] {
        let output = lockwatt(&["compare", "--", "touch", marker, "---", second]);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "{said}");
    }
    let output = lockwatt(&["compare", "--", "touch", marker]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!std::path::Path::new(marker).exists());
    let help = text(&["compare", "--help"]);
    for words in ["EXIT CODES", "What the commands print on standard output goes into", "--idle"] {
        assert!(help.contains(words), "no {words:?} in {help}");
    }
}
