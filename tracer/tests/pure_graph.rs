//! The wait-for graph of constructed traces whose answers are known, and of any trace at all.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

#[path = "support/deadlock.rs"]
mod deadlock;
mod support;

use deadlock::{END, START, stuck, with};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use support::{Content, sample};
use tracer::analyze::{Summary, summarize};
use tracer::render::deadlocks::deadlocks;
use tracer::render::text::{By, View};
use tracer::render::{json, text};
use tracer::trace::TraceReader;
use tracer::trace::records::{HeldHow, HeldRecord, Kind, SideStack, Wait};
use tracer::units::{Address, LockIndex, Monotonic, Ns, StackIndex, ThreadIndex};
use tracer_common::event::{WAIT_CLIPPED_END, WAIT_HOLDER_MOVED};

fn summary(content: &Content) -> Summary {
    let bytes = content.write(100);
    summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap()
}

fn report(content: &Content) -> Value {
    json::report(&summary(content), None)
}

/// The deadlocks of a trace, each as its threads; and whether they are certain.
fn cycles(content: &Content) -> Vec<(bool, Vec<u32>)> {
    let summary = summary(content);
    let cycles = summary.graph.deadlocks.iter();
    cycles.map(|d| (d.certain, d.links.iter().map(|link| link.thread.0).collect())).collect()
}

#[test]
fn owners_in_a_circle_are_a_deadlock_with_both_stacks() {
    let mut content = stuck(Kind::Rlock, &[1, 0, 0]);
    assert_eq!(cycles(&content), [], "nobody says who has what");
    // 0 has lock 0 and waits for 1, 1 the other way round, 2 waits for lock 0 as well.
    for (wait, owner) in content.waits.iter_mut().zip([1, 0, 0]) {
        wait.holder = Some(ThreadIndex(owner));
    }
    assert_eq!(cycles(&content), [(true, vec![0, 1])]);
    let report = report(&content);
    let dead = &report["deadlocks"][0];
    assert_eq!((&dead["certain"], &dead["inferred"]), (&true.into(), &0.into()));
    assert_eq!((&dead["before_recording"], &dead["since_ns"]), (&true.into(), &0.into()));
    assert_eq!(dead["lasted_ns"], END - START);
    let threads = dead["threads"].as_array().unwrap();
    for (n, thread) in threads.iter().enumerate() {
        assert_eq!(thread["tid"], 4242 + n);
        assert_eq!(thread["name"], format!("worker-{n}"));
        let functions: Vec<_> =
            thread["stack"].as_array().unwrap().iter().map(|frame| &frame["function"]).collect();
        assert_eq!(functions, [&format!("inner_{n}"), &format!("outer_{n}")]);
        assert_eq!((&thread["source"], &thread["inferred"]), (&"owner".into(), &false.into()));
        assert_eq!(thread["held_by"]["index"], 1 - n);
        assert_eq!(thread["waits_for"]["kind"], "rlock");
    }
    assert_eq!(threads[0]["waits_for"]["address"], "0x7f0000001100");
    assert_eq!(dead["behind"][0]["name"], "worker-2");
    assert_eq!(dead["behind"].as_array().unwrap().len(), 1);

    let text = text::report(&summary(&content), View::default());
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("no {words:?} in\n{text}"));
    assert!(at("DEADLOCK: threads wait for each other") < at("No contention was recorded"));
    for words in [
        " worker-0 (4242) waits for _thread.rlock 0x7f0000001100, which worker-1 (4243) owns:\n   \
         inner_0 (app/dead.py:10)\n   outer_0 (app/dead.py:20)\n",
        " worker-1 (4243) waits for _thread.rlock 0x7f0000001000, which worker-0 (4242) owns:\n   \
         inner_1 (app/dead.py:11)\n   outer_1 (app/dead.py:21)\n",
        " 1 more thread behind them: worker-2 (4244)\n",
        "all through the recording (5.00 s) and since before it",
    ] {
        at(words);
    }
    assert!(!text.contains("SUSPECTED"));
}

