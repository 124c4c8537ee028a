//! The rules of energy attribution (docs/energy.md, E1 to E6) over random schedules.

use proptest::prelude::*;
use tracer::analyze::energy::{EnergyFold, EnergySummary};
use tracer::energy::domain::arrange;
use tracer::energy::topology::Cpu;
use tracer::energy::{Domain, Known, Microjoules, Part, Quality, Watts};
use tracer::trace::energy::{
    CpuTime, Doing, EnergyInterval, EnergyReading, EnergySamples, EnergySource, EnergyWindow,
    IdlePower, Shares, ThreadTime,
};
use tracer::units::{LockIndex, Monotonic, Ns, ThreadIndex};

const WINDOW: u64 = 100_000_000;
const DOMAINS: [(&str, Option<&str>); 5] = [
    ("psys", None),
    ("package-0", None),
    ("core", Some("package-0")),
    ("dram", Some("package-0")),
    ("package-1", None),
];

fn source(idle: Option<f64>, smt: Option<u32>, spin: Option<u32>) -> EnergySource {
    let mut domains: Vec<Domain> =
        DOMAINS.iter().map(|&(name, inside)| Domain::of_zone(name, inside)).collect();
    arrange(&mut domains);
    let idle = idle.map(|watts| IdlePower { watts: Watts(watts), spread: Watts(0.1) });
    EnergySource {
        source: "test".to_owned(),
        quality: Quality::Simulated,
        idle: vec![idle; domains.len()],
        domains,
        cpus: (0..4)
            .map(|cpu| Cpu { cpu, package: Some(cpu / 2), die: None, sibling: Some(cpu ^ 1) })
            .collect(),
        window: Ns(WINDOW),
        smt_weight: smt,
        spin_weight: spin,
        ..EnergySource::default()
    }
}

/// One window of four CPUs: each one's time is cut at random into idle, others, kernel, tracer, lost
/// and three threads.
fn window() -> impl Strategy<Value = EnergyWindow> {
    let cpu = prop::collection::vec((0u64..1000, any::<bool>()), 8);
    let energies = prop::collection::vec(0u64..50_000_000, DOMAINS.len());
    (prop::collection::vec(cpu, 4), energies).prop_map(|(cpus, energies)| {
        let mut out = EnergyWindow {
            end: Monotonic(WINDOW),
            readings: energies
                .into_iter()
                .map(|uj| EnergyReading { energy: Microjoules(uj), known: Known::Measured })
                .collect(),
            ..EnergyWindow::default()
        };
        for (cpu, cuts) in (0u32..).zip(cpus) {
            let all: u64 = cuts.iter().map(|(cut, _)| cut).sum::<u64>().max(1);
            let mut rest = WINDOW;
            let mut piece = |n: usize| {
                let time = Ns(cuts[n].0 * WINDOW / all).min(Ns(rest));
                rest -= time.0;
                if cuts[n].1 {
                    Shares { alone: Ns(0), shared: time }
                } else {
                    Shares { alone: time, shared: Ns(0) }
                }
            };
            let mut time = CpuTime { cpu, ..CpuTime::default() };
            for thread in 0..3 {
                out.threads.push(ThreadTime {
                    thread: ThreadIndex(thread),
                    cpu,
                    time: piece(thread as usize),
                });
            }
            time.other = piece(3);
            time.kernel = piece(4);
            time.tracer = piece(5);
            time.lost = piece(6);
            time.idle = Ns(rest);
            out.cpus.push(time);
        }
        out
    })
}

fn samples() -> impl Strategy<Value = Vec<EnergySamples>> {
    let one = (0u32..3, 0u32..4, 1u32..200, prop::collection::vec((0u32..4, 0u32..60), 0..4));
    prop::collection::vec(one, 0..8).prop_map(|all| {
        let mut out = Vec::new();
        for (thread, cpu, samples, locks) in all {
            let thread = ThreadIndex(thread);
            let base = EnergySamples { thread, cpu, samples, ..EnergySamples::default() };
            out.push(base);
            let mut rest = samples;
            for (lock, n) in locks {
                let n = n.min(rest);
                rest -= n;
                let lock = (lock < 3).then_some(LockIndex(lock));
                out.push(EnergySamples { doing: Doing::Spinning, lock, samples: n, ..base });
                // The same as it was timed, and maybe more than the thread ran.
                let timed = EnergySamples { doing: Doing::Timed, lock, ..base };
                out.push(EnergySamples { samples: n * 1_000_000, ..timed });
            }
        }
        out
    })
}

