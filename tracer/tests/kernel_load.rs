//! Ring 3: the programs against the running kernel.

use std::time::Duration;

use tracer::cpython::{Detected, Namer, detect};
use tracer::energy::topology;
use tracer::probe::{Group, Groups, Hooks, LoadError, Settings, Uprobes, energy, load, measure};
use tracer::record::{Attached, Session, StopWhen, attach};
use tracer::target::{Process, tids};
use tracer::trace::records::{Meta, Options, Target};
use tracer::units::{Ns, Pid};

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::{Workload, number};

fn attached(pid: Pid, settings: &Settings) -> (Attached, Namer) {
    let mut namer = Namer::new(pid);
    let process = Process::open(pid).expect("alive");
    match detect(&process).expect("readable") {
        Detected::Interpreter(python) => namer.set_interpreter(pid, Some(*python)),
        other => panic!("{other:?}"),
    }
    (attach(settings, &namer).expect("attaches"), namer)
}

#[test]
fn every_program_loads_and_attaches_here() {
    let _alone = live::alone();
    let own = Pid(std::process::id());
    let settings = Settings { sample_hz: 199, ..Settings::new(own, Ns(0), Hooks::Syscall) };
    let results = load(&settings).expect("maps").attach_each();
    assert!(results.len() >= 9 && results.iter().any(|(spec, _)| spec.name == "lw_sample"));
    for (spec, state) in results {
        assert!(state.attached, "{} ({}): {:?}", spec.name, spec.hook, state.reason);
    }
}

#[test]
fn a_refused_required_program_is_named_with_its_hook() {
    let _alone = live::alone();
    let own = Pid(std::process::id());
    let without = |name, hooks| {
        let settings = Settings { without: Some(name), ..Settings::new(own, Ns(0), hooks) };
        load(&settings)
            .expect("maps")
            .attach(|_| Ok::<(), LoadError>(()))
            .map(|(loaded, _)| loaded.programs.clone())
    };
    let error = without("lw_waking", Hooks::Sched).expect_err("required").to_string();
    assert!(error.contains("lw_waking") && error.contains("sched_waking"), "{error}");
    let error = without("lw_switch", Hooks::Sched).expect_err("no stand-in").to_string();
    assert!(error.contains("--hooks syscall"), "{error}");
    let programs = without("lw_switch", Hooks::Syscall).expect("the stand-in");
    let state = |name| programs.iter().find(|program| program.name == name).expect(name);
    assert!(!state("lw_switch").attached && state("lw_switch").reason.is_some());
    assert!(state("lw_switch_sys").attached);
}

/// Each of the opt-in uprobes loads, and attaches to this very process's libc.
#[test]
fn every_uprobe_loads_and_attaches_here() {
    let _alone = live::alone();
    let own = Pid(std::process::id());
    // First, on functions that are not hooked yet.
    let cost = measure().expect("can be measured");
    println!("a hit costs {} at an entry, {} more at a return", cost.entry, cost.at_return);
    assert!(cost.entry > cost.without, "{cost:?}");
    let groups = Groups::new(&[Group::Pthread]);
    let settings = Settings { uprobes: groups, ..Settings::new(own, Ns(0), Hooks::Sched) };
    let (mut loaded, _maps) =
        load(&settings).expect("maps").attach(|_| Ok::<(), LoadError>(())).expect("attaches");
    let process = Process::open(own).expect("alive");
    let mut uprobes = Uprobes::default();
    let states = uprobes.attach(loaded.ebpf_mut(), &process, groups, None);
    // 19 functions with a return, 5 without; glibc before 2.30 lacks 4 of them.
    assert!(states.iter().filter(|state| state.attached).count() >= 35, "{states:#?}");
    for state in states.iter().filter(|state| !state.attached) {
        assert!(state.hook.contains("clock"), "{state:?}");
    }
    uprobes.detach(loaded.ebpf_mut());
}

