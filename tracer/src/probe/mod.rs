//! The kernel programs: which there are, which of them this kernel takes, and their maps.

mod load;
mod maps;
mod plan;
mod uprobe;

pub use load::{DEFAULT_RING_BYTES, LoadError, Loaded, Prepared, Settings, load};
pub use maps::Maps;
pub use plan::{Hook, Hooks, ProgramSpec, Role, plan};
pub use uprobe::{Group, Groups, Library, UprobeMaps, Uprobes, measure};
