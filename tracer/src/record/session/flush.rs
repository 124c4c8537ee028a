//! What goes to the file while the recording goes on.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::Session;
use crate::kernel::monotonic_now;
use crate::trace::records::Totals;
use crate::units::Pid;

/// Counters are written at each flush if so many times their length has been written since, …
const TOTALS_SHARE: u64 = 64;
/// … and this often anyway.
const TOTALS_AT_LEAST_EVERY: Duration = Duration::from_secs(10);

impl Session {
    pub(super) fn flush(&mut self) -> Result<()> {
        self.remove_gone();
        if self.intake.processes.several {
            self.reconcile()?;
        }
        self.intake.below_pending.clear();
        for (tid, state) in self.maps.threads() {
            self.intake.pending(&state);
            if !self.intake.threads.is_settled(tid) {
                self.intake.settle(tid, Pid(state.tgid));
            }
            self.intake.threads.update(tid, &state);
        }
        for place in self.intake.processes.living() {
            self.recheck_interpreter(place)?;
        }
        self.intake.refresh_threads(&mut self.maps);
        self.look_at_programs();
        self.intake.retire(&mut self.maps)?;
        let mut totals = self.intake.totals(&self.maps, monotonic_now())?;
        if let Some(energy) = &self.energy {
            energy.add_losses(&mut totals);
        }
        self.write_processes()?;
        self.write_energy()?;
        self.write_counters(&totals)?;
        self.intake.threads.forget_ended();
        self.intake.writer.flush()?;
        if let Some(log) = &mut self.kernel_log {
            log.drain();
        }
        Ok(())
    }

    /// Makes room in the kernel side's table of threads.
    pub(super) fn remove_gone(&mut self) {
        let gone = self.intake.threads.take_gone();
        self.intake.uses.retire(&gone, &mut self.maps);
        for tid in gone {
            self.maps.remove_thread(tid);
        }
    }

    pub(super) fn write_energy(&mut self) -> Result<()> {
        if let Some(energy) = &mut self.energy {
            energy.write(&mut self.intake, &self.maps)?;
        }
        Ok(())
    }

    /// Writes new threads, and the counters, unless they would be most of the file: those of many locks
    /// or threads are long, and the last ones alone count. A killed recording lacks the counters of its
    /// last seconds.
    fn write_counters(&mut self, totals: &Totals) -> Result<()> {
        let threads = self.intake.threads.take_changed();
        self.intake.writer.threads(&threads)?;
        let (before, waits) = (self.intake.writer.bytes_written(), self.waits_at_totals);
        let few = before - waits < self.totals_bytes * TOTALS_SHARE;
        if few && self.totals_at.is_some_and(|at| at.elapsed() < TOTALS_AT_LEAST_EVERY) {
            return Ok(());
        }
        // What is buffered before them goes first, and is none of theirs.
        self.intake.writer.flush()?;
        let before = self.intake.writer.bytes_written();
        let threads = self.intake.threads.take_counted();
        self.intake.writer.threads(&threads)?;
        self.intake.writer.totals(totals)?;
        self.waits_at_totals = self.intake.writer.bytes_written();
        self.totals_bytes = self.waits_at_totals - before;
        self.totals_at = Some(Instant::now());
        Ok(())
    }

    /// Asks the kernel how long the programs have run, if it counts that.
    pub(super) fn look_at_programs(&mut self) {
        if let Some(loaded) = self.loaded.as_ref().filter(|_| self.run_time_counted) {
            self.intake.bpf_run = loaded.run_times();
        }
        self.intake.bpf_sampled = self.run_time.sampled;
    }

    pub(super) fn write_processes(&mut self) -> Result<()> {
        if self.intake.processes.several {
            let changed = self.intake.processes.changed();
            self.intake.writer.processes(&changed)?;
        }
        Ok(())
    }
}
