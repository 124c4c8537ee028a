//! From the kernel side's records to the trace's.

use std::collections::BTreeMap;
use std::fs::File;

use rustc_hash::{FxHashMap, FxHashSet};
use tracer_common::event::{ThreadEvent, WAIT_CLIPPED_END, WAIT_CLIPPED_START, WaitEvent};
use tracer_common::process;
use tracer_common::{
    EVENT_EXEC, EVENT_NATIVE, EVENT_SHORT, EVENT_SPIN, EVENT_STACK, EVENT_THREAD_EXIT,
    EVENT_THREAD_NEW, EVENT_WAIT, InitialWait, LockSamples as LockSamplesSeen, NoStack, ShortEvent,
    SpinEvent, SpinKey, SpinTotals, ThreadState, WalkEnd,
};
use zerocopy::FromBytes;

use super::below::{Below, ByAddress};
use super::in_flight::remainder;
use super::locks::Locks;
use super::places::Places;
use super::processes::Processes;
use super::run_time::Sampled as RunTimeSampled;
use super::shared::SharedWord;
use super::stacks::{Memories, Stacks};
use super::threads::{Home, Threads, comm_text};
use super::uses::Uses;
use crate::cpython::{Namer, Told};
use crate::kernel::monotonic_now;
use crate::probe::{Hooks, Maps};
use crate::trace::processes::LockProcess;
use crate::trace::records::{
    Class, LockRecord, LockSamples, Sampled, ShapeSums, SideStack, SpinSums, Totals, Wait, YieldRun,
};
use crate::trace::writer::{TraceWriter, WriteError};
use crate::units::{Address, LockIndex, Monotonic, Ns, Pid, ProcessIndex, Tid};

/// Where records go.
pub(super) type Sink = TraceWriter<File>;

/// What a record meant for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing beyond the trace.
    Recorded,
    /// A process replaced itself: its interpreter is another now.
    Exec(usize),
    /// A process was born.
    Born(usize),
    /// A thread ended.
    Ended,
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
    pub(super) processes: Processes,
    pub(super) live: Live,
    pub(super) writer: Sink,
    pub(super) threads: Threads,
    /// With `--uprobes`.
    pub(super) uses: Uses,
    /// There is a sampler.
    sampler: bool,
    pub(super) locks: Locks,
    pub(super) stacks: Stacks,
    /// Locks in memory that processes share: the number that stands for its memory, and the address in
    /// the process that was seen to use it first.
    pub(super) shared: FxHashMap<SharedWord, (u32, Address)>,
    places: Places,
    /// The waiters' native frames were asked for.
    with_native: bool,
    pub(super) start: Monotonic,
    min_wait: Ns,
    pub(super) hooks: Hooks,
    malformed: u64,
    yield_runs: u64,
    /// Waits with a record of their own.
    events: u64,
    /// Waits in sums of short ones.
    pub(super) short_waits: u64,
    /// Waits still under way at the end that were below the threshold.
    pub(super) below: BTreeMap<u32, ShapeSums>,
    /// Those of programs that the target has replaced.
    pub(super) below_replaced: Below,
    /// Those that the threads have in their states.
    pub(super) below_pending: ByAddress,
    /// Spins still under way at the end.
    spins: Vec<(SpinKey, SpinTotals)>,
    /// Yields and samples of memories that are gone, of which the kernel side has no entry any more.
    retired_spins: BTreeMap<(LockIndex, SideStack), SpinSums>,
    retired_samples: BTreeMap<LockIndex, u64>,
    /// Memories that are gone; of these no record comes any more after the next flush.
    gone: Vec<(usize, u32)>,
    /// Threads whose waits were under way at the end, and on which futex.
    pub(super) under_way: Vec<(Tid, Address)>,
    /// How long and how often the programs have run, if the kernel counts that.
    pub(super) bpf_run: Option<(Ns, u64)>,
    /// The same of moments, if it is only asked to now and then.
    pub(super) bpf_sampled: RunTimeSampled,
}

impl Intake {
    pub(super) fn new(
        processes: Processes,
        sampler: bool,
        writer: Sink,
        start: Monotonic,
        min_wait: Ns,
        hooks: Hooks,
        native: bool,
    ) -> Self {
        let home = match processes.get(0).filter(|_| !processes.several) {
            Some(only) => Home { pid: only.pid, place: 0, index: only.record.index },
            None => Home::UNKNOWN,
        };
        Self {
            processes,
            live: Live::default(),
            writer,
            threads: Threads::new(home),
            uses: Uses::default(),
            sampler,
            locks: Locks::default(),
            stacks: Stacks::default(),
            shared: FxHashMap::default(),
            places: Places::default(),
            with_native: native,
            start,
            min_wait,
            hooks,
            malformed: 0,
            yield_runs: 0,
            events: 0,
            short_waits: 0,
            below: BTreeMap::new(),
            below_replaced: Below::default(),
            below_pending: ByAddress::new(),
            spins: Vec::new(),
            retired_spins: BTreeMap::new(),
            retired_samples: BTreeMap::new(),
            gone: Vec::new(),
            under_way: Vec::new(),
            bpf_run: None,
            bpf_sampled: RunTimeSampled::default(),
        }
    }

