//! The analyses: sums that must agree, whatever the trace holds.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::{Content, sample};
use tracer::analyze::{
    Fold, OtherSide, Quantile, Side, SiteSums, Summary, Sums, Want, sites, summarize,
    summarize_small,
};
use tracer::render::answer::answer;
use tracer::render::deadlocks::deadlocks;
use tracer::render::folded::{self, Picture, Weight};
use tracer::render::text::{By, View};
use tracer::render::{flamegraph, json, text};
use tracer::trace::TraceReader;
use tracer::trace::records::{
    BelowSums, Class, Kind, LockRecord, ShapeSums, ShortWaits, SideStack, SpinSums, Wait, YieldRun,
};
use tracer::units::{LockIndex, Monotonic, Ns, StackIndex, ThreadIndex};

const SIDES: [Side; 3] = [Side::Waiter, Side::Holder, Side::Both];

fn picture(weight: Weight, idle: bool) -> Picture {
    Picture { weight, idle, ..Picture::default() }
}

fn summary(content: &Content) -> Summary {
    let bytes = content.write(100);
    summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap()
}

fn sum<'a>(sums: impl IntoIterator<Item = &'a Sums>) -> Sums {
    sums.into_iter().fold(Sums::default(), |mut sum, part| {
        sum += *part;
        sum
    })
}

fn assert_sums_agree(content: &Content, summary: &Summary) {
    let totals = summary.totals;
    assert_eq!(sum(summary.by_class.values()), totals);
    assert_eq!(sum(summary.by_kind.values()), totals);
    assert_eq!(totals.wait(), totals.blocked + totals.runq + totals.yielded);

    let locks = sum(summary.locks.iter().map(|lock| &lock.sums));
    let rest = summary.below.values().chain(summary.lost.values());
    let rest = sum(rest.chain(summary.limited.values()));
    assert_eq!(locks.wait() + rest.wait(), totals.wait());
    assert_eq!(locks.waits + rest.waits, totals.waits);
    let short = |waits: &ShortWaits| waits.blocked + waits.runq;
    let recorded: Ns = content.waits.iter().map(Wait::total).sum();
    let events = recorded + content.short.iter().map(short).sum();
    let yielded: Ns = content.totals.spins.iter().map(|spin| spin.yielded).sum();
    let runs: Ns = content.yields.iter().map(|run| run.yielded).sum();
    assert_eq!(locks.wait(), events + yielded + runs);

    let threads = sum(summary.threads.iter().map(|thread| &thread.sums));
    assert_eq!(threads.wait(), events + runs);
    let contention: Ns = summary.threads.iter().map(|thread| thread.contention).sum();
    let by_lock: Ns =
        summary.locks_of(Class::Contention).map(|lock| lock.sums.blocked + lock.sums.runq).sum();
    let contended = |run: &&YieldRun| {
        summary.locks_of(Class::Contention).any(|lock| lock.lock.index == run.lock)
    };
    let runs: Ns = content.yields.iter().filter(contended).map(|run| run.yielded).sum();
    assert_eq!(contention, by_lock + runs);

    let met = content.waits.iter().filter(|wait| OtherSide::of(wait, false).thread.is_some());
    let met: Ns = met.map(Wait::total).sum();
    let met_short = content.short.iter().filter(|waits| waits.waker.is_some());
    let met = met + met_short.map(short).sum();
    assert_eq!(sum(summary.pairs.iter().map(|pair| &pair.sums)).wait(), met);
    let awake: Ns = content.waits.iter().map(Wait::awake).sum();
    assert_eq!(totals.awake, awake);
    for lock in &summary.locks {
        let Sums { spin, awake, .. } = lock.sums; // which are not told by place
        assert_eq!(Sums { spin, awake, ..sum_of(&lock.waiters) }, lock.sums);
        let held = sum_of(&lock.holders);
        assert_eq!(held.wait() + lock.sums.yielded, lock.sums.wait());
        assert_eq!(held.waits, lock.sums.waits);
    }
    assert_eq!(sum(summary.waiting.values()).wait(), events);
    assert_eq!(sum(summary.holding.values()).wait(), events);
    assert_eq!(sum(summary.links.values()).wait(), events);
    for side in SIDES {
        let rows = sites::rows(summary, side);
        let whole = if side == Side::Holder { events } else { locks.wait() };
        assert_eq!(sum(rows.iter().map(|row| &row.sums)).wait(), whole, "{side:?}");
    }

    let c = &summary.completeness;
    assert_eq!(c.waits(), c.events + c.below + c.limited + c.lost_waits);
    assert_eq!(c.placed, content.short.iter().map(|waits| waits.waits).sum::<u64>());
    assert_eq!(c.waits(), totals.waits);
    assert_eq!(c.unclassified, summary.class(Class::Unclassified));

    for side in SIDES {
        let total = |weight, idle| {
            let stacks = folded::stacks(summary, Picture { weight, side, idle }).unwrap();
            stacks.values().sum::<u64>()
        };
        assert_eq!(total(Weight::Wait, true), totals.wait().0, "{side:?}");
        let idle = summary.class(Class::Idle).wait();
        assert_eq!(total(Weight::Wait, false), totals.wait().0 - idle.0, "{side:?}");
        assert_eq!(total(Weight::Count, true), totals.waits, "{side:?}");
    }
}

