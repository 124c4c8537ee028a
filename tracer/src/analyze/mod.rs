//! What a trace says: pure functions from a [`Trace`](crate::trace::Trace) to a [`Summary`].
//!
//! [`fold`] goes through the waits once and keeps sums, never the waits. Every output (text, JSON,
//! flame graph) is drawn from the same [`Summary`], so that they can't disagree.

mod bounded;
mod brief;
pub mod compare;
pub mod completeness;
pub mod energy;
pub mod fold;
pub mod graph;
pub mod pauses;
pub mod processes;
pub mod quantile;
pub mod sampling;
mod shard;
pub mod sides;
pub mod sites;
mod split;
pub mod stacks;
pub mod summary;
pub mod sums;
mod tally;

pub(crate) use completeness::UNSEEN_SWITCHES;
pub use completeness::{Completeness, UnseenSwitches};
pub use fold::{Fold, summarize, summarize_as, summarize_small};
pub use graph::Graph;
pub use pauses::{Late, PauseSums, Pauses};
pub use processes::{Homes, ProcessSummary};
pub use quantile::Quantiles;
pub use sampling::{Sampling, Spin, SpinSource};
pub use sides::{Crowded, OtherSide, Source, Want};
pub use sites::{Side, Site, SiteRow, SiteSums};
pub use stacks::StackTable;
pub use summary::{LockSummary, Pair, Quantile, Summary, ThreadSummary};
pub use sums::Sums;
