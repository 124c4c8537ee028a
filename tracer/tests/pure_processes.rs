//! Ring 1: a trace of several processes: written, read, added up and drawn.

use tracer::analyze::{Side, Summary, summarize};
use tracer::render::folded::{Picture, stacks};
use tracer::render::json;
use tracer::render::text::{View, report};
use tracer::trace::processes::{Came, LockProcess, ProcessRecord};
use tracer::trace::records::{
    Class, End, HeldHow, HeldRecord, Kind, LockRecord, Meta, SideStack, SpinSums, Target,
    ThreadRecord, Totals, Wait,
};
use tracer::trace::{TraceReader, TraceWriter};
use tracer::units::{Address, LockIndex, Monotonic, Ns, Pid, ProcessIndex, ThreadIndex, Tid};
use tracer_common::Shape;
use tracer_common::event::WAIT_CLIPPED_END;

const MS: u64 = 1_000_000;

fn process(index: u32, pid: u32, parent: Option<u32>) -> ProcessRecord {
    ProcessRecord {
        index: ProcessIndex(index),
        target: Target {
            pid: Pid(pid),
            exe: "/usr/bin/python3.14".to_owned(),
            python: Some("3.14.9".to_owned()),
            ..Target::default()
        },
        parent: parent.map(ProcessIndex),
        came: if parent.is_some() { Came::Fork } else { Came::Attached },
        recorded: true,
        started: parent.map(|_| Monotonic(10 * MS)),
        ..ProcessRecord::default()
    }
}

/// Locks 0 and 1 are at one address in two processes; lock 2 is in memory that they share.
fn lock(index: u32) -> LockRecord {
    let address = Address(if index == 2 { 0x9000 } else { 0x5000 });
    LockRecord {
        index: LockIndex(index),
        kind: Kind::Lock,
        class: Class::Contention,
        address,
        lock: address,
        name: "_thread.lock".to_owned(),
        shape: Shape::Parked as u32,
    }
}

fn wait(thread: u32, lock: u32, ms: u64, flags: u32) -> Wait {
    Wait {
        thread: ThreadIndex(thread),
        lock: LockIndex(lock),
        start: Monotonic(20 * MS),
        end: Monotonic((20 + ms) * MS),
        blocked: Ns(ms * MS),
        runq: Ns(0),
        episodes: 1,
        flags,
        waker: Some(ThreadIndex(1 - thread)).filter(|_| lock == 2),
        waiter_stack: SideStack::default(),
        waker_stack: SideStack::default(),
        holder: None,
        holder_stack: SideStack::default(),
    }
}

/// Thread 0 is of the parent, thread 1 of the child.
fn trace(held: &[HeldRecord], flags: u32) -> Vec<u8> {
    let mut writer = TraceWriter::new(Vec::new()).expect("begins");
    let meta = Meta { target: process(0, 100, None).target, ..Meta::default() };
    writer.meta(&meta).expect("written");
    for (index, of) in [(0, Some(0)), (1, Some(1)), (2, None)] {
        let of = LockProcess { lock: LockIndex(index), process: of.map(ProcessIndex) };
        writer.lock_process(of).expect("written");
        writer.lock(lock(index)).expect("written");
    }
    let thread = |index| ThreadRecord {
        index: ThreadIndex(index),
        tid: Tid(100 + index),
        process: ProcessIndex(index),
        name: "worker".to_owned(),
        ..ThreadRecord::default()
    };
    writer.threads(&[thread(0), thread(1)]).expect("written");
    // The first record of the child is replaced by what it became.
    let young = ProcessRecord { recorded: false, ..process(1, 101, Some(0)) };
    writer.processes(&[process(0, 100, None), young]).expect("written");
    for one in [wait(0, 0, 3, flags), wait(1, 1, 5, flags), wait(0, 2, 7, 0), wait(1, 2, 9, 0)] {
        writer.wait(one).expect("written");
    }
    let ended = Some(Monotonic(40 * MS));
    writer.processes(&[ProcessRecord { ended, ..process(1, 101, Some(0)) }]).expect("written");
    writer.held(held).expect("written");
    let spin = SpinSums { lock: LockIndex(1), yields: 4, yielded: Ns(MS), ..SpinSums::default() };
    writer.totals(&Totals { spins: vec![spin], ..Totals::default() }).expect("written");
    writer.finish(&End { at: Monotonic(50 * MS), reason: "duration".to_owned() }).expect("closed")
}

fn summary(held: &[HeldRecord], flags: u32) -> Summary {
    let bytes = trace(held, flags);
    summarize(TraceReader::from_read(&bytes[..]).expect("a trace")).expect("readable")
}

