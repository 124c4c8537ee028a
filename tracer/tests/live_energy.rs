//! Energy on the real kernel and real interpreters, against a simulated counter: this machine has none.
//! What a lock is given is held against what the workload says of itself.

#[path = "support/live.rs"]
#[expect(dead_code, reason = "shared with the other live tests")]
mod live;
#[path = "support/power.rs"]
mod power;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use live::{Workload, lock_at, lockwatt, number, path, record, said};
use power::{Model, Simulator};
use serde_json::Value;
use tracer::energy::Known;
use tracer::trace::energy::{CpuTime, EnergyWindow};
use tracer::trace::{TraceReader, Visited};

/// How near a lock's energy must come to what the program says that it waited. On a quiet machine it was
/// 3 to 6 % low, timed or sampled: user code around the calls is in the program's own figure and in nobody
/// else's. The more other programs run, the more the kernel's clock of a thread has that it did not run
/// (docs/energy.md), so that a machine that is not quite busy enough to say so needs room too.
const PARKS_NOW_AND_THEN: f64 = 0.10;

/// Other programs had a tenth of the CPUs' time: then threads are switched out in the middle of what they
/// do, and how near a lock's energy comes says nothing of a program that spins.
fn disturbed(report: &Value) -> bool {
    let time = &report["energy"]["time"];
    let disturbed = number(&time["other_tasks_ns"]) * 10 > number(&time["cpus_ns"]);
    if disturbed {
        eprintln!("NOT TESTED how near it comes: the machine is busy with other programs ({time})");
    }
    disturbed
}

/// The windows of a trace.
fn windows(trace: &Path) -> Vec<EnergyWindow> {
    let mut out = Vec::new();
    let reader = TraceReader::open(trace).expect("a trace");
    reader
        .read_all(|visited| {
            if let Visited::Energy(interval) = visited {
                out.extend(interval.windows.clone());
            }
        })
        .expect("readable");
    out
}

/// The parts of every domain that is divided sum to it; returns the first one.
fn conserved(report: &Value) -> &Value {
    lives_are_whole(report);
    let domains = report["energy"]["domains"].as_array().expect("domains");
    for domain in domains.iter().filter(|domain| domain["split"] == true) {
        let parts =
            ["baseline", "traced", "other_tasks", "kernel", "tracer", "lost", "idle_active"];
        let sum: u64 = parts.iter().map(|part| number(&domain[format!("{part}_uj")])).sum();
        assert_eq!(sum, number(&domain["energy_uj"]), "{domain:#}");
    }
    &domains[0]
}

/// T1: all time of every CPU, in every window.
fn all_time_is_somewhere(windows: &[EnergyWindow]) {
    for window in windows {
        let length = window.end.since(window.start);
        for cpu in &window.cpus {
            let threads = window.threads.iter().filter(|thread| thread.cpu == cpu.cpu);
            let parts = [cpu.kernel, cpu.other, cpu.tracer, cpu.lost];
            let sum: u64 = threads.map(|one| one.time).chain(parts).map(|one| one.total().0).sum();
            assert_eq!(sum + cpu.idle.0, length.0);
        }
    }
}

/// T2: what a thread did is all of its life, and no more of it.
fn lives_are_whole(report: &Value) {
    for thread in report["threads"].as_array().expect("threads") {
        let [life, off] = ["life_ns", "off_ns"].map(|key| number(&thread[key]));
        let parts = ["oncpu_ns", "wait_ns"].map(|key| number(&thread[key]));
        let sum = off + parts.iter().sum::<u64>();
        // Its clock on the CPU is not that of its waits; each wait may be rounded by a unit of time.
        assert!(sum >= life && (sum - life) * 100 <= life + 1_000_000_000, "{thread:#}");
    }
}

fn near(what: &str, found: f64, truth: f64, bound: f64) {
    let off = found / truth - 1.0;
    println!("{what}: {found:.0} found, {truth:.0} true, {:+.1} %", 100.0 * off);
    assert!(off.abs() <= bound, "{what}: {found} found, {truth} true");
}

fn phases(version: &str, share: &Path, arguments: &[&str]) -> Workload {
    let mut all = vec!["--share", path(share)];
    all.extend(arguments);
    Workload::start(version, "phases", &all)
}

