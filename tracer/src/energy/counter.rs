//! From successive readings to energy: wraps, resets, counters that stop or disappear.

use serde::{Deserialize, Serialize};

use super::domain::{Domain, Meter};
use super::units::Microjoules;
use crate::units::{Monotonic, Ns};

/// No package uses more than this, in watts: a counter that seems to has been reset.
pub const MOST_WATTS: f64 = 2_000.0;
/// A counter that has not moved for so long has stopped, …
pub const FROZEN_AFTER: Ns = Ns(1_000_000_000);
/// … but one that is brought up to date seldom, only after so many of its periods.
const FROZEN_AFTER_PERIODS: u64 = 5;

/// What a source says of one domain at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw {
    /// A counter's value in µJ, or a power in µW: as [`Domain::meter`] says.
    Value(u64),
    /// It can't be read any more.
    Gone,
    /// Nothing is read.
    Modelled,
}

/// How far a window's energy is known.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// From two readings.
    #[default]
    Measured,
    /// The counter began anew in this window: how much it had counted before is not known. None of
    /// the window's energy is in any sum.
    Reset,
    /// The counter stands still, for a second or longer, or it did and moved in this window: over which
    /// windows that energy was used is not known. None of it is in any sum.
    Frozen,
    /// The domain can't be read any more.
    Gone,
    /// Nothing is read: `model:WATTS`.
    Modelled,
}

/// Turns one domain's readings into energy by window.
#[derive(Clone, Debug)]
pub struct Tracker {
    meter: Meter,
    /// One step of a counter: it has as many values as its highest one, and 0.
    step: u64,
    last: Option<(Monotonic, u64)>,
    moved: Monotonic,
    frozen_after: Ns,
    frozen: bool,
    gone: bool,
}

