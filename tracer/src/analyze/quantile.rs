//! Quantiles of durations, from a histogram with logarithmic buckets.

use std::collections::BTreeMap;

use crate::units::Ns;

/// Buckets per power of two, as bits.
const PRECISION: u32 = 7;

/// Until this many durations were counted they are kept one by one: most locks have few.
const FEW: usize = 32;
const PAGE: usize = 1 << PRECISION;

/// Counts durations by size, so that any quantile is known within [`Quantiles::ERROR`].
///
/// At most some 7,400 buckets whatever is counted, in pages of a power of two each, and only pages
/// between those that are used take room.
#[derive(Clone, Debug, Default)]
pub struct Quantiles {
    /// The buckets of the first durations.
    few: Vec<u16>,
    /// The page that `pages` begins with.
    first: usize,
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    /// Buckets that have counted 2^32, once for each time.
    over: Vec<u16>,
    count: u64,
    min: Ns,
    max: Ns,
}

impl PartialEq for Quantiles {
    fn eq(&self, other: &Self) -> bool {
        let ends = |q: &Self| (q.count, q.min, q.max);
        ends(self) == ends(other) && self.buckets() == other.buckets()
    }
}

impl Eq for Quantiles {}

impl Quantiles {
    /// The largest relative error of [`Self::at`]: half a bucket.
    pub const ERROR: f64 = 1.0 / (1u32 << (PRECISION + 1)) as f64;

    /// Counts one duration.
    #[inline]
    pub fn add(&mut self, duration: Ns) {
        self.min = if self.count == 0 { duration } else { self.min.min(duration) };
        self.max = self.max.max(duration);
        self.count += 1;
        let bucket = bucket(duration.0);
        // Nearly always its page is there, and not full.
        let at = (usize::from(bucket) / PAGE).wrapping_sub(self.first);
        if let Some(Some(page)) = self.pages.get_mut(at) {
            let count = &mut page[usize::from(bucket) % PAGE];
            if *count < u32::MAX {
                *count += 1;
                return;
            }
        }
        if self.pages.is_empty() && self.few.len() < FEW {
            self.few.push(bucket);
            return;
        }
        if !self.few.is_empty() {
            std::mem::take(&mut self.few).into_iter().for_each(|few| self.count_in_page(few, 1));
        }
        self.count_in_page(bucket, 1);
    }

    /// Counts what `other` has counted as well.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.count += other.count;
        for bucket in std::mem::take(&mut self.few) {
            self.count_in_page(bucket, 1);
        }
        for (bucket, count) in other.buckets() {
            self.count_in_page(bucket, count);
        }
    }

    fn count_in_page(&mut self, bucket: u16, count: u64) {
        let (page, place) = (usize::from(bucket) / PAGE, usize::from(bucket) % PAGE);
        if self.pages.is_empty() {
            self.first = page;
        }
        if page < self.first {
            self.pages.splice(0..0, (page..self.first).map(|_| None));
            self.first = page;
        }
        let at = page - self.first;
        if at >= self.pages.len() {
            self.pages.resize(at + 1, None);
        }
        let counts = self.pages[at].get_or_insert_with(|| Box::new([0; PAGE]));
        let sum = u64::from(counts[place]) + count;
        counts[place] = low(sum);
        self.over.extend((0..sum >> u32::BITS).map(|_| bucket));
    }

    /// The buckets that were counted in, smallest first, and how often.
    fn buckets(&self) -> BTreeMap<u16, u64> {
        let mut buckets = BTreeMap::new();
        for (page, counts) in (self.first..).zip(&self.pages) {
            let counts = counts.iter().flat_map(|counts| counts.iter());
            for (place, &count) in counts.enumerate().filter(|(_, count)| **count > 0) {
                let bucket = u16::try_from(page * PAGE + place).unwrap_or(u16::MAX);
                buckets.insert(bucket, u64::from(count));
            }
        }
        for &bucket in &self.few {
            *buckets.entry(bucket).or_default() += 1;
        }
        for &bucket in &self.over {
            *buckets.entry(bucket).or_default() += 1 << 32;
        }
        buckets
    }

    /// The duration that a share of `q` (0 to 1) of all durations does not exceed; none if nothing
    /// was counted. Off by at most [`Self::ERROR`], and never outside of what was counted.
    #[must_use]
    pub fn at(&self, q: f64) -> Option<Ns> {
        self.at_rank(rank(q, self.count))
    }

    /// The `rank`-th shortest duration, the first being 1; likewise.
    #[must_use]
    pub fn at_rank(&self, rank: u64) -> Option<Ns> {
        let mut seen = 0;
        for (bucket, count) in self.buckets() {
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

/// Which of `count` values, in order, a share of `q` of them does not exceed.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among fewer than 2^53 waits, at least 0"
)]
pub(super) fn rank(q: f64, count: u64) -> u64 {
    ((count as f64 * q).ceil() as u64).clamp(1, count.max(1))
}

#[expect(clippy::cast_possible_truncation, reason = "the rest is in `over`")]
fn low(sum: u64) -> u32 {
    sum as u32
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