#[test]
fn locks_at_one_address_in_two_processes_are_two() {
    let summary = summary(&[], 0);
    let pid = |index| summary.homes.of_lock(LockIndex(index)).and_then(|of| summary.homes.pid(of));
    assert_eq!((pid(0), pid(1), pid(2)), (Some(Pid(100)), Some(Pid(101)), None));
    let sharers = |index| summary.homes.sharers(LockIndex(index));
    assert_eq!((sharers(0), sharers(2)), (None, Some(2)));
    let waits = |index| {
        let mut locks = summary.locks.iter();
        locks.find(|one| one.lock.index == LockIndex(index)).expect("the lock").sums.waits
    };
    assert_eq!((waits(0), waits(1), waits(2)), (1, 1, 2));
}

#[test]
fn each_process_has_its_sums() {
    let summary = summary(&[], 0);
    let [child, parent] = &summary.processes[..] else { panic!("{:?}", summary.processes) };
    assert_eq!((child.record.target.pid, parent.record.target.pid), (Pid(101), Pid(100)));
    assert_eq!((child.sums.waits, child.sums.wait()), (2, Ns(15 * MS)));
    assert_eq!((child.sums.spins, parent.sums.spins), (4, 0));
    assert_eq!((parent.sums.wait(), parent.contention), (Ns(10 * MS), Ns(10 * MS)));
    assert!(child.record.recorded && child.record.ended.is_some());
    let all: Ns = summary.processes.iter().map(|one| one.sums.wait()).sum();
    assert_eq!(all, summary.totals.wait());
}

#[test]
fn every_output_says_which_process() {
    let summary = summary(&[], 0);
    let text = report(&summary, View::default());
    for words in [
        "Processes",
        "_thread.lock 0x5000 (pid 100)",
        "_thread.lock 0x5000 (pid 101)",
        "_thread.lock 0x9000 (shared by 2 processes)",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let report = json::report(&summary, None);
    assert_eq!(report["processes"][0]["pid"], 101);
    assert_eq!(report["processes"][0]["parent"], 100);
    assert_eq!(report["processes"][0]["came"], "fork");
    assert_eq!(report["processes"][0]["ended_ns"], 40 * MS);
    let locks = report["locks"].as_array().expect("locks");
    let shared = locks.iter().find(|lock| lock["address"] == "0x9000").expect("the shared one");
    assert_eq!((&shared["pid"], &shared["shared_by"]), (&serde_json::Value::Null, &2.into()));
    assert!(report["threads"].as_array().expect("threads").iter().all(|t| t["pid"] == t["tid"]));
    let picture = Picture { side: Side::Waiter, ..Picture::default() };
    let stacks = stacks(&summary, picture).expect("stacks");
    assert!(stacks.keys().all(|stack| stack.starts_with("python3.14 [10")), "{stacks:?}");
    assert!(
        stacks.keys().any(|stack| stack.starts_with("python3.14 [101];[yields]")),
        "{stacks:?}"
    );
    assert_eq!(stacks.values().sum::<u64>(), summary.totals.wait().0);
}

/// Each process's thread seems to have what the other process's thread waits for, by its address alone:
/// that is no deadlock.
#[test]
fn addresses_of_two_processes_make_no_deadlock() {
    let held = |thread| HeldRecord {
        thread: ThreadIndex(thread),
        object: Address(0x5000),
        lock: Address(0x5000),
        how: HeldHow::With,
        depth: 1,
    };
    let two = summary(&[held(0), held(1)], WAIT_CLIPPED_END);
    // In each process a thread that waits for a lock that it has itself.
    let links: Vec<_> = two.graph.deadlocks.iter().map(|one| one.links.len()).collect();
    assert!(links.iter().all(|&n| n == 1), "{:?}", two.graph.deadlocks);
}

#[test]
fn a_trace_of_one_process_has_it_too() {
    let mut writer = TraceWriter::new(Vec::new()).expect("begins");
    let meta = Meta { target: process(0, 7, None).target, ..Meta::default() };
    writer.meta(&meta).expect("written");
    let bytes = writer.finish(&End::default()).expect("closed");
    let summary = summarize(TraceReader::from_read(&bytes[..]).expect("a trace")).expect("read");
    assert!(!summary.several());
    assert_eq!(summary.processes.len(), 1);
    assert_eq!(summary.processes[0].record.target.pid, Pid(7));
    assert!(!report(&summary, View::default()).contains("Processes"));
}
