//! What traces cost: writing and decoding, adding up on one CPU and on all (per wait), splitting energy
//! (per thread and window), line tables of code objects, and flame graphs. `cargo xtask bench analysis`; needs no interpreter and no root.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use tracer::analyze::energy::EnergyFold;
use tracer::analyze::{Fold, Side, Summary, Want, summarize, summarize_as};
use tracer::cpython::line;
use tracer::energy::topology::Cpu;
use tracer::energy::{Domain, Known, Microjoules};
use tracer::render::flamegraph::svg;
use tracer::render::folded::{self, Picture, Weight};
use tracer::trace::energy::{
    CpuTime, Doing, EnergyInterval, EnergyReading, EnergySamples, EnergySource, EnergyWindow,
    Shares, ThreadTime,
};
use tracer::trace::records::{Meta, Wait};
use tracer::trace::{TimeUnit, TraceReader, TraceWriter};
use tracer::units::{LockIndex, Monotonic, Ns, ThreadIndex};

#[path = "synthetic/mod.rs"]
mod synthetic;

use synthetic::Plan;

const WAITS: u64 = 500_000;

/// What `lockwatt report` adds up.
const REPORT: Want = Want {
    pairs: true,
    links: false,
    threads: false,
    graph: true,
    counterfactual: false,
    unverified: false,
};
/// What `lockwatt flamegraph` adds up.
const FLAME_GRAPH: Want = Want {
    pairs: false,
    links: false,
    threads: true,
    graph: false,
    counterfactual: false,
    unverified: false,
};

fn reader(trace: &[u8]) -> TraceReader<&[u8]> {
    TraceReader::from_read(trace).expect("a trace")
}

fn reading(criterion: &mut Criterion, trace: &[u8]) {
    let mut group = criterion.benchmark_group("trace");
    group.throughput(Throughput::Elements(WAITS)).sample_size(10);
    group.measurement_time(Duration::from_secs(8));
    let mut waits: Vec<Wait> = Vec::new();
    reader(trace).read(|wait| waits.push(*wait)).expect("a whole trace");
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            let writer = TraceWriter::new(std::io::sink()).expect("it takes everything");
            let mut writer = writer.with_time_unit(TimeUnit::RECORDED);
            writer.meta(&Meta::default()).expect("it takes everything");
            // As many as a busy second has.
            for waits in waits.chunks(10_000) {
                waits.iter().for_each(|wait| writer.wait(*wait).expect("it takes everything"));
                writer.flush().expect("it takes everything");
            }
            black_box(writer.bytes_written())
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let mut waited = 0u64;
            let read = reader(trace).read(|wait| waited = waited.wrapping_add(wait.blocked.0));
            black_box((waited, read.expect("a whole trace").totals.events))
        });
    });
    group.bench_function("join and fold, one CPU", |bencher| {
        bencher.iter(|| {
            let mut fold = Fold::new(REPORT);
            let read = reader(trace).read_all(|shown| fold.visit(shown)).expect("a whole trace");
            black_box(fold.finish(read))
        });
    });
    for (name, want) in [("report", REPORT), ("flame graph", FLAME_GRAPH)] {
        let id = BenchmarkId::new("join and fold, all CPUs", name);
        group.bench_function(id, |bencher| {
            bencher.iter(|| summarize_as(reader(trace), want).expect("a whole trace"));
        });
    }
    // Attribution and the overlay of holds are in it.
    let plan = Plan { waits: WAITS, energy: Some(Ns(WINDOW)), ..Plan::default() };
    let trace = synthetic::write(plan, Vec::new()).expect("memory takes everything");
    let id = BenchmarkId::new("join and fold, all CPUs", "report with energy, simulated");
    group.bench_function(id, |bencher| {
        bencher.iter(|| summarize_as(reader(&trace), REPORT).expect("a whole trace"));
    });
    group.finish();
}

const CPUS: u32 = 16;
const THREADS: u32 = 200;
const WINDOW: u64 = 100_000_000;
const WINDOWS: u64 = 600;

