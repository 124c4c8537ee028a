//! lockwatt: which lock, at which line, held by whom, for how long, and what it cost in energy.
//!
//! The pipeline goes one way (docs/architecture.md): [`target`] → [`cpython`] → [`probe`] →
//! kernel programs → [`record`] → [`trace`] → [`analyze`] → [`render`]. Everything left of the
//! trace file needs privilege and a live target; everything right of it is a pure function of the
//! file.

pub mod analyze;
pub mod cli;
pub mod cpython;
pub mod energy;
pub mod fault;
pub mod kernel;
pub mod native;
pub mod probe;
pub mod record;
pub mod render;
pub mod target;
pub mod trace;
pub mod units;