/// What lockwatt costs includes the programs that come later, and of which there is most: the one that
/// runs at every switch of the machine, and uprobes.
#[test]
fn the_run_time_of_every_program_is_counted() {
    let _alone = live::alone();
    let own = Pid(std::process::id());
    let groups = Groups::new(&[Group::Pthread]);
    let settings =
        Settings { uprobes: groups, energy: true, ..Settings::new(own, Ns(0), Hooks::Sched) };
    let (mut loaded, _maps) =
        load(&settings).expect("maps").attach(|_| Ok::<(), LoadError>(())).expect("attaches");
    let (state, ..) = energy::attach(loaded.ebpf_mut(), &topology::online()).expect("maps");
    assert!(state.attached, "{state:?}");
    let mut uprobes = Uprobes::default();
    uprobes.attach(loaded.ebpf_mut(), &Process::open(own).expect("alive"), groups, None);
    let _statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).expect("5.8");
    let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
    for _ in 0..1_000 {
        // SAFETY: a mutex of this thread alone, which lives on.
        unsafe {
            (libc::pthread_mutex_lock(&raw mut mutex), libc::pthread_mutex_unlock(&raw mut mutex))
        };
        std::thread::yield_now();
    }
    // Some also run while they are asked, and all of them before the sum is.
    let of = |name: &str| loaded.run_time(name).expect(name);
    let (switches, locks, unlocks) = (of(energy::PROGRAM), of("lw_u_mutex"), of("lw_u_unlock"));
    let planned = loaded.programs.iter().filter_map(|state| loaded.run_time(&state.name));
    let planned = planned.fold((Ns(0), 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let all = loaded.run_times().expect("counted");
    println!("planned {planned:?}, lw_energy {switches:?}, locks {locks:?}, all {all:?}");
    assert!(switches.1 > 0 && locks.1 >= 1_000 && unlocks.1 >= 1_000);
    assert!(all.1 >= planned.1 + switches.1 + locks.1 + unlocks.1);
    assert!(all.0 >= planned.0 + switches.0 + locks.0 + unlocks.0);
    uprobes.detach(loaded.ebpf_mut());
}

/// The sampler's own counts of a process that computes on one CPU, against the clock.
#[test]
fn the_sampler_sees_the_time_on_a_cpu() {
    const HZ: u32 = 997;
    let _alone = live::alone();
    let mut busy =
        std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh");
    let pid = Pid(busy.id());
    let settings = Settings { sample_hz: HZ, ..Settings::new(pid, Ns(0), Hooks::Sched) };
    let (loaded, maps) =
        load(&settings).expect("maps").attach(|_| Ok::<(), LoadError>(())).expect("attaches");
    assert!(loaded.has("lw_sample"), "{:?}", loaded.programs);
    let on_cpu = || {
        let path = format!("/proc/{}/schedstat", pid.0);
        let text = std::fs::read_to_string(path).expect("alive");
        text.split(' ').next().expect("a number").parse::<u64>().expect("a number")
    };
    let (before, counted_before) = (on_cpu(), maps.sampled());
    std::thread::sleep(Duration::from_secs(2));
    let (after, counted) = (on_cpu(), maps.sampled());
    let _ = (busy.kill(), busy.wait());
    let samples = (counted.target - counted_before.target) as f64;
    let seconds = (after - before) as f64 / 1e9;
    let ratio = samples / f64::from(HZ) / seconds;
    println!("{samples} samples in {seconds} s on a CPU: {ratio:.3}");
    assert!(seconds > 0.5 && (0.95..1.05).contains(&ratio), "{samples} samples, {seconds} s");
    assert_eq!((counted.spinning, counted.ambiguous), (0, 0), "a shell does not spin");
}

/// The count of futex switch-outs, before any stitching, against the kernel's own count of
/// voluntary context switches of the same threads: in this load they sleep nowhere else.
#[test]
fn futex_switches_agree_with_voluntary_context_switches() {
    let _alone = live::alone();
    let storm = Workload::start("3.14t", "short_storm", &[]);
    let pid = Pid(storm.pid());
    std::thread::sleep(Duration::from_millis(500));
    let (Attached { loaded, maps, .. }, _) =
        attached(pid, &Settings::new(pid, Ns(10_000), Hooks::Sched));
    let counted = || -> u64 { maps.threads().iter().map(|(_, state)| state.futex_switches).sum() };
    let (counted_before, before) = (counted(), voluntary_switches(pid));
    std::thread::sleep(Duration::from_secs(3));
    let (counted_after, after) = (counted(), voluntary_switches(pid));
    drop(loaded);
    let (counted, switches) = (counted_after - counted_before, after - before);
    assert!(switches > 10_000, "no storm: {switches} voluntary switches");
    let off = counted.abs_diff(switches);
    assert!(off * 50 <= switches, "{counted} futex switch-outs, {switches} voluntary switches");
    println!("{counted} futex switch-outs, {switches} voluntary context switches");
}

fn voluntary_switches(pid: Pid) -> u64 {
    let of = |tid: tracer::units::Tid| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/task/{}/status", pid.0, tid.0));
        let status = status.expect("alive");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("a count").trim().parse().expect("a number")
    };
    tids(pid).expect("alive").into_iter().map(of).sum()
}