    /// Looks at the target's threads anew: names, and where their stacks are.
    pub(super) fn refresh_threads(&mut self, maps: &mut Maps) {
        self.threads.refresh_names();
        for place in self.processes.living() {
            self.refresh_threads_of(place, maps);
        }
    }

    /// The same of one process.
    pub(super) fn refresh_threads_of(&mut self, place: usize, maps: &mut Maps) {
        let Some(traced) = self.processes.get_mut(place) else { return };
        traced.thread_ids.refresh(traced.pid, &traced.namer, maps);
        for (tid, name) in traced.thread_ids.names() {
            self.threads.set_python_name(tid, name);
        }
    }

    /// Says of which process a thread is; `pid` 0: nobody said.
    pub(super) fn settle(&mut self, tid: Tid, pid: Pid) {
        let pid = if pid == Pid(0) { process_of(tid).unwrap_or_default() } else { pid };
        if let Some(place) = self.processes.place(pid)
            && let Some(traced) = self.processes.get(place)
        {
            self.threads.settle(tid, Home { pid, place, index: traced.record.index });
        }
    }

    /// The process of a thread.
    fn home(&mut self, tid: Tid) -> Home {
        if !self.threads.is_settled(tid) {
            self.settle(tid, Pid(0)); // the record of its birth was lost
        }
        self.threads.home(tid)
    }

    /// Number of the memory of a thread.
    pub(super) fn memory_of(&mut self, tid: Tid) -> u32 {
        let place = self.home(tid).place;
        self.processes.get(place).map_or(0, |traced| traced.number)
    }

    /// A process's memory, and those that it was copied from.
    fn memories(processes: &Processes, place: usize) -> Memories<'_> {
        let Some(own) = processes.get(place) else { return Vec::new() };
        let all =
            std::iter::once(own).chain(own.ancestors.iter().filter_map(|&n| processes.get(n)));
        all.map(|traced| (traced.number, &traced.namer)).collect()
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
            EVENT_SHORT => match ShortEvent::read_from_prefix(bytes) {
                Ok((event, _)) => self.short(&event)?,
                Err(_) => self.malformed += 1,
            },
            EVENT_SPIN => match SpinEvent::read_from_prefix(bytes) {
                Ok((event, _)) => self.yields(&event)?,
                Err(_) => self.malformed += 1,
            },
            EVENT_STACK => {
                let place = self.home(tid_in(bytes)).place;
                let memories = Self::memories(&self.processes, place);
                if !self.stacks.take(bytes, &memories, &mut self.writer)? {
                    self.malformed += 1;
                }
            }
            EVENT_NATIVE => {
                let place = self.home(tid_in(bytes)).place;
                if let Some(traced) = self.processes.get_mut(place)
                    && !traced.natives.take(bytes, &traced.namer)
                {
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
    pub(super) fn is_exec(bytes: &[u8]) -> bool {
        bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) == Some(EVENT_EXEC)
    }

    /// The target is about to forget its locks (before its exec is taken in).
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn keep_sums(&mut self, maps: &mut Maps) -> Result<(), WriteError> {
        self.keep_below(maps)?;
        self.uses.exec(maps, &self.locks, &mut self.writer)
    }

    /// Writes a wait.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn wait(&mut self, event: &WaitEvent) -> Result<(), WriteError> {
        let memory = self.memory_of(Tid(event.tid));
        let stack = self.stacks.side(event.waiter_stack, memory);
        self.wait_at(event, stack)
    }

