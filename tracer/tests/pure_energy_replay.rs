//! One recorded schedule, a hundred times: the counter is read with another jitter and another age each
//! time, and what is attributed must be within 2σ of what it would be with a perfect counter.

use std::collections::BTreeMap;

use tracer::analyze::energy::{Amount, EnergyFold, EnergySummary};
use tracer::energy::domain::{Domain, Meter, arrange};
use tracer::energy::{Known, Microjoules, Quality};
use tracer::trace::energy::{Doing, EnergyInterval, EnergySamples, EnergySource, EnergyWindow};
use tracer::trace::{TraceReader, Visited};
use tracer::units::{LockIndex, ThreadIndex};

const RECORDED: &[u8] = include_bytes!("golden/energy-v1.lockwatt");
const PERIOD_NS: f64 = 1e6;
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

/// The same schedule with the counter read so: `random` says how long before each reading it last
/// moved, from 0 to 1 periods, and where in a step it began. With `sampled` the CPU-clock samples are
/// drawn anew as well, from the shares that those of the recording show.
fn replay(
    source: &EnergySource,
    intervals: &[EnergyInterval],
    mut random: impl FnMut() -> f64,
    sampled: bool,
) -> EnergySummary {
    let mut fold = EnergyFold::default();
    fold.source(source);
    let quantum = source.domains[0].quantum_uj;
    let (mut truth, mut before) = (1e6 + quantum * random(), 0.0);
    for (n, interval) in intervals.iter().enumerate() {
        let mut interval = interval.clone();
        for (m, window) in interval.windows.iter_mut().enumerate() {
            let watts = used(window) * 1e3 / window.end.since(window.start).0 as f64;
            let mut read = |truth: f64| {
                let shown = truth - watts * random() * PERIOD_NS / 1e3;
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
        if sampled {
            draw(&mut interval.samples, &mut random);
        }
        fold.interval(&interval);
    }
    fold.finish().expect("a source")
}

/// Each thread's samples on a CPU find it waiting for a lock as often as chance has it.
fn draw(samples: &mut [EnergySamples], random: &mut impl FnMut() -> f64) {
    let all: Vec<_> = samples.iter().filter(|one| one.doing == Doing::Anything).copied().collect();
    for whole in all {
        let of = |one: &EnergySamples| {
            (one.thread, one.cpu) == (whole.thread, whole.cpu)
                && matches!(one.doing, Doing::Spinning | Doing::Futex)
        };
        let shares: Vec<f64> = samples
            .iter()
            .filter(|one| of(one))
            .map(|one| f64::from(one.samples) / f64::from(whole.samples))
            .collect();
        let mut found = vec![0; shares.len()];
        for _ in 0..whole.samples {
            let mut at = random();
            let hit = shares.iter().position(|share| {
                at -= share;
                at < 0.0
            });
            if let Some(hit) = hit {
                found[hit] += 1;
            }
        }
        for (one, found) in samples.iter_mut().filter(|one| of(one)).zip(found) {
            one.samples = found;
        }
    }
}

/// What must be within 2σ of the truth.
#[derive(Default)]
struct Within {
    domain: u32,
    waiting: u32,
    threads: BTreeMap<ThreadIndex, u32>,
    threads_waiting: BTreeMap<ThreadIndex, u32>,
    locks: BTreeMap<LockIndex, u32>,
}

impl Within {
    fn count(&mut self, one: &EnergySummary, truth: &EnergySummary) {
        // A rounding in each window is no error of reading.
        let rounding = 0.5 * (one.windows as f64).sqrt() + 1.0;
        let is = |found: &Amount, truth: &Amount| {
            let off = found.energy.0.abs_diff(truth.energy.0) as f64;
            u32::from(off <= 2.0 * found.sigma + rounding)
        };
        let domain = &one.domains[0];
        let off = domain.energy.0.abs_diff(truth.domains[0].energy.0);
        self.domain += u32::from(off as f64 <= 2.0 * domain.sigma);
        self.waiting += is(&one.waiting, &truth.waiting);
        for (thread, truth) in &truth.threads {
            let found = one.threads.get(thread).copied().unwrap_or_default();
            *self.threads.entry(*thread).or_default() += is(&found.all, &truth.all);
            if truth.waiting.energy.0 > 0 {
                *self.threads_waiting.entry(*thread).or_default() +=
                    is(&found.waiting, &truth.waiting);
            }
        }
        for (lock, truth) in &truth.locks {
            let found = one.locks.get(lock).copied().unwrap_or_default();
            *self.locks.entry(*lock).or_default() += is(&found, truth);
        }
    }

    fn least(&self) -> u32 {
        let maps = self.threads.values().chain(self.threads_waiting.values());
        let all = maps.chain(self.locks.values()).chain([&self.domain, &self.waiting]);
        all.copied().min().unwrap_or(0)
    }
}

fn random() -> impl FnMut() -> f64 {
    let mut state = 7u64;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The steps of RAPL counters: 2^-16 J, 2^-14 J and server memory's 15.3 µJ; a coarse one; hwmon's mJ.
const QUANTA_UJ: [f64; 5] = [15.258_789_062_5, 61.035_156_25, 15.3, 244.140_625, 1_000.0];

#[test]
fn a_hundred_replays_are_within_two_sigma() {
    let (source, intervals) = schedule();
    assert!(intervals.iter().map(|interval| interval.windows.len()).sum::<usize>() >= 30);
    let perfect = replay(&with_step(&source, 1e-3), &intervals, || 0.0, false);
    assert!(!perfect.locks.is_empty() && perfect.waiting.energy.0 > 0);
    let mut random = random();
    // Of a sample's errors, which are normal, 95.4 % are within 2σ: 93 % is three σ of a thousand less.
    for (sampled, replays, least) in [(false, 100, 95), (true, 1_000, 930)] {
        let mut within = Within::default();
        for n in 0..replays {
            let source = with_step(&source, QUANTA_UJ[n % QUANTA_UJ.len()]);
            let one = replay(&source, &intervals, &mut random, sampled);
            within.count(&one, &perfect);
            // E1, whatever is read.
            let domain = &one.domains[0];
            let sum = domain.traced.0
                + domain.other.0
                + domain.kernel.0
                + domain.tracer.0
                + domain.lost.0
                + domain.idle_active.0
                + domain.baseline.0;
            assert_eq!(sum, domain.energy.0);
        }
        println!(
            "samples drawn anew: {sampled}; within 2 sigma, of {replays}: domain {}, waiting {}, threads \
             {:?}, their waiting {:?}, locks {:?}",
            within.domain,
            within.waiting,
            within.threads.values(),
            within.threads_waiting.values(),
            within.locks.values()
        );
        assert!(within.least() >= least);
    }
}

fn with_step(source: &EnergySource, quantum_uj: f64) -> EnergySource {
    let mut source = source.clone();
    source.domains[0].quantum_uj = quantum_uj;
    source
}