fn sum_of(sites: &[SiteSums]) -> Sums {
    sum(sites.iter().map(|one| &one.sums))
}

#[test]
fn sums_of_the_sample_agree() {
    let content = sample();
    let summary = summary(&content);
    assert_sums_agree(&content, &summary);
    assert_eq!(summary.duration, Ns(10_000_000_000));
    assert_eq!(summary.completeness.lost["ring_full_wait"], 3);
    assert_eq!(summary.completeness.futex_switches, 1_006);
    assert_eq!(summary.locks[0].lock.name, "dict");
    assert_eq!(summary.locks[0].sums.spins, 80_000);
    assert_eq!(summary.totals.spin, None);
    let classes: Vec<_> = summary.locks.iter().map(|lock| lock.lock.class.name()).collect();
    let expected =
        ["contention", "contention", "contention", "contention", "pause", "unclassified", "idle"];
    assert_eq!(classes, expected);
}

#[test]
fn short_waits_have_a_place_and_bound_quantiles() {
    let mut content = sample();
    let (dict, recorded) = {
        let before = summary(&content);
        (before.locks[0].lock.index, before.locks[0].durations.count())
    };
    let waiter = content.waits.iter().find(|wait| wait.lock == dict).unwrap().waiter_stack;
    let short = ShortWaits {
        thread: ThreadIndex(1),
        lock: dict,
        start: Monotonic(1_000_000_000_001),
        end: Monotonic(1_000_000_900_000),
        waits: 2 * recorded,
        blocked: Ns(4_000 * recorded),
        runq: Ns(2_000 * recorded),
        max: Ns(9_999),
        waker: Some(ThreadIndex(2)),
        waiter_stack: waiter,
        waker_stack: SideStack::default(),
    };
    content.short = vec![short];
    content.totals.short_waits = short.waits;
    let after = summary(&content);
    assert_sums_agree(&content, &after);
    let lock = after.locks.iter().find(|lock| lock.lock.index == dict).unwrap();
    assert_eq!((lock.short, lock.sums.waits), (2 * recorded, 3 * recorded));
    assert_eq!(lock.quantile(0.5), Some(Quantile::BelowThreshold));
    assert_eq!(lock.quantile(0.99), lock.durations.at(0.97).map(Quantile::Known));
    let report = json::report(&after, None);
    let shown = report["locks"].as_array().unwrap().iter().find(|one| one["index"] == dict.0);
    let shown = shown.unwrap();
    assert_eq!((&shown["p50_ns"], &shown["p50_is_bound"]), (&10_000.into(), &true.into()));
    assert_eq!(report["completeness"]["below_by_lock"], short.waits);

    // A file that lost some of them says so.
    content.totals.short_waits += 5;
    let cut = summary(&content);
    assert_eq!(cut.completeness.lost["short_waits_damaged"], 5);
    assert_eq!(cut.completeness.waits(), after.completeness.waits() + 5);
}

