//! How joules are split: pure functions over the energy windows of a trace.
//!
//! [`model`] divides one window, [`fold`] adds up a recording domain by domain, [`sigma`] says how sure
//! it is. [`overlay`] and [`counterfactual`] are outside of the sum. The formulas, and why these, are in
//! `docs/energy.md`.

pub mod apportion;
pub mod counterfactual;
mod covers;
mod domain;
pub mod fold;
mod ledger;
pub mod model;
pub mod overlay;
pub mod places;
pub mod sigma;
mod states;
pub mod summary;
mod timeline;
mod waiting;

pub(in crate::analyze) use counterfactual::Blocked;
pub use fold::EnergyFold;
pub use model::{Division, Task, Weights, Who, divide, tasks, weighted};
pub(in crate::analyze) use overlay::HeldBy;
pub use summary::{
    Amount, Counterfactual, DomainEnergy, EnergySummary, Held, Imagined, ThreadEnergy, TimeSums,
};
pub(in crate::analyze) use timeline::{Cells, Coverage};
