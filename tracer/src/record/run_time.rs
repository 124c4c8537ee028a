//! How long the kernel programs run.
//!
//! The kernel counts that on request (`BPF_ENABLE_STATS`, 5.8 and later), which makes each run of every
//! program on the machine some tens of nanoseconds longer: two reads of a clock. So by default it is
//! asked to for a moment now and then, and the rest is an estimate from that.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::Instant;

use crate::probe::Loaded;
use crate::units::Ns;

/// The first look is so long after the beginning, …
const FIRST: Duration = Duration::from_millis(200);
/// … the others are so far apart: switching statistics on and off patches code, which every CPU has to
/// take notice of.
const EVERY: Duration = Duration::from_secs(5);
/// A look lasts so long.
const LOOK: Duration = Duration::from_millis(20);

/// Looks at the programs' run time.
#[derive(Debug)]
pub(super) struct RunTime {
    /// When the look under way ends, or the next one begins; none: there will be none.
    pub(super) next: Option<Instant>,
    under_way: Option<Look>,
    /// What all looks came to.
    pub(super) sampled: Sampled,
}

#[derive(Debug)]
struct Look {
    begun: Instant,
    before: (Ns, u64),
    /// The kernel counts as long as this is open.
    _statistics: OwnedFd,
}

/// What was seen of the programs' run time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sampled {
    /// How long all looks lasted.
    pub(super) looked: Ns,
    /// Run time of all programs on all CPUs in it.
    pub(super) run: Ns,
    /// And how often they ran.
    pub(super) runs: u64,
}

impl RunTime {
    /// `counted`: the kernel counts all the time already.
    pub(super) fn new(counted: bool) -> Self {
        let next = (!counted).then(|| Instant::now() + FIRST);
        Self { next, under_way: None, sampled: Sampled::default() }
    }

    /// Begins a look or ends it.
    pub(super) fn turn(&mut self, loaded: Option<&Loaded>) {
        let Some(loaded) = loaded else {
            self.next = None;
            return;
        };
        let now = Instant::now();
        if let Some(look) = self.under_way.take() {
            self.end(&look, loaded);
            self.next = Some(now + EVERY);
            return;
        }
        // Refused, nothing is known of it.
        self.under_way =
            aya::sys::enable_stats(aya::sys::Stats::RunTime).ok().map(|statistics| Look {
                begun: Instant::now(),
                before: loaded.run_times().unwrap_or_default(),
                _statistics: statistics,
            });
        self.next = self.under_way.is_some().then(|| now + LOOK);
    }

    /// Ends a look that is under way: the programs go.
    pub(super) fn finish(&mut self, loaded: Option<&Loaded>) {
        self.next = None;
        if let (Some(look), Some(loaded)) = (self.under_way.take(), loaded) {
            self.end(&look, loaded);
        }
    }

    fn end(&mut self, look: &Look, loaded: &Loaded) {
        let (run, runs) = loaded.run_times().unwrap_or_default();
        let looked = u64::try_from(look.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sampled.looked += Ns(looked);
        self.sampled.run += Ns(run.0.saturating_sub(look.before.0.0));
        self.sampled.runs += runs.saturating_sub(look.before.1);
    }
}

/// The kernel counts the run time of all programs, whoever asked for it.
pub(super) fn counted_anyway() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled");
    setting.is_ok_and(|text| text.trim() == "1")
}
