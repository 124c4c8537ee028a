//! How joules are split: pure functions over the energy windows of a trace.
//!
//! [`model`] divides one window, [`fold`] adds up a recording, [`sigma`] says how sure it is. The
//! formulas, and why these, are in `docs/energy.md`.

pub mod apportion;
pub mod fold;
pub mod model;
pub mod sigma;
pub mod summary;

pub use fold::EnergyFold;
pub use model::{Division, Weights, Who, divide, weighted};
pub use summary::{Amount, DomainEnergy, EnergySummary, ThreadEnergy, TimeSums};
