//! Waits below the threshold, as the kernel side added them up by thread and lock.

use tracer_common::{NoStack, ShortEvent};

use super::Intake;
use crate::trace::records::{Class, ShortWaits};
use crate::trace::writer::WriteError;
use crate::units::{Monotonic, Ns, Tid};

impl Intake {
    /// Writes such a sum.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn short(&mut self, event: &ShortEvent) -> Result<(), WriteError> {
        let (wait, waits) = (&event.wait, event.waits);
        let (waiter, waker) = (Tid(wait.tid), Tid(wait.waker_tid));
        let waiter_memory = self.memory_of(waiter);
        let waiter_stack = self.stacks.side(wait.waiter_stack, waiter_memory);
        let (lock, _) = self.lock_of(wait, waiter_stack, &[])?;
        let woken = wait.waker_tid != 0;
        let waker_memory = if woken { self.memory_of(waker) } else { waiter_memory };
        let waker_stack = if woken { wait.waker_stack } else { NoStack::NotTaken as u64 };
        let sums = ShortWaits {
            thread: self.threads.index(waiter),
            lock,
            start: Monotonic(wait.start_ns).max(self.start),
            end: Monotonic(wait.end_ns),
            waits,
            blocked: Ns(wait.blocked_ns),
            runq: Ns(wait.runq_ns),
            max: Ns(event.max_ns),
            waker: woken.then(|| self.threads.index(waker)),
            waiter_stack,
            waker_stack: self.stacks.side(waker_stack, waker_memory),
        };
        self.short_waits += waits;
        self.live.waits += waits;
        self.live.wait += sums.blocked + sums.runq;
        if self.locks.class(lock) == Class::Contention {
            self.live.contention += sums.blocked + sums.runq;
        }
        self.writer.short_waits(sums)
    }
}
