//! What is outside of the conserved sum: threads' energy while they held a lock, and the
//! counterfactuals. Random waits over random windows, through the same fold as a trace.

use proptest::prelude::*;
use tracer::analyze::energy::EnergySummary;
use tracer::analyze::{Fold, Want};
use tracer::energy::domain::arrange;
use tracer::energy::topology::Cpu;
use tracer::energy::{Domain, Known, Microjoules, Quality, Watts};
use tracer::trace::energy::{
    CpuTime, EnergyInterval, EnergyReading, EnergySource, EnergyWindow, IdlePower, Shares,
    ThreadTime,
};
use tracer::trace::records::{Class, Kind, LockRecord, SideStack, Wait};
use tracer::trace::{Trace, Visited};
use tracer::units::{Address, LockIndex, Monotonic, Ns, ThreadIndex};

const SECOND: u64 = 1_000_000_000;
/// Not the beginning of a bin.
const BEGIN: u64 = 7 * SECOND + 12_345;

/// Two packages of two CPUs that idle at 3 W each.
fn source(idle: Option<f64>) -> EnergySource {
    let mut domains = vec![
        Domain::of_zone("psys", None),
        Domain::of_zone("package-0", None),
        Domain::of_zone("package-1", None),
        Domain::of_zone("dram", Some("package-0")),
    ];
    arrange(&mut domains);
    let idle = idle.map(|watts| IdlePower { watts: Watts(watts), spread: Watts(0.0) });
    EnergySource {
        source: "test".to_owned(),
        quality: Quality::Simulated,
        idle: vec![idle; domains.len()],
        domains,
        cpus: (0..4)
            .map(|cpu| Cpu { cpu, package: Some(cpu / 2), die: None, sibling: None })
            .collect(),
        ..EnergySource::default()
    }
}

fn lock(index: u32, class: Class) -> LockRecord {
    LockRecord {
        index: LockIndex(index),
        kind: Kind::Lock,
        class,
        address: Address(u64::from(index) + 1),
        lock: Address(u64::from(index) + 1),
        name: "_thread.lock".to_owned(),
        shape: 0,
    }
}

fn wait(thread: u32, lock: u32, (start, to, end): (u64, u64, u64), waker: Option<u32>) -> Wait {
    Wait {
        thread: ThreadIndex(thread),
        lock: LockIndex(lock),
        start: Monotonic(start),
        end: Monotonic(end),
        blocked: Ns(to - start),
        runq: Ns(end - to),
        episodes: 1,
        flags: 0,
        waker: waker.map(ThreadIndex),
        waiter_stack: SideStack::default(),
        waker_stack: SideStack::default(),
        holder: None,
        holder_stack: SideStack::default(),
    }
}

/// Threads and their time on CPU `thread % 4`, of one window of this energy per domain.
fn window(start: u64, length: u64, uj: u64, threads: &[(u32, u64)]) -> EnergyWindow {
    let mut idle = [length; 4];
    let threads: Vec<ThreadTime> = threads
        .iter()
        .map(|&(thread, time)| {
            let cpu = thread % 4;
            let time = time.min(idle[cpu as usize]);
            idle[cpu as usize] -= time;
            let time = Shares { alone: Ns(time), shared: Ns(0) };
            ThreadTime { thread: ThreadIndex(thread), cpu, time }
        })
        .collect();
    EnergyWindow {
        start: Monotonic(start),
        end: Monotonic(start + length),
        readings: vec![EnergyReading { energy: Microjoules(uj), known: Known::Measured }; 4],
        cpus: (0..4)
            .map(|cpu| CpuTime { cpu, idle: Ns(idle[cpu as usize]), ..CpuTime::default() })
            .collect(),
        threads,
        ..EnergyWindow::default()
    }
}

