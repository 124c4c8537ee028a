//! Quantiles of durations, from a histogram with logarithmic buckets.

use std::collections::BTreeMap;

use crate::units::Ns;

/// Buckets per power of two, as bits.
const PRECISION: u32 = 7;

/// Counts durations by size, so that any quantile is known within [`Quantiles::ERROR`].
///
/// At most some 7,400 buckets whatever is counted, and only those that are used take room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    buckets: BTreeMap<u16, u64>,
    count: u64,
    min: Ns,
    max: Ns,
}

impl Quantiles {
    /// The largest relative error of [`Self::at`]: half a bucket.
    pub const ERROR: f64 = 1.0 / (1u32 << (PRECISION + 1)) as f64;

    /// Counts one duration.
    pub fn add(&mut self, duration: Ns) {
        self.min = if self.count == 0 { duration } else { self.min.min(duration) };
        self.max = self.max.max(duration);
        self.count += 1;
        *self.buckets.entry(bucket(duration.0)).or_default() += 1;
    }

    /// The duration that a share of `q` (0 to 1) of all durations does not exceed; none if nothing
    /// was counted. Off by at most [`Self::ERROR`], and never outside of what was counted.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among fewer than 2^53 waits, at least 0"
    )]
    pub fn at(&self, q: f64) -> Option<Ns> {
        let rank = ((self.count as f64 * q).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (&bucket, &count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return Some(middle(bucket).clamp(self.min, self.max));
            }
        }
        None
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Ns {
        self.max
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Values below 2^7 have a bucket each; above, the highest bit and the seven after it decide.
fn bucket(ns: u64) -> u16 {
    let exponent = ns.checked_ilog2().unwrap_or(0).saturating_sub(PRECISION);
    let mantissa = ns >> exponent;
    u16::try_from((u64::from(exponent) << PRECISION) + mantissa).unwrap_or(u16::MAX)
}

fn middle(bucket: u16) -> Ns {
    let (first, exponent) = match u32::from(bucket) >> PRECISION {
        0 => (u64::from(bucket), 0),
        // A mantissa has its highest bit set, which the bucket number holds as one more exponent.
        n => (u64::from(bucket) - (u64::from(n - 1) << PRECISION), n - 1),
    };
    Ns((first << exponent) + ((1u64 << exponent) >> 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_own_middle() {
        for ns in (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) + 1, (1 << bit) - 1]) {
            let b = bucket(ns);
            assert_eq!(bucket(middle(b).0), b, "{ns}");
            #[expect(clippy::cast_precision_loss, reason = "compared with an error bound")]
            let error = middle(b).0.abs_diff(ns) as f64 / ns.max(1) as f64;
            assert!(error <= Quantiles::ERROR, "{ns}: {error}");
        }
        assert_eq!(bucket(middle(bucket(u64::MAX)).0), bucket(u64::MAX));
    }

    #[test]
    fn quantiles_of_nothing_one_and_many() {
        let mut q = Quantiles::default();
        assert_eq!(q.at(0.5), None);
        q.add(Ns(1_234_567));
        assert_eq!(q.at(0.5), Some(Ns(1_234_567)));
        let mut q = Quantiles::default();
        for ns in 1..=1000 {
            q.add(Ns(ns * 1000));
        }
        for (share, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1e6)] {
            #[expect(clippy::cast_precision_loss, reason = "compared with an error bound")]
            let got = q.at(share).unwrap().0 as f64;
            assert!((got / exact - 1.0).abs() <= Quantiles::ERROR, "{share}: {got}");
        }
        assert_eq!((q.max(), q.count()), (Ns(1_000_000), 1000));
    }
}
