//! Times on a grid: what is rounded stays consistent, is less than a unit off, and sums don't drift.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod support;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::sample;
use tracer::analyze::{Summary, summarize};
use tracer::render::text::View;
use tracer::render::{json, text};
use tracer::trace::records::{SideStack, Wait, YieldRun};
use tracer::trace::{TimeUnit, TraceReader};
use tracer::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// A wait of sane times: on the CPU for `gap` between its sleeps.
fn wait(start: u64, gap: u64, blocked: u64, runq: u64) -> Wait {
    Wait {
        thread: ThreadIndex(1),
        lock: LockIndex(2),
        start: Monotonic(start),
        end: Monotonic(start + gap + blocked + runq),
        blocked: Ns(blocked),
        runq: Ns(runq),
        episodes: 1,
        flags: 0,
        waker: None,
        waiter_stack: SideStack::default(),
        waker_stack: SideStack::default(),
        holder: None,
        holder_stack: SideStack::default(),
    }
}

/// The durations of a wait; time on the CPU between its sleeps last.
fn durations(wait: &Wait) -> [u64; 4] {
    let all = wait.end.0 - wait.start.0;
    [wait.blocked.0, wait.runq.0, wait.total().0, all - wait.total().0]
}

/// Often 0, often short, at times long.
fn any_duration() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0u64..100, 0u64..10_000_000, 0u64..1 << 40]
}

proptest! {
    #[test]
    fn a_rounded_wait_is_consistent_and_less_than_a_unit_off(
        start in 0u64..1 << 60,
        gap in any_duration(),
        blocked in any_duration(),
        runq in any_duration(),
        shift in 0u8..=20,
    ) {
        let unit = TimeUnit::from_shift(shift).unwrap();
        let length = unit.length().0;
        let exact = wait(start, gap, blocked, runq);
        let stored = unit.wait(&exact);
        // Points are rounded down, the waking too, and nothing is negative.
        let floor = |at: Monotonic| at.0 / length * length;
        prop_assert_eq!((stored.start.0, stored.end.0), (floor(exact.start), floor(exact.end)));
        prop_assert!(stored.start.0 + stored.total().0 <= stored.end.0);
        let woken = |wait: &Wait| Monotonic(wait.end.0 - wait.runq.0);
        prop_assert_eq!(woken(&stored).0, floor(woken(&exact)));
        for (stored, exact) in durations(&stored).into_iter().zip(durations(&exact)) {
            prop_assert!(stored.abs_diff(exact) < length, "{stored} for {exact}");
            prop_assert!(exact != 0 || stored == 0, "{stored} for nothing");
        }
        prop_assert_eq!(unit.wait(&stored), stored, "again");
        prop_assert_eq!(TimeUnit::EXACT.wait(&exact), exact);
    }

    #[test]
    fn a_rounded_run_of_yields_is_consistent_and_less_than_a_unit_off(
        start in 0u64..1 << 60,
        awake in any_duration(),
        yielded in any_duration(),
        shift in 0u8..=20,
    ) {
        let unit = TimeUnit::from_shift(shift).unwrap();
        let length = unit.length().0;
        let end = start + awake + yielded;
        let exact = YieldRun {
            start: Monotonic(start),
            end: Monotonic(end),
            yielded: Ns(yielded),
            yields: 3,
            ..YieldRun::default()
        };
        let stored = unit.yield_run(&exact);
        prop_assert_eq!((stored.start.0, stored.end.0), (start / length * length, end / length * length));
        prop_assert!(stored.yielded.0.abs_diff(yielded) < length);
        prop_assert!(stored.yielded <= stored.end.since(stored.start));
        prop_assert!(yielded != 0 || stored.yielded == Ns(0));
        prop_assert_eq!(unit.yield_run(&stored), stored);
    }
}

/// A unit takes the same from both ends of a duration in the mean: what is left of the sum is the
/// square root of the number. (Rounding each duration down would take 15.5 ns from each.)
#[test]
fn sums_of_many_waits_do_not_drift() {
    const WAITS: u32 = 200_000;
    let unit = TimeUnit::RECORDED;
    let mut random = SmallRng::seed_from_u64(7);
    let mut off = [0i64; 4];
    let mut at = 1_000_000_000;
    for n in 0..WAITS {
        // One wait in four has time on the CPU between its sleeps, one in eight no time in the run
        // queue; and some share a point with the one before.
        let gap = if n % 4 == 0 { random.random_range(0..5_000) } else { 0 };
        let runq = if n % 8 == 0 { 0 } else { random.random_range(0..50_000) };
        let exact = wait(at, gap, random.random_range(0..4_000_000), runq);
        let stored = unit.wait(&exact);
        for (off, (stored, exact)) in
            off.iter_mut().zip(durations(&stored).into_iter().zip(durations(&exact)))
        {
            *off += stored.cast_signed() - exact.cast_signed();
        }
        at = if n % 3 == 0 { exact.end.0 } else { at + random.random_range(0..100_000) };
    }
    // Each error is the difference of two points in a unit: its deviation is 32 / √6 ns. Eight times
    // that of the sum.
    let most = 8.0 * 32.0 / 6f64.sqrt() * f64::from(WAITS).sqrt();
    for off in off {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let off = off as f64;
        assert!(off.abs() < most, "{off} ns of {most}");
    }
}

fn summary(unit: TimeUnit) -> Summary {
    let mut content = sample();
    content.meta.options.time_unit = unit;
    let bytes = content.write(100);
    summarize(TraceReader::from_read(bytes.as_slice()).unwrap()).unwrap()
}

#[test]
fn reports_of_rounded_times_add_up_and_say_so() {
    let (exact, rounded) = (summary(TimeUnit::EXACT), summary(TimeUnit::RECORDED));
    let words = |summary: &Summary| text::report(summary, View::default());
    assert!(words(&rounded).contains("times: in units of 32 ns"));
    assert!(!words(&exact).contains("times: in units"));
    let unit = |summary: &Summary| json::report(summary, None)["recording"]["time_unit_ns"].clone();
    assert_eq!((unit(&exact), unit(&rounded)), (1.into(), 32.into()));
    // The parts sum up to the whole, and the same waits are counted.
    let of_locks =
        |summary: &Summary| -> u64 { summary.locks.iter().map(|l| l.sums.wait().0).sum() };
    assert_eq!(rounded.locks.len(), exact.locks.len());
    assert_eq!(rounded.totals.waits, exact.totals.waits);
    assert_eq!(rounded.completeness.waits(), exact.completeness.waits());
    let whole = rounded.totals;
    assert_eq!(whole.wait(), whole.blocked + whole.runq + whole.yielded);
    let off = of_locks(&rounded).abs_diff(of_locks(&exact));
    assert!(off < 32 * rounded.completeness.events, "{off} ns");
    for (one, other) in rounded.threads.iter().zip(&exact.threads) {
        let off = one.sums.wait().0.abs_diff(other.sums.wait().0);
        assert!(off < 32 * one.sums.waits.max(1), "{off} ns of {:?}", one.sums);
    }
}
