//! The analyses: sums that must agree, whatever the trace holds.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::{Content, sample};
use tracer::analyze::{Fold, OtherSide, Side, SiteSums, Summary, Sums, Want, sites, summarize};
use tracer::render::folded::{self, Picture, Weight};
use tracer::render::text::{By, View};
use tracer::render::{flamegraph, json, text};
use tracer::trace::TraceReader;
use tracer::trace::records::{Class, ShapeSums, SideStack, SpinSums, Wait};
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
    let rest = sum(summary.below.values().chain(summary.lost.values()));
    assert_eq!(locks.wait() + rest.wait(), totals.wait());
    assert_eq!(locks.waits + rest.waits, totals.waits);
    let events: Ns = content.waits.iter().map(Wait::total).sum();
    let yielded: Ns = content.totals.spins.iter().map(|spin| spin.yielded).sum();
    assert_eq!(locks.wait(), events + yielded);

    let threads = sum(summary.threads.iter().map(|thread| &thread.sums));
    assert_eq!(threads.wait(), events);
    let contention: Ns = summary.threads.iter().map(|thread| thread.contention).sum();
    let by_lock: Ns =
        summary.locks_of(Class::Contention).map(|lock| lock.sums.blocked + lock.sums.runq).sum();
    assert_eq!(contention, by_lock);

    let met = content.waits.iter().filter(|wait| OtherSide::of(wait, false).thread.is_some());
    assert_eq!(sum(summary.pairs.iter().map(|pair| &pair.sums)).wait(), met.map(Wait::total).sum());
    for lock in &summary.locks {
        assert_eq!(Sums { spin: lock.sums.spin, ..sum_of(&lock.waiters) }, lock.sums);
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
    assert_eq!(c.waits(), c.events + c.below + c.lost_waits);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_always_agree(
        waits in vec(any_wait(), 0..300),
        below in vec((0u32..12, 0u64..1_000, 0u64..100_000), 0..8),
        spins in vec((0u32..12, 0u64..1_000, 0u64..100_000), 0..8),
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

/// As [`summary`], on one thread and wait by wait.
fn folded_one_by_one(content: &Content) -> Summary {
    let mut fold = Fold::new(Want::default());
    let bytes = content.write(usize::MAX);
    let reader = TraceReader::from_read(bytes.as_slice()).unwrap();
    let trace = reader.read(|wait| fold.add(wait)).unwrap();
    fold.finish(trace)
}

#[test]
fn all_cpus_come_to_the_same_as_one_by_one() {
    let content = sample();
    let whole = folded_one_by_one(&content);
    for flush in [1, 7, 100, usize::MAX] {
        let bytes = content.write(flush);
        let parts = summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap();
        assert!(parts == whole, "flushed after every {flush} waits");
    }
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
        flush in 1usize..1_000,
        cut in any::<Option<u16>>(),
    ) {
        waits.sort_by_key(|wait| wait.end);
        let mut content = Content { waits, ..sample() };
        content.totals.events = content.waits.len() as u64;
        let mut bytes = content.write(flush);
        if let Some(cut) = cut {
            // Damaged there, or cut off: the condition must be the same too.
            let at = 16 + usize::from(cut) % (bytes.len() - 16);
            bytes[at] ^= 0x40;
        }
        let mut fold = Fold::new(Want::default());
        let reader = TraceReader::from_read(bytes.as_slice()).unwrap();
        let trace = reader.read(|wait| fold.add(wait)).unwrap();
        let whole = fold.finish(trace);
        let parts = summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap();
        prop_assert!(parts == whole);
    }
}
