//! Waits with a record of their own, also those that are under way at the end.

use tracer_common::event::{WAIT_CLIPPED_END, WAIT_CLIPPED_START, WaitEvent};
use tracer_common::{InitialWait, NoStack, SpinKey, SpinTotals, ThreadState, WalkEnd, process};

use super::Intake;
use super::in_flight::remainder;
use crate::record::threads::Home;
use crate::trace::records::{Class, ShapeSums, SideStack, Wait};
use crate::trace::writer::WriteError;
use crate::units::{Address, Monotonic, Ns, Tid};

impl Intake {
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

    /// Takes in what only the final state of a thread tells.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(in crate::record) fn last_words(
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
    use crate::units::{LockIndex, ThreadIndex};

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