#[test]
fn an_owner_that_moved_is_no_fact() {
    let mut content = stuck(Kind::Rlock, &[1, 0]);
    for (wait, owner) in content.waits.iter_mut().zip([1, 0]) {
        wait.holder = Some(ThreadIndex(owner));
        wait.flags |= WAIT_HOLDER_MOVED;
    }
    assert_eq!(cycles(&content), []);
}

#[test]
fn with_blocks_in_a_circle_are_suspected_and_marked() {
    let mut content = stuck(Kind::Lock, &[1, 0]);
    content.held = vec![with(0, 0, 1)];
    assert_eq!(cycles(&content), [], "half a circle");
    content.held.push(with(1, 1, 0));
    assert_eq!(cycles(&content), [(false, vec![0, 1])]);
    let report = report(&content);
    let dead = &report["deadlocks"][0];
    assert_eq!((&dead["certain"], &dead["inferred"]), (&false.into(), &2.into()));
    let threads = &dead["threads"];
    assert_eq!((&threads[0]["source"], &threads[0]["inferred"]), (&"with".into(), &true.into()));
    // Thread 1 has lock 1 in its leaf frame, thread 0 has lock 0 in its second one.
    assert_eq!(threads[0]["held_at"]["function"], "inner_1");
    assert_eq!(threads[1]["held_at"]["function"], "outer_0");
    let words = deadlocks(&summary(&content), None);
    assert!(words.starts_with("SUSPECTED DEADLOCK: threads seem to wait"), "{words}");
    assert!(words.contains("(inferred: it is inside a `with` block of it at outer_0 ("), "{words}");
    // One owner known does not make the other one known.
    content.waits[0].holder = Some(ThreadIndex(1));
    assert_eq!(cycles(&content), [(false, vec![0, 1])]);
    // An owner that runs is believed more than a frame.
    content.waits[0].holder = Some(ThreadIndex(7));
    assert_eq!(cycles(&content), []);
}

#[test]
fn who_is_about_to_enter_a_block_is_not_inside() {
    // Both wait for lock 0: on 3.14 its `__exit__` is on the stack before `__enter__` is called.
    let mut content = stuck(Kind::Lock, &[0, 0]);
    content.held = vec![with(0, 0, 0), with(1, 0, 0)];
    assert_eq!(cycles(&content), []);
    // In an outer frame it is inside: it waits for itself.
    content.held[0].depth = 1;
    assert_eq!(cycles(&content), [(false, vec![0])]);
    let words = deadlocks(&summary(&content), None);
    assert!(words.contains("a thread seems to wait for a lock that it has itself"), "{words}");
    assert!(words.contains("1 more thread behind them: worker-1"), "{words}");
}

#[test]
fn an_unknown_kind_of_evidence_is_not_believed() {
    let mut content = stuck(Kind::Lock, &[1, 0]);
    content.held = vec![with(0, 0, 0), HeldRecord { how: HeldHow::Other, ..with(1, 1, 0) }];
    assert_eq!(cycles(&content), []);
    content.held[1].how = HeldHow::Acquire;
    assert_eq!(cycles(&content), [(false, vec![0, 1])]);
    // Only the lock's inner address is known, as that of a semaphore.
    content.held[1].object = Address(0x1234);
    assert_eq!(cycles(&content), [(false, vec![0, 1])]);
    content.held[1].lock = Address(0);
    assert_eq!(cycles(&content), []);
}

