//! What looking at a trace costs, per wait: decoding, adding up on one CPU and on all, line tables
//! of code objects, and flame graphs. `cargo xtask bench analysis`; needs no interpreter and no root.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use tracer::analyze::{Fold, Side, Summary, Want, summarize, summarize_as};
use tracer::cpython::line;
use tracer::render::flamegraph::svg;
use tracer::render::folded::{self, Picture, Weight};
use tracer::trace::TraceReader;

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
        let last = u32::try_from(lines * 2 - 2).expect("a short table");
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
    symbols(&mut criterion);
    // Fewer waits: all sides are in it.
    let plan = Plan { waits: WAITS / 10, ..Plan::default() };
    let trace = synthetic::write(plan, Vec::new()).expect("memory takes everything");
    drawing(&mut criterion, &summarize(reader(&trace)).expect("a whole trace"));
    criterion.final_summary();
}