fn folded(source: &EnergySource, windows: &[EnergyWindow], waits: &[Wait]) -> EnergySummary {
    let mut fold = Fold::new(Want { counterfactual: true, ..Want::default() });
    fold.visit(Visited::EnergySource(source));
    let locks: Vec<_> =
        (0..3).map(|n| lock(n, if n < 2 { Class::Contention } else { Class::Idle })).collect();
    locks.iter().for_each(|lock| fold.visit(Visited::Lock(lock)));
    for wait in waits {
        fold.visit(Visited::Wait(wait));
    }
    for window in windows {
        let interval = EnergyInterval { windows: vec![window.clone()], samples: vec![] };
        fold.visit(Visited::Energy(&interval));
    }
    let locks = locks.into_iter().map(|lock| (lock.index, lock)).collect();
    let summary = fold.finish(Trace { locks, ..Trace::default() });
    summary.energy.expect("energy")
}

/// One thread waits all the time, three of four CPUs idle: of the idle CPUs' baseline a third
/// coincides with that, and no lock that is idled on has any.
#[test]
fn one_waiter_can_use_one_cpu() {
    let windows: Vec<_> = (0..10)
        .map(|n| window(BEGIN + n * SECOND / 10, SECOND / 10, 1_000_000, &[(0, SECOND / 10)]))
        .collect();
    let waits = [
        wait(1, 0, (BEGIN, BEGIN + SECOND, BEGIN + SECOND), Some(0)),
        wait(2, 2, (BEGIN, BEGIN + SECOND, BEGIN + SECOND), Some(0)),
    ];
    let energy = folded(&source(Some(3.0)), &windows, &waits);
    let one = energy.counterfactual.as_ref().expect("asked for");
    // Two packages of 3 W for a second, three quarters of it idle, a third of that.
    assert_eq!(one.baseline, Microjoules(6_000_000));
    assert!(one.idle_baseline.0.abs_diff(4_500_000) <= 1, "{:?}", one.idle_baseline);
    assert!(one.coinciding.0.abs_diff(1_500_000) <= 2, "{:?}", one.coinciding);
    assert_eq!(one.locks.len(), 1);
    assert_eq!(one.locks[&LockIndex(0)].upper_bound, Microjoules(6_000_000));
    assert_eq!(one.locks[&LockIndex(0)].coinciding, one.coinciding);
    // Nothing of it is in the sum.
    let parts =
        energy.domains.iter().filter(|domain| domain.split).map(|domain| {
            domain.baseline.0 + domain.traced.0 + domain.idle_active.0 - domain.energy.0
        });
    assert_eq!(parts.sum::<u64>(), 0);
}

#[test]
fn without_a_baseline_there_is_nothing_to_tell() {
    let windows = [window(BEGIN, SECOND, 1_000_000, &[(0, SECOND)])];
    let waits = [wait(1, 0, (BEGIN, BEGIN + SECOND, BEGIN + SECOND), Some(0))];
    let energy = folded(&source(None), &windows, &waits);
    let one = energy.counterfactual.expect("asked for");
    assert_eq!((one.idle_watts, one.coinciding, one.locks.len()), (None, Microjoules(0), 0));
}

/// Who runs all the time and holds a lock for a tenth of each window has a tenth of its energy while
/// holding it; who sleeps while it holds one has no more than it ran.
#[test]
fn a_hold_has_what_its_thread_ran() {
    const WINDOW: u64 = SECOND / 10;
    let used = |on_cpu: u64, hold: u64| {
        let (mut windows, mut waits) = (Vec::new(), Vec::new());
        for n in 0..20 {
            let start = BEGIN + n * WINDOW;
            windows.push(window(start, WINDOW, 1_000_000, &[(0, on_cpu)]));
            // 0 gets the lock from 1, and lets 1 go on.
            let got = start + WINDOW / 4;
            waits.push(wait(0, 0, (got - 10, got, got), Some(1)));
            waits.push(wait(1, 0, (got, got + hold, got + hold), Some(0)));
        }
        let energy = folded(&source(None), &windows, &waits);
        let held = &energy.held[&LockIndex(0)];
        let of_0 = held.threads.iter().find(|(thread, _)| thread.0 == 0).expect("it held it");
        of_0.1.0 as f64 / energy.threads[&ThreadIndex(0)].all.energy.0 as f64
    };
    let tenth = used(WINDOW, WINDOW / 10);
    assert!((tenth - 0.1).abs() < 0.01, "{tenth}");
    let all = used(WINDOW / 20, WINDOW / 2);
    assert!(all > 0.95 && all <= 1.0, "{all}");
}

