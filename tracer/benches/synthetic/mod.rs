//! Large synthetic traces: a simulated program with many threads, locks and stacks, written by the
//! crate's own writer, so that they always fit the format. The same seed gives the same file.

mod energy;
mod names;
mod program;

use std::io::Write;

use tracer::trace::records::{
    End, LockSamples, Meta, Options, Sampled, ShapeSums, SideStack, SpinSums, Target, Totals,
};
use tracer::trace::{TimeUnit, TraceWriter, WriteError};
use tracer::units::{LockIndex, Monotonic, Ns, Pid, StackIndex};
use tracer_common::Shape;

use energy::Meter;
use names::Names;
use program::Program;

/// Beginning of every recording, nanoseconds of `CLOCK_MONOTONIC`.
const START: u64 = 3_600_000_000_000;
/// The recorder flushes this often: a chunk holds no more than the waits of this time.
const FLUSH_EVERY: Ns = Ns(1_000_000_000);
const CPUS: u32 = 64;
const SAMPLE_HZ: u32 = 199;

/// What kind of program is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Waits with a record.
    pub(crate) waits: u64,
    /// Threads.
    pub(crate) threads: u32,
    /// Locks; the k-th is waited for in proportion to 1 / k.
    pub(crate) locks: u32,
    /// Places at which each lock is used, a stack each.
    pub(crate) sites: u32,
    /// Locks that all threads use; each other one is used by a few threads only.
    pub(crate) shared_locks: u32,
    /// Waits that begin per second.
    pub(crate) per_second: u32,
    /// For the random numbers.
    pub(crate) seed: u64,
    /// What times are in.
    pub(crate) time_unit: TimeUnit,
    /// With energy (simulated), in windows of this length.
    pub(crate) energy: Option<Ns>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            waits: 1_000_000,
            threads: 200,
            locks: 5_000,
            sites: 4,
            shared_locks: 50,
            per_second: 120_000,
            seed: 1,
            time_unit: TimeUnit::RECORDED,
            energy: None,
        }
    }
}

/// Writes a whole trace, cleanly closed.
///
/// # Errors
/// The sink's.
pub(crate) fn write<W: Write>(plan: Plan, sink: W) -> Result<W, WriteError> {
    let mut writer = TraceWriter::new(sink)?.with_time_unit(plan.time_unit);
    writer.meta(&meta(plan))?;
    let names = Names::new(plan);
    for lock in names.locks() {
        writer.lock(lock)?;
    }
    writer.threads(&names.threads())?;
    for frame in names.frames() {
        writer.frame(frame)?;
    }
    for stack in names.stacks() {
        writer.stack(stack)?;
    }
    let mut meter = plan.energy.map(|window| Meter::new(plan, window, START));
    if let Some(window) = plan.energy {
        writer.energy_source(&energy::source(window))?;
    }
    let mut program = Program::new(plan, START);
    let (mut written, mut flushed, mut last) = (0, START, START);
    while let Some(wait) = program.next() {
        writer.wait(wait)?;
        if let Some(meter) = &mut meter {
            meter.wait(&wait, || program.under_way());
        }
        written += 1;
        last = last.max(wait.end.0);
        if wait.end.0 > flushed + FLUSH_EVERY.0 {
            flushed = wait.end.0;
            if let Some(interval) = meter.as_mut().and_then(Meter::take) {
                writer.energy(&[interval])?;
            }
            writer.totals(&totals(plan, written, last))?;
            writer.flush()?;
        }
    }
    if let Some(interval) = meter.as_mut().and_then(Meter::take) {
        writer.energy(&[interval])?;
    }
    writer.totals(&totals(plan, written, last))?;
    writer.finish(&End { at: Monotonic(last), reason: "duration".to_owned() })
}

fn meta(plan: Plan) -> Meta {
    Meta {
        lockwatt: env!("CARGO_PKG_VERSION").to_owned(),
        target: Target {
            pid: Pid(4_000),
            exe: "/usr/bin/python3.14t".to_owned(),
            cmdline: vec!["python3.14t".to_owned(), "synthetic.py".to_owned()],
            python: Some("3.14.0".to_owned()),
            free_threaded: Some(true),
            ..Target::default()
        },
        kernel: "6.12.0".to_owned(),
        machine: "x86_64".to_owned(),
        cpus: CPUS,
        options: Options {
            hooks: "sched".to_owned(),
            sample_hz: Some(SAMPLE_HZ),
            time_unit: plan.time_unit,
            ..Options::default()
        },
        start: Monotonic(START),
        start_realtime_ns: 1_790_000_000_000_000_000,
        ..Meta::default()
    }
}

/// Counters that grow with the waits.
fn totals(plan: Plan, waits: u64, at: u64) -> Totals {
    let spun = (0..plan.locks.min(300)).map(|lock| SpinSums {
        lock: LockIndex(lock),
        stack: SideStack::Stack(StackIndex(lock * plan.sites)),
        yields: waits / (u64::from(lock) + 1),
        yielded: Ns(waits / (u64::from(lock) + 1) * 1_500),
        spin: None,
    });
    let sampled = (0..plan.locks.min(100))
        .map(|lock| LockSamples { lock: LockIndex(lock), samples: waits / 10_000 });
    let below = ShapeSums {
        waits: waits / 3,
        blocked: Ns(waits * 900),
        runq: Ns(waits * 300),
        max: Ns(9_999),
    };
    Totals {
        at: Monotonic(at),
        events: waits,
        below: [(Shape::Object as u32, below)].into(),
        spins: spun.collect(),
        sampled: Some(Sampled {
            ticks: waits / 10,
            target: waits / 20,
            spinning: waits / 100,
            locks: sampled.collect(),
            ..Sampled::default()
        }),
        ..Totals::default()
    }
}
