//! A whole synthetic trace with energy (simulated), as `gen-trace --energy` writes it, and what its
//! report comes to.

use tracer::analyze::energy::EnergyFold;
use tracer::analyze::summarize;
use tracer::energy::topology::Cpu;
use tracer::energy::{Domain, Known, Microjoules, Part, Quality};
use tracer::trace::energy::{
    CpuTime, EnergyInterval, EnergyReading, EnergySource, EnergyWindow, Shares, ThreadTime,
};
use tracer::trace::{TraceReader, Visited};
use tracer::units::{Monotonic, Ns, ThreadIndex};

#[path = "../benches/synthetic/mod.rs"]
mod synthetic;

use synthetic::Plan;

fn trace() -> Vec<u8> {
    let plan = Plan {
        waits: 30_000,
        threads: 40,
        locks: 300,
        per_second: 10_000,
        energy: Some(Ns(100_000_000)),
        ..Plan::default()
    };
    synthetic::write(plan, Vec::new()).expect("memory takes everything")
}

#[test]
fn the_shares_of_a_synthetic_trace_sum_to_its_energy() {
    let trace = trace();
    let mut windows = Vec::new();
    let reader = TraceReader::from_read(trace.as_slice()).unwrap();
    let read = reader.read_all(|visited| {
        if let Visited::Energy(interval) = visited {
            windows.extend(interval.windows.clone());
        }
    });
    read.unwrap();
    assert!(windows.len() >= 25, "{}", windows.len());
    for (one, next) in windows.iter().zip(&windows[1..]) {
        assert_eq!(one.end, next.start);
    }
    // T1: all time of each CPU is somewhere.
    for window in &windows {
        for cpu in &window.cpus {
            let threads = window.threads.iter().filter(|thread| thread.cpu == cpu.cpu);
            let beside = [cpu.kernel, cpu.other, cpu.tracer, cpu.lost].map(Shares::total);
            let all = cpu.idle
                + beside.into_iter().sum()
                + threads.map(|thread| thread.time.total()).sum();
            assert_eq!(all, window.end.since(window.start));
        }
    }
    let reader = TraceReader::from_read(trace.as_slice()).unwrap();
    let energy = summarize(reader).unwrap().energy.unwrap();
    assert_eq!(energy.source.quality, Quality::Simulated);
    assert_eq!(energy.windows, windows.len() as u64);
    for (n, domain) in energy.domains.iter().enumerate() {
        let measured: u64 = windows.iter().map(|window| window.readings[n].energy.0).sum();
        assert_eq!(domain.energy.0, measured, "{}", domain.name);
        let parts = domain.baseline
            + domain.traced
            + domain.other
            + domain.kernel
            + domain.tracer
            + domain.lost
            + domain.idle_active;
        let whole = if domain.split { domain.energy } else { Microjoules(0) };
        assert_eq!(parts, whole, "{}", domain.name);
    }
    assert_eq!(energy.domains.iter().filter(|domain| domain.part == Part::Dram).count(), 2);
    let traced: Microjoules = energy.main().map(|domain| domain.traced).sum();
    let threads: Microjoules = energy.threads.values().map(|thread| thread.all.energy).sum();
    assert_eq!(threads, traced);
    let locks: Microjoules = energy.locks.values().map(|lock| lock.energy).sum();
    assert_eq!(locks + energy.waiting_unknown.energy, energy.waiting.energy);
    assert!(locks.0 > 0 && locks < traced);
    assert!(!energy.held.is_empty());
    assert_eq!(energy.held_left_out, Ns(0));
}

/// Threads that are not told apart keep their energy: it is the target's.
#[test]
fn more_threads_than_there_is_room_for_lose_no_energy() {
    const THREADS: u32 = 70_000;
    const TOLD_APART: usize = 1 << 16;
    let source = EnergySource {
        quality: Quality::Simulated,
        domains: vec![Domain { split: true, ..Domain::of_zone("package-0", None) }],
        cpus: vec![Cpu { cpu: 0, package: Some(0), ..Cpu::default() }],
        ..EnergySource::default()
    };
    let mut fold = EnergyFold::default();
    fold.source(&source);
    for n in 0..2u64 {
        let thread = |thread| ThreadTime {
            thread: ThreadIndex(thread),
            cpu: 0,
            time: Shares { alone: Ns(1_000), shared: Ns(0) },
        };
        let other = Shares { alone: Ns(30_000_000), shared: Ns(0) };
        let window = EnergyWindow {
            start: Monotonic(n * 100_000_000),
            end: Monotonic((n + 1) * 100_000_000),
            readings: vec![EnergyReading {
                energy: Microjoules(1_234_567),
                known: Known::Measured,
            }],
            cpus: vec![CpuTime { other, ..CpuTime::default() }],
            threads: (0..THREADS).map(thread).collect(),
            ..EnergyWindow::default()
        };
        fold.interval(&EnergyInterval { windows: vec![window], samples: vec![] });
    }
    let energy = fold.finish().unwrap();
    let [domain] = &energy.domains[..] else { panic!("one domain") };
    assert_eq!(domain.energy, Microjoules(2 * 1_234_567));
    assert_eq!(domain.traced + domain.other, domain.energy);
    // 3 of 10: its share of 370,370.1 has a smaller rest than those of the threads, of 12.3.
    assert_eq!(domain.other.0, 2 * 370_370);
    assert!(energy.threads.len() <= TOLD_APART, "{}", energy.threads.len());
}
