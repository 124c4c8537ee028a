//! The uprobes' maps.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use tracer_common::{UprobeLoss, UprobeThread, UseKey, UseTotals};

use crate::probe::maps::{MapError, failed, sum, take};
use crate::units::Tid;

/// What the uprobes count.
pub struct UprobeMaps {
    uses: HashMap<MapData, UseKey, UseTotals>,
    threads: HashMap<MapData, u32, UprobeThread>,
    losses: PerCpuArray<MapData, u64>,
    off: Array<MapData, u32>,
}

impl UprobeMaps {
    pub(in crate::probe) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            uses: take(ebpf, "USES")?,
            threads: take(ebpf, "UPROBE_THREADS")?,
            losses: take(ebpf, "UPROBE_LOSSES")?,
            off: take(ebpf, "UPROBES_OFF")?,
        })
    }

    /// Counts nothing more.
    ///
    /// # Errors
    /// If the kernel refuses (it has no reason to).
    pub fn stop(&mut self) -> Result<(), MapError> {
        self.off.set(0, 1, 0).map_err(failed("UPROBES_OFF"))
    }

    /// What each thread did with each lock.
    #[must_use]
    pub fn uses(&self) -> Vec<(UseKey, UseTotals)> {
        self.uses.iter().flatten().collect()
    }

    /// Hits of probes at entries and at returns.
    #[must_use]
    pub fn hits(&self) -> (u64, u64) {
        let threads = self.threads.iter().flatten();
        threads.fold((0, 0), |(entry, at_return), (_, thread)| {
            (entry + thread.entry_hits, at_return + thread.return_hits)
        })
    }

    /// Losses by reason; zeros are left out.
    #[must_use]
    pub fn losses(&self) -> BTreeMap<String, u64> {
        let all = UprobeLoss::ALL.iter();
        let counts = all.map(|&(loss, name)| (name.to_owned(), sum(&self.losses, loss as u32)));
        counts.filter(|&(_, count)| count != 0).collect()
    }

    /// Removes a thread's state and gives its hits.
    pub fn take_thread(&mut self, tid: Tid) -> (u64, u64) {
        let thread = self.threads.get(&tid.0, 0).unwrap_or_default();
        // Not there any more is as good.
        let _ = self.threads.remove(&tid.0);
        (thread.entry_hits, thread.return_hits)
    }

    /// Removes what a thread did with a lock.
    pub fn remove_use(&mut self, key: &UseKey) {
        let _ = self.uses.remove(key);
    }
}
