//! How right a recording is: programs that know their own waits (`scripts/truth`) are recorded, and
//! what they say is compared with what the trace says.
//!
//! The bench `accuracy` prints the tables, and `tests/pure_accuracy.rs` tests what is pure in here.

pub(crate) mod docs;
pub(crate) mod matching;
pub(crate) mod measure;
pub(crate) mod program;
pub(crate) mod recorder;
pub(crate) mod score;
pub(crate) mod seen;
pub(crate) mod table;
pub(crate) mod truth;
pub(crate) mod workloads;
