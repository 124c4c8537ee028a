//! A limit of so many a second (`--max-events-per-sec`), that lets a second's worth through at once, or
//! what there is room for: a bucket that fills as time goes by.
//!
//! What is kept is not how full the bucket is, but when it will be full again: then nothing has to be
//! added as time goes by, and neither division nor multiplication is needed to ask.

/// Times are kept in units of 1/64 ns: so much finer, a rate of a million a second is rounded by less
/// than 16 in a million. They go around after nine years.
const SHIFT: u32 = 6;
/// The bucket holds no more than what comes in so long.
const SECOND: u64 = 1_000_000_000 << SHIFT;

/// What is known of such a limit.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Rate {
    /// The latest time at which somebody asked, in those units.
    pub asked: u64,
    /// When the bucket will be full if nobody asks any more, in those units.
    pub full_at: u64,
}

/// What each costs, for [`Rate::allows`]; 0: there is no limit.
#[must_use]
pub const fn cost(per_second: u64) -> u64 {
    if per_second == 0 { 0 } else { SECOND.div_ceil(per_second) }
}

/// What the bucket holds, for [`Rate::allows`]: a second's worth, but no more than `at_once` (and one, if
/// that is none).
#[must_use]
pub const fn depth(per_second: u64, at_once: u64) -> u64 {
    let all = cost(per_second).saturating_mul(if at_once == 0 { 1 } else { at_once });
    if all < SECOND { all } else { SECOND }
}

impl Rate {
    /// Whether there is room for one more, that happened at `ns`; takes the room. What is told late
    /// counts for now.
    #[inline(always)]
    pub fn allows(&mut self, cost: u64, depth: u64, ns: u64) -> bool {
        let at = ns << SHIFT;
        let now = if ahead(at, self.asked) > 0 { at } else { self.asked };
        self.asked = now;
        let owed = ahead(self.full_at, now);
        if owed <= 0 {
            self.full_at = now.wrapping_add(cost);
            return true;
        }
        let room = owed < depth as i64;
        if room {
            self.full_at = self.full_at.wrapping_add(cost);
        }
        room
    }
}

/// How much later one time is than another: right also where the units have gone around.
#[inline(always)]
const fn ahead(one: u64, other: u64) -> i64 {
    one.wrapping_sub(other) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// More than any of these limits.
    const PLENTY: u64 = 1 << 40;

    /// How many of `n` pass that come `every` nanoseconds.
    fn passed(rate: &mut Rate, limit: u64, from: u64, n: u64, every: u64) -> u64 {
        let (cost, depth) = (cost(limit), depth(limit, PLENTY));
        (0..n).filter(|i| rate.allows(cost, depth, from + i * every)).count() as u64
    }

    #[test]
    fn a_burst_of_a_seconds_worth_passes_and_no_more() {
        for limit in [1, 3, 20, 999, 1_000, 1_001, 250_000] {
            let mut rate = Rate::default();
            let most = passed(&mut rate, limit, 5 * SECOND, 2 * limit, 0);
            assert_eq!(most, limit, "at once");
            assert_eq!(passed(&mut rate, limit, 15 * SECOND, 2 * limit, 0), limit, "full again");
            let half = passed(&mut rate, limit, 15 * SECOND + SECOND / 2, 2 * limit, 0);
            assert!(half.abs_diff(limit / 2) <= 1, "{half} of {limit} after half a second");
        }
    }

    #[test]
    fn on_average_it_is_the_limit_whatever_that_is() {
        for limit in [7, 1_234, 99_999, 250_000, 999_999, 3_000_000] {
            let mut rate = Rate::default();
            // Ten times as many as may pass, over some ten seconds: whole nanoseconds apart.
            let (n, every) = (limit * 100, SECOND / (limit * 10));
            let all = passed(&mut rate, limit, SECOND, n, every);
            // A full bucket, and what comes in.
            let came = u128::from(limit) * u128::from(n * every) / u128::from(SECOND);
            let expected = limit + came as u64;
            assert!(all <= expected + 3, "{all} of {limit} a second, not {expected}");
            assert!(all * 1_000 >= expected * 998, "{all} of {limit} a second, not {expected}");
        }
    }

    #[test]
    fn bursts_below_the_limit_all_pass() {
        let mut rate = Rate::default();
        let bursts = (0..100).map(|n| passed(&mut rate, 1_000, SECOND + n * SECOND / 10, 20, 0));
        assert_eq!(bursts.sum::<u64>(), 2_000, "20 every 100 ms");
    }

    /// What would not find room in the ring would be lost: less at once, and as many a second.
    #[test]
    fn no_more_pass_at_once_than_there_is_room_for() {
        let (limit, room) = (250_000, 40_000);
        let (cost, depth) = (cost(limit), depth(limit, room));
        let mut rate = Rate::default();
        let mut pass = |from: u64, n: u64, every: u64| {
            (0..n).filter(|i| rate.allows(cost, depth, from + i * every)).count() as u64
        };
        assert_eq!(pass(5 * SECOND, 2 * limit, 0), room);
        let all = pass(15 * SECOND, 4 * limit, SECOND / (2 * limit));
        assert!(all.abs_diff(2 * limit + room) <= 2 * limit / 1_000, "{all}");
        assert_eq!(super::depth(limit, 0), cost);
        assert_eq!(super::depth(10, PLENTY), 1_000_000_000 << SHIFT);
    }

    #[test]
    fn what_is_told_late_counts_for_now() {
        let mut rate = Rate::default();
        assert!(rate.allows(cost(10), depth(10, PLENTY), 100 * SECOND));
        assert!(rate.allows(cost(10), depth(10, PLENTY), SECOND), "there is room now");
        assert_eq!(rate.full_at - rate.asked, 2 * cost(10));
    }

    #[test]
    fn times_go_around() {
        let around = u64::MAX >> SHIFT;
        let mut rate = Rate::default();
        assert!(rate.allows(cost(2), depth(2, PLENTY), around - SECOND));
        // The first after the turn finds a full bucket, as nine years before.
        assert_eq!(passed(&mut rate, 2, SECOND, 5, 0), 2);
        assert_eq!(passed(&mut rate, 2, 3 * SECOND, 5, 0), 2);
    }
}
