//! How fine the times of waits and of runs of yields are stored: on a grid of a power of two of
//! nanoseconds.
//!
//! The last digits of a time are noise: reading the clock takes longer than a unit, and a
//! tracepoint fires some 100 ns away from what it stands for. They are also what a compressed trace
//! consists of, since nothing else in it is random (`docs/trace-format.md`).
//!
//! *Points* in time are rounded, all of them down, and durations are the differences of rounded
//! points. So everything still adds up exactly, what was in order stays in order, a duration is less
//! than one unit off, and as often too long as too short: whatever rounding down takes from a point
//! is in the mean the same at both ends. Rounding durations instead would break the sums; rounding
//! them down would make every sum too small.

use serde::{Deserialize, Serialize};

use super::planes::{unzigzag, zigzag};
use super::records::{Wait, YieldRun};
use crate::units::{Monotonic, Ns};

/// Units of more than `1 << 20` ns (a millisecond) are refused: nobody writes them.
const MAX_SHIFT: u8 = 20;

/// The unit that times are stored in, `1 << shift` ns. By default one nanosecond: exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub struct TimeUnit {
    shift: u8,
}

/// Not a unit that times can be stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its unit of time is not a power of two of nanoseconds up to 2^{MAX_SHIFT}")]
pub struct NoTimeUnit;

impl TimeUnit {
    /// One nanosecond: nothing is rounded.
    pub const EXACT: Self = Self { shift: 0 };
    /// What recordings use if nothing else is asked for: 32 ns, below the 39 ns that one reading
    /// of the clock took where this was measured.
    pub const RECORDED: Self = Self { shift: 5 };

    /// The unit of `1 << shift` ns.
    ///
    /// # Errors
    /// [`NoTimeUnit`] for a larger one than readers take.
    pub fn from_shift(shift: u8) -> Result<Self, NoTimeUnit> {
        if shift > MAX_SHIFT { Err(NoTimeUnit) } else { Ok(Self { shift }) }
    }

    /// As a block has it.
    pub(super) fn shift(self) -> u8 {
        self.shift
    }

    /// How long it is.
    #[must_use]
    pub fn length(self) -> Ns {
        Ns(1 << self.shift)
    }

    /// Times are as they were recorded.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.shift == 0
    }

    /// The last point of the grid that is not after `at`, in nanoseconds.
    fn floor(self, at: u64) -> u64 {
        at >> self.shift << self.shift
    }

    /// The wait as it is read from a block with this unit.
    ///
    /// Its points are its beginning, its end, its waking (`end − runq`) and the point from which it
    /// would have been blocked if all its time on the CPU between stitched episodes came first
    /// (`end − runq − blocked`; the beginning if there was no such time). A duration of 0 stays 0.
    #[must_use]
    pub fn wait(self, wait: &Wait) -> Wait {
        let woken = wait.end.0.wrapping_sub(wait.runq.0);
        let asleep = self.floor(woken.wrapping_sub(wait.blocked.0));
        let (woken, end) = (self.floor(woken), self.floor(wait.end.0));
        Wait {
            start: Monotonic(self.floor(wait.start.0)),
            end: Monotonic(end),
            blocked: Ns(woken.wrapping_sub(asleep)),
            runq: Ns(end.wrapping_sub(woken)),
            ..*wait
        }
    }

    /// The run of yields as it is read from a block with this unit: as if all its time on the CPU
    /// came first.
    #[must_use]
    pub fn yield_run(self, run: &YieldRun) -> YieldRun {
        let end = self.floor(run.end.0);
        let off = self.floor(run.end.0.wrapping_sub(run.yielded.0));
        YieldRun {
            start: Monotonic(self.floor(run.start.0)),
            end: Monotonic(end),
            yielded: Ns(end.wrapping_sub(off)),
            ..*run
        }
    }

    /// How many units there are in a time or a difference of points of the grid.
    pub(super) fn units(self, ns: u64) -> u64 {
        ns >> self.shift
    }

    /// The same of a difference that may be negative, zigzag.
    pub(super) fn signed_units(self, ns: u64) -> u64 {
        zigzag((ns.cast_signed() >> self.shift).cast_unsigned())
    }

    /// What so many units are. As everything here it wraps: a hostile block is nonsense, no panic.
    pub(super) fn ns(self, units: u64) -> u64 {
        units << self.shift
    }

    /// The same of [`Self::signed_units`].
    pub(super) fn signed_ns(self, units: u64) -> u64 {
        unzigzag(units) << self.shift
    }
}

impl From<TimeUnit> for u64 {
    fn from(unit: TimeUnit) -> Self {
        unit.length().0
    }
}

impl TryFrom<u64> for TimeUnit {
    type Error = NoTimeUnit;

    fn try_from(ns: u64) -> Result<Self, NoTimeUnit> {
        if !ns.is_power_of_two() {
            return Err(NoTimeUnit);
        }
        u8::try_from(ns.trailing_zeros()).map_or(Err(NoTimeUnit), Self::from_shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_two_up_to_a_millisecond() {
        assert_eq!(TimeUnit::try_from(32), Ok(TimeUnit::RECORDED));
        assert_eq!(TimeUnit::try_from(1), Ok(TimeUnit::default()));
        for wrong in [0, 3, 33, 1 << 21, 1 << 63] {
            assert_eq!(TimeUnit::try_from(wrong), Err(NoTimeUnit), "{wrong}");
        }
        assert!(TimeUnit::from_shift(20).is_ok() && TimeUnit::from_shift(21).is_err());
    }

    #[test]
    fn differences_of_either_sign_survive() {
        let unit = TimeUnit::RECORDED;
        for n in [0i64, 1, -1, 5, -70_000, i64::MIN >> 5, i64::MAX >> 5] {
            let ns = (n << 5).cast_unsigned();
            assert_eq!(unit.signed_ns(unit.signed_units(ns)), ns, "{n}");
        }
        assert_eq!(unit.signed_units(64), 4, "small numbers of either sign");
        assert_eq!(unit.signed_units(64u64.wrapping_neg()), 3);
    }
}
