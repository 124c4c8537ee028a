//! The kernel programs: which there are, which of them this kernel takes, and their maps.

mod attach;
pub mod energy;
mod load;
mod maps;
mod plan;
mod settings;
mod uprobe;

pub use attach::Loaded;
pub use load::{LoadError, Prepared, load};
pub use maps::{Maps, Without};
pub use plan::{
    DEFAULT_SAMPLE_HZ, ENERGY_SAMPLE_HZ, Hook, Hooks, MAX_SAMPLE_HZ, ProgramSpec, Role, WALK, plan,
};
pub use settings::{DEFAULT_MAX_EVENTS_PER_SEC, DEFAULT_RING_BYTES, MAX_PROCESSES, Settings};
pub use uprobe::{Group, Groups, Library, UprobeMaps, Uprobes, measure};
