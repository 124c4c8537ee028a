//! Units and ids as types: a thread is not an address is not a time.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! newtype {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)+) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);
    )+};
}

newtype! {
    /// A duration in nanoseconds.
    Ns(u64);
    /// A point in time: nanoseconds of `CLOCK_MONOTONIC`.
    Monotonic(u64);
    /// A thread id as the host numbers it.
    Tid(u32);
    /// A process id as the host numbers it.
    Pid(u32);
    /// An address in the target's memory.
    Address(u64);
    /// Index of a thread in a trace: ids are reused, indices are not.
    ThreadIndex(u32);
    /// Index of a process in a trace: process ids are reused, indices are not.
    ProcessIndex(u32);
    /// Index of a lock in a trace: addresses are reused, indices are not.
    LockIndex(u32);
    /// Index of a frame (function, file, line) in a trace.
    FrameIndex(u32);
    /// Index of a stack in a trace.
    StackIndex(u32);
}

impl Address {
    /// The address `offset` bytes further; `None` if there is none.
    #[must_use]
    pub fn field(self, offset: u64) -> Option<Self> {
        self.0.checked_add(offset).map(Self)
    }
}

impl std::ops::Add for Ns {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Ns {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Ns {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), |a, b| a + b)
    }
}

impl Monotonic {
    /// The time from `earlier` to `self`; 0 if the order is the other way round.
    #[must_use]
    pub fn since(self, earlier: Self) -> Ns {
        Ns(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Ns {
    /// Three significant digits with a unit: `1.23 ms`.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0 as f64;
        let (value, unit) = match self.0 {
            0..1_000 => (ns, "ns"),
            1_000..1_000_000 => (ns / 1e3, "µs"),
            1_000_000..1_000_000_000 => (ns / 1e6, "ms"),
            _ => (ns / 1e9, "s"),
        };
        let digits = match value {
            _ if self.0 < 1_000 => 0,
            v if v < 10.0 => 2,
            v if v < 100.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:#x}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits() {
        assert_eq!(Ns(0).to_string(), "0 ns");
        assert_eq!(Ns(999).to_string(), "999 ns");
        assert_eq!(Ns(1_234).to_string(), "1.23 µs");
        assert_eq!(Ns(12_345_678).to_string(), "12.3 ms");
        assert_eq!(Ns(987_654_321_000).to_string(), "988 s");
    }
}