#[test]
fn quantiles_keep_their_error_bound() {
    let content = sample();
    let summary = summary(&content);
    let dict = &summary.locks[0];
    let waits = content.waits.iter().filter(|wait| wait.lock == dict.lock.index);
    let mut exact: Vec<u64> = waits.map(|wait| wait.total().0).collect();
    exact.sort_unstable();
    for (q, rank) in [(0.5, exact.len().div_ceil(2)), (0.99, (exact.len() * 99).div_ceil(100))] {
        #[expect(clippy::cast_precision_loss, reason = "compared with an error bound")]
        let ratio = dict.durations.at(q).unwrap().0 as f64 / exact[rank - 1] as f64;
        assert!((ratio - 1.0).abs() <= tracer::analyze::Quantiles::ERROR, "{q}: {ratio}");
    }
    assert_eq!(dict.sums.max.0, exact[exact.len() - 1]);
}

#[test]
fn measured_spinning_is_null_nowhere_and_unmeasured_everywhere() {
    let mut content = sample();
    let report = json::report(&summary(&content), None);
    assert!(report["totals"]["spin_ns"].is_null());
    assert!(report["locks"].as_array().unwrap().iter().all(|lock| lock["spin_ns"].is_null()));
    content.totals.spins[0].spin = Some(Ns(5));
    let summary = summary(&content);
    let report = json::report(&summary, None);
    assert_eq!(report["totals"]["spin_ns"], 5);
    assert_eq!(report["locks"][0]["spin_ns"], 5);
    assert_eq!(report["locks"][1]["spin_ns"], 0);
    assert_eq!(report["totals"]["by_kind"]["gil"]["spin_ns"], 0);
    let stacks = folded::stacks(&summary, picture(Weight::Spin, false)).unwrap();
    assert_eq!(
        stacks.into_iter().collect::<Vec<_>>(),
        [("[yields];object;dict 0x7f0000001000".to_owned(), 5)]
    );
}

#[test]
fn threads_with_one_id_stay_apart() {
    let mut content = sample();
    content.threads[2].tid = content.threads[1].tid;
    let summary = summary(&content);
    assert_eq!(summary.threads.len(), 4);
    assert_sums_agree(&content, &summary);
}

/// T2: on a CPU, waiting, and the rest are the thread's life, which is within the recording.
#[test]
fn a_thread_lives_from_its_birth_to_its_end() {
    let mut content = sample();
    let start = content.meta.start;
    let whole = summary(&content).duration;
    content.threads[0].born = Some(Monotonic(start.0 - 5));
    content.threads[1].born = Some(Monotonic(start.0 + 1_000));
    content.threads[1].ended = Some(Monotonic(start.0 + 50_000_001_000));
    let before = summary(&content);
    let at = |summary: &Summary, n: u32| {
        summary.threads.iter().find(|thread| thread.index.0 == n).unwrap().clone()
    };
    assert_eq!(at(&before, 0).life, whole);
    assert_eq!(at(&before, 1).life, Ns(50_000_000_000).min(Ns(whole.0 - 1_000)));
    // More time on the CPU is less of the rest.
    content.threads[1].oncpu += Ns(300);
    let after = summary(&content);
    assert!(at(&after, 1).off().0 > 0);
    assert_eq!(at(&before, 1).off(), at(&after, 1).off() + Ns(300));
    for thread in &after.threads {
        let sum = thread.oncpu + thread.sums.wait() + thread.off();
        assert!(sum >= thread.life, "{thread:?}");
    }
}

#[test]
fn a_cut_trace_lasts_until_the_last_moment_seen() {
    let content = sample();
    let bytes = content.write(100);
    let summary = summarize(TraceReader::from_read(&bytes[..bytes.len() / 2]).unwrap()).unwrap();
    let last = content.waits[usize::try_from(summary.completeness.events).unwrap() - 1].end;
    assert_eq!(summary.duration, last.since(content.meta.start));
    assert!(!summary.completeness.whole());
    assert!(text::report(&summary, View::default()).contains("CUT: "));
}

#[test]
fn locks_and_threads_without_a_record_keep_their_time() {
    let mut content = sample();
    content.locks.clear();
    content.threads.clear();
    let summary = summary(&content);
    assert_sums_agree(&content, &summary);
    assert_eq!(summary.class(Class::Contention).waits, 403);
    assert!(text::report(&summary, View::default()).contains("[lock lost]"));
}

