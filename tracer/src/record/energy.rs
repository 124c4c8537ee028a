//! The energy side of a recording: windows and samples by thread id and address become records of the
//! trace.

use anyhow::{Context, Result};
use rustc_hash::FxHashMap;
use tracer_common::LockSamples;
use tracer_common::energy::{EnergySampleKey, IN_FUTEX, SPINNING, TIMED};

use super::intake::Intake;
use super::meter::Meter;
use crate::energy::Source;
use crate::energy::assemble::RawWindow;
use crate::probe::energy::{EnergySampleMap, attach};
use crate::probe::{Loaded, Maps};
use crate::trace::WriteError;
use crate::trace::energy::{
    Doing, EnergyInterval, EnergySamples, EnergySource, EnergyWindow, ThreadTime,
};
use crate::trace::records::{ProgramState, Totals};
use crate::units::{Address, LockIndex, Tid};

/// A counter that is read, and what its time goes to.
pub(super) struct Energy {
    meter: Meter,
    samples: EnergySampleMap,
}

impl Energy {
    /// Attaches the program and begins to read.
    ///
    /// # Errors
    /// If the kernel refuses: energy without the time that it is split by would be no more than a
    /// number for the machine.
    pub(super) fn start(
        loaded: &mut Loaded,
        source: Box<dyn Source>,
        record: &EnergySource,
    ) -> Result<(Self, ProgramState)> {
        let (state, maps, samples) = attach(loaded.ebpf_mut(), &record.cpus)?;
        if let Some(reason) = &state.reason {
            anyhow::bail!("the kernel did not take {} ({}): {reason}", state.name, state.hook);
        }
        let meter = Meter::start(source, maps, &record.cpus, record.window)
            .context("cannot start the energy reader")?;
        Ok((Self { meter, samples }, state))
    }

    /// Reads a last time.
    pub(super) fn stop(&mut self) {
        self.meter.stop();
    }

    /// What became of windows, for the totals.
    pub(super) fn add_losses(&self, totals: &mut Totals) {
        let unaccounted = self.meter.unaccounted();
        if unaccounted > 0 {
            totals.drops.insert("energy_cpus_changed".to_owned(), unaccounted);
        }
    }

    /// Writes what has come since the last time. Locks must have been written up to now.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn write(&mut self, intake: &mut Intake, maps: &Maps) -> Result<(), WriteError> {
        let windows: Vec<_> =
            self.meter.windows().into_iter().map(|window| named(window, intake)).collect();
        if windows.is_empty() {
            return Ok(()); // samples wait for their windows
        }
        let samples = self.take_samples(intake, maps)?;
        let threads = intake.threads.take_changed();
        intake.writer.threads(&threads)?;
        intake.writer.energy(&[EnergyInterval { windows, samples }])
    }

    fn take_samples(
        &mut self,
        intake: &mut Intake,
        maps: &Maps,
    ) -> Result<Vec<EnergySamples>, WriteError> {
        let mut types: FxHashMap<Address, LockSamples> = maps.samples().into_iter().collect();
        let taken = self.samples.take();
        if taken.iter().any(|(key, _)| key.doing == TIMED) {
            for (key, spin) in maps.spins() {
                let seen = LockSamples { object_type: spin.object_type, ..LockSamples::default() };
                types.entry(Address(key.lock)).or_insert(seen);
            }
        }
        let mut out = Vec::new();
        for (key, by_cpu) in taken {
            let doing = match key.doing {
                SPINNING => Doing::Spinning,
                IN_FUTEX => Doing::Futex,
                TIMED => Doing::Timed,
                _ => Doing::Anything,
            };
            let lock = lock_of(&key, &types, intake)?;
            let thread = intake.threads.index(Tid(key.tid));
            for (cpu, n) in (0..).zip(by_cpu) {
                for samples in pieces(n) {
                    out.push(EnergySamples { thread, cpu, doing, lock, samples });
                }
            }
        }
        Ok(out)
    }
}

/// A count in as many pieces as it takes; nothing if it is 0.
fn pieces(mut n: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let piece = u32::try_from(n).unwrap_or(u32::MAX);
        n -= u64::from(piece);
        (piece > 0).then_some(piece)
    })
}

/// The lock of a sample: for what spins as for all samples, else what stands at its address already.
fn lock_of(
    key: &EnergySampleKey,
    types: &FxHashMap<Address, LockSamples>,
    intake: &mut Intake,
) -> Result<Option<LockIndex>, WriteError> {
    if key.lock == 0 {
        return Ok(None);
    }
    let lock = Address(key.lock);
    match types.get(&lock) {
        Some(&seen) if matches!(key.doing, SPINNING | TIMED) => {
            intake.sampled_lock(lock, seen).map(Some)
        }
        _ => Ok(intake.known_lock(lock)),
    }
}

fn named(window: RawWindow, intake: &mut Intake) -> EnergyWindow {
    let threads = window.threads.into_iter().map(|(tid, cpu, time)| ThreadTime {
        thread: intake.threads.index(tid),
        cpu,
        time,
    });
    EnergyWindow {
        threads: threads.collect(),
        start: window.start,
        end: window.end,
        read: window.read,
        readings: window.readings,
        cpus: window.cpus,
    }
}
