//! Yields and samples of threads that spin for a lock.

use std::collections::BTreeMap;

use tracer_common::{LockSamples as LockSamplesSeen, SpinEvent, SpinKey, SpinTotals, process};

use super::Intake;
use crate::cpython::{Namer, Told};
use crate::probe::{Hooks, Maps};
use crate::trace::records::{Class, LockSamples, Sampled, SideStack, SpinSums, Totals, YieldRun};
use crate::trace::writer::WriteError;
use crate::units::{Address, LockIndex, Monotonic, Ns, Tid};

impl Intake {
    /// Writes a long run of yields.
    pub(super) fn yields(&mut self, event: &SpinEvent) -> Result<(), WriteError> {
        let place = self.home(Tid(event.tid)).place;
        let memory = self.memory_of(Tid(event.tid));
        let stack = self.stacks.side(event.stack, memory);
        let lock = self.lock_of_spin(place, memory, event.lock, event.object_type, Some(stack))?;
        let start = Monotonic(event.start_ns);
        self.yield_runs += 1;
        self.live.wait += Ns(event.yielded_ns);
        if self.locks.class(lock) == Class::Contention {
            self.live.contention += Ns(event.yielded_ns);
        }
        self.writer.yields(YieldRun {
            thread: self.threads.index(Tid(event.tid)),
            lock,
            start,
            end: Monotonic(event.end_ns),
            yielded: Ns(event.yielded_ns),
            yields: event.yields,
            stack,
        })
    }

    pub(super) fn add_spins(&mut self, maps: &Maps, totals: &mut Totals) -> Result<(), WriteError> {
        // The kernel's table has the type of each lock; what was still under way has not.
        let mut sums = self.retired_spins.clone();
        let known = maps.spins();
        let unfinished: Vec<_> = self
            .spins
            .iter()
            .map(|&(key, mut spin)| {
                let first = known.iter().find(|(known, _)| known.lock == key.lock);
                spin.object_type = first.map_or(0, |(_, first)| first.object_type);
                (key, spin)
            })
            .collect();
        for (key, spin) in known.into_iter().chain(unfinished) {
            if spin.yields == 0 {
                continue; // the place that is kept for a lock in a full table
            }
            if key.lock == 0 {
                *totals.stats.entry("spins_unattributed".to_owned()).or_default() += spin.yields;
                *totals.stats.entry("yielded_unattributed_ns".to_owned()).or_default() +=
                    spin.yielded_ns;
                continue;
            }
            self.add_spin(key, &spin, &mut sums)?;
        }
        totals.spins = sums.into_values().collect();
        Ok(())
    }

    pub(super) fn add_spin(
        &mut self,
        key: SpinKey,
        spin: &SpinTotals,
        sums: &mut BTreeMap<(LockIndex, SideStack), SpinSums>,
    ) -> Result<(), WriteError> {
        let (place, memory) = self.processes.of_tagged(key.lock).unwrap_or((usize::MAX, 0));
        let stack = self.stacks.side(key.stack, memory);
        let index = self.lock_of_spin(place, memory, key.lock, spin.object_type, Some(stack))?;
        let sums = sums.entry((index, stack)).or_insert(SpinSums {
            lock: index,
            stack,
            ..Default::default()
        });
        sums.yields += spin.yields;
        sums.yielded += Ns(spin.yielded_ns);
        if self.hooks == Hooks::Syscall {
            sums.spin = Some(sums.spin.unwrap_or_default() + Ns(spin.spin_ns));
        }
        Ok(())
    }

    /// The lock at an address that the kernel side marked. A sample has no stack.
    fn lock_of_spin(
        &mut self,
        place: usize,
        memory: u32,
        tagged: u64,
        object_type: u64,
        stack: Option<SideStack>,
    ) -> Result<LockIndex, WriteError> {
        let address = if self.processes.several { process::untag(tagged) } else { tagged };
        let stacks = &mut self.stacks;
        let told = |lock_type| stack.map_or(Told::Nothing, |stack| stacks.told(stack, lock_type));
        let mut nobody = Namer::default();
        let traced = self.processes.get_mut(place);
        let owner = traced.as_ref().map(|traced| traced.record.index);
        let namer = traced.map_or(&mut nobody, |traced| &mut traced.namer);
        let (index, new) = self.locks.of_spin(memory, address, object_type, namer, told);
        self.write_lock(new, owner)?;
        Ok(index)
    }

    pub(super) fn add_samples(
        &mut self,
        maps: &Maps,
        totals: &mut Totals,
    ) -> Result<(), WriteError> {
        if !self.sampler {
            return Ok(());
        }
        let all = maps.sampled();
        let inexact = self.processes.iter().filter_map(|(_, traced)| traced.spin_codes.as_ref());
        let mut sampled = Sampled {
            ticks: all.ticks,
            target: all.target,
            spinning: all.spinning,
            ambiguous: all.ambiguous,
            lost: all.lost,
            inexact: inexact.map(|codes| codes.inexact).sum(),
            locks: Vec::new(),
        };
        let mut locks = self.retired_samples.clone();
        for (lock, seen) in maps.samples() {
            let index = self.sampled_lock(lock, seen)?;
            *locks.entry(index).or_default() += seen.samples;
        }
        sampled.locks =
            locks.into_iter().map(|(lock, samples)| LockSamples { lock, samples }).collect();
        if sampled.lost != 0 {
            totals.drops.insert("sample_table_full".to_owned(), sampled.lost);
        }
        totals.sampled = Some(sampled);
        Ok(())
    }

    pub(in crate::record) fn sampled_lock(
        &mut self,
        lock: Address,
        seen: LockSamplesSeen,
    ) -> Result<LockIndex, WriteError> {
        let (place, memory) = self.processes.of_tagged(lock.0).unwrap_or((usize::MAX, 0));
        self.lock_of_spin(place, memory, lock.0, seen.object_type, None)
    }

    /// The latest lock that was seen at an address that the kernel side marked.
    pub(in crate::record) fn known_lock(&self, lock: Address) -> Option<LockIndex> {
        let (_, memory) = self.processes.of_tagged(lock.0)?;
        let address = if self.processes.several { process::untag(lock.0) } else { lock.0 };
        self.locks.known_in(memory, Address(address))
    }
}
