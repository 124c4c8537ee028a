//! The kernel programs: which there are, which of them this kernel takes, and their maps.

pub mod energy;
mod load;
mod maps;
mod plan;
mod uprobe;

pub use load::{
    DEFAULT_MAX_EVENTS_PER_SEC, DEFAULT_RING_BYTES, LoadError, Loaded, MAX_PROCESSES, Prepared,
    Settings, load,
};
pub use maps::Maps;
pub use plan::{DEFAULT_SAMPLE_HZ, Hook, Hooks, MAX_SAMPLE_HZ, ProgramSpec, Role, WALK, plan};
pub use uprobe::{Group, Groups, Library, UprobeMaps, Uprobes, measure};