fn schedule() -> impl Strategy<Value = (Vec<EnergyWindow>, Vec<Wait>)> {
    let one = (1u64..300, 0u64..50_000_000, prop::collection::vec((0u32..6, 0u64..300), 0..8));
    let waits = prop::collection::vec(
        (0u32..6, 0u32..3, 0u64..2_500, 0u64..400, 0u64..5, prop::option::of(0u32..6)),
        0..80,
    );
    (prop::collection::vec(one, 1..15), waits).prop_map(|(all, waits)| {
        const MS: u64 = 1_000_000;
        let mut at = BEGIN;
        let mut windows = Vec::new();
        for (length, uj, threads) in all {
            let threads: Vec<_> = threads.iter().map(|&(thread, ms)| (thread, ms * MS)).collect();
            windows.push(window(at, length * MS, uj, &threads));
            at += length * MS;
        }
        let mut waits: Vec<_> = waits
            .into_iter()
            .map(|(thread, lock, start, blocked, runq, waker)| {
                let start = BEGIN + start * MS;
                let to = start + blocked * MS;
                wait(thread, lock, (start, to, to + runq * MS), waker)
            })
            .collect();
        waits.sort_by_key(|wait| wait.end);
        (windows, waits)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// E5: the idle energy that coincides with waits, over all locks, is never more than baseline ×
    /// idle share, which is never more than the baseline.
    #[test]
    fn what_coincides_was_idle_baseline(
        (windows, waits) in schedule(),
        idle in 0.0f64..200.0,
    ) {
        let energy = folded(&source(Some(idle)), &windows, &waits);
        let one = energy.counterfactual.as_ref().expect("asked for");
        let by_lock: u64 = one.locks.values().map(|lock| lock.coinciding.0).sum();
        prop_assert_eq!(by_lock, one.coinciding.0);
        prop_assert!(one.coinciding <= one.idle_baseline);
        prop_assert!(one.idle_baseline <= one.baseline);
        let baseline: u64 = energy.main().map(|domain| domain.baseline.0).sum();
        prop_assert_eq!(one.baseline.0, baseline);
        // The same from the definition.
        let idle_baseline: f64 = windows.iter().map(|window| {
            let length = window.end.since(window.start).0 as f64;
            let energy = window.readings[1].energy.0 as f64;
            let baseline = (idle * length / 1e3).round().min(energy);
            let idle: u64 = window.cpus.iter().map(|cpu| cpu.idle.0).sum();
            2.0 * baseline * idle as f64 / (4.0 * length)
        }).sum();
        prop_assert!((one.idle_baseline.0 as f64 - idle_baseline).abs() <= 2.0);
        prop_assert!(!one.locks.contains_key(&LockIndex(2)), "nobody contends for that");
        for lock in one.locks.values() {
            prop_assert!(lock.coinciding <= one.idle_baseline);
        }
    }

    /// A thread never has more while it held a lock than it has, and without a hold nobody has any.
    #[test]
    fn holding_is_a_part_of_the_threads((windows, waits) in schedule()) {
        let energy = folded(&source(None), &windows, &waits);
        for (lock, held) in &energy.held {
            let sum: u64 = held.threads.iter().map(|(_, energy)| energy.0).sum();
            prop_assert_eq!(sum, held.energy.0);
            for (thread, part) in &held.threads {
                prop_assert!(*part <= energy.threads[thread].all.energy);
                let holds = waits.iter().any(|wait| wait.lock == *lock && wait.thread == *thread)
                    && waits.iter().any(|wait| wait.lock == *lock && wait.waker == Some(*thread));
                prop_assert!(holds);
            }
        }
    }
}