/// With `--hooks syscall` every switch-out has its arguments from both forms.
#[test]
fn both_forms_give_the_same_arguments() {
    let _alone = live::alone();
    let load = Workload::start("3.14t", "three_locks", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    live::record(load.pid(), "3s", &trace, &["--hooks", "syscall", "--min-wait", "0"]);
    let report = live::report(&trace);
    let completeness = &report["completeness"];
    let stats = &report["recording"]["counters"];
    assert_eq!(stats["arguments_mismatch"], 0, "{stats:#}");
    assert!(number(&stats["arguments_match"]) > 1_000, "{stats:#}");
    let syscalls = &report["recording"]["syscalls"];
    let spun: u64 = report["locks"]
        .as_array()
        .expect("locks")
        .iter()
        .map(|lock| number(&lock["spins"]))
        .sum::<u64>()
        + number(&completeness["spins_unattributed"]);
    assert_eq!(spun, number(&syscalls["yields"]), "every yield is on a lock or unattributed");
}

/// The fallback for old kernels sees the same waits as the default form, on the same run.
#[test]
fn the_system_call_form_agrees_with_the_default_form() {
    let _alone = live::alone();
    let load = Workload::start("3.14t", "long_waits", &["--busy"]);
    let pid = Pid(load.pid());
    std::thread::sleep(Duration::from_millis(300));
    let folder = tempfile::tempdir().expect("a folder");
    let (default, fallback) =
        (folder.path().join("default.lockwatt"), folder.path().join("fallback.lockwatt"));
    std::thread::scope(|scope| {
        scope.spawn(|| live::record(pid.0, "4s", &default, &["--min-wait", "0"]));
        let mut settings = Settings::new(pid, Ns(0), Hooks::Syscall);
        settings.without = Some("lw_switch");
        let (attached, namer) = attached(pid, &settings);
        let meta = Meta {
            target: Target { pid, ..Target::default() },
            options: Options { hooks: "syscall".to_owned(), ..Options::default() },
            ..Meta::default()
        };
        let file = std::fs::File::create(&fallback).expect("a file");
        let session = Session::begin(attached, namer, meta, file).expect("begins");
        let stop = StopWhen { after: Some(Duration::from_secs(4)), own_child: false, quiet: true };
        session.run(stop, || Ok(())).expect("records");
    });
    let (default, fallback) = (live::report(&default), live::report(&fallback));
    let rate = |report: &serde_json::Value| {
        let lock = live::lock_at(report, load.object("lock"));
        assert_eq!(lock["kind"], "lock");
        number(&lock["wait_ns"]) as f64 / number(&report["recording"]["duration_ns"]) as f64
    };
    // Two recorders that begin and end some hundredths of a second apart: not the same waits at both ends.
    let ratio = rate(&fallback) / rate(&default);
    assert!((0.95..1.05).contains(&ratio), "waited per second: fallback / default = {ratio:.3}");
}
