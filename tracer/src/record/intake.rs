//! From the kernel side's records to the trace's.

use std::collections::BTreeMap;
use std::fs::File;

use tracer_common::event::{ThreadEvent, WAIT_CLIPPED_END, WAIT_CLIPPED_START, WaitEvent};
use tracer_common::{
    EVENT_EXEC, EVENT_NATIVE, EVENT_STACK, EVENT_THREAD_EXIT, EVENT_THREAD_NEW, EVENT_WAIT,
    InitialWait, LockSamples as LockSamplesSeen, NoStack, SpinKey, SpinTotals, ThreadState,
    WalkEnd,
};
use zerocopy::FromBytes;

use super::in_flight::remainder;
use super::locks::Locks;
use super::natives::Natives;
use super::places::Places;
use super::spin_code::SpinCodes;
use super::stacks::Stacks;
use super::thread_ids::ThreadIds;
use super::threads::Threads;
use super::uses::Uses;
use crate::cpython::{Namer, Told};
use crate::probe::{Hooks, Maps};
use crate::trace::records::{
    Class, LockRecord, LockSamples, Sampled, ShapeSums, SideStack, SpinSums, Totals, Wait,
};
use crate::trace::writer::{TraceWriter, WriteError};
use crate::units::{Address, LockIndex, Monotonic, Ns, Pid, Tid};

/// Where records go.
pub(super) type Sink = TraceWriter<File>;

/// What a record meant for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing beyond the trace.
    Recorded,
    /// The target replaced itself: its interpreter is another now.
    Exec,
}

/// Running sums for the live line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    pub(super) waits: u64,
    pub(super) wait: Ns,
    pub(super) contention: Ns,
}

/// Takes in records and writes the trace.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) namer: Namer,
    pub(super) live: Live,
    pub(super) writer: Sink,
    pub(super) threads: Threads,
    pub(super) thread_ids: ThreadIds,
    /// With `--uprobes`.
    pub(super) uses: Uses,
    /// With a sampler.
    pub(super) spin_codes: Option<SpinCodes>,
    pub(super) pid: Pid,
    pub(super) locks: Locks,
    pub(super) stacks: Stacks,
    pub(super) natives: Natives,
    places: Places,
    /// The waiters' native frames were asked for.
    with_native: bool,
    start: Monotonic,
    min_wait: Ns,
    hooks: Hooks,
    malformed: u64,
    /// Waits still under way at the end that were below the threshold.
    below: BTreeMap<u32, ShapeSums>,
    /// Spins still under way at the end.
    spins: Vec<(SpinKey, SpinTotals)>,
    /// Threads whose waits were under way at the end, and on which futex.
    pub(super) under_way: Vec<(Tid, Address)>,
    /// How long and how often the programs have run, if the kernel counts that.
    pub(super) bpf_run: Option<(Ns, u64)>,
}

impl Intake {
    pub(super) fn new(
        pid: Pid,
        namer: Namer,
        writer: Sink,
        start: Monotonic,
        min_wait: Ns,
        hooks: Hooks,
        native: bool,
    ) -> Self {
        Self {
            namer,
            live: Live::default(),
            writer,
            threads: Threads::new(pid),
            thread_ids: ThreadIds::default(),
            uses: Uses::default(),
            spin_codes: None,
            pid,
            locks: Locks::default(),
            stacks: Stacks::default(),
            natives: Natives::new(pid),
            places: Places::default(),
            with_native: native,
            start,
            min_wait,
            hooks,
            malformed: 0,
            below: BTreeMap::new(),
            spins: Vec::new(),
            under_way: Vec::new(),
            bpf_run: None,
        }
    }

    /// Looks at the target's threads anew: names, and where their stacks are.
    pub(super) fn refresh_threads(&mut self, maps: &mut Maps) {
        self.threads.refresh_names();
        self.thread_ids.refresh(self.pid, &self.namer, maps);
        for (tid, name) in self.thread_ids.names() {
            self.threads.set_python_name(tid, name);
        }
    }

