//! The opt-in uprobes (`--uprobes`): which functions they hook, and what a hit costs.

mod attach;
mod cost;
mod library;
mod maps;
mod table;

pub use attach::Uprobes;
pub use cost::measure;
pub use library::Library;
pub use maps::UprobeMaps;
pub use table::{Group, Groups};

/// Room for so many pairs of thread and lock.
pub(super) const MAX_USES: u32 = 32_768;
