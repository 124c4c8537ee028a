//! The end of a recording: detach, take in what is left, close the trace.

use anyhow::Result;
use rustc_hash::FxHashSet;

use super::{Finished, Session};
use crate::kernel::monotonic_now;
use crate::target::tids;
use crate::trace::records::End;

impl Session {
    /// Detaches, takes in what is left, and closes the trace.
    pub(super) fn close(&mut self, reason: &'static str) -> Result<Finished> {
        self.intake.refresh_threads(&mut self.maps);
        let mut alive = FxHashSet::default();
        for place in self.intake.processes.living() {
            let traced = self.intake.processes.get(place);
            alive.extend(traced.into_iter().flat_map(|t| tids(t.pid).unwrap_or_default()));
        }
        self.run_time.finish(self.loaded.as_ref());
        self.look_at_programs();
        if let Some(energy) = &mut self.energy {
            energy.stop();
        }
        self.drop_programs();
        let end = monotonic_now();
        if let Some(mut ring) = self.ring.take() {
            while self.drain(&mut ring)? {} // nothing is added any more
        }
        self.intake.below_pending.clear();
        for (tid, state) in self.maps.threads() {
            self.intake.pending(&state);
            let initial = self.attached_waits.get(&tid);
            if alive.contains(&tid) {
                self.intake.last_words(tid, &state, initial, end)?;
            } else {
                self.intake.threads.update(tid, &state);
            }
        }
        self.intake.write_held()?;
        let mut totals = self.intake.totals(&self.maps, end)?;
        if let Some(energy) = &self.energy {
            energy.add_losses(&mut totals);
        }
        self.write_processes()?;
        self.write_energy()?;
        let threads = self.intake.threads.take_counted();
        self.intake.writer.threads(&threads)?;
        self.intake.writer.totals(&totals)?;
        self.intake.writer.close(&End { at: end, reason: reason.to_owned() })?;
        if let Some(log) = &mut self.kernel_log {
            log.drain();
        }
        Ok(Finished { reason, meta: self.meta.clone(), totals, duration: end.since(self.start) })
    }

    /// Detaches everything. The uprobes, which take seconds, stop counting at once.
    fn drop_programs(&mut self) {
        if let Some(loaded) = &mut self.loaded {
            // Refused, what they still count is in the trace: no harm.
            let _ = self.maps.uprobes.stop();
            self.uprobes.leave(loaded.ebpf_mut());
        }
        drop(self.loaded.take());
    }

    /// After a failed write: detaches, and leaves a file with everything that still fits.
    pub(super) fn salvage(&mut self) {
        if let Some(energy) = &mut self.energy {
            energy.stop();
        }
        self.drop_programs();
        let end = End { at: monotonic_now(), reason: "write_failed".to_owned() };
        // The first failure is the one to report, and the file is readable either way.
        let _ = self.intake.writer.rescue(&end);
    }
}
