//! A recording: attach, take in what the kernel side sends, write the trace, close it properly.

mod attach;
mod contents;
mod description;
mod energy;
mod identify;
mod intake;
mod kernel_log;
mod locks;
mod lookout;
mod meter;
mod natives;
mod output;
mod places;
mod processes;
mod recent;
mod run_time;
mod session;
mod shared;
mod spin_code;
mod stacks;
mod status;
mod thread_ids;
mod threads;
mod traced;
mod uses;
mod visit;

pub use attach::{Attached, Found, attach, attach_all, look_at};
pub use description::describe;
pub use output::Output;
pub use session::{Finished, Session, StopWhen};
