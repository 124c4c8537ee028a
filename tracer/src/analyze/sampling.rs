//! What samples of the CPU clock say of time spent spinning, and how surely.

use super::sums::Sums;
use crate::trace::records::{Meta, Sampled};
use crate::units::Ns;

/// 95 %, two-sided, of the normal distribution.
const Z: f64 = 1.959_964;

/// The sampler's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// Samples per second and CPU; never 0.
    pub hz: u32,
    /// Samples of all CPUs, whatever ran.
    pub ticks: u64,
    /// Of those, the target's.
    pub target: u64,
    /// Of those, spinning on a known lock.
    pub spinning: u64,
    /// Of the target's, spinning, but on what is not known. In no sum.
    pub ambiguous: u64,
    /// Functions that spin and are known only roughly.
    pub inexact: u64,
}

/// How time spent spinning is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpinSource {
    /// Every yield was timed (`--hooks syscall`).
    Measured,
    /// Estimated from samples.
    Sampled,
}

impl SpinSource {
    /// The name in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Sampled => "sampled",
        }
    }
}

/// Time on the CPU while spinning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spin {
    /// How long.
    pub time: Ns,
    /// 95 % interval; `time` itself if it was measured.
    pub low: Ns,
    /// Its other end.
    pub high: Ns,
    /// How that is known.
    pub source: SpinSource,
}

impl Sampling {
    /// The sampler's counts in a trace; none if it had no sampler.
    #[must_use]
    pub fn of(meta: &Meta, sampled: Option<&Sampled>) -> Option<Self> {
        let hz = meta.options.sample_hz.filter(|&hz| hz != 0)?;
        let sampled = sampled?;
        Some(Self {
            hz,
            ticks: sampled.ticks,
            target: sampled.target,
            spinning: sampled.spinning,
            ambiguous: sampled.ambiguous,
            inexact: sampled.inexact,
        })
    }

    /// The time that so many samples stand for, with the Wilson score interval of their share in all
    /// ticks.
    ///
    /// As if each tick were an independent draw. Ticks at a fixed distance in a program that doesn't
    /// keep step with them scatter less, so the interval is rather too wide. It speaks of the time
    /// spent in this recording, not of what another one would give.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate; casts from floating point saturate"
    )]
    pub fn estimate(&self, samples: u64) -> Spin {
        let n = self.ticks.max(samples).max(1) as f64;
        let share = samples as f64 / n;
        let z2 = Z * Z;
        let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let variance = share * (1.0 - share) / n + z2 / (4.0 * n * n);
        let half = Z / (1.0 + z2 / n) * variance.max(0.0).sqrt();
        let time = |share: f64| Ns((share.clamp(0.0, 1.0) * n * 1e9 / f64::from(self.hz)) as u64);
        let low = if samples == 0 { 0.0 } else { middle - half };
        Spin {
            time: time(share),
            low: time(low),
            high: time(middle + half),
            source: SpinSource::Sampled,
        }
    }
}

/// Time spent spinning of these sums: as measured, else as sampled, else unknown.
pub(super) fn spin(sums: &Sums, sampling: Option<&Sampling>) -> Option<Spin> {
    if let Some(time) = sums.spin {
        return Some(Spin { time, low: time, high: time, source: SpinSource::Measured });
    }
    sampling.map(|sampling| sampling.estimate(sums.samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hz: u32, ticks: u64) -> Sampling {
        Sampling { hz, ticks, ..Sampling::default() }
    }

    #[test]
    fn a_sample_is_a_tick_of_time() {
        let ten = at(200, 4000).estimate(10);
        assert_eq!(ten.time, Ns(50_000_000));
        // Wilson (1927), n = 4000, 10 successes: 0.00136 to 0.00460.
        assert!((27_000_000..27_400_000).contains(&ten.low.0), "{ten:?}");
        assert!((91_500_000..92_500_000).contains(&ten.high.0), "{ten:?}");
    }

    #[test]
    fn none_and_all_have_an_interval_too() {
        let none = at(199, 3980).estimate(0);
        assert_eq!((none.time, none.low), (Ns(0), Ns(0)));
        assert!(none.high.0 > 15_000_000 && none.high.0 < 20_000_000, "{none:?}");
        let all = at(100, 1000).estimate(1000);
        assert_eq!((all.time, all.high), (Ns(10_000_000_000), Ns(10_000_000_000)));
        assert!(all.low.0 > 9_900_000_000);
        // Sums that contradict each other, as in a damaged trace, are no panic.
        let odd = at(1, 0).estimate(u64::MAX);
        assert!(odd.low <= odd.time && odd.time <= odd.high);
    }
}