#[test]
fn an_empty_trace_is_reported_and_drawn() {
    let summary = summary(&Content::default());
    assert!(text::report(&summary, View::default()).contains("No waits were recorded"));
    let stacks = folded::stacks(&summary, picture(Weight::Wait, false)).unwrap();
    assert_eq!(folded::text(&stacks), "");
    let svg = flamegraph::svg(&stacks, &summary, picture(Weight::Wait, false)).unwrap();
    assert!(String::from_utf8(svg).unwrap().ends_with("</svg>\n"));
}

#[test]
fn weights_that_are_not_there_are_refused() {
    let summary = summary(&sample());
    let error = |weight| folded::stacks(&summary, picture(weight, false)).unwrap_err().to_string();
    assert!(error(Weight::Energy).contains("no energy in this trace"));
    assert!(error(Weight::Spin).contains("--hooks syscall"));
}

fn any_wait() -> impl Strategy<Value = Wait> {
    let thread = || any::<Option<u8>>();
    // Two stacks more than there are, and every reason for none.
    let sides = (0u64..19, 0u64..19, 0u64..19, 0u32..64);
    (0u64..10_000, 0u64..10_000, 0u32..5, 0u32..9, thread(), thread(), sides).prop_map(
        |(blocked, runq, thread, lock, waker, holder, sides)| Wait {
            thread: ThreadIndex(thread),
            lock: LockIndex(lock),
            start: Monotonic(1_000_000_000_001),
            end: Monotonic(1_000_000_100_000),
            blocked: Ns(blocked),
            runq: Ns(runq),
            episodes: 1,
            flags: sides.3,
            waker: waker.map(|n| ThreadIndex(u32::from(n % 6))),
            waiter_stack: SideStack::from_u64(sides.0).unwrap(),
            waker_stack: SideStack::from_u64(sides.1).unwrap(),
            holder: holder.map(|n| ThreadIndex(u32::from(n % 6))),
            holder_stack: SideStack::from_u64(sides.2).unwrap(),
        },
    )
}

