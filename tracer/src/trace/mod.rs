//! The `.lockwatt` file: what is in it ([`records`]), how it is laid out ([`mod@format`]), and the
//! streaming [`writer`] and [`reader`].
//!
//! The file is append-only. Whatever complete chunk reached the disk is readable, also after the
//! recorder was killed, and one damaged chunk costs that chunk alone.

pub mod chunk;
pub mod contents;
pub mod energy;
pub mod format;
mod keep;
mod parts;
mod planes;
pub mod processes;
pub mod reader;
pub mod records;
mod rescue;
mod resync;
mod time_unit;
pub mod waits;
mod waits_v1;
pub mod writer;
mod yields;

pub use chunk::Chunk;
pub use contents::{Condition, Trace};
pub use parts::Part;
pub use reader::{ReadError, TraceReader, Visited};
pub use time_unit::{NoTimeUnit, TimeUnit};
pub use writer::{TraceWriter, WriteError};