impl Tracker {
    /// For a domain.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts from floating point saturate"
    )]
    pub fn new(domain: &Domain) -> Self {
        Self {
            meter: domain.meter,
            step: domain.quantum_uj as u64,
            last: None,
            moved: Monotonic(0),
            frozen_after: Ns(domain
                .period_ns
                .saturating_mul(FROZEN_AFTER_PERIODS)
                .max(FROZEN_AFTER.0)),
            frozen: false,
            gone: false,
        }
    }

    /// The energy since the last reading; zero for the first one.
    pub fn advance(&mut self, at: Monotonic, raw: Raw) -> (Microjoules, Known) {
        let zero = Microjoules(0);
        let value = match raw {
            Raw::Modelled => return (zero, Known::Modelled),
            // One that comes back is another: what was in between is not known.
            Raw::Gone => {
                self.gone = true;
                return (zero, Known::Gone);
            }
            Raw::Value(_) if self.gone => return (zero, Known::Gone),
            Raw::Value(value) => value,
        };
        let Some((before, last)) = self.last.replace((at, value)) else {
            self.moved = at;
            return (zero, Known::Measured);
        };
        let time = at.since(before);
        match self.meter {
            Meter::Model => (zero, Known::Modelled),
            Meter::Power => {
                // Trapezoid: µW × ns = fJ.
                let sum = (u128::from(last) + u128::from(value)) * u128::from(time.0);
                let uj = u64::try_from(sum / 2 / 1_000_000_000).unwrap_or(u64::MAX);
                (Microjoules(uj), Known::Measured)
            }
            Meter::Counter { range_uj } => {
                if value == last {
                    self.frozen |= at.since(self.moved) >= self.frozen_after;
                    return (zero, if self.frozen { Known::Frozen } else { Known::Measured });
                }
                if std::mem::take(&mut self.frozen) {
                    self.moved = at;
                    return (zero, Known::Frozen);
                }
                // Since it last moved, as one may stand for a while and catch up.
                let since_moved = at.since(self.moved);
                self.moved = at;
                let delta = if value > last {
                    Some(value - last)
                } else {
                    range_uj
                        .filter(|&range| range >= last)
                        .map(|range| (range - last).saturating_add(value).saturating_add(self.step))
                };
                match delta.map(Microjoules) {
                    Some(delta) if delta.power(since_moved).0 <= MOST_WATTS => {
                        (delta, Known::Measured)
                    }
                    _ => (zero, Known::Reset),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(range_uj: Option<u64>) -> Tracker {
        let domain =
            Domain { meter: Meter::Counter { range_uj }, quantum_uj: 61.0, ..Domain::default() };
        Tracker::new(&domain)
    }

    fn feed(tracker: &mut Tracker, readings: &[(u64, Raw)]) -> Vec<(u64, Known)> {
        let each =
            readings.iter().map(|&(ms, raw)| tracker.advance(Monotonic(ms * 1_000_000), raw));
        each.map(|(energy, known)| (energy.0, known)).collect()
    }

    #[test]
    fn a_wrap_costs_one_step_and_nothing_else() {
        let mut tracker = tracker(Some(1_000_000));
        let all = feed(&mut tracker, &[(0, Raw::Value(999_000)), (100, Raw::Value(500))]);
        assert_eq!(all, [(0, Known::Measured), (1_000 + 500 + 61, Known::Measured)]);
    }

    #[test]
    fn a_reset_is_not_taken_for_a_wrap() {
        // To have wrapped it would have used 262 kJ in 100 ms.
        let mut tracker = tracker(Some(262_143_328_850));
        let readings =
            [(0, Raw::Value(5_000_000)), (100, Raw::Value(1_000)), (200, Raw::Value(2_001_000))];
        let all = feed(&mut tracker, &readings);
        assert_eq!(all, [(0, Known::Measured), (0, Known::Reset), (2_000_000, Known::Measured)]);
        let mut endless = self::tracker(None);
        let all = feed(&mut endless, &[(0, Raw::Value(5_000)), (100, Raw::Value(10))]);
        assert_eq!(all[1], (0, Known::Reset));
    }

    #[test]
    fn a_counter_that_stops_is_said_to_and_one_that_is_gone_stays_gone() {
        let mut tracker = tracker(None);
        let mut readings = vec![(0, Raw::Value(0))];
        readings.extend((1..=12).map(|n| (n * 100, Raw::Value(1_000_000))));
        let all = feed(&mut tracker, &readings);
        assert_eq!(all[1], (1_000_000, Known::Measured));
        assert_eq!(all[10], (0, Known::Measured));
        assert_eq!(all[11], (0, Known::Frozen));
        let all = feed(&mut tracker, &[(1_300, Raw::Gone), (1_400, Raw::Value(9_000_000))]);
        assert_eq!(all, [(0, Known::Gone), (0, Known::Gone)]);
    }

    /// What it counted meanwhile is of no window that is known.
    #[test]
    fn what_a_counter_catches_up_after_it_stood_still_is_in_no_window() {
        let mut tracker = tracker(None);
        let value = |uj| Raw::Value(uj);
        let all = feed(
            &mut tracker,
            &[(0, value(0)), (100, value(1_000)), (1_100, value(1_000)), (1_200, value(9_000_000))],
        );
        assert_eq!(all[1..], [(1_000, Known::Measured), (0, Known::Frozen), (0, Known::Frozen)]);
        let all = feed(&mut tracker, &[(1_300, value(9_000_500)), (2_200, value(9_000_500))]);
        assert_eq!(all, [(500, Known::Measured), (0, Known::Measured)]);
    }

    /// One that is brought up to date every second stands still in between.
    #[test]
    fn a_slow_counter_is_given_five_periods() {
        let domain = Domain {
            meter: Meter::Counter { range_uj: None },
            period_ns: 1_000_000_000,
            ..Domain::default()
        };
        let mut tracker = Tracker::new(&domain);
        let readings: Vec<_> =
            (0..100).map(|n| (n * 100, Raw::Value(n / 10 * 1_000_000))).collect();
        let all = feed(&mut tracker, &readings);
        assert!(all.iter().all(|(_, known)| *known == Known::Measured), "{all:?}");
        assert_eq!(all.iter().map(|(energy, _)| energy).sum::<u64>(), 9_000_000);
        let all = feed(&mut tracker, &[(13_900, Raw::Value(9_000_000))]);
        assert_eq!(all, [(0, Known::Measured)]);
        let all = feed(&mut tracker, &[(14_000, Raw::Value(9_000_000))]);
        assert_eq!(all, [(0, Known::Frozen)]);
    }

    #[test]
    fn power_is_integrated() {
        let domain = Domain { meter: Meter::Power, ..Domain::default() };
        let mut tracker = Tracker::new(&domain);
        let all = feed(&mut tracker, &[(0, Raw::Value(1_000_000)), (1_000, Raw::Value(3_000_000))]);
        assert_eq!(all[1], (2_000_000, Known::Measured));
    }
}