fn interval() -> impl Strategy<Value = EnergyInterval> {
    (prop::collection::vec(window(), 1..6), samples()).prop_map(|(mut windows, samples)| {
        let mut at = 1_000;
        for window in &mut windows {
            (window.start, window.end) = (Monotonic(at), Monotonic(at + WINDOW));
            at += WINDOW;
        }
        EnergyInterval { windows, samples }
    })
}

fn summary(source: &EnergySource, intervals: &[EnergyInterval]) -> EnergySummary {
    let mut fold = EnergyFold::default();
    fold.source(source);
    intervals.iter().for_each(|interval| fold.interval(interval));
    fold.finish().expect("a source")
}

fn policies() -> impl Strategy<Value = EnergySource> {
    let weight = || prop::option::of(100_000u32..2_000_000);
    (prop::option::of(0.0f64..300.0), weight(), weight(), any::<[bool; 3]>()).prop_map(
        |(idle, smt, spin, [spin_weighted, spin_timed, futex_timed])| EnergySource {
            spin_weighted,
            spin_timed,
            futex_timed,
            ..source(idle, smt, spin)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// E1 and E4: every domain that is split sums to what was measured, to the microjoule, whatever
    /// the weights and the baseline; and so over windows and sockets.
    #[test]
    fn nothing_is_lost_or_made_up(
        source in policies(),
        intervals in prop::collection::vec(interval(), 1..4),
    ) {
        let summary = summary(&source, &intervals);
        for (place, domain) in summary.domains.iter().enumerate() {
            let measured: u64 = intervals
                .iter()
                .flat_map(|interval| &interval.windows)
                .map(|window| window.readings[place].energy.0)
                .sum();
            prop_assert_eq!(domain.energy.0, measured);
            let parts = [
                domain.baseline, domain.traced, domain.other, domain.kernel, domain.tracer,
                domain.lost, domain.idle_active,
            ];
            let sum: u64 = parts.iter().map(|part| part.0).sum();
            prop_assert_eq!(sum, if domain.split { measured } else { 0 }, "{}", &domain.name);
        }
        let traced: u64 = summary.main().map(|domain| domain.traced.0).sum();
        let threads: u64 = summary.threads.values().map(|thread| thread.all.energy.0).sum();
        prop_assert_eq!(threads, traced);
    }

    /// E2: waiting is no more than the threads that wait, of each and in all, and a lock that nobody
    /// was seen waiting for has nothing.
    #[test]
    fn waiting_is_a_part_of_the_threads(source in policies(), interval in interval()) {
        let summary = summary(&source, std::slice::from_ref(&interval));
        let mut waiting = summary.waiting_unknown.energy.0;
        for (lock, amount) in &summary.locks {
            let seen = |one: &EnergySamples| one.lock == Some(*lock) && one.doing != Doing::Anything && one.samples > 0;
            prop_assert!(amount.energy.0 == 0 || interval.samples.iter().any(seen));
            prop_assert!(amount.low <= amount.energy && amount.energy <= amount.high);
            waiting += amount.energy.0;
        }
        prop_assert_eq!(waiting, summary.waiting.energy.0);
        let by_thread: u64 = summary.threads.values().map(|one| one.waiting.energy.0).sum();
        prop_assert_eq!(waiting, by_thread);
        for thread in summary.threads.values() {
            prop_assert!(thread.waiting.energy <= thread.all.energy);
            prop_assert!(thread.undivided <= thread.all.energy);
        }
    }

    /// E3: two threads that change places change energies (but for the microjoule that goes to the
    /// first of two equal rests, in each window), and a slice cut in two is the same slice.
    #[test]
    fn names_and_cuts_don_t_matter(source in policies(), interval in interval()) {
        let before = summary(&source, std::slice::from_ref(&interval));
        let mut swapped = interval.clone();
        let other = |thread: &mut ThreadIndex| *thread = ThreadIndex([1, 0, 2][thread.0 as usize]);
        swapped.windows.iter_mut().flat_map(|w| &mut w.threads).for_each(|t| other(&mut t.thread));
        swapped.samples.iter_mut().for_each(|one| other(&mut one.thread));
        let after = summary(&source, &[swapped]);
        let of = |summary: &EnergySummary, n| {
            summary.threads.get(&ThreadIndex(n)).map_or(0, |thread| thread.all.energy.0)
        };
        // A rounding for each window and socket.
        let rounding = 2 * interval.windows.len() as u64;
        prop_assert!(of(&before, 0).abs_diff(of(&after, 1)) <= rounding);
        prop_assert!(of(&before, 1).abs_diff(of(&after, 0)) <= rounding);

        let mut cut = interval.clone();
        for window in &mut cut.windows {
            let mut halves = Vec::new();
            for thread in &mut window.threads {
                let mut half = *thread;
                half.time.alone = Ns(half.time.alone.0 / 3);
                half.time.shared = Ns(half.time.shared.0 / 3);
                thread.time.alone.0 -= half.time.alone.0;
                thread.time.shared.0 -= half.time.shared.0;
                halves.push(half);
            }
            window.threads.extend(halves);
        }
        let after = summary(&source, &[cut]);
        prop_assert_eq!(&before.threads, &after.threads);
        prop_assert_eq!(&before.locks, &after.locks);
    }

    /// T1: what was put into the windows is all time of all CPUs.
    #[test]
    fn all_time_of_all_cpus_is_somewhere(interval in interval()) {
        let time = summary(&source(None, None, None), &[interval]).time;
        let sum = time.idle + time.traced + time.other + time.kernel + time.tracer + time.lost;
        prop_assert_eq!(sum, time.cpus);
        prop_assert_eq!(time.cpus.0, 4 * time.wall.0);
    }
}

fn one(threads: &[(u32, u32, u64)], idle_of: impl Fn(u32) -> u64, uj: u64) -> EnergyWindow {
    EnergyWindow {
        start: Monotonic(0),
        end: Monotonic(WINDOW),
        readings: vec![EnergyReading { energy: Microjoules(uj), known: Known::Measured }; 5],
        cpus: (0..4)
            .map(|cpu| CpuTime { cpu, idle: Ns(idle_of(cpu)), ..CpuTime::default() })
            .collect(),
        threads: threads
            .iter()
            .map(|&(thread, cpu, time)| ThreadTime {
                thread: ThreadIndex(thread),
                cpu,
                time: Shares { alone: Ns(time), shared: Ns(0) },
            })
            .collect(),
        ..EnergyWindow::default()
    }
}

/// E6: 10 W on socket 0 for 100 ms are 1 J; a thread that ran half as long as another gets half as
/// much; the other socket, where nothing ran, keeps its energy to itself.
#[test]
fn a_joule_is_a_joule_and_stays_on_its_socket() {
    let window = one(
        &[(0, 0, WINDOW), (1, 1, WINDOW / 2)],
        |cpu| [0, WINDOW / 2, WINDOW, WINDOW][cpu as usize],
        1_000_000,
    );
    let interval = EnergyInterval { windows: vec![window], samples: vec![] };
    let summary = summary(&source(None, None, None), &[interval]);
    let threads: Vec<u64> = summary.threads.values().map(|one| one.all.energy.0).collect();
    assert_eq!(threads, [666_667, 333_333]);
    assert_eq!(summary.domains[4].idle_active, Microjoules(1_000_000));
    assert!((summary.domains[1].watts.0 - 10.0).abs() < 1e-9);
    // psys and core are shown, and in no sum.
    assert_eq!(summary.total(), Microjoules(2_000_000));
    assert_eq!(summary.domains[3].part, Part::Dram);
    assert_eq!(summary.domains[3].traced, Microjoules(1_000_000));
}

/// The baseline is taken off first and never more than there is; a sibling that is busy too makes a
/// slice count less.
#[test]
fn baseline_and_siblings() {
    let mut window = one(
        &[(0, 0, WINDOW), (1, 2, WINDOW), (2, 3, WINDOW)],
        |cpu| u64::from(cpu == 1) * WINDOW,
        1_000_000,
    );
    for thread in &mut window.threads[1..] {
        thread.time = Shares { alone: Ns(0), shared: Ns(WINDOW) };
    }
    let interval = EnergyInterval { windows: vec![window], samples: vec![] };
    let with = summary(&source(Some(4.0), Some(550_000), None), std::slice::from_ref(&interval));
    assert_eq!(with.domains[1].baseline, Microjoules(400_000));
    assert_eq!(with.domains[1].traced, Microjoules(600_000));
    let above = summary(&source(Some(40.0), Some(550_000), None), std::slice::from_ref(&interval));
    assert_eq!(above.domains[1].baseline, Microjoules(1_000_000));
    assert_eq!(above.domains[1].traced, Microjoules(0));
}

/// A window whose energy is not known is in no sum, and the reader is told since when.
#[test]
fn what_is_not_known_is_not_made_up() {
    for known in [Known::Reset, Known::Frozen, Known::Gone] {
        let good = one(&[(0, 0, WINDOW)], |_| 0, 1_000_000);
        let mut bad = good.clone();
        (bad.start, bad.end) = (Monotonic(WINDOW), Monotonic(2 * WINDOW));
        bad.readings[1].known = known;
        let interval = EnergyInterval { windows: vec![good, bad], samples: vec![] };
        let summary = summary(&source(None, None, None), &[interval]);
        let package = &summary.domains[1];
        assert_eq!(package.energy, Microjoules(1_000_000));
        assert_eq!(package.first_unknown, Some((known, Ns(WINDOW))));
        assert_eq!(package.unknown, Ns(WINDOW));
        assert_eq!(summary.domains[4].energy, Microjoules(2_000_000));
    }
}

/// Without knowing which CPU is where, every package is split over what ran anywhere.
#[test]
fn unknown_sockets_are_pooled() {
    let mut source = source(None, None, None);
    source.cpus.iter_mut().for_each(|cpu| cpu.package = None);
    let interval =
        EnergyInterval { windows: vec![one(&[(0, 0, WINDOW)], |_| 0, 1_000_000)], samples: vec![] };
    let summary = summary(&source, &[interval]);
    assert!(summary.pooled);
    assert_eq!(summary.threads[&ThreadIndex(0)].all.energy, Microjoules(2_000_000));
}

/// An estimate is so many watts for each busy core, and no more sure than that.
#[test]
fn an_estimate_is_watts_times_busy_time() {
    let source = EnergySource {
        quality: Quality::Estimated,
        domains: vec![Domain {
            name: "model".into(),
            part: Part::Machine,
            split: true,
            ..Domain::default()
        }],
        cpus: source(None, None, None).cpus,
        assumed_watts: Some(3.0),
        ..EnergySource::default()
    };
    let mut window = one(&[(0, 0, WINDOW), (1, 1, WINDOW)], |_| 0, 0);
    window.readings = vec![EnergyReading { energy: Microjoules(0), known: Known::Modelled }];
    let interval = EnergyInterval { windows: vec![window], samples: vec![] };
    let summary = summary(&source, &[interval]);
    assert_eq!(summary.total(), Microjoules(600_000));
    assert_eq!(summary.attributed(), "estimated");
    assert_eq!(summary.threads[&ThreadIndex(1)].all.energy, Microjoules(300_000));
}

/// Noise is not a number.
#[test]
fn what_is_below_the_noise_is_said_to_be() {
    let samples =
        |n, doing, lock| EnergySamples { thread: ThreadIndex(0), cpu: 0, doing, lock, samples: n };
    let interval = EnergyInterval {
        windows: vec![one(&[(0, 0, WINDOW)], |_| 0, 1_000_000)],
        samples: vec![
            samples(100, Doing::Anything, None),
            samples(60, Doing::Spinning, Some(LockIndex(1))),
            samples(1, Doing::Spinning, Some(LockIndex(2))),
        ],
    };
    let summary = summary(&source(None, None, Some(800_000)), &[interval]);
    let [much, little] = [1, 2].map(|lock| summary.locks[&LockIndex(lock)]);
    assert_eq!((much.energy, little.energy), (Microjoules(600_000), Microjoules(10_000)));
    assert!(!much.is_noise() && little.is_noise());
    // With a spin weight below 1 waiting counts less.
    assert!(much.low < much.energy && much.high == much.energy, "{much:?}");
}

/// With timed yields the time is as it was measured, and samples of spinning don't count: exact, but
/// for what the counter's readings are off. Futex calls are sampled all the same, unless they were
/// timed.
#[test]
fn timed_yields_take_the_place_of_samples() {
    let samples =
        |n, doing, lock| EnergySamples { thread: ThreadIndex(0), cpu: 0, doing, lock, samples: n };
    let of = |lock| Some(LockIndex(lock));
    let interval = EnergyInterval {
        windows: vec![one(&[(0, 0, WINDOW), (1, 1, WINDOW)], |_| 0, 2_000_000)],
        samples: vec![
            samples(20, Doing::Anything, None),
            samples(14, Doing::Spinning, of(1)),
            samples(2, Doing::Futex, of(2)),
            samples(30_000_000, Doing::Timed, of(1)),
            samples(10_000_000, Doing::Timed, None),
        ],
    };
    let timed = EnergySource { spin_timed: true, ..source(None, None, Some(500_000)) };
    let summary = summary(&timed, std::slice::from_ref(&interval));
    let [spun, futex] = [1, 2].map(|lock| summary.locks[&LockIndex(lock)]);
    assert_eq!((spun.energy, futex.energy), (Microjoules(300_000), Microjoules(100_000)));
    assert_eq!(summary.waiting_unknown.energy, Microjoules(100_000));
    assert!(spun.sigma < 15_000.0 && futex.sigma > 20_000.0, "{spun:?} {futex:?}");
    // With γ = 1/2 a thread that waits half of its time has 3/4 of the weight of one that doesn't.
    assert!(spun.low < Microjoules(200_000) && spun.high == Microjoules(300_000), "{spun:?}");
    let sampled = self::summary(&source(None, None, None), std::slice::from_ref(&interval));
    assert_eq!(sampled.locks[&LockIndex(1)].energy, Microjoules(700_000));
    // Where futex calls were timed as well, their samples don't count either, and nothing is sampled.
    let all_timed = EnergySource { futex_timed: true, ..timed };
    let summary = self::summary(&all_timed, std::slice::from_ref(&interval));
    assert_eq!(summary.locks[&LockIndex(1)].energy, Microjoules(300_000));
    assert!(summary.locks.get(&LockIndex(2)).is_none_or(|lock| lock.energy == Microjoules(0)));
    assert_eq!(summary.waiting.energy, Microjoules(400_000));
    assert!(summary.locks[&LockIndex(1)].sigma < 15_000.0);
}

/// With `--spin-weight calibrated` the calibrated weight is what is shown, and 1 the other end of the
/// range. Either way everything sums to what was measured.
#[test]
fn the_weight_of_waiting_that_was_asked_for_is_shown() {
    let samples = |n, doing, lock| EnergySamples {
        thread: ThreadIndex(0),
        doing,
        lock,
        samples: n,
        ..EnergySamples::default()
    };
    let interval = EnergyInterval {
        windows: vec![one(&[(0, 0, WINDOW), (1, 1, WINDOW)], |_| 0, 7_000_000)],
        samples: vec![
            samples(40, Doing::Anything, None),
            samples(20, Doing::Spinning, Some(LockIndex(1))),
        ],
    };
    let of = |spin_weighted| {
        let source = EnergySource { spin_weighted, ..source(None, None, Some(500_000)) };
        summary(&source, std::slice::from_ref(&interval))
    };
    let (plain, weighted) = (of(false), of(true));
    let lock = |summary: &EnergySummary| summary.locks[&LockIndex(1)];
    // Half of one of two threads: a quarter; with γ = 1/2 a quarter of 3/4 and 1 together, a seventh.
    assert_eq!(lock(&plain).energy, Microjoules(1_750_000));
    assert_eq!(lock(&weighted).energy, Microjoules(1_000_000));
    for summary in [&plain, &weighted] {
        assert_eq!(
            (lock(summary).low, lock(summary).high),
            (Microjoules(1_000_000), Microjoules(1_750_000))
        );
        let threads: u64 = summary.threads.values().map(|one| one.all.energy.0).sum();
        assert_eq!(threads, 7_000_000);
        assert_eq!(summary.waiting_samples, 20);
    }
    assert_eq!(weighted.threads[&ThreadIndex(0)].all.energy, Microjoules(3_000_000));
    // The same samples, a smaller number: about as sure of it as of the other.
    let relative = |one: tracer::analyze::energy::Amount| one.sigma / one.energy.0 as f64;
    let ratio = relative(lock(&weighted)) / relative(lock(&plain));
    assert!((0.7..1.5).contains(&ratio), "{ratio}");
}
