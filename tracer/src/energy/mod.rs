//! Energy: which counters there are, whether they count, and what they say over time.
//!
//! How joules are split over tasks and locks is in [`crate::analyze::energy`].

pub mod assemble;
pub mod assumed;
pub mod calibration;
pub mod choose;
pub mod counter;
pub mod domain;
pub mod hotplug;
pub mod hwmon;
pub mod perf;
pub mod powercap;
pub mod probe;
pub mod settle;
pub mod source;
pub mod topology;
pub mod units;

pub use calibration::Calibration;
pub use choose::{Chosen, choose, settle, survey};
pub use counter::{Known, Raw, Tracker};
pub use domain::{Domain, Meter, Part};
pub use source::{Quality, Source, SourceError, Wanted};
pub use units::{Microjoules, Watts};