    /// Takes in one ring-buffer record.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn take(&mut self, bytes: &[u8], maps: &Maps) -> Result<Taken, WriteError> {
        let kind = bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        match kind {
            EVENT_WAIT => match WaitEvent::read_from_prefix(bytes) {
                Ok((event, _)) => self.wait(&event)?,
                Err(_) => self.malformed += 1,
            },
            EVENT_STACK => {
                if !self.stacks.take(bytes, &self.namer, &mut self.writer)? {
                    self.malformed += 1;
                }
            }
            EVENT_NATIVE => {
                if !self.natives.take(bytes, &self.namer) {
                    self.malformed += 1;
                }
            }
            EVENT_THREAD_NEW | EVENT_THREAD_EXIT | EVENT_EXEC => {
                match ThreadEvent::read_from_prefix(bytes) {
                    Ok((event, _)) => return Ok(self.thread(&event, maps)),
                    Err(_) => self.malformed += 1,
                }
            }
            _ => self.malformed += 1,
        }
        Ok(Taken::Recorded)
    }

    fn thread(&mut self, event: &ThreadEvent, maps: &Maps) -> Taken {
        let (tid, at) = (Tid(event.tid), Monotonic(event.time_ns));
        match event.event {
            EVENT_THREAD_NEW => self.threads.born(tid, at),
            EVENT_THREAD_EXIT => {
                if let Some(state) = maps.thread(tid) {
                    self.threads.update(tid, &state);
                }
                self.threads.ended(tid, at, &event.comm);
            }
            _ => {
                self.locks.forget();
                self.stacks.forget();
                self.places.forget();
                self.thread_ids.forget();
                self.natives.forget(self.pid);
                return Taken::Exec;
            }
        }
        Taken::Recorded
    }

    /// The record says that the target replaced itself.
    pub(super) fn is_exec(bytes: &[u8]) -> bool {
        bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) == Some(EVENT_EXEC)
    }

    /// The target is about to forget its locks (before its exec is taken in).
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn keep_uses(&mut self, maps: &mut Maps) -> Result<(), WriteError> {
        self.uses.exec(maps, &self.locks, &mut self.writer)
    }

    /// Writes a wait.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn wait(&mut self, event: &WaitEvent) -> Result<(), WriteError> {
        self.wait_at(event, self.stacks.side(event.waiter_stack))
    }

    fn wait_at(&mut self, event: &WaitEvent, waiter_stack: SideStack) -> Result<(), WriteError> {
        let native = self.natives.of_wait(event.native_stack);
        let (lock, owner) = self.lock_of(event, waiter_stack, &native)?;
        let waiter_stack = if self.with_native {
            self.stacks.with_native(waiter_stack, native, &mut self.writer)?
        } else {
            waiter_stack
        };
        let mut wait = Wait {
            thread: self.threads.index(Tid(event.tid)),
            lock,
            start: Monotonic(event.start_ns),
            end: Monotonic(event.end_ns),
            blocked: Ns(event.blocked_ns),
            runq: Ns(event.runq_ns),
            episodes: event.episodes,
            flags: event.flags,
            waker: (event.waker_tid != 0).then(|| self.threads.index(Tid(event.waker_tid))),
            waiter_stack,
            waker_stack: self.stacks.side(event.waker_stack),
            holder: owner.map(|tid| self.threads.index(tid)),
            holder_stack: self.stacks.side(event.holder_stack),
        };
        self.places.fill_in(&mut wait);
        clip_start(&mut wait, self.start);
        self.live.waits += 1;
        self.live.wait += wait.total();
        if self.locks.class(lock) == Class::Contention {
            self.live.contention += wait.total();
        }
        self.writer.wait(wait)
    }

    /// Takes in what only the final state of a thread tells.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn last_words(
        &mut self,
        tid: Tid,
        state: &ThreadState,
        initial: Option<&InitialWait>,
        end: Monotonic,
    ) -> Result<(), WriteError> {
        let exec = self.threads.update(tid, state);
        let rest = remainder(tid, state, initial, end, exec);
        if let Some(mut event) = rest.wait {
            if event.blocked_ns + event.runq_ns < self.min_wait.0 {
                let sums = self.below.entry(event.shape).or_default();
                sums.waits += 1;
                sums.blocked += Ns(event.blocked_ns);
                sums.runq += Ns(event.runq_ns);
                sums.max = sums.max.max(Ns(event.blocked_ns + event.runq_ns));
            } else {
                let stack = self.stack_at_the_end(&mut event)?;
                self.wait_at(&event, stack)?;
                if event.flags & WAIT_CLIPPED_END != 0 {
                    self.under_way.push((tid, Address(event.uaddr)));
                }
            }
        }
        self.spins.extend(rest.spin);
        Ok(())
    }

    /// Where a thread waits that nobody has woken yet.
    fn stack_at_the_end(&mut self, event: &mut WaitEvent) -> Result<SideStack, WriteError> {
        let known = self.stacks.side(event.waiter_stack);
        if known != SideStack::Missing(NoStack::NotTaken) {
            return Ok(known);
        }
        let (tid, futex) = (Tid(event.tid), Address(event.uaddr));
        let walked = self.thread_ids.walk_blocked(self.pid, tid, futex, &self.namer);
        let Some(((frames, end), subjects)) = walked else { return Ok(known) };
        event.subjects = subjects;
        let end: WalkEnd = end;
        self.stacks.intern(&frames, end as u32, &self.namer, &mut self.writer)
    }

    /// The counters as they stand.
    ///
    /// # Errors
    /// If a lock that was only spun on can't be written.
    pub(super) fn totals(&mut self, maps: &Maps, at: Monotonic) -> Result<Totals, WriteError> {
        let mut totals = Totals {
            at,
            events: self.live.waits,
            drops: maps.drops(),
            stats: maps.stats(),
            below: maps.below(),
            lost: maps.lost(),
            ..Totals::default()
        };
        if self.malformed != 0 {
            totals.drops.insert("malformed_record".to_owned(), self.malformed);
        }
        for (name, count) in
            [("code_gone", self.stacks.gone), ("stack_table_full", self.stacks.left_out)]
        {
            if count != 0 {
                totals.drops.insert(name.to_owned(), count);
            }
        }
        for (shape, sums) in &self.below {
            let all = totals.below.entry(*shape).or_default();
            all.waits += sums.waits;
            all.blocked += sums.blocked;
            all.runq += sums.runq;
            all.max = all.max.max(sums.max);
        }
        if self.locks.inherited != 0 {
            totals.stats.insert("named_as_before".to_owned(), self.locks.inherited);
        }
        if self.places.estimated != 0 {
            totals.stats.insert("places_estimated".to_owned(), self.places.estimated);
        }
        self.add_spins(maps, &mut totals)?;
        let (locks, namer, writer) = (&mut self.locks, &mut self.namer, &mut self.writer);
        self.uses.add_to(&mut totals, maps, locks, namer, writer)?;
        self.add_samples(maps, &mut totals)?;
        if self.hooks == Hooks::Syscall {
            totals.syscalls = Some(maps.syscalls());
        }
        totals.self_cost.insert("recorder_cpu_ns".to_owned(), crate::kernel::own_cpu_ns());
        let mut cost = |name: &str, n: u64| totals.self_cost.insert(name.to_owned(), n);
        cost("bytes_written", self.writer.bytes_written());
        if let Some(bytes) = crate::kernel::own_peak_memory() {
            cost("recorder_peak_bytes", bytes);
        }
        if let Some((time, runs)) = self.bpf_run {
            cost("bpf_run_ns", time.0);
            cost("bpf_runs", runs);
        }
        Ok(totals)
    }

    fn add_spins(&mut self, maps: &Maps, totals: &mut Totals) -> Result<(), WriteError> {
        // The kernel's table has the type of each lock; what was still under way has not.
        let mut sums: BTreeMap<(LockIndex, SideStack), SpinSums> = BTreeMap::new();
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
            let stack = self.stacks.side(key.stack);
            let stacks = &mut self.stacks;
            let told = |lock_type| stacks.told(stack, lock_type);
            let (index, new) =
                self.locks.of_spin(key.lock, spin.object_type, &mut self.namer, told);
            self.write_lock(new)?;
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
        }
        totals.spins = sums.into_values().collect();
        Ok(())
    }

    fn add_samples(&mut self, maps: &Maps, totals: &mut Totals) -> Result<(), WriteError> {
        let Some(codes) = &self.spin_codes else { return Ok(()) };
        let all = maps.sampled();
        let mut sampled = Sampled {
            ticks: all.ticks,
            target: all.target,
            spinning: all.spinning,
            ambiguous: all.ambiguous,
            lost: all.lost,
            inexact: codes.inexact,
            locks: Vec::new(),
        };
        let mut locks: BTreeMap<LockIndex, u64> = BTreeMap::new();
        for (lock, LockSamplesSeen { samples, object_type }) in maps.samples() {
            // A sample has no stack.
            let told = |_| Told::Nothing;
            let (index, new) = self.locks.of_spin(lock.0, object_type, &mut self.namer, told);
            self.write_lock(new)?;
            *locks.entry(index).or_default() += samples;
        }
        sampled.locks =
            locks.into_iter().map(|(lock, samples)| LockSamples { lock, samples }).collect();
        if sampled.lost != 0 {
            totals.drops.insert("sample_table_full".to_owned(), sampled.lost);
        }
        totals.sampled = Some(sampled);
        Ok(())
    }

    pub(super) fn write_lock(&mut self, new: Option<LockRecord>) -> Result<(), WriteError> {
        new.map_or(Ok(()), |record| self.writer.lock(record))
    }
}

