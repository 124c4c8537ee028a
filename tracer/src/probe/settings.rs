//! What the kernel programs are built for.

use super::plan::Hooks;
use super::uprobe::Groups;
use crate::units::{Ns, Pid};

/// What the programs are built for, before they are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The traced process, or the first of several.
    pub target: Pid,
    /// There can be more than one: those in the table of processes are traced.
    pub several: bool,
    /// Children of traced processes are traced as well. Needs `several`.
    pub follow: bool,
    /// Waits below this get no event.
    pub min_wait: Ns,
    /// Which hooks.
    pub hooks: Hooks,
    /// Ring buffer bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Room for this many threads.
    pub max_threads: u32,
    /// Room for this many processes, if there can be several; no more than [`MAX_PROCESSES`].
    pub max_processes: u32,
    /// A program to do without, as if the kernel had refused it (to test the fallbacks).
    pub without: Option<&'static str>,
    /// No more waits than this get an event of their own, per second; 0: no limit.
    pub max_events_per_sec: u64,
    /// Copy the waiters' native stacks.
    pub native: bool,
    /// Room for what these opt-in uprobes count.
    pub uprobes: Groups,
    /// CPU-clock samples per second and CPU; 0: none.
    pub sample_hz: u32,
    /// Per CPU, stacks of short waits, and of yields, are walked this far apart on average.
    pub short_walk_every: Ns,
    /// Room for where the CPUs' time goes: there is an energy counter.
    pub energy: bool,
}

/// Default size of the ring buffer: some 80,000 waits.
pub const DEFAULT_RING_BYTES: u32 = 8 << 20;
/// Default limit of waits with a record of their own: some 2 MB of trace a second.
pub const DEFAULT_MAX_EVENTS_PER_SEC: u64 = 250_000;
/// 250 a second.
const SHORT_WALK_EVERY: Ns = Ns(4_000_000);
/// Room for processes, if there can be several: those that live, and those that ended within the
/// last second.
pub const MAX_PROCESSES: u32 = 4_096;
/// Default room for threads.
const DEFAULT_MAX_THREADS: u32 = 16_384;

impl Settings {
    /// Default sizes, and no sampler.
    #[must_use]
    pub fn new(target: Pid, min_wait: Ns, hooks: Hooks) -> Self {
        Self {
            target,
            several: false,
            follow: false,
            min_wait,
            hooks,
            ring_bytes: DEFAULT_RING_BYTES,
            max_threads: DEFAULT_MAX_THREADS,
            max_processes: MAX_PROCESSES,
            max_events_per_sec: DEFAULT_MAX_EVENTS_PER_SEC,
            native: false,
            uprobes: Groups::default(),
            sample_hz: 0,
            short_walk_every: SHORT_WALK_EVERY,
            energy: false,
            without: None,
        }
    }
}