/// A calibration as `lockwatt calibrate` would write it on a machine that idles at so many watts.
fn calibration(file: &Path, root: &Path, watts: f64) {
    let text = serde_json::json!({
        "source": format!("powercap ({})", root.display()),
        "quality": "simulated",
        "machine": rustix::system::uname().nodename().to_string_lossy(),
        "idle": [["package-0", {"watts": watts, "spread": 0.01}]],
    });
    std::fs::write(file, text.to_string()).expect("a file");
}

/// How to record with the simulator's counter and such a calibration.
fn with_calibration<'a>(root: &'a Path, file: &'a Path) -> [&'a str; 8] {
    let (root, file) = (path(root), path(file));
    ["--energy", "powercap", "--powercap-root", root, "--idle", "calibrated", "--calibration", file]
}

#[test]
fn a_spinning_program_is_given_what_it_spun() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (share, trace) = (folder.path().join("share"), folder.path().join("t.lockwatt"));
    let load = phases("3.14t", &share, &["--mode", "lock"]);
    // It wraps every second or so.
    let model = Model { range_uj: 30_000_000, share: Some(share), ..Model::default() };
    let (idle, busy) = (model.idle_watts, model.busy_watts);
    let simulator = Simulator::start(model);
    let calibrated = folder.path().join("calibration.json");
    calibration(&calibrated, simulator.root(), idle);
    let options = with_calibration(simulator.root(), &calibrated);
    record(load.pid(), "8s", &trace, &[&options[..], &["--sample-hz", "1999"]].concat());
    let windows = windows(&trace);
    all_time_is_somewhere(&windows);
    let report = live::report(&trace);
    assert_eq!(report["energy"]["quality"], "simulated");
    let package = conserved(&report);
    let (first, last) = (windows[0].start.0, windows.last().expect("windows").end.0);
    let (before, after) = (simulator.at(first), simulator.at(last));
    // Exact, but for the tick before or after each end: a tick is at most 24 mJ or, as /proc/stat has
    // hundredths of a second, 200 mJ.
    let total = after.energy - before.energy;
    let off = number(&package["energy_uj"]).abs_diff(total);
    println!("total {total} µJ, {off} off");
    assert!(off <= 450_000, "{off} µJ off in {total}");
    let measured: u64 = windows.iter().map(|window| window.readings[0].energy.0).sum();
    assert_eq!(number(&package["energy_uj"]), measured);
    // W × ns = nJ.
    let spun = (after.waiting - before.waiting) as f64 * busy / 1e3;
    let lock = lock_at(&report, load.object("lock"));
    let share = spun / total as f64;
    assert!(share > 0.05, "it hardly spins: {share}");
    if disturbed(&report) {
        return;
    }
    near("spinning", number(&lock["energy_uj"]) as f64, spun, PARKS_NOW_AND_THEN);
    let all = (after.cpu - before.cpu) as f64 * busy / 1e3;
    near("the program", number(&package["traced_uj"]) as f64, all, 0.05);
    assert_eq!(number(&report["energy"]["time"]["lost_ns"]), 0);
}

/// `--hooks syscall`: the split is what was timed at each yield, and the same as the totals say.
#[test]
fn with_timed_yields_a_spinning_program_is_given_what_it_spun() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (share, trace) = (folder.path().join("share"), folder.path().join("t.lockwatt"));
    let load = phases("3.14t", &share, &["--mode", "lock"]);
    let model = Model { share: Some(share), ..Model::default() };
    let (idle, busy) = (model.idle_watts, model.busy_watts);
    let simulator = Simulator::start(model);
    let calibrated = folder.path().join("calibration.json");
    calibration(&calibrated, simulator.root(), idle);
    let options = with_calibration(simulator.root(), &calibrated);
    record(load.pid(), "8s", &trace, &[&options[..], &["--hooks", "syscall"]].concat());
    let windows = windows(&trace);
    all_time_is_somewhere(&windows);
    let report = live::report(&trace);
    assert_eq!(report["energy"]["spin_split"], "timed");
    assert_eq!(report["energy"]["futex_split"], "timed");
    let package = conserved(&report);
    let (first, last) = (windows[0].start.0, windows.last().expect("windows").end.0);
    let (before, after) = (simulator.at(first), simulator.at(last));
    let spun = (after.waiting - before.waiting) as f64 * busy / 1e3;
    let lock = lock_at(&report, load.object("lock"));
    if disturbed(&report) {
        return;
    }
    near("spinning, timed", number(&lock["energy_uj"]) as f64, spun, PARKS_NOW_AND_THEN);
    // No less than the time that the totals have, which is added up elsewhere: futex calls come on top.
    let time =
        number(&lock["spin_ns"]) as f64 / number(&report["energy"]["time"]["traced_ns"]) as f64;
    let energy = number(&lock["energy_uj"]) as f64 / number(&package["traced_uj"]) as f64;
    println!("share of the target's energy {energy:.4}, spinning of its time {time:.4}");
    assert!(energy >= 0.98 * time, "{energy} of the energy, {time} of the time");
}