/// A wait that began while the programs were being attached begins with the recording.
fn clip_start(wait: &mut Wait, start: Monotonic) {
    if wait.start < start {
        let early = start.since(wait.start);
        let from_blocked = early.min(wait.blocked);
        wait.blocked = Ns(wait.blocked.0 - from_blocked.0);
        wait.runq = Ns(wait.runq.0.saturating_sub(early.0 - from_blocked.0));
        wait.start = start;
        wait.end = wait.end.max(start);
        wait.flags |= WAIT_CLIPPED_START;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ThreadIndex;

    #[test]
    fn an_early_wait_is_clipped_to_the_recording() {
        let mut wait = Wait {
            thread: ThreadIndex(0),
            lock: LockIndex(0),
            start: Monotonic(90),
            end: Monotonic(150),
            blocked: Ns(50),
            runq: Ns(10),
            episodes: 1,
            flags: 0,
            waker: None,
            waiter_stack: SideStack::default(),
            waker_stack: SideStack::default(),
            holder: None,
            holder_stack: SideStack::default(),
        };
        clip_start(&mut wait, Monotonic(100));
        assert_eq!((wait.start, wait.blocked, wait.runq), (Monotonic(100), Ns(40), Ns(10)));
        assert_eq!(wait.flags, WAIT_CLIPPED_START);
        clip_start(&mut wait, Monotonic(145));
        assert_eq!((wait.blocked, wait.runq), (Ns(0), Ns(5)));
    }
}
