//! One recorded schedule, a hundred times: the counter is read with another jitter and another age each
//! time, and what is attributed must be within 2σ of what it would be with a perfect counter.

use tracer::analyze::energy::{EnergyFold, EnergySummary};
use tracer::energy::domain::{Domain, Meter, arrange};
use tracer::energy::{Known, Microjoules, Quality};
use tracer::trace::energy::{EnergyInterval, EnergySource, EnergyWindow};
use tracer::trace::{TraceReader, Visited};
use tracer::units::ThreadIndex;

const RECORDED: &[u8] = include_bytes!("golden/energy-v1.lockwatt");
const PERIOD_NS: f64 = 1e6;
const QUANTUM_UJ: f64 = 61.035_156_25;
const IDLE_WATTS: f64 = 4.0;
const BUSY_WATTS: f64 = 10.0;

fn schedule() -> (EnergySource, Vec<EnergyInterval>) {
    let (mut source, mut intervals) = (EnergySource::default(), Vec::new());
    TraceReader::from_read(RECORDED)
        .expect("a trace")
        .read_all(|visited| match visited {
            Visited::EnergySource(found) => source = found.clone(),
            Visited::Energy(interval) => intervals.push(interval.clone()),
            _ => {}
        })
        .expect("readable");
    let mut domains = vec![Domain::of_zone("package-0", None)];
    domains[0].meter = Meter::Counter { range_uj: None };
    domains[0].quantum_uj = QUANTUM_UJ;
    arrange(&mut domains);
    (
        EnergySource { domains, quality: Quality::Simulated, assumed_watts: None, ..source },
        intervals,
    )
}

/// µJ that a machine of this power uses in a window.
fn used(window: &EnergyWindow) -> f64 {
    let wall = window.end.since(window.start).0 as f64;
    let busy = wall * window.cpus.len() as f64
        - window.cpus.iter().map(|cpu| cpu.idle.0 as f64).sum::<f64>();
    (IDLE_WATTS * wall + BUSY_WATTS * busy) / 1e3
}

/// The same schedule with the counter read so: `age` says how long before each reading it last moved,
/// from 0 to 1 periods.
fn replay(
    source: &EnergySource,
    intervals: &[EnergyInterval],
    mut age: impl FnMut() -> f64,
    quantum: f64,
) -> EnergySummary {
    let mut fold = EnergyFold::default();
    fold.source(source);
    let (mut truth, mut before) = (1e6, 0.0);
    for (n, interval) in intervals.iter().enumerate() {
        let mut interval = interval.clone();
        for (m, window) in interval.windows.iter_mut().enumerate() {
            let watts = used(window) * 1e3 / window.end.since(window.start).0 as f64;
            let mut read = |truth: f64| {
                let shown = truth - watts * age() * PERIOD_NS / 1e3;
                (shown / quantum).floor() * quantum
            };
            if n == 0 && m == 0 {
                before = read(truth);
            }
            truth += used(window);
            let now = read(truth);
            let energy = Microjoules((now - before).round() as u64);
            before = now;
            window.readings[0] =
                tracer::trace::energy::EnergyReading { energy, known: Known::Measured };
        }
        fold.interval(&interval);
    }
    fold.finish().expect("a source")
}

#[test]
fn a_hundred_replays_are_within_two_sigma() {
    let (source, intervals) = schedule();
    assert!(intervals.iter().map(|interval| interval.windows.len()).sum::<usize>() >= 30);
    let perfect = replay(&source, &intervals, || 0.0, 1e-3);
    let mut state = 7u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let threads: Vec<ThreadIndex> = perfect.threads.keys().copied().collect();
    let mut within = vec![0; threads.len() + 1];
    for _ in 0..100 {
        let one = replay(&source, &intervals, &mut random, QUANTUM_UJ);
        let domain = &one.domains[0];
        let off = domain.energy.0.abs_diff(perfect.domains[0].energy.0);
        within[threads.len()] += u32::from(off as f64 <= 2.0 * domain.sigma);
        for (within, thread) in within.iter_mut().zip(&threads) {
            let (found, truth) = (one.threads[thread].all, perfect.threads[thread].all);
            // A rounding in each window is no error of reading.
            let rounding = 0.5 * (one.windows as f64).sqrt() + 1.0;
            let off = found.energy.0.abs_diff(truth.energy.0) as f64;
            *within += u32::from(off <= 2.0 * found.sigma + rounding);
        }
        // E1, whatever is read.
        let sum = domain.traced.0
            + domain.other.0
            + domain.kernel.0
            + domain.tracer.0
            + domain.lost.0
            + domain.idle_active.0
            + domain.baseline.0;
        assert_eq!(sum, domain.energy.0);
    }
    println!("within 2 sigma, of 100: {within:?}");
    assert!(within.iter().all(|&n| n >= 95), "{within:?}");
}