/// Spinning that uses twice the power of computing, and a calibration that says so: what a lock is given
/// is right with that weight, and with 1 it is not.
#[test]
fn spinning_at_another_power_is_right_with_the_calibrated_weight() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (share, trace) = (folder.path().join("share"), folder.path().join("t.lockwatt"));
    let load = phases("3.14t", &share, &["--mode", "lock"]);
    let model = Model { spin_watts: 10.0, share: Some(share), ..Model::default() };
    let (idle, of_spin) = (model.idle_watts, model.busy_watts + model.spin_watts);
    let simulator = Simulator::start(model);
    let calibrated = folder.path().join("calibration.json");
    calibration(&calibrated, simulator.root(), idle);
    let options = with_calibration(simulator.root(), &calibrated);
    let options = [&options[..], &["--spin-weight", "calibrated", "--hooks", "syscall"]].concat();
    // A calibration without a weight is none.
    let pid = load.pid().to_string();
    let none = ["record", "-p", &pid, "-d", "1s", "-o", path(&trace)];
    let none = lockwatt(&[&none[..], &options[..]].concat());
    assert_eq!(none.status.code(), Some(1), "{}", said(&none));
    assert!(
        said(&none).contains("--spin-weight calibrated: the calibration has none"),
        "{}",
        said(&none)
    );
    let text = std::fs::read_to_string(&calibrated).expect("a file");
    let mut weighted: Value = serde_json::from_str(&text).expect("JSON");
    weighted["spin_weight"] = 2_000_000.into();
    std::fs::write(&calibrated, weighted.to_string()).expect("a file");
    record(load.pid(), "8s", &trace, &options);
    let windows = windows(&trace);
    let report = live::report(&trace);
    assert_eq!(report["energy"]["spin_weight_shown"], 2.0);
    conserved(&report);
    let (first, last) = (windows[0].start.0, windows.last().expect("windows").end.0);
    let (before, after) = (simulator.at(first), simulator.at(last));
    let spun = (after.waiting - before.waiting) as f64 * of_spin / 1e3;
    let lock = lock_at(&report, load.object("lock"));
    // Under the weight 1 it is the low end of the range.
    let (found, low) = (number(&lock["energy_uj"]), number(&lock["energy"]["low_uj"]));
    println!("γ = 2: {found}, γ = 1: {low}, true: {spun:.0} µJ");
    assert!(found > low, "{lock:#}");
    if disturbed(&report) {
        return;
    }
    near("spinning, weighted", found as f64, spun, PARKS_NOW_AND_THEN);
    assert!((low as f64) < 0.85 * spun, "{low} with γ = 1, {spun} true");
}