/// A minute of windows in which every thread ran on one CPU, half of its time beside another.
fn energy() -> (EnergySource, Vec<EnergyInterval>) {
    let source = EnergySource {
        domains: vec![Domain::of_zone("package-0", None)],
        cpus: (0..CPUS)
            .map(|cpu| Cpu { cpu, package: Some(0), die: None, sibling: Some(cpu ^ 1) })
            .collect(),
        window: Ns(WINDOW),
        smt_weight: Some(600_000),
        spin_weight: Some(900_000),
        ..EnergySource::default()
    };
    let each = WINDOW / u64::from(THREADS / CPUS + 1);
    let window = |n: u64| EnergyWindow {
        start: Monotonic(n * WINDOW),
        end: Monotonic((n + 1) * WINDOW),
        read: Ns(2_000),
        readings: vec![EnergyReading { energy: Microjoules(1_000_000), known: Known::Measured }],
        cpus: (0..CPUS)
            .map(|cpu| {
                let threads = u64::from((cpu..THREADS).step_by(CPUS as usize).count() as u32);
                CpuTime { cpu, idle: Ns(WINDOW - threads * each), ..CpuTime::default() }
            })
            .collect(),
        threads: (0..THREADS)
            .map(|thread| ThreadTime {
                thread: ThreadIndex(thread),
                cpu: thread % CPUS,
                time: Shares { alone: Ns(each / 2), shared: Ns(each - each / 2) },
            })
            .collect(),
    };
    let samples = (0..THREADS).flat_map(|thread| {
        let one =
            EnergySamples { thread: ThreadIndex(thread), cpu: thread % CPUS, ..Default::default() };
        [
            EnergySamples { samples: 20, ..one },
            EnergySamples {
                doing: Doing::Spinning,
                lock: Some(LockIndex(thread % 50)),
                samples: 5,
                ..one
            },
        ]
    });
    let samples: Vec<_> = samples.collect();
    let interval = |n| EnergyInterval { windows: vec![window(n)], samples: samples.clone() };
    (source, (0..WINDOWS).map(interval).collect())
}

fn attribution(criterion: &mut Criterion) {
    let (source, intervals) = energy();
    let mut group = criterion.benchmark_group("energy");
    group.throughput(Throughput::Elements(WINDOWS * u64::from(THREADS))).sample_size(10);
    group.bench_function("attribute", |bencher| {
        bencher.iter(|| {
            let mut fold = EnergyFold::default();
            fold.source(&source);
            intervals.iter().for_each(|interval| fold.interval(interval));
            black_box(fold.finish())
        });
    });
    group.finish();
}

/// A line table as CPython 3.11 and later write it (`Objects/locations.md`): one entry for each of
/// so many lines, one code unit each, without columns.
fn line_table(lines: usize) -> Vec<u8> {
    const NO_COLUMNS: u8 = 0x80 | 13 << 3;
    const ONE_LINE_ON: u8 = 1 << 1;
    [NO_COLUMNS, ONE_LINE_ON].repeat(lines)
}

fn symbols(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("line of an instruction");
    for lines in [20, 2_000] {
        let table = line_table(lines);
        let last = u32::try_from(lines - 1).expect("a short table");
        assert!(line(&table, 1, last).is_some(), "a table that can be read");
        group.bench_function(BenchmarkId::new("last of", lines), |bencher| {
            bencher.iter(|| line(black_box(&table), 1, last));
        });
    }
    group.finish();
}

fn drawing(criterion: &mut Criterion, summary: &Summary) {
    let mut group = criterion.benchmark_group("flame graph");
    group.sample_size(10);
    for (name, side) in [("waiter", Side::Waiter), ("holder", Side::Holder), ("both", Side::Both)] {
        let picture = Picture { weight: Weight::Wait, side, idle: true };
        group.bench_function(BenchmarkId::new("fold", name), |bencher| {
            bencher.iter(|| folded::stacks(summary, picture).expect("times"));
        });
    }
    let picture = Picture { weight: Weight::Wait, side: Side::Waiter, idle: true };
    let stacks = folded::stacks(summary, picture).expect("times");
    group.bench_function("draw", |bencher| {
        bencher.iter(|| svg(&stacks, summary, picture).expect("a picture"));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let plan = Plan { waits: WAITS, ..Plan::default() };
    let trace = synthetic::write(plan, Vec::new()).expect("memory takes everything");
    reading(&mut criterion, &trace);
    attribution(&mut criterion);
    symbols(&mut criterion);
    // Fewer waits: all sides are in it.
    let plan = Plan { waits: WAITS / 10, ..Plan::default() };
    let trace = synthetic::write(plan, Vec::new()).expect("memory takes everything");
    drawing(&mut criterion, &summarize(reader(&trace)).expect("a whole trace"));
    criterion.final_summary();
}
