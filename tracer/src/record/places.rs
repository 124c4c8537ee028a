//! Places of waits whose stacks were not walked.
//!
//! In a storm the kernel side walks a sample of the short waits, by their time (`worth_it` in
//! `tracer-ebpf/src/pystack`). The others get the stack of the last walked wait of the same thread for
//! the same lock that was about as long: an estimate, marked as one in the wait's flags. About as long,
//! because long waits are walked more often, and those for one place may all be longer than those for
//! another.

use rustc_hash::FxHashMap;
use tracer_common::NoStack;
use tracer_common::event::{WAIT_WAITER_ESTIMATED, WAIT_WAKER_ESTIMATED};

use crate::trace::records::{SideStack, Wait};
use crate::units::{LockIndex, ThreadIndex};

/// More combinations of thread, lock and length than that are learned anew.
const MAX_KNOWN: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    side: u32,
    thread: ThreadIndex,
    lock: LockIndex,
    /// Power of two of the wait's nanoseconds.
    length: u32,
}

/// The last walked stack of each combination.
#[derive(Debug, Default)]
pub(super) struct Places {
    last: FxHashMap<Place, SideStack>,
    /// Waits with a stack that is an estimate.
    pub(super) estimated: u64,
}

impl Places {
    /// Fills in the stacks that were not walked for want of time, and marks the wait.
    pub(super) fn fill_in(&mut self, wait: &mut Wait) {
        let place = |side, thread| {
            let length = wait.total().0.checked_ilog2().unwrap_or(0);
            Place { side, thread, lock: wait.lock, length }
        };
        let waiter = place(WAIT_WAITER_ESTIMATED, wait.thread);
        let waker = wait.waker.map(|waker| place(WAIT_WAKER_ESTIMATED, waker));
        let mut flags = self.look_up(waiter, &mut wait.waiter_stack);
        if let Some(waker) = waker {
            flags |= self.look_up(waker, &mut wait.waker_stack);
        }
        wait.flags |= flags;
        self.estimated += u64::from(flags != 0);
    }

    /// The flag of the side if its stack was filled in.
    fn look_up(&mut self, place: Place, stack: &mut SideStack) -> u32 {
        match *stack {
            SideStack::Stack(_) => {
                if self.last.len() >= MAX_KNOWN {
                    self.last.clear();
                }
                self.last.insert(place, *stack);
                0
            }
            SideStack::Missing(NoStack::Limited) => match self.last.get(&place) {
                Some(known) => {
                    *stack = *known;
                    place.side
                }
                None => 0,
            },
            SideStack::Missing(_) => 0,
        }
    }

    /// The target replaced itself.
    pub(super) fn forget(&mut self) {
        self.last.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Monotonic, Ns, StackIndex};

    const LIMITED: SideStack = SideStack::Missing(NoStack::Limited);

    fn wait(thread: u32, lock: u32, ns: u64, waiter: SideStack, waker: SideStack) -> Wait {
        Wait {
            thread: ThreadIndex(thread),
            lock: LockIndex(lock),
            start: Monotonic(0),
            end: Monotonic(ns),
            blocked: Ns(ns),
            runq: Ns(0),
            episodes: 1,
            flags: 0,
            waker: Some(ThreadIndex(7)),
            waiter_stack: waiter,
            waker_stack: waker,
            holder: None,
            holder_stack: SideStack::default(),
        }
    }

    #[test]
    fn an_unwalked_wait_is_where_the_last_one_like_it_was() {
        let (first, second) = (SideStack::Stack(StackIndex(1)), SideStack::Stack(StackIndex(2)));
        let mut places = Places::default();
        let mut filled = |mut wait: Wait| {
            places.fill_in(&mut wait);
            (wait.waiter_stack, wait.waker_stack, wait.flags)
        };
        assert_eq!(filled(wait(0, 0, 1000, LIMITED, LIMITED)), (LIMITED, LIMITED, 0));
        assert_eq!(filled(wait(0, 0, 1000, first, second)), (first, second, 0));
        let both = WAIT_WAITER_ESTIMATED | WAIT_WAKER_ESTIMATED;
        assert_eq!(filled(wait(0, 0, 1020, LIMITED, LIMITED)), (first, second, both));
        // Another thread, woken by the same one; another lock; another length.
        assert_eq!(
            filled(wait(1, 0, 1000, LIMITED, LIMITED)),
            (LIMITED, second, WAIT_WAKER_ESTIMATED)
        );
        assert_eq!(filled(wait(0, 1, 1000, LIMITED, LIMITED)), (LIMITED, LIMITED, 0));
        assert_eq!(filled(wait(0, 0, 100_000, LIMITED, LIMITED)), (LIMITED, LIMITED, 0));
        // What has no stack for another reason keeps that.
        let none = SideStack::Missing(NoStack::NoFrames);
        assert_eq!(filled(wait(0, 0, 1000, none, none)), (none, none, 0));
        assert_eq!(places.estimated, 2);
    }
}