#[test]
fn two_programs_side_by_side_share_what_they_used() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let [mine, other] = ["mine", "other"].map(|name| folder.path().join(name));
    let trace = folder.path().join("t.lockwatt");
    let load = phases("3.14t", &mine, &["--mode", "busy", "--threads", "1"]);
    let arguments = ["--mode", "busy", "--threads", "1", "--duty", "0.5", "--first-cpu", "1"];
    let _beside = phases("3.14t", &other, &arguments);
    let simulator =
        Simulator::start(Model { idle_watts: 0.5, share: Some(mine), ..Model::default() });
    let calibrated = folder.path().join("calibration.json");
    calibration(&calibrated, simulator.root(), 0.5);
    record(load.pid(), "6s", &trace, &with_calibration(simulator.root(), &calibrated));
    let windows = windows(&trace);
    all_time_is_somewhere(&windows);
    let report = live::report(&trace);
    let package = conserved(&report);
    let (first, last) = (windows[0].start.0, windows.last().expect("windows").end.0);
    let (before, after) = (simulator.at(first), simulator.at(last));
    let own = (after.cpu - before.cpu) as f64 * 10.0 / 1e3;
    near("the traced program", number(&package["traced_uj"]) as f64, own, 0.05);
    let rest = (after.energy - before.energy) as f64 - own - 0.5 * (last - first) as f64 / 1e3;
    let others = ["other_tasks_uj", "kernel_uj", "tracer_uj", "lost_uj", "idle_active_uj"];
    let others: u64 = others.iter().map(|part| number(&package[part])).sum();
    near("all others", others as f64, rest, 0.05);
}

