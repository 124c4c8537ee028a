//! A small trace with something of everything, the same on every run.

mod stacks;

use tracer::trace::records::{
    Class, End, FrameRecord, HeldRecord, Kind, LockRecord, Meta, Options, ProgramState, ShapeSums,
    ShortWaits, SideStack, SpinSums, StackRecord, Target, ThreadRecord, Totals, Wait, YieldRun,
};
use tracer::trace::{TimeUnit, TraceWriter};
use tracer::units::{
    Address, LockIndex, Monotonic, Ns, Pid, ProcessIndex, StackIndex, ThreadIndex, Tid,
};
use tracer_common::Shape;

/// Everything that a trace holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    /// What was recorded.
    pub(crate) meta: Meta,
    /// Locks.
    pub(crate) locks: Vec<LockRecord>,
    /// Threads.
    pub(crate) threads: Vec<ThreadRecord>,
    /// Frames.
    pub(crate) frames: Vec<FrameRecord>,
    /// Stacks.
    pub(crate) stacks: Vec<StackRecord>,
    /// Waits in the order of their ends.
    pub(crate) waits: Vec<Wait>,
    /// Long runs of yields.
    pub(crate) yields: Vec<YieldRun>,
    /// Waits below the threshold.
    pub(crate) short: Vec<ShortWaits>,
    /// Locks that threads seem to have at the end.
    pub(crate) held: Vec<HeldRecord>,
    /// Counters.
    pub(crate) totals: Totals,
    /// End.
    pub(crate) end: End,
}

impl Content {
    /// The bytes of a trace with this content, cleanly closed; flushed after every `flush` waits, with
    /// times in the unit that its metadata has.
    pub(crate) fn write(&self, flush: usize) -> Vec<u8> {
        let unit = self.meta.options.time_unit;
        let mut writer = TraceWriter::new(Vec::new()).unwrap().with_time_unit(unit);
        writer.meta(&self.meta).unwrap();
        for lock in &self.locks {
            writer.lock(lock.clone()).unwrap();
        }
        writer.threads(&self.threads).unwrap();
        for frame in &self.frames {
            writer.frame(frame.clone()).unwrap();
        }
        for stack in &self.stacks {
            writer.stack(stack.clone()).unwrap();
        }
        let mut yields = self.yields.chunks(flush);
        let mut short = self.short.chunks(flush);
        for waits in self.waits.chunks(flush) {
            for run in yields.next().unwrap_or_default() {
                writer.yields(*run).unwrap();
            }
            for waits in short.next().unwrap_or_default() {
                writer.short_waits(*waits).unwrap();
            }
            for wait in waits {
                writer.wait(*wait).unwrap();
            }
            writer.flush().unwrap();
        }
        for run in yields.flatten() {
            writer.yields(*run).unwrap();
        }
        for waits in short.flatten() {
            writer.short_waits(*waits).unwrap();
        }
        writer.held(&self.held).unwrap();
        writer.totals(&self.totals).unwrap();
        writer.finish(&self.end).unwrap()
    }
}

const START: u64 = 1_000_000_000_000;

