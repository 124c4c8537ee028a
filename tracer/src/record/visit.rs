//! A switch on every CPU, so that it is known what each is doing. The energy program knows nothing of a
//! CPU before its first switch, which on an idle one may be seconds away, as on one where a single thread
//! computes.

use std::sync::mpsc;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

/// A CPU that a real-time thread does not let go is not waited for: the sampler says what it does.
const PATIENCE: Duration = Duration::from_millis(200);

/// Has a thread run on each of these CPUs for a moment. One that this process may not use (its cpuset) is
/// left out.
pub(super) fn visit(cpus: Vec<u32>) {
    let (sender, done) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("lw-visit".to_owned()).spawn(move || {
        for cpu in cpus.into_iter().filter_map(|cpu| usize::try_from(cpu).ok()) {
            if cpu < CpuSet::MAX_CPU {
                let mut only = CpuSet::new();
                only.set(cpu);
                // It returns on that CPU, or is refused.
                let _ = sched_setaffinity(None, &only);
            }
        }
        drop(sender);
    });
    if thread.is_ok() {
        // Nothing is sent: the channel closes when all have been visited.
        let _ = done.recv_timeout(PATIENCE);
    }
}