#[test]
fn a_counter_that_stops_is_told_and_its_time_is_in_no_sum() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (share, trace) = (folder.path().join("share"), folder.path().join("t.lockwatt"));
    let load = phases("3.11", &share, &["--mode", "busy", "--threads", "1"]);
    let simulator = Simulator::start(Model { second: true, ..Model::default() });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(3_000));
            simulator.freeze();
            let gone = simulator.root().join("intel-rapl:1/energy_uj");
            std::fs::write(gone, "").expect("emptied");
        });
        let options = ["--energy", "powercap", "--powercap-root", path(simulator.root()), "--fine"];
        record(load.pid(), "5s", &trace, &options);
    });
    // No window of the standstill is one in which nothing was used, not even the first ones.
    let windows = windows(&trace);
    let readings: Vec<_> = windows.iter().map(|window| window.readings[0]).collect();
    let frozen = readings.iter().position(|one| one.known == Known::Frozen).expect("frozen");
    assert!(frozen > 0 && readings[frozen - 1].energy.0 > 0, "{:?}", &readings[..=frozen]);
    assert!(readings[frozen..].iter().all(|one| one.known == Known::Frozen));
    let report = live::report(&trace);
    conserved(&report);
    let domains = report["energy"]["domains"].as_array().expect("domains");
    let whys: Vec<_> = domains.iter().map(|domain| &domain["unknown_because"]).collect();
    assert_eq!(whys, ["frozen", "gone"]);
    // No CPU is on the second package.
    assert_eq!(domains[1]["idle_active_uj"], domains[1]["energy_uj"]);
    let text = lockwatt(&["report", path(&trace)]);
    let text = String::from_utf8_lossy(&text.stdout);
    for words in
        ["INCOMPLETE: the counter of package-0 stood still", "package-1 was gone", "SIMULATED"]
    {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

/// A real-time thread that a CPU never switches away from, or nearly: at most once in 0.95 s.
struct Hog(Child);

impl Hog {
    fn start() -> Self {
        let mut hog = Command::new("chrt");
        hog.args(["-f", "1", "taskset", "-c", "1", "sh", "-c", "while :; do :; done"]);
        Self(hog.spawn().expect("util-linux"))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a CPU does before its first switch is known too.
#[test]
fn a_cpu_that_does_not_switch_is_accounted_for() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (share, trace) = (folder.path().join("share"), folder.path().join("t.lockwatt"));
    let load = phases("3.14t", &share, &["--mode", "busy", "--threads", "1"]);
    let simulator = Simulator::start(Model::default());
    let hog = Hog::start();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let options = ["--energy", "powercap", "--powercap-root", path(simulator.root()), "--fine"];
    record(load.pid(), "2s", &trace, &options);
    drop(hog);
    let windows = windows(&trace);
    all_time_is_somewhere(&windows);
    let lost = |cpu: &CpuTime| cpu.lost.total().0;
    let by_window = windows.iter().map(|window| window.cpus.iter().map(lost).sum::<u64>());
    let lost: u64 = by_window.clone().sum();
    println!(
        "lost {lost} ns, in {:?}",
        by_window.enumerate().filter(|(_, ns)| *ns > 0).collect::<Vec<_>>()
    );
    // One tick at 199 Hz is 5 ms.
    assert!(lost < 20_000_000, "{lost} ns of CPU time are not accounted for");
}

/// The machine's CPUs stay as they are: the file that lists them is another one for this recorder.
#[test]
fn a_cpu_that_goes_is_told_loudly_and_nothing_is_accounted_for_any_more() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (share, trace) = (folder.path().join("share"), folder.path().join("t.lockwatt"));
    let online = folder.path().join("online");
    std::fs::write(&online, "0-1\n").expect("a file");
    let load = phases("3.14t", &share, &["--mode", "busy", "--threads", "1"]);
    let simulator = Simulator::start(Model::default());
    let (pid, root) = (load.pid().to_string(), path(simulator.root()));
    let mut recorder = Command::new("unshare");
    recorder.args(["-m", "sh", "-c"]);
    recorder.arg(r#"mount --bind "$0" /sys/devices/system/cpu/online && exec "$@""#);
    recorder.args([
        path(&online),
        env!("CARGO_BIN_EXE_lockwatt"),
        "record",
        "-p",
        &pid,
        "-d",
        "6s",
    ]);
    recorder.args(["--energy", "powercap", "--powercap-root", root, "-o", path(&trace)]);
    let recorder = recorder.stderr(Stdio::piped()).spawn().expect("util-linux");
    std::thread::sleep(std::time::Duration::from_secs(3));
    let file = std::fs::OpenOptions::new().write(true).open(&online).expect("the file");
    // At once, so that nobody reads half of it.
    file.write_at(b"0\n\n\n", 0).expect("written");
    let output = recorder.wait_with_output().expect("an end");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("CPUs have come or gone (online now: 0)"), "{}", said(&output));
    let windows = windows(&trace);
    all_time_is_somewhere(&windows);
    let known = windows.iter().position(|window| window.threads.is_empty()).expect("some are not");
    println!("{known} of {} windows are accounted for", windows.len());
    assert!(known > 0, "some are");
    for window in &windows[known..] {
        assert!(window.threads.is_empty() && window.cpus.iter().all(|cpu| cpu.idle.0 == 0));
    }
    let report = live::report(&trace);
    let package = conserved(&report);
    assert!(number(&package["lost_uj"]) > 0 && number(&package["traced_uj"]) > 0, "{package}");
    let lost = &report["completeness"]["lost"]["energy_cpus_changed"];
    assert_eq!(number(lost), (windows.len() - known) as u64);
    let text = lockwatt(&["report", path(&trace)]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("INCOMPLETE") && text.contains("LOST: energy_cpus_changed"), "{text}");
}

/// A source that was named, and has nothing that can be divided.
#[test]
fn what_is_of_the_whole_machine_is_shown_and_of_no_lock() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    let load = Workload::start("3.14t", "dict_storm", &[]);
    let simulator = Simulator::start(Model::default());
    std::fs::write(simulator.root().join("intel-rapl:0/name"), "psys\n").expect("renamed");
    let options = ["--energy", "powercap", "--powercap-root", path(simulator.root())];
    record(load.pid(), "2s", &trace, &options);
    let report = live::report(&trace);
    let psys = &report["energy"]["domains"][0];
    assert_eq!((&psys["name"], &psys["split"]), (&"psys".into(), &false.into()));
    // At least what is used when nothing runs, but for the ends.
    assert!(number(&psys["energy_uj"]) > 6_000_000, "{psys}");
    for lock in report["locks"].as_array().expect("locks") {
        assert_eq!(lock["energy_uj"], Value::Null);
    }
    let text = lockwatt(&["report", path(&trace)]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("psys (not divided)"), "{text}");
}

