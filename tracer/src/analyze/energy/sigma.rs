//! How sure a sum of shares is, when all that is known of each window's energy is the difference of
//! two readings.
//!
//! A reading is off by up to a step of the counter, `q`, and by what was used since the counter last
//! changed, up to `P·δ`: `σ_read = sqrt(q²/12 + (P·δ)²/12)`. A reading ends one window and begins the
//! next, so that in a sum with shares `r` its error counts only by how much the share changes:
//! `σ = σ_read · sqrt(r_1² + r_n² + Σ (r_{w+1} − r_w)²)`.

/// Collects the shares of one thing, window by window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    last: f64,
    squares: f64,
}

impl Shares {
    /// Its share in the next window; 0 if it has none.
    pub fn next(&mut self, share: f64) {
        let change = share - self.last;
        self.squares += change * change;
        self.last = share;
    }

    /// Several windows at once: the first one's share, the sum of the squared changes from there on,
    /// and the last one's.
    pub fn several(&mut self, first: f64, squares: f64, last: f64) {
        self.next(first);
        self.squares += squares;
        self.last = last;
    }

    /// Nothing to add as long as it has no share.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.last == 0.0
    }

    /// σ of the sum in µJ, `read` being σ of one reading.
    #[must_use]
    pub fn sigma(&self, read: f64) -> f64 {
        // Before the first window and after the last one the share is 0: with that the first and
        // last terms are changes as well.
        read * (self.squares + self.last * self.last).sqrt()
    }
}

/// σ of one reading in µJ: step in µJ, power in watts, age in nanoseconds.
#[must_use]
pub fn of_reading(step: f64, watts: f64, age_ns: f64) -> f64 {
    // W × ns = nJ.
    let age = watts * age_ns / 1e3;
    ((step * step + age * age) / 12.0).sqrt()
}

/// σ of the share that `n` of `all` samples show. One that all or none of them show is not certain
/// for that: it is taken to be one sample off.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "σ")]
pub fn of_share(n: u64, all: u64) -> f64 {
    let all = all.max(1);
    if all == 1 {
        return 0.5; // a share in [0, 1] of which nothing is known
    }
    let share = n.clamp(1, all - 1) as f64 / all as f64;
    (share * (1.0 - share) / all as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_change_costs_two_readings() {
        let mut steady = Shares::default();
        for _ in 0..1000 {
            steady.next(0.5);
        }
        assert!((steady.sigma(1.0) - (0.5f64).sqrt()).abs() < 1e-9);
        let mut alternating = Shares::default();
        for n in 0..1000 {
            alternating.next(f64::from(n % 2));
        }
        assert!((alternating.sigma(1.0) - 1000f64.sqrt()).abs() < 0.1);
    }

    #[test]
    fn few_samples_are_never_certain() {
        assert!((of_share(50, 100) - 0.05).abs() < 1e-12);
        assert!(of_share(0, 100) > 0.0);
        assert!((of_share(100, 100) - of_share(0, 100)).abs() < 1e-12);
        assert!(of_share(0, 0) > 0.4 && of_share(1, 1) > 0.4 && of_share(1, 2) > 0.3);
    }

    /// The table of section 4.7: 100 W, 1 ms, 61 µJ, one window.
    #[test]
    fn one_window_of_a_tenth_of_a_second_is_known_to_half_a_percent() {
        let mut all = Shares::default();
        all.next(1.0);
        let sigma = all.sigma(of_reading(61.0, 100.0, 1e6));
        let energy = 100.0 * 0.1 * 1e6;
        assert!((sigma / energy - 0.0041).abs() < 0.0001, "{}", sigma / energy);
    }
}
