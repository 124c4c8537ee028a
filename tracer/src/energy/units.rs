//! Energy and power as types: integer microjoules add up exactly, watts do not have to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::Ns;

/// Energy in microjoules.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Microjoules(pub u64);

/// Power in watts.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watts(pub f64);

impl Watts {
    /// What this power comes to in a time: 1 W for 1 s is 1,000,000 µJ.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts from floating point saturate"
    )]
    pub fn over(self, time: Ns) -> Microjoules {
        // W × ns = nJ.
        Microjoules((self.0.max(0.0) * time.0 as f64 / 1e3).round() as u64)
    }
}

impl Microjoules {
    /// In joules.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people, and for σ")]
    pub fn joules(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The average power if it was used in this time.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people, and for σ")]
    pub fn power(self, time: Ns) -> Watts {
        if time.0 == 0 { Watts(0.0) } else { Watts(self.0 as f64 * 1e3 / time.0 as f64) }
    }
}

impl std::ops::Add for Microjoules {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Microjoules {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Microjoules {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), |a, b| a + b)
    }
}

impl fmt::Display for Microjoules {
    /// Three significant digits with a unit: `1.23 mJ`.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uj = self.0 as f64;
        let (value, unit) = match self.0 {
            0..1_000 => return f.pad(&format!("{} µJ", self.0)),
            1_000..1_000_000 => (uj / 1e3, "mJ"),
            1_000_000..1_000_000_000 => (uj / 1e6, "J"),
            _ => (uj / 1e9, "kJ"),
        };
        let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

impl fmt::Display for Watts {
    /// Three significant digits: `12.3 W`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.0 < 10.0 { 2 } else { usize::from(self.0 < 100.0) };
        f.pad(&format!("{:.digits$} W", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E6: a watt for a second is a joule is a million microjoules, and back.
    #[test]
    fn one_watt_for_one_second_is_one_joule() {
        let second = Ns(1_000_000_000);
        assert_eq!(Watts(1.0).over(second), Microjoules(1_000_000));
        assert_eq!(Watts(1.0).over(Ns(1_000)), Microjoules(1).power(Ns(1_000)).over(Ns(1_000)));
        assert!((Microjoules(1_000_000).joules() - 1.0).abs() < 1e-12);
        assert_eq!(Microjoules(1_000_000).power(second), Watts(1.0));
        assert_eq!(Microjoules(10_000).power(Ns(100_000_000)).to_string(), "0.10 W");
        assert_eq!(Microjoules(12_345).to_string(), "12.3 mJ");
        assert_eq!(Microjoules(999).to_string(), "999 µJ");
        assert_eq!(Microjoules(1_234_567).to_string(), "1.23 J");
    }
}