/// A machine without counters: said once in every view, and everything else is there.
#[test]
fn without_a_counter_there_is_time_and_one_sentence() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.lockwatt");
    let load = Workload::start("3.14t", "dict_storm", &[]);
    record(load.pid(), "1s", &trace, &["--energy", "none"]);
    let report = live::report(&trace);
    assert_eq!(report["energy"]["source"], "none");
    assert_eq!(report["energy"]["domains"], serde_json::json!([]));
    assert!(number(&report["totals"]["contention_ns"]) > 0);
    let programs = report["recording"]["programs"].as_array().expect("programs");
    assert!(programs.iter().all(|program| program["name"] != "lw_energy"));
    for view in [&[][..], &["--by", "lock"], &["--by", "site"], &["--by", "thread"]] {
        let output = lockwatt(&[&["report", path(&trace)], view].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.matches("energy: no live counter").count(), 1, "{text}");
    }
    let output = lockwatt(&["flamegraph", path(&trace), "--weight", "energy", "-o", "-"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[test]
fn a_source_that_was_asked_for_and_is_not_there_ends_the_command() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let zone = folder.path().join("intel-rapl:0");
    std::fs::create_dir(&zone).expect("a folder");
    std::fs::write(zone.join("name"), "package-0\n").expect("a file");
    std::fs::write(zone.join("energy_uj"), "0\n").expect("a file");
    let load = Workload::start("3.11", "gil_spin", &[]);
    let pid = load.pid().to_string();
    let out = folder.path().join("t.lockwatt");
    let run = |options: &[&str]| {
        lockwatt(&[&["record", "-p", &pid, "-d", "1s", "-o", path(&out)], options].concat())
    };
    let dead = run(&["--energy", "powercap", "--powercap-root", path(folder.path())]);
    assert_eq!(dead.status.code(), Some(1), "{}", said(&dead));
    assert!(said(&dead).contains("does not count: package-0 stayed at 0"), "{}", said(&dead));
    let absent = run(&["--energy", "replay:/nowhere"]);
    assert_eq!(absent.status.code(), Some(1), "{}", said(&absent));
    let unknown = run(&["--energy", "rapl"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    let short = run(&["--energy-window", "4ms"]);
    assert_eq!(short.status.code(), Some(2), "{}", said(&short));
    assert!(said(&short).contains("5ms"), "{}", said(&short));
    assert!(!out.exists());
}

/// Part of all CPUs' time that is idle, over a while.
fn idle_share(while_: impl FnOnce()) -> f64 {
    let read = || {
        let text = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
        let words = text.lines().next().expect("a line").split_whitespace().skip(1).take(8);
        let ticks: Vec<f64> = words.map(|word| word.parse().expect("a number")).collect();
        (ticks[3] + ticks[4], ticks.iter().sum::<f64>())
    };
    let before = read();
    while_();
    let after = read();
    (after.0 - before.0) / (after.1 - before.1)
}

/// On an idle machine the idle power that the simulator has; on a busy one a refusal, which is right
/// only if it was busy.
#[test]
fn calibrate_finds_the_idle_power_or_says_that_the_machine_is_busy() {
    let _alone = live::alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let file = folder.path().join("below/calibration.json");
    // Once in 10 ms: the simulator itself must leave the machine idle.
    let period = std::time::Duration::from_millis(10);
    let simulator = Simulator::start(Model { period, second: true, ..Model::default() });
    let root = path(simulator.root()).to_owned();
    let arguments = ["calibrate", "--energy", "powercap", "--powercap-root", &root];
    let arguments = [&arguments[..], &["-d", "3s", "--calibration", path(&file)]].concat();
    let mut calibrated = None;
    for _ in 0..5 {
        let mut output = None;
        // Of 6.3 s one CPU is busy in 3.4: before that nothing of ours runs.
        let idle = idle_share(|| output = Some(lockwatt(&arguments)));
        let output = output.expect("it ran");
        if output.status.success() {
            calibrated = Some(output);
            break;
        }
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("the machine is not idle"), "{}", said(&output));
        assert!(!file.exists());
        println!("not idle: {:.0} % idle", 100.0 * idle);
        assert!(idle < 0.97, "it was {:.0} % idle", 100.0 * idle);
    }
    let Some(output) = calibrated else { return };
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{words}");
    assert!(words.contains("(simulated): idle in"), "{words}");
    let found: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    let watts = found["idle"][0][1]["watts"].as_f64().expect("watts");
    // Idle windows are idle to 5 %: two CPUs of 10 W are up to 1 W of that, and a tick another.
    assert!((3.9..=6.0).contains(&watts), "{watts} W");
    // The simulator has a yield at the price of anything else.
    let weight = found["spin_weight"].as_f64().expect("a busy thread is no idle one") / 1e6;
    assert!((0.7..=1.4).contains(&weight), "{weight}");
    // Each package has its own, but for the second one, which has no CPU that a thread could run on.
    let spin = found["spin"].as_array().expect("packages");
    assert_eq!((spin.len(), spin[1]["domain"].as_str()), (2, Some("package-1")), "{found:#}");
    assert!(spin[0]["cpu"].is_u64() && spin[0]["weight"] == found["spin_weight"], "{found:#}");
    assert_eq!((&spin[1]["cpu"], &spin[1]["weight"]), (&Value::Null, &Value::Null), "{found:#}");
    assert!(words.contains("package-1: no CPU of it can be used"), "{words}");
    // And a recording takes it.
    let trace = folder.path().join("t.lockwatt");
    let load = Workload::start("3.11", "gil_spin", &[]);
    record(load.pid(), "1s", &trace, &with_calibration(simulator.root(), &file));
    let report = live::report(&trace);
    assert_eq!(report["energy"]["idle_policy"], "calibrated");
    assert!(number(&conserved(&report)["baseline_uj"]) > 0);
    let text = lockwatt(&["report", path(&trace)]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("as calibrated, in the range of the model"), "{text}");
}

/// Two commands of which one does four times as much.
#[test]
fn compare_runs_both_in_turns_and_says_what_differs() {
    let _alone = live::alone();
    let simulator = Simulator::start(Model::default());
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let python = live::python("3.14");
    let python = path(&python);
    let log = folder.path().join("log");
    let program = "import sys; open(sys.argv[2], 'a').write(sys.argv[1] + ' ')\n\
                   for _ in range(int(sys.argv[1]) * 1_000_000): pass";
    let run = |options: &[&str], second: &[&str]| {
        let mut arguments = vec!["compare", "--format", "json"];
        arguments.extend(options);
        arguments.extend(["--", python, "-c", program, "8", path(&log), "---"]);
        arguments.extend(second);
        lockwatt(&arguments)
    };
    let options = ["-n", "2", "--energy", "powercap", "--powercap-root", path(simulator.root())];
    let output = run(&options, &[python, "-c", program, "32", path(&log)]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(&log).expect("a log"), "8 32 32 8 ");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    println!("{found:#}");
    let mean = |key: &str, which: &str| found[key][which].as_f64().expect("a number");
    assert_eq!((&found["runs"], &found["validated_on_hardware"]), (&2.into(), &false.into()));
    assert_eq!(found["energy_kind"], "attributed, simulated");
    for key in ["cpu_ns", "traced_uj"] {
        assert!(mean(key, "b") > 1.5 * mean(key, "a"), "{key}: {:#}", found[key]);
    }
    for key in ["wall_ns", "cpu_ns", "energy_uj", "traced_uj", "average_watts"] {
        let change = mean(key, "b") - mean(key, "a");
        assert!((change - mean(key, "change")).abs() < 1.0, "{key}");
        assert!(found[key]["half_95"].is_number(), "{key}");
    }
    assert!(mean("traced_uj", "b") <= mean("energy_uj", "b"));
    assert_eq!(found["energy_pairs"], 2);
    let parts = ["waiting_uj", "traced_rest_uj", "machine_rest_uj"].map(|key| mean(key, "change"));
    assert!((parts.iter().sum::<f64>() - mean("energy_uj", "change")).abs() < 1.0, "{parts:?}");
    // A command that fails ends it, with its own words.
    let failed = run(&["-n", "1", "--energy", "none"], &[python, "-c", "raise SystemExit(3)"]);
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    assert!(said(&failed).contains("exit status: 3"), "{}", said(&failed));
}

#[test]
fn compare_without_a_counter_is_time_and_one_sentence() {
    let _alone = live::alone();
    let python = live::python("3.14");
    let command = [path(&python), "-c", "pass"];
    let arguments = [&["compare", "-n", "1", "--energy", "none", "--"], &command[..], &["---"]];
    let output = lockwatt(&[&arguments.concat()[..], &command].concat());
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("energy: no live counter").count(), 1, "{text}");
    assert!(text.contains("wall time") && text.contains("CPU time"), "{text}");
    assert!(!text.contains("average power"), "{text}");
}

/// What the counter does while it stands still is in no saving: the run is told, and its pair is out.
#[test]
fn compare_tells_of_a_counter_that_stood_still_in_one_run() {
    let _alone = live::alone();
    let simulator = Simulator::start(Model::default());
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let log = folder.path().join("log");
    std::fs::write(&log, "").expect("a file");
    let python = live::python("3.14");
    let program = "import sys, time; open(sys.argv[2], 'a').write(sys.argv[1][0])\n\
                   end = time.monotonic() + float(sys.argv[1][1:])\n\
                   while time.monotonic() < end: pass";
    let [a, b] = ["a0.5", "b3"].map(|way| [path(&python), "-c", program, way, path(&log)]);
    let root = path(simulator.root());
    let options = ["compare", "-n", "2", "--energy", "auto", "--powercap-root", root, "--format"];
    let run = |format: &str| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let begun = || std::fs::read_to_string(&log).expect("a log").ends_with("abb");
                live::until("the second run of B", begun);
                simulator.freeze();
                std::thread::sleep(std::time::Duration::from_millis(2_000));
                simulator.thaw();
            });
            let words = [&options[..], &[format, "--"], &a, &["---"], &b].concat();
            let output = lockwatt(&words);
            assert!(output.status.success(), "{}", said(&output));
            output
        })
    };
    let found: Value = serde_json::from_slice(&run("json").stdout).expect("JSON");
    assert_eq!(std::fs::read_to_string(&log).expect("a log"), "abba");
    assert_eq!((&found["runs"], &found["energy_pairs"]), (&2.into(), &1.into()), "{found:#}");
    let incomplete = found["incomplete"].as_array().expect("runs");
    let out: Vec<_> = incomplete.iter().filter(|one| one["energy_left_out"] == true).collect();
    let [one] = &out[..] else { panic!("one run: {found:#}") };
    assert_eq!((&one["command"], &one["run"]), (&"b".into(), &2.into()));
    assert!(one["because"].to_string().contains("package-0 stood still"), "{one}");
    for key in ["energy_uj", "traced_uj", "average_watts"] {
        assert_eq!((&found[key]["sure"], &found[key]["half_95"]), (&false.into(), &Value::Null));
    }
    std::fs::write(&log, "").expect("a file");
    let text = String::from_utf8(run("text").stdout).expect("text");
    println!("{text}");
    assert!(text.contains("INCOMPLETE: run 2 of B ("), "{text}");
    assert!(text.contains("energy: difference between runs, 1 of 2 pairs"), "{text}");
}