#[test]
fn who_got_a_lock_while_another_waited_and_woke_nobody_may_have_it() {
    // 1 waits for lock 1 all the time; 0 gets it meanwhile, and then waits for lock 0.
    let mut content = stuck(Kind::Lock, &[0, 1]);
    content.held = vec![with(1, 0, 1)];
    let got = Wait {
        lock: LockIndex(1),
        start: Monotonic(START),
        end: Monotonic(START + 1_000),
        blocked: Ns(1_000),
        flags: 0,
        ..content.waits[0]
    };
    content.waits[0].start = Monotonic(START + 2_000);
    content.waits[0].blocked = Ns(END - START - 2_000);
    content.waits.insert(0, got);
    assert_eq!(cycles(&content), [(false, vec![0, 1])]);
    assert_eq!(report(&content)["deadlocks"][0]["threads"][1]["source"], "taken");
    assert_eq!(report(&content)["deadlocks"][0]["since_ns"], 2_000);
    // It woke somebody since.
    let mut let_go = content.clone();
    let woken = Wait {
        thread: ThreadIndex(5),
        waker: Some(ThreadIndex(0)),
        end: Monotonic(START + 1_500),
        ..got
    };
    let_go.waits.insert(1, woken);
    assert_eq!(cycles(&let_go), []);
    // It got it before the other one came: it may have given it back since.
    content.waits[2].start = Monotonic(START + 1_500);
    assert_eq!(cycles(&content), []);
}

#[test]
fn a_wait_that_ended_is_in_no_deadlock() {
    let mut content = stuck(Kind::Rlock, &[1, 0]);
    for (wait, owner) in content.waits.iter_mut().zip([1, 0]) {
        wait.holder = Some(ThreadIndex(owner));
    }
    content.waits[1].flags &= !WAIT_CLIPPED_END;
    assert_eq!(cycles(&content), []);
}

/// Thread 0 has lock 0 from 100 on and waits for the GIL from 200 to 500 in it, lets go at 800, and
/// then 1, and after it 2, get on, who waited since 150 and 300. All in µs.
fn convoy() -> Content {
    let mut content = stuck(Kind::Lock, &[0, 0, 0]);
    let us = |us: u64| Monotonic(START + us * 1_000);
    let base = content.waits[0];
    let wait = |thread: u32, lock: u32, from, to, waker: u32, at: u32| Wait {
        thread: ThreadIndex(thread),
        lock: LockIndex(lock),
        start: us(from),
        end: us(to),
        blocked: us(to).since(us(from)),
        flags: 0,
        waker: Some(ThreadIndex(waker)),
        waker_stack: SideStack::Stack(StackIndex(at)),
        waiter_stack: SideStack::Stack(StackIndex(thread)),
        ..base
    };
    let mut gil = content.locks[0].clone();
    (gil.index, gil.kind, gil.name) = (LockIndex(1), Kind::Gil, "GIL".to_owned());
    content.locks.push(gil);
    content.waits = vec![
        wait(0, 0, 0, 100, 2, 2),
        wait(0, 1, 200, 500, 9, 2),
        wait(1, 0, 150, 800, 0, 0),
        wait(2, 0, 300, 1_000, 1, 1),
    ];
    content
}

#[test]
fn holds_and_what_they_caused_are_as_they_were_made() {
    let report = report(&convoy());
    let locks = report["locks"].as_array().unwrap();
    let lock = locks.iter().find(|lock| lock["kind"] == "lock").unwrap();
    let holds = &lock["holds"];
    // 100 to 800 by thread 0, with 650 µs of waiting by 1 and 500 by 2; 800 to 1,000 by 1, with 200.
    for (key, us) in
        // Nobody waited from 100 to 150.
        [
            ("held_ns", 900),
            ("held_min_ns", 850),
            ("max_ns", 700),
            ("caused_ns", 1_350),
            ("max_caused_ns", 1_150),
        ]
    {
        assert_eq!(holds[key], us * 1_000, "{key}");
    }
    assert_eq!(holds["holds"], 2);
    let site = &holds["sites"][0];
    assert_eq!((&site["function"], &site["line"]), (&"inner_0".into(), &10.into()));
    assert_eq!(site["caused_ns"], 1_150_000);
    let thread = &holds["threads"][1];
    assert_eq!((&thread["name"], &thread["caused_ns"]), (&"worker-1".into(), &200_000.into()));
}

