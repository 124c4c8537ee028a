//! What a trace holds, as the recorder writes it and the analyses read it.
//!
//! Waits and locks are many and go through postcard (a varint encoding with a written
//! specification); everything else is JSON, so that keys can be added without a new version.
//! Which chunk holds what is in [`super::format`]; `docs/trace-format.md` is for other readers.

mod lock;
mod meta;
mod stack;
mod thread;
mod totals;
mod wait;

pub use lock::{Class, Kind, LockRecord};
pub use meta::{End, Meta, Options, ProgramState, Target, UprobeCost};
pub use stack::{FrameRecord, SideStack, StackRecord};
pub use thread::{HeldHow, HeldRecord, ThreadRecord};
pub use totals::{BelowSums, LockSamples, Sampled, ShapeSums, SpinSums, Totals, UseSums};
pub use wait::{ShortWaits, Wait, YieldRun};