/// Each run takes off the baseline that was calibrated, and keeps what its command says.
#[test]
fn compare_takes_the_calibrated_baseline_off_in_each_run() {
    let _alone = live::alone();
    let simulator = Simulator::start(Model::default());
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (file, kept) = (folder.path().join("calibration.json"), folder.path().join("kept"));
    let python = live::python("3.14");
    let program = "import time; print('said')\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass";
    let command = [path(&python), "-c", program];
    let options = with_calibration(simulator.root(), &file);
    let options = [&["compare", "-n", "1", "--keep", path(&kept)], &options[..], &["--"]].concat();
    let words = [&options[..], &command, &["---"], &command].concat();
    // Not after a run.
    let early = lockwatt(&words);
    assert_eq!(early.status.code(), Some(1), "{}", said(&early));
    assert!(said(&early).contains("run `lockwatt calibrate` first"), "{}", said(&early));
    assert!(!kept.exists(), "{}", said(&early));
    calibration(&file, simulator.root(), 4.0);
    let output = lockwatt(&words);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("text");
    println!("{text}");
    assert!(text.contains("calibrated idle power is taken off first (baseline)"), "{text}");
    assert!(text.contains("of that, baseline (attributed: idle power × time)"), "{text}");
    for run in ["a-1", "b-1"] {
        let report = live::report(&kept.join(run).with_extension("lockwatt"));
        assert_eq!(report["energy"]["idle_policy"], "calibrated");
        let package = conserved(&report);
        // 4 W, in each window no more than the counter moved.
        let most = 4.0 * number(&package["known_ns"]) as f64 / 1e3;
        let baseline = number(&package["baseline_uj"]) as f64;
        assert!((0.5 * most..=1.001 * most).contains(&baseline), "{baseline} of {most}");
        let printed = std::fs::read_to_string(kept.join(run).with_extension("out"));
        assert_eq!(printed.expect("what it printed"), "said\n");
    }
}
