//! From the kernel side's records to the trace's.

use std::collections::BTreeMap;
use std::fs::File;

use tracer_common::event::{ThreadEvent, WAIT_CLIPPED_START, WaitEvent};
use tracer_common::{
    EVENT_EXEC, EVENT_NATIVE, EVENT_STACK, EVENT_THREAD_EXIT, EVENT_THREAD_NEW, EVENT_WAIT,
    FutexIdentity, InitialWait, NoStack, Shape, SpinKey, SpinTotals, ThreadState, WalkEnd,
};
use zerocopy::FromBytes;

use super::in_flight::remainder;
use super::locks::Locks;
use super::natives::Natives;
use super::stacks::Stacks;
use super::thread_ids::ThreadIds;
use super::threads::Threads;
use super::uses::Uses;
use crate::cpython::{LockType, Namer, Seen};
use crate::probe::{Hooks, Maps};
use crate::trace::records::{
    Class, Kind, LockRecord, ShapeSums, SideStack, SpinSums, Totals, Wait,
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
    pid: Pid,
    locks: Locks,
    stacks: Stacks,
    /// With `--native`.
    natives: Option<Natives>,
    start: Monotonic,
    min_wait: Ns,
    hooks: Hooks,
    malformed: u64,
    /// Waits still under way at the end that were below the threshold.
    below: BTreeMap<u32, ShapeSums>,
    /// Spins still under way at the end.
    spins: Vec<(SpinKey, SpinTotals)>,
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
            pid,
            locks: Locks::default(),
            stacks: Stacks::default(),
            natives: native.then(|| Natives::new(pid)),
            start,
            min_wait,
            hooks,
            malformed: 0,
            below: BTreeMap::new(),
            spins: Vec::new(),
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
                if !self.natives.as_mut().is_some_and(|natives| natives.take(bytes, &self.namer)) {
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
                self.thread_ids.forget();
                if let Some(natives) = &mut self.natives {
                    natives.forget(self.pid);
                }
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
        let native = match &mut self.natives {
            Some(natives) => natives.of_wait(event.native_stack),
            None => Vec::new(),
        };
        let id = event.identity();
        let lock_type = self.namer.lock_type(&id);
        let seen = Seen {
            id: &id,
            told: self.stacks.told(waiter_stack, lock_type),
            subjects: event.subjects,
            // Only what parks without an argument may be waiting on its own state.
            thread: if id.shape == Shape::Parked as u32 && id.park_arg == 0 {
                self.thread_ids.state(Tid(event.tid), self.pid, &self.namer)
            } else {
                None
            },
            is_thread: self.threads.is_known(Tid(event.val)),
        };
        let owner =
            self.owner(&id, lock_type).or_else(|| self.thread_ids.host(event.holder_ns_tid));
        let natives = &mut self.natives;
        let name = |namer: &mut Namer| {
            let mut name = namer.name(&seen);
            if name.kind == Kind::Futex
                && let Some(natives) = natives
                && let Some(owner) = natives.owner(name.lock, &native, namer)
            {
                name.name = format!("{} of {owner}", name.name);
            }
            name
        };
        let (lock, new) = self.locks.of_wait(&seen, &mut self.namer, name);
        self.write_lock(new)?;
        let waiter_stack = self.stacks.with_native(waiter_stack, native, &mut self.writer)?;
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
        clip_start(&mut wait, self.start);
        self.live.waits += 1;
        self.live.wait += wait.total();
        if self.locks.class(lock) == Class::Contention {
            self.live.contention += wait.total();
        }
        self.writer.wait(wait)
    }

    /// Who held the lock when the waiter went to sleep, if the lock itself says so.
    fn owner(&mut self, id: &FutexIdentity, lock_type: LockType) -> Option<Tid> {
        match (Shape::from_u32(id.shape)?, lock_type) {
            // Anything can be in that word of what only looks like a mutex.
            (Shape::Mutex, _) => self.thread_ids.host(u32::try_from(id.owner).ok()?),
            (Shape::Parked | Shape::Semaphore, LockType::Rlock) => {
                self.thread_ids.by_ident(id.owner, self.pid, &self.namer)
            }
            _ => None,
        }
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
        self.add_spins(maps, &mut totals)?;
        let (locks, namer, writer) = (&mut self.locks, &mut self.namer, &mut self.writer);
        self.uses.add_to(&mut totals, maps, locks, namer, writer)?;
        if self.hooks == Hooks::Syscall {
            totals.syscalls = Some(maps.syscalls());
        }
        totals.self_cost.insert("recorder_cpu_ns".to_owned(), crate::kernel::own_cpu_ns());
        totals.self_cost.insert("bytes_written".to_owned(), self.writer.bytes_written());
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

    fn write_lock(&mut self, new: Option<LockRecord>) -> Result<(), WriteError> {
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
