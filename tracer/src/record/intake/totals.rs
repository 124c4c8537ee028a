//! The counters of a recording.

use super::Intake;
use crate::probe::{Hooks, Maps};
use crate::record::run_time::Sampled as RunTimeSampled;
use crate::trace::records::Totals;
use crate::trace::writer::WriteError;
use crate::units::Monotonic;

impl Intake {
    /// The counters as they stand.
    ///
    /// # Errors
    /// If a lock that was only spun on can't be written.
    pub(in crate::record) fn totals(
        &mut self,
        maps: &Maps,
        at: Monotonic,
    ) -> Result<Totals, WriteError> {
        let mut totals = Totals {
            at,
            events: self.events,
            short_waits: self.short_waits,
            yield_runs: self.yield_runs,
            drops: maps.drops(),
            stats: maps.stats(),
            ..Totals::default()
        };
        if self.malformed != 0 {
            totals.drops.insert("malformed_record".to_owned(), self.malformed);
        }
        for (name, count) in [
            ("code_gone", self.stacks.gone),
            ("stack_table_full", self.stacks.left_out),
            ("stacks_forgotten", self.stacks.contents.missed),
        ] {
            if count != 0 {
                totals.drops.insert(name.to_owned(), count);
            }
        }
        self.add_without_record(maps, &mut totals)?;
        if self.locks.inherited != 0 {
            totals.stats.insert("named_as_before".to_owned(), self.locks.inherited);
        }
        if self.places.estimated != 0 {
            totals.stats.insert("places_estimated".to_owned(), self.places.estimated);
        }
        self.add_spins(maps, &mut totals)?;
        if let Some(only) = self.processes.get_mut(0).filter(|_| self.uses.wanted()) {
            let (locks, writer) = (&mut self.locks, &mut self.writer);
            self.uses.add_to(&mut totals, maps, locks, &mut only.namer, writer)?;
        }
        self.add_samples(maps, &mut totals)?;
        if self.hooks == Hooks::Syscall {
            totals.syscalls = Some(maps.syscalls());
        }
        totals.self_cost.insert("recorder_cpu_ns".to_owned(), crate::kernel::own_cpu_ns());
        let mut cost = |name: &str, n: u64| totals.self_cost.insert(name.to_owned(), n);
        cost("bytes_written", self.writer.bytes_written());
        let maps = self.map_memory.unwrap_or_default();
        if let Some(bytes) = crate::kernel::own_peak_memory() {
            // What it maps of the kernel's is counted there.
            cost("recorder_peak_bytes", bytes.saturating_sub(maps.mapped));
        }
        if self.map_memory.is_some() {
            cost("kernel_map_bytes", maps.bytes);
        }
        if let Some((time, runs)) = self.bpf_run {
            cost("bpf_run_ns", time.0);
            cost("bpf_runs", runs);
        }
        let RunTimeSampled { looked, run, runs } = self.bpf_sampled;
        if looked.0 > 0 {
            cost("bpf_sampled_ns", looked.0);
            cost("bpf_sampled_run_ns", run.0);
            cost("bpf_sampled_runs", runs);
        }
        Ok(totals)
    }
}