/// Four threads (one with a hostile name) that fight over a dict, a list and the GIL, wait for a
/// `threading.Lock`, idle in a join and pause once; 1,000 waits in ten seconds, most of them with
/// stacks.
pub(crate) fn sample() -> Content {
    let lock = |index, kind, class, address, lock, name: &str, shape: Shape| LockRecord {
        index: LockIndex(index),
        kind,
        class,
        address: Address(address),
        lock: Address(lock),
        name: name.to_owned(),
        shape: shape as u32,
    };
    use Class::{Contention, Idle, Pause, Unclassified};
    let locks = vec![
        lock(
            0,
            Kind::Object,
            Contention,
            0x7f00_0000_1000,
            0x7f00_0000_100a,
            "dict",
            Shape::Object,
        ),
        lock(
            1,
            Kind::Object,
            Contention,
            0x7f00_0000_2000,
            0x7f00_0000_200a,
            "list",
            Shape::Object,
        ),
        lock(2, Kind::Gil, Contention, 0x55aa_0000_0100, 0x55aa_0000_0100, "GIL", Shape::Gil),
        lock(
            3,
            Kind::Lock,
            Unclassified,
            0x7f00_0000_3000,
            0x7f00_0000_3020,
            "lock",
            Shape::Parked,
        ),
        lock(4, Kind::Join, Idle, 0x7f00_0000_4000, 0x7f00_0000_4000, "thread", Shape::Join),
        lock(
            5,
            Kind::StopTheWorld,
            Pause,
            0x7f00_0000_5000,
            0x7f00_0000_5000,
            "stop",
            Shape::Parked,
        ),
        lock(
            6,
            Kind::Object,
            Contention,
            0x7f00_0000_6000,
            0x7f00_0000_600a,
            "Ac;count\n",
            Shape::Object,
        ),
    ];
    let thread = |index: u32, name: &str| ThreadRecord {
        index: ThreadIndex(index),
        tid: Tid(4242 + index),
        process: ProcessIndex(0),
        name: name.to_owned(),
        python_name: (index == 2).then(|| "pool;2\n".to_owned()),
        born: (index > 0).then_some(Monotonic(START + u64::from(index) * 1_000_000)),
        ended: None,
        oncpu: Ns(2_000_000_000 + u64::from(index)),
        futex_switches: 250 + u64::from(index),
        yield_switches: 1_000,
    };
    let threads = vec![
        thread(0, "python3.14t"),
        thread(1, "worker-1"),
        thread(2, "worker-2"),
        thread(3, "\x1b[31mred;1"),
    ];

    // A fixed sequence of numbers (Knuth's MMIX generator): the trace must never change.
    let mut state = 42u64;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut end = START;
    let waits = (0..1_000u32)
        .map(|n| {
            end += 1_000_000 + random(8_000_000);
            let thread = u32::try_from(random(4)).unwrap();
            let lock = [0, 0, 0, 1, 1, 2, 3, 6][usize::try_from(random(8)).unwrap()];
            let lock = if n % 100 == 99 {
                4
            } else if n == 500 {
                5
            } else {
                lock
            };
            let scale = 10 + random(12);
            let blocked = 10_000 + random(1 << scale);
            let runq = 1_000 + random(20_000);
            let gap = if lock == 2 { random(5_000) } else { 0 };
            let waker = (n % 5 != 0).then_some(ThreadIndex((thread + 1) % 4));
            let sides = stacks::sides(n, lock, thread, waker);
            Wait {
                thread: ThreadIndex(thread),
                lock: LockIndex(lock),
                start: Monotonic(end - blocked - runq - gap),
                end: Monotonic(end),
                blocked: Ns(blocked),
                runq: Ns(runq),
                episodes: if lock == 2 { 3 } else { 1 },
                flags: u32::from(n == 0) | sides.flags,
                waker,
                waiter_stack: sides.waiter,
                waker_stack: sides.waker,
                holder: sides.holder,
                holder_stack: sides.holder_stack,
            }
        })
        .collect::<Vec<_>>();

    let names = |pairs: &[(&str, u64)]| pairs.iter().map(|&(k, v)| (k.to_owned(), v)).collect();
    let sums = |waits, blocked, runq, max| ShapeSums {
        waits,
        blocked: Ns(blocked),
        runq: Ns(runq),
        max: Ns(max),
    };
    Content {
        meta: Meta {
            lockwatt: "0.1.0".to_owned(),
            target: Target {
                pid: Pid(4242),
                exe: "/opt/python/bin/python3.14t".to_owned(),
                cmdline: vec!["python3.14t".to_owned(), "app.py".to_owned()],
                python: Some("3.14.9".to_owned()),
                free_threaded: Some(true),
                unnamed_because: None,
                stackless_because: None,
            },
            kernel: "6.12.0".to_owned(),
            machine: "x86_64".to_owned(),
            cpus: 2,
            options: Options {
                min_wait: Ns(10_000),
                max_events_per_sec: None,
                hooks: "sched".to_owned(),
                sample_hz: None,
                uprobes: vec![],
                native: true,
                follow: false,
                time_unit: TimeUnit::EXACT,
            },
            start: Monotonic(START),
            start_realtime_ns: 1_780_000_000_123_456_789,
            programs: vec![
                ProgramState {
                    name: "lw_switch".to_owned(),
                    hook: "tp_btf/sched_switch".to_owned(),
                    attached: true,
                    reason: None,
                },
                ProgramState {
                    name: "lw_exec".to_owned(),
                    hook: "tp_btf/sched_process_exec".to_owned(),
                    attached: false,
                    reason: Some("refused by the verifier".to_owned()),
                },
            ],
            uprobe_cost: None,
            uprobe_cost_unknown_because: None,
        },
        locks,
        threads,
        frames: stacks::frames(),
        stacks: stacks::stacks(),
        totals: Totals {
            at: Monotonic(START + 9_900_000_000),
            events: waits.len() as u64,
            drops: names(&[("ring_full_wait", 3)]),
            stats: names(&[
                ("spins_unattributed", 77),
                ("yielded_unattributed_ns", 88_000),
                ("woken_before_sleep", 5),
            ]),
            below: [
                (Shape::Object as u32, sums(400, 2_000_000, 400_000, 9_999)),
                (Shape::Parked as u32, sums(10, 50_000, 0, 9_000)),
            ]
            .into(),
            below_locks: vec![],
            limited_locks: vec![],
            lost_locks: vec![],
            yield_runs: 0,
            short_waits: 0,
            limited: [].into(),
            lost: [(Shape::Object as u32, sums(3, 90_000, 10_000, 50_000))].into(),
            spins: vec![
                SpinSums {
                    lock: LockIndex(0),
                    stack: SideStack::default(),
                    yields: 80_000,
                    yielded: Ns(40_000_000),
                    spin: None,
                },
                SpinSums {
                    lock: LockIndex(1),
                    stack: SideStack::Stack(StackIndex(0)),
                    yields: 500,
                    yielded: Ns(250_000),
                    spin: None,
                },
            ],
            uses: vec![],
            sampled: None,
            syscalls: None,
            self_cost: names(&[("bytes_written", 12_345), ("recorder_cpu_ns", 6_000_000)]),
        },
        waits,
        yields: vec![],
        short: vec![],
        held: vec![],
        end: End { at: Monotonic(START + 10_000_000_000), reason: "duration".to_owned() },
    }
}
