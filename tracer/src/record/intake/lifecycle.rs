//! Threads and processes that are born, become another program, and end; and what is taken over of
//! memories that are gone.

use rustc_hash::FxHashSet;
use tracer_common::event::ThreadEvent;
use tracer_common::{EVENT_EXEC, EVENT_THREAD_EXIT, EVENT_THREAD_NEW, process};

use super::{Intake, Taken};
use crate::kernel::monotonic_now;
use crate::probe::Maps;
use crate::record::processes::memory_tag;
use crate::record::threads::comm_text;
use crate::trace::writer::WriteError;
use crate::units::{Monotonic, Pid, Tid};

impl Intake {
    pub(super) fn thread(&mut self, event: &ThreadEvent, maps: &Maps) -> Taken {
        let (tid, at) = (Tid(event.tid), Monotonic(event.time_ns));
        let (pid, comm) = (Pid(event.tgid), comm_text(&event.comm));
        match event.event {
            EVENT_THREAD_NEW if self.processes.several => {
                let born = (event.parent != 0)
                    .then(|| self.processes.born(pid, event.number, Pid(event.parent), at, &comm));
                self.settle(tid, pid);
                let place = self.threads.home(tid).place;
                self.processes.thread_born(place);
                self.threads.born(tid, at);
                return born.map_or(Taken::Recorded, Taken::Born);
            }
            EVENT_THREAD_NEW => self.threads.born(tid, at),
            EVENT_THREAD_EXIT => {
                let place = self.home(tid).place;
                if let Some(state) = maps.thread(tid) {
                    self.threads.update(tid, &state);
                }
                self.threads.ended(tid, at, &event.comm);
                if self.processes.several {
                    self.processes.thread_ended(place, at);
                    return Taken::Ended;
                }
            }
            _ => {
                let place =
                    if self.processes.several { self.processes.place(pid) } else { Some(0) };
                let Some(place) = place else { return Taken::Recorded };
                if !self.processes.several {
                    self.locks.forget();
                    self.stacks.forget();
                    self.places.forget();
                }
                self.processes.exec(place, event.number, &comm);
                return Taken::Exec(place);
            }
        }
        Taken::Recorded
    }

    /// The record says that the target replaced itself.
    pub(in crate::record) fn is_exec(bytes: &[u8]) -> bool {
        bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) == Some(EVENT_EXEC)
    }

    /// The target is about to forget its locks (before its exec is taken in).
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(in crate::record) fn keep_sums(&mut self, maps: &mut Maps) -> Result<(), WriteError> {
        self.keep_without_record(maps)?;
        self.uses.exec(maps, &self.locks, &mut self.writer)
    }

    /// Takes over what there is of memories that are gone since the last call but one, so that the
    /// tables have room for others.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(in crate::record) fn retire(&mut self, maps: &mut Maps) -> Result<(), WriteError> {
        let gone = self.processes.take_gone(&mut self.gone);
        if gone.is_empty() {
            return Ok(());
        }
        let tags: FxHashSet<u16> = gone.iter().map(|&(_, number)| memory_tag(number)).collect();
        let is_gone = |tagged: u64| tags.contains(&process::tag_of(tagged));
        let mut sums = std::mem::take(&mut self.retired_spins);
        for (key, spin) in maps.spins().into_iter().filter(|(key, _)| is_gone(key.lock)) {
            if spin.yields != 0 {
                self.add_spin(key, &spin, &mut sums)?;
            }
        }
        self.retired_spins = sums;
        for (lock, seen) in maps.samples().into_iter().filter(|(lock, _)| is_gone(lock.0)) {
            let index = self.sampled_lock(lock, seen)?;
            *self.retired_samples.entry(index).or_default() += seen.samples;
        }
        maps.forget_tagged(is_gone);
        for &(place, number) in &gone {
            if let Some(traced) = self.processes.get(place)
                && !traced.lives()
                && maps.process(traced.pid).is_some_and(|state| state.number == number)
            {
                maps.remove_process(traced.pid);
            }
            self.processes.retire(place, number);
            self.stacks.forget_memory(number);
        }
        let numbers: FxHashSet<u32> = gone.into_iter().map(|(_, number)| number).collect();
        self.locks.forget_memories(|memory| numbers.contains(&memory));
        Ok(())
    }

    /// Gives the kernel side numbers for processes to come.
    pub(in crate::record) fn give_numbers(&mut self, maps: &mut Maps) {
        while maps.give_number(self.processes.free_number()) {
            self.processes.use_number();
        }
    }

    /// Processes whose birth, or end, was lost; ends those that are gone.
    pub(in crate::record) fn reconcile(&mut self, maps: &Maps) -> Vec<usize> {
        let now = monotonic_now();
        self.processes.end_the_dead(now);
        let mut found = Vec::new();
        for pid in maps.processes() {
            let Some(state) = maps.process(pid) else { continue };
            let known = self.processes.place(pid).and_then(|place| self.processes.get(place));
            if known.is_none_or(|traced| !traced.lives())
                && crate::target::Process::open(pid).is_ok()
            {
                found.push(self.processes.born(pid, state.number, Pid(0), now, ""));
            }
        }
        found
    }
}