#[test]
fn chains_and_convoys_are_as_they_were_made() {
    let content = convoy();
    let report = report(&content);
    let chains = report["chains"].as_array().unwrap();
    assert_eq!(chains.len(), 1);
    // From 200 to 500 thread 1 waits for one that waits for the GIL, from 300 on thread 2 as well.
    let chain = &chains[0];
    assert_eq!((&chain["waits"], &chain["wait_ns"]), (&2.into(), &500_000.into()));
    let kinds: Vec<_> = chain["locks"].as_array().unwrap().iter().map(|l| &l["kind"]).collect();
    assert_eq!(kinds, ["lock", "gil"]);
    assert_eq!((&chain["certain"], &chain["paths"]), (&false.into(), &2.into()));
    let longest = &chain["longest"];
    assert_eq!((&longest["wait_ns"], &longest["end"]), (&300_000.into(), &"running".into()));
    let of = |n: usize| {
        let link = &longest["links"][n];
        (link["name"].as_str().unwrap(), link["function"].as_str().unwrap())
    };
    assert_eq!([of(0), of(1)], [("worker-1", "inner_1"), ("worker-0", "inner_0")]);
    assert_eq!(longest["links"][0]["source"], "waker");

    let convoys = report["convoys"].as_array().unwrap();
    assert_eq!(convoys.len(), 1);
    let convoy = &convoys[0];
    for (key, value) in [
        ("lock_index", 0),
        ("min_waiters", 2),
        ("queued_ns", 500_000),
        ("contended_ns", 950_000),
        ("queue_ns", 1_450_000),
        ("longest_queue", 2),
        ("convoys", 1),
        ("longest_ns", 500_000),
        ("longest_start_ns", 300_000),
    ] {
        assert_eq!(convoy[key], value, "{key}");
    }
    assert_eq!(report["deadlocks"], Value::Array(vec![]));

    let text = text::report(&summary(&content), View { by: Some(By::Graph), ..View::default() });
    for words in [
        "_thread.lock 0x7f0000001000 → GIL 0x7f0000001000",
        "  most of it: worker-1 (4243) at inner_1 (app/dead.py:11)",
        "  of worker-0 (4242) at inner_0 (app/dead.py:10)",
        "convoys (locks with a queue",
        "inner_0 (app/dead.py:10) (85 %)",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
}

#[test]
fn an_empty_graph_is_empty_lists() {
    let report = report(&Content::default());
    for key in ["chains", "convoys", "deadlocks"] {
        assert_eq!(report[key], Value::Array(vec![]), "{key}");
    }
    let text = text::report(&summary(&Content::default()), View::default());
    assert!(!text.contains("Wait-for graph") && !text.contains("DEADLOCK"));
}

#[test]
fn top_limits_what_is_listed() {
    // Five pairs, each of two threads with each other's lock.
    let mut content = stuck(Kind::Rlock, &[1, 0, 3, 2, 5, 4, 7, 6, 9, 8]);
    for wait in &mut content.waits {
        wait.holder = Some(ThreadIndex(wait.thread.0 ^ 1));
    }
    let summary = summary(&content);
    assert_eq!(summary.graph.deadlocks.len(), 5);
    assert_eq!(json::report(&summary, Some(2))["deadlocks"].as_array().unwrap().len(), 2);
    let words = deadlocks(&summary, Some(2));
    assert_eq!(words.matches("DEADLOCK: ").count(), 2);
    assert!(words.contains("3 more deadlocks, certain or suspected"), "{words}");
}

fn any_wait() -> impl Strategy<Value = Wait> {
    let times = (0u64..2_000, 0u64..500, 0u64..50, 0u64..20);
    let ids = (0u32..5, 0u32..4, proptest::option::of(0u32..5), proptest::option::of(0u32..5));
    (times, ids, 0u64..19, 0u32..4).prop_map(|(times, ids, stack, flags)| Wait {
        thread: ThreadIndex(ids.0),
        lock: LockIndex(ids.1),
        start: Monotonic(1_000 + times.0),
        end: Monotonic(1_000 + times.0 + times.1 + times.2 + times.3),
        blocked: Ns(times.1),
        runq: Ns(times.2),
        episodes: 1,
        flags,
        waker: ids.2.map(ThreadIndex),
        waiter_stack: SideStack::from_u64(stack).unwrap(),
        waker_stack: SideStack::from_u64(18 - stack).unwrap(),
        holder: ids.3.map(ThreadIndex),
        holder_stack: SideStack::default(),
    })
}

fn assert_sound(content: &Content, summary: &Summary) {
    let total = |of: &dyn Fn(&Wait) -> bool| -> u64 {
        content.waits.iter().filter(|wait| of(wait)).map(|wait| wait.total().0).sum()
    };
    for lock in &summary.locks {
        let waited = total(&|wait| wait.lock == lock.lock.index);
        let Some(holds) = &lock.holds else { continue };
        assert!(holds.sums.caused.0 <= waited, "{holds:?}");
        assert_eq!(holds.durations.count(), holds.sums.holds);
        assert!(holds.sums.sure <= holds.sums.held && holds.sums.sure <= holds.sums.caused);
        for part in [
            holds.sites.iter().map(|(_, sums)| *sums).collect::<Vec<_>>(),
            holds.threads.iter().map(|(_, sums)| *sums).collect(),
        ] {
            assert_eq!(part.iter().map(|sums| sums.caused).sum::<Ns>(), holds.sums.caused);
            assert_eq!(part.iter().map(|sums| sums.held).sum::<Ns>(), holds.sums.held);
            assert_eq!(part.iter().map(|sums| sums.holds).sum::<u64>(), holds.sums.holds);
        }
    }
    for (lock, queue) in &summary.graph.convoys {
        assert!(queue.waited.0 <= total(&|wait| wait.lock == *lock));
        assert!(queue.queued <= queue.contended && queue.contended <= queue.waited);
        assert!(queue.longest.queued <= queue.longest.length());
        assert!(queue.longest.length().0 <= 2 * queue.queued.0 && queue.longest_queue >= 2);
    }
    let chained: Ns = summary.graph.chains.iter().map(|chain| chain.time).sum();
    assert!(chained.0 <= total(&|_| true));
    for chain in &summary.graph.chains {
        assert!(chain.locks.len() >= 2 && chain.locks.len() == chain.longest.len());
        assert!(chain.longest_time <= chain.time && chain.paths > 0 && chain.waits > 0);
        assert!(chain.locks.windows(2).all(|pair| pair[0] != pair[1]), "{chain:?}");
    }
    for dead in &summary.graph.deadlocks {
        let next = dead.links.iter().cycle().skip(1);
        assert!(dead.links.iter().zip(next).all(|(link, next)| link.holder == next.thread));
        assert_eq!(dead.certain, dead.links.iter().all(|link| link.why.certain()));
    }
}

#[test]
fn the_sample_is_sound() {
    let content = sample();
    let summary = summary(&content);
    assert_sound(&content, &summary);
    assert!(!summary.graph.chains.is_empty());
    assert_eq!((summary.graph.late, summary.graph.unfollowed), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sums_are_never_more_than_the_waiting(
        waits in vec(any_wait(), 0..200),
        held in vec((0u32..6, 0u32..4, 0u32..3), 0..20),
    ) {
        let mut content = stuck(Kind::Lock, &[0, 1, 2, 3]);
        content.waits = waits;
        content.held = held.into_iter().map(|(thread, lock, depth)| with(thread, lock, depth)).collect();
        let summary = summary(&content);
        assert_sound(&content, &summary);
        let _ = (text::report(&summary, View::default()), json::report(&summary, None));
    }

    #[test]
    fn any_times_are_survived(
        waits in vec((any_wait(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..60),
    ) {
        let mut content = stuck(Kind::Lock, &[0, 1, 2, 3]);
        content.waits = waits
            .into_iter()
            .map(|(wait, start, end, blocked, runq)| Wait {
                start: Monotonic(start),
                end: Monotonic(end),
                blocked: Ns(blocked),
                runq: Ns(runq),
                ..wait
            })
            .collect();
        let summary = summary(&content);
        let view = View { by: Some(By::Graph), ..View::default() };
        let _ = (text::report(&summary, view), json::report(&summary, None));
    }
}