fn any_short_waits() -> impl Strategy<Value = ShortWaits> {
    let who = (0u32..5, 0u32..9, proptest::option::of(0u32..6));
    (who, 1u64..1_000, 0u64..1_000_000, 0u64..19, 0u64..19).prop_map(
        |((thread, lock, waker), waits, ns, waiter, wakers)| ShortWaits {
            thread: ThreadIndex(thread),
            lock: LockIndex(lock),
            start: Monotonic(1_000_000_000_001),
            end: Monotonic(1_000_000_000_001 + ns),
            waits,
            blocked: Ns(ns),
            runq: Ns(ns / 3),
            max: Ns(ns.min(9_999)),
            waker: waker.map(ThreadIndex),
            waiter_stack: SideStack::from_u64(waiter).unwrap(),
            waker_stack: SideStack::from_u64(wakers).unwrap(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_always_agree(
        waits in vec(any_wait(), 0..300),
        below in vec((0u32..12, 0u64..1_000, 0u64..100_000), 0..8),
        spins in vec((0u32..12, 0u64..1_000, 0u64..100_000), 0..8),
        known in vec((0u32..12, 0u32..12, 0u64..2_000, 0u64..100_000), 0..8),
        runs in vec((0u32..5, 0u32..9, 0u64..100_000, 0u64..19), 0..20),
        short in vec(any_short_waits(), 0..20),
        limited in vec((0u32..12, 0u64..1_000, 0u64..100_000), 0..3),
    ) {
        let mut content = sample();
        content.totals.events = waits.len() as u64;
        content.waits = waits;
        content.totals.below = below
            .into_iter()
            .map(|(shape, waits, ns)| {
                (shape, ShapeSums { waits, blocked: Ns(ns), runq: Ns(ns / 2), max: Ns(ns) })
            })
            .collect();
        content.totals.spins = spins
            .into_iter()
            .map(|(lock, yields, ns)| SpinSums {
                stack: SideStack::default(),
                lock: LockIndex(lock),
                yields,
                yielded: Ns(ns),
                spin: None,
            })
            .collect();
        // A file may say anything, also that a part is more than the whole.
        content.totals.below_locks = known
            .into_iter()
            .map(|(lock, shape, waits, ns)| BelowSums {
                lock: LockIndex(lock),
                shape,
                sums: ShapeSums { waits, blocked: Ns(ns), runq: Ns(ns), max: Ns(ns) },
            })
            .collect();
        content.yields = runs
            .into_iter()
            .map(|(thread, lock, ns, stack)| YieldRun {
                thread: ThreadIndex(thread),
                lock: LockIndex(lock),
                start: Monotonic(1_000_000_000_001),
                end: Monotonic(1_000_000_100_000),
                yielded: Ns(ns),
                yields: 1 + ns / 1_000, // a run is of one yield at least
                stack: SideStack::from_u64(stack).unwrap(),
            })
            .collect();
        content.totals.yield_runs = content.yields.len() as u64;
        content.totals.short_waits = short.iter().map(|waits| waits.waits).sum();
        content.short = short;
        let sums = |(shape, waits, ns)| {
            (shape, ShapeSums { waits, blocked: Ns(ns), runq: Ns(ns / 2), max: Ns(ns) })
        };
        content.totals.limited = limited.into_iter().map(sums).collect();
        assert_sums_agree(&content, &summary(&content));
    }

    #[test]
    fn any_names_can_be_drawn(
        names in vec(".{0,20}", 7),
        threads in vec("(# |)[a-z ;\n\u{1b}]{0,5}", 4),
        functions in vec("(# |)[a-zö ;\n\u{1b}]{0,5}", 12),
        files in vec("[a-zö/;\n\u{1b}]{0,9}", 12),
    ) {
        let mut content = sample();
        for ((frame, function), file) in content.frames.iter_mut().zip(functions).zip(files) {
            (frame.function, frame.file) = (function, file);
        }
        let depths: Vec<_> = content.stacks.iter().map(|stack| stack.frames.len()).collect();
        for (lock, name) in content.locks.iter_mut().zip(names) {
            lock.name = name;
        }
        for (thread, name) in content.threads.iter_mut().zip(threads) {
            thread.name = name;
        }
        let summary = summary(&content);
        let deepest = depths.into_iter().max().unwrap_or_default() + 1;
        for (side, least, most) in [
            (Side::Waiter, 3, 3 + deepest),
            (Side::Holder, 3, 3 + deepest),
            (Side::Both, 3, 5 + 2 * deepest),
        ] {
            let picture = Picture { weight: Weight::Wait, side, idle: true };
            let stacks = folded::stacks(&summary, picture).unwrap();
            for line in folded::text(&stacks).lines() {
                let frames = line.split(';').count();
                prop_assert!((least..=most).contains(&frames), "{}", line);
                prop_assert!(!line.starts_with('#') && !line.chars().any(char::is_control));
                prop_assert!(line.split(';').all(|frame| !frame.is_empty()), "{}", line);
            }
            let svg = flamegraph::svg(&stacks, &summary, picture).unwrap();
            prop_assert!(String::from_utf8(svg).unwrap().contains("total_samples"));
        }
        for by in [By::Lock, By::Site, By::Pair] {
            let view = View { by: Some(by), width: Some(60), ..View::default() };
            let text = text::report(&summary, view);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        }
        let _ = json::report(&summary, None);
    }
}

#[test]
fn times_near_the_limit_saturate() {
    let mut content = sample();
    for wait in &mut content.waits {
        wait.blocked = Ns(u64::MAX);
        wait.runq = Ns(u64::MAX);
    }
    let summary = summary(&content);
    let stacks = folded::stacks(&summary, picture(Weight::Wait, true)).unwrap();
    let svg = flamegraph::svg(&stacks, &summary, picture(Weight::Wait, true)).unwrap();
    assert!(!svg.is_empty());
    let _ = (text::report(&summary, View::default()), json::report(&summary, None));
}

#[test]
fn short_waits_are_of_the_class_of_their_locks() {
    let mut content = sample();
    let parked = tracer_common::Shape::Parked as u32;
    let whole = content.totals.below[&parked];
    let before = summary(&content);
    let lock = content.locks.iter().find(|lock| lock.class == Class::Contention).unwrap().clone();
    content.totals.below_locks = vec![BelowSums {
        lock: lock.index,
        shape: parked,
        sums: ShapeSums { waits: whole.waits - 1, ..whole },
    }];
    let after = summary(&content);
    assert_eq!(after.totals.wait(), before.totals.wait());
    let unclassified = after.below[&(Kind::Unclassified, Class::Unclassified)];
    assert_eq!((unclassified.waits, unclassified.wait()), (1, Ns(0)));
    assert_eq!(
        after.below[&(lock.kind, lock.class)].waits
            - before.below.get(&(lock.kind, lock.class)).map_or(0, |sums| sums.waits),
        whole.waits - 1
    );
}

#[test]
fn waits_that_are_lost_or_beyond_the_limit_are_of_the_class_of_their_locks() {
    let mut content = sample();
    let parked = tracer_common::Shape::Parked as u32;
    let lock = content.locks.iter().find(|lock| lock.class == Class::Contention).unwrap().clone();
    let sums = |waits| ShapeSums { waits, blocked: Ns(waits * 1_000), ..ShapeSums::default() };
    let of_lock = |waits| vec![BelowSums { lock: lock.index, shape: parked, sums: sums(waits) }];
    content.totals.limited.insert(parked, sums(50));
    content.totals.limited_locks = of_lock(40);
    content.totals.lost.insert(parked, sums(30));
    content.totals.lost_locks = of_lock(29);
    let summary = summary(&content);
    assert_eq!((summary.completeness.limited, summary.completeness.lost_waits), (50, 33));
    let known = (lock.kind, lock.class);
    assert_eq!(summary.limited[&known].waits, 40);
    assert_eq!(summary.limited[&(Kind::Unclassified, Class::Unclassified)].waits, 10);
    let object = if known.0 == Kind::Object { 3 } else { 0 };
    assert_eq!(summary.lost[&known].waits, 29 + object);
    assert_eq!(summary.lost[&(Kind::Unclassified, Class::Unclassified)].waits, 1);
}

#[test]
fn lost_records_of_yields_are_counted() {
    let mut content = sample();
    content.totals.yield_runs = 3;
    content.yields = vec![YieldRun::default()];
    assert_eq!(summary(&content).completeness.lost["yield_runs_damaged"], 2);
}

/// As [`summary`], on one thread and one by one.
fn folded_one_by_one(bytes: &[u8]) -> Summary {
    let mut fold = Fold::new(Want::default());
    let reader = TraceReader::from_read(bytes).unwrap();
    let trace = reader.read_all(|visited| fold.visit(visited)).unwrap();
    fold.finish(trace)
}

/// The sample with more locks of pauses, each with waits, and with runs of yields for all locks.
fn with_pauses_and_yields() -> Content {
    let mut content = sample();
    let pause = content.locks.iter().find(|lock| lock.kind == Kind::StopTheWorld).unwrap().clone();
    for name in ["stop-the-world request", "stop-the-world (GC)", "stop-the-world request (GC)"] {
        let index = LockIndex(u32::try_from(content.locks.len()).unwrap());
        content.locks.push(LockRecord { index, name: name.to_owned(), ..pause.clone() });
    }
    for (n, wait) in (0u32..).zip(&mut content.waits) {
        if n % 5 == 1 {
            wait.lock = LockIndex([5, 7, 8, 9][(n / 5 % 4) as usize]);
        }
    }
    let run = |(n, wait): (u32, &Wait)| YieldRun {
        thread: wait.thread,
        lock: LockIndex(n % 9),
        start: wait.start,
        end: wait.end,
        yielded: wait.blocked,
        yields: 200,
        stack: wait.waiter_stack,
    };
    content.yields = (0..).zip(&content.waits).map(run).collect();
    content.totals.yield_runs = content.yields.len() as u64;
    content
}

#[test]
fn all_cpus_come_to_the_same_as_one_by_one() {
    for content in [sample(), with_pauses_and_yields()] {
        let whole = folded_one_by_one(&content.write(usize::MAX));
        assert_sums_agree(&content, &whole);
        for flush in [1, 7, 100, usize::MAX] {
            let bytes = content.write(flush);
            let parts = summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap();
            let alone = folded_one_by_one(&bytes);
            assert!(parts == alone, "flushed after every {flush} waits");
            assert!(parts == whole, "flushed after every {flush} waits");
        }
    }
}

#[test]
fn in_little_memory_the_same_is_said_in_words() {
    for mut content in [sample(), with_pauses_and_yields()] {
        let one = content.waits.clone();
        while content.waits.len() < 20_000 {
            content.waits.extend(&one);
        }
        content.totals.events = content.waits.len() as u64;
        let bytes = content.write(7_000);
        let reader = || TraceReader::from_read(bytes.as_slice()).unwrap();
        let whole = summarize(reader()).unwrap();
        let small = summarize_small(reader(), Want { pairs: false, ..Want::default() }).unwrap();
        assert_eq!(answer(&small), answer(&whole));
        assert_eq!(deadlocks(&small, None), deadlocks(&whole, None));
        assert!(small.locks == whole.locks && small.totals == whole.totals);
        assert!(small.pairs.is_empty() && small.graph.chains.is_empty());
    }
}

#[test]
fn pauses_and_yields_are_added_up_on_all_cpus() {
    let content = with_pauses_and_yields();
    let all = summary(&content);
    let requests = all.pauses.requesters.iter().map(|one| one.awaited).sum::<u64>();
    let waits = content.waits.iter().filter(|wait| [7, 9].contains(&wait.lock.0)).count();
    assert_eq!(requests, waits as u64);
    assert!(all.pauses.requesters.iter().any(|one| one.threads > 0));
    let runs = content.yields.iter().filter(|run| run.lock == LockIndex(4));
    let yielded: Ns = runs.map(|run| run.yielded).sum();
    let of_lock = |lock: &&tracer::analyze::LockSummary| lock.lock.index == LockIndex(4);
    assert_eq!(all.locks.iter().find(of_lock).unwrap().sums.yielded, yielded);
}

#[test]
fn a_lock_that_was_only_yielded_for_has_no_holds() {
    let mut content = sample();
    let lock = LockRecord { index: LockIndex(7), ..content.locks[0].clone() };
    content.locks.push(lock);
    let yields = YieldRun { lock: LockIndex(7), yields: 1, yielded: Ns(1), ..YieldRun::default() };
    content.yields.push(yields);
    let all = summary(&content);
    let of_lock = |lock: &&tracer::analyze::LockSummary| lock.lock.index == LockIndex(7);
    let lock = all.locks.iter().find(of_lock).unwrap();
    assert_eq!((lock.sums.spins, &lock.holds), (1, &None));
}

/// A wait with ids that come together often, and times that overlap.
fn any_busy_wait() -> impl Strategy<Value = Wait> {
    let ids = (0u32..12, 0u32..40, 0u32..6, 0u32..6, 0u32..13, 0u32..13);
    (ids, 0u64..1_000_000, 0u64..10_000, 0u64..100, any::<u8>()).prop_map(
        |((thread, lock, waiting, waking, waker, holder), start, blocked, runq, flags)| Wait {
            thread: ThreadIndex(thread),
            lock: LockIndex(lock),
            start: Monotonic(start),
            end: Monotonic(start + blocked + runq),
            blocked: Ns(blocked),
            runq: Ns(runq),
            episodes: 1,
            flags: u32::from(flags),
            waker: waker.checked_sub(1).map(ThreadIndex),
            waiter_stack: SideStack::Stack(StackIndex(waiting)),
            waker_stack: SideStack::Stack(StackIndex(waking)),
            holder: holder.checked_sub(1).map(ThreadIndex),
            holder_stack: SideStack::default(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_waits_come_to_the_same_on_all_cpus(
        mut waits in vec(any_busy_wait(), 0..3_000),
        yields in vec(any_busy_wait(), 0..1_000),
        flush in 1usize..1_000,
        cut in any::<Option<u16>>(),
    ) {
        waits.sort_by_key(|wait| wait.end);
        let run = |(n, wait): (u64, &Wait)| YieldRun {
            thread: wait.thread,
            lock: wait.lock,
            start: wait.start,
            end: wait.end,
            yielded: wait.blocked,
            yields: n,
            stack: wait.waiter_stack,
        };
        let yields: Vec<_> = (0..).zip(&yields).map(run).collect();
        let mut content = Content { waits, yields, ..with_pauses_and_yields() };
        content.totals.events = content.waits.len() as u64;
        content.totals.yield_runs = content.yields.len() as u64;
        let mut bytes = content.write(flush);
        if let Some(cut) = cut {
            // Damaged there, or cut off: the condition must be the same too.
            let at = 16 + usize::from(cut) % (bytes.len() - 16);
            bytes[at] ^= 0x40;
        }
        let whole = folded_one_by_one(&bytes);
        let parts = summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap();
        prop_assert!(parts == whole);
    }
}