    fn wait_at(&mut self, event: &WaitEvent, waiter_stack: SideStack) -> Result<(), WriteError> {
        let place = self.home(Tid(event.tid)).place;
        let memory = self.memory_of(Tid(event.tid));
        let waker_memory =
            if event.waker_tid == 0 { memory } else { self.memory_of(Tid(event.waker_tid)) };
        let traced = self.processes.get_mut(place);
        let native = traced.map(|traced| traced.natives.of_wait(event.native_stack));
        let native = native.unwrap_or_default();
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
            waker_stack: self.stacks.side(event.waker_stack, waker_memory),
            holder: owner.map(|tid| self.threads.index(tid)),
            holder_stack: self.stacks.side(event.holder_stack, memory),
        };
        self.places.fill_in(&mut wait);
        clip_start(&mut wait, self.start);
        self.events += 1;
        self.live.waits += 1;
        self.live.wait += wait.total();
        if self.locks.class(lock) == Class::Contention {
            self.live.contention += wait.total();
        }
        self.writer.wait(wait)
    }

    /// Writes a long run of yields.
    fn yields(&mut self, event: &SpinEvent) -> Result<(), WriteError> {
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
                *self.below.entry(event.shape).or_default() += ShapeSums {
                    waits: 1,
                    blocked: Ns(event.blocked_ns),
                    runq: Ns(event.runq_ns),
                    max: Ns(event.blocked_ns + event.runq_ns),
                };
            } else {
                let stack = self.stack_at_the_end(&mut event)?;
                self.wait_at(&event, stack)?;
                if event.flags & WAIT_CLIPPED_END != 0 {
                    self.under_way.push((tid, Address(event.uaddr)));
                }
            }
        }
        let memory = self.memory_of(tid);
        let marked = |(key, spin): (SpinKey, SpinTotals)| {
            let lock = if key.lock == 0 { 0 } else { process::tag(memory, key.lock) };
            (SpinKey { lock, ..key }, spin)
        };
        self.spins.extend(rest.spin.map(marked));
        Ok(())
    }

    /// Where a thread waits that nobody has woken yet.
    fn stack_at_the_end(&mut self, event: &mut WaitEvent) -> Result<SideStack, WriteError> {
        let (tid, futex) = (Tid(event.tid), Address(event.uaddr));
        let Home { pid, place, .. } = self.home(tid);
        let memory = self.memory_of(tid);
        let known = self.stacks.side(event.waiter_stack, memory);
        if known != SideStack::Missing(NoStack::NotTaken) {
            return Ok(known);
        }
        let walked = self
            .processes
            .get(place)
            .and_then(|traced| traced.thread_ids.walk_blocked(pid, tid, futex, &traced.namer));
        let Some(((frames, end), subjects)) = walked else { return Ok(known) };
        event.subjects = subjects;
        let end: WalkEnd = end;
        let memories = Self::memories(&self.processes, place);
        self.stacks.intern(&frames, end as u32, &memories, &mut self.writer)
    }

    /// The counters as they stand.
    ///
    /// # Errors
    /// If a lock that was only spun on can't be written.
    pub(super) fn totals(&mut self, maps: &Maps, at: Monotonic) -> Result<Totals, WriteError> {
        let mut totals = Totals {
            at,
            events: self.events,
            short_waits: self.short_waits,
            yield_runs: self.yield_runs,
            drops: maps.drops(),
            stats: maps.stats(),
            lost: maps.lost(),
            limited: maps.limited(),
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
        self.add_below(maps, &mut totals)?;
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
        if let Some(bytes) = crate::kernel::own_peak_memory() {
            cost("recorder_peak_bytes", bytes);
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

    fn add_spins(&mut self, maps: &Maps, totals: &mut Totals) -> Result<(), WriteError> {
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

    fn add_spin(
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

    fn add_samples(&mut self, maps: &Maps, totals: &mut Totals) -> Result<(), WriteError> {
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

    pub(super) fn sampled_lock(
        &mut self,
        lock: Address,
        seen: LockSamplesSeen,
    ) -> Result<LockIndex, WriteError> {
        let (place, memory) = self.processes.of_tagged(lock.0).unwrap_or((usize::MAX, 0));
        self.lock_of_spin(place, memory, lock.0, seen.object_type, None)
    }

    /// The latest lock that was seen at an address that the kernel side marked.
    pub(super) fn known_lock(&self, lock: Address) -> Option<LockIndex> {
        let (_, memory) = self.processes.of_tagged(lock.0)?;
        let address = if self.processes.several { process::untag(lock.0) } else { lock.0 };
        self.locks.known_in(memory, Address(address))
    }

    /// Takes over what there is of memories that are gone since the last call but one, so that the
    /// tables have room for others.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn retire(&mut self, maps: &mut Maps) -> Result<(), WriteError> {
        let gone = self.processes.take_gone(&mut self.gone);
        if gone.is_empty() {
            return Ok(());
        }
        let tags: FxHashSet<u16> =
            gone.iter().map(|&(_, number)| process::tag_of(process::tag(number, 0))).collect();
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
    pub(super) fn give_numbers(&mut self, maps: &mut Maps) {
        while maps.give_number(self.processes.free_number()) {
            self.processes.use_number();
        }
    }

    /// Processes whose birth, or end, was lost; ends those that are gone.
    pub(super) fn reconcile(&mut self, maps: &Maps) -> Vec<usize> {
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

    /// Writes a lock's record, if it is new; `owner`: whose it is, if it is in nobody else's memory.
    pub(super) fn write_lock(
        &mut self,
        new: Option<LockRecord>,
        owner: Option<ProcessIndex>,
    ) -> Result<(), WriteError> {
        let Some(record) = new else { return Ok(()) };
        if self.processes.several {
            self.writer.lock_process(LockProcess { lock: record.index, process: owner })?;
        }
        self.writer.lock(record)
    }
}

/// The thread that a record is of: each begins with its kind and a thread id.
fn tid_in(bytes: &[u8]) -> Tid {
    Tid(bytes.get(4..8).and_then(|word| word.first_chunk()).map_or(0, |w| u32::from_le_bytes(*w)))
}

/// The process of a thread, if that is still there.
fn process_of(tid: Tid) -> Option<Pid> {
    let status = std::fs::read(format!("/proc/{}/status", tid.0)).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok().map(Pid)
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
