//! What the CPU-clock sampler keeps: which locks the target's threads spin on, as it happens to see
//! them.

use crate::plain_data;

/// Samples that hit a thread spinning on one lock, per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LockSamples {
    /// Samples.
    pub samples: u64,
    /// What would be the type pointer of the object around the lock, read at the first of them.
    pub object_type: u64,
}

/// All samples, per CPU. `spinning` = those of the locks + `lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SampleTotals {
    /// The clock ticked, whatever ran.
    pub ticks: u64,
    /// A thread of the target ran.
    pub target: u64,
    /// It was spinning on a lock that is known.
    pub spinning: u64,
    /// It was in a place where threads spin, and the lock is not known.
    pub ambiguous: u64,
    /// Spinning on a known lock, for which the table had no room.
    pub lost: u64,
}

/// Places in the `SPIN_CODE` map.
pub const SPIN_CODE_SLOTS: u32 = 8;

/// A function that spins: between its calls of `sched_yield` the lock is in the same register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SpinCode {
    /// User address of its first instruction; with `end` 0 for a slot that is not used.
    pub start: u64,
    /// Behind its last one.
    pub end: u64,
    /// 1-based index of the register, as in [`crate::SpinSite`].
    pub register: u64,
}

plain_data!(LockSamples = 16, SampleTotals = 40, SpinCode = 24);
