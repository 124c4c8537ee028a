//! From blocked episodes (switch-out to switch-in) to waits.
//!
//! One wait is one episode, unless an episode ended without a futex waker (timeout, signal) and
//! the thread went straight back to the same futex: then both are of one wait. That is how a GIL
//! wait, a chain of 5 ms timeouts in `take_gil`, comes out as one.

use tracer_common::event::{WAIT_WAKE_UNSEEN, WAIT_WOKEN_BEFORE_SLEEP};
use tracer_common::thread::{ThreadState, WHY_FUTEX, WHY_RUNNING};
use tracer_common::{FutexIdentity, NoStack, SUBJECTS, Shape, Stat};

use crate::counters::count;
use crate::globals::min_wait_ns;
use crate::{emit, quick, short, states};

/// A thread that goes straight back to waiting does so within microseconds; one that was away for
/// longer got what it waited for and came again.
const STRAIGHT_BACK_NS: u64 = 250_000;

/// Between a waker's look at a thread that is about to sleep and its switch-out.
const JUST_WOKEN_NS: u64 = 50_000;

/// The thread went to sleep in a futex wait (`state.current` is filled in): does this go on with
/// the wait before, or is that over?
#[inline(always)]
pub(crate) fn begin(tid: u32, state: &mut ThreadState, now: u64) {
    if state.chain.episodes != 0
        && (now.saturating_sub(state.chain.end_ns) > STRAIGHT_BACK_NS
            || !same_wait(&state.chain.id, &state.current))
    {
        close(tid, state, 0);
    }
    if state.chain.episodes == 0 {
        forget_stacks(state, now);
    }
}

/// The thread was woken so shortly before its switch-out that it was woken out of the wait that
/// begins there.
#[inline(always)]
pub(crate) fn just_woken(state: &ThreadState, now: u64) -> bool {
    now.saturating_sub(state.wake_ns) < JUST_WOKEN_NS
}

/// A wait begins: no stack is known of it, but for the waker's if it was woken already.
#[inline(always)]
fn forget_stacks(state: &mut ThreadState, now: u64) {
    state.waiter_stack = NoStack::NotTaken as u64;
    state.native_stack = NoStack::NotTaken as u64;
    if !just_woken(state, now) {
        state.waker_stack = NoStack::NotTaken as u64;
    }
    state.holder_stack = NoStack::NotTaken as u64;
    state.holder_ns_tid = 0;
    state.holder_flags = 0;
    state.subjects = [0; SUBJECTS];
}

/// The thread is back on a CPU after a blocked futex wait.
#[inline(always)]
pub(crate) fn end(tid: u32, state: &mut ThreadState, now: u64) {
    let out = state.out_ns;
    let (blocked, runq, flag) = if state.wake_ns >= out {
        (state.wake_ns - out, now.saturating_sub(state.wake_ns), 0)
    } else if state.wake_ns != 0 {
        // Woken between its decision to sleep and its switch-out, so it was runnable all along.
        (0, now - out, WAIT_WOKEN_BEFORE_SLEEP)
    } else {
        count(Stat::WakeUnseen, 1);
        (now - out, 0, WAIT_WAKE_UNSEEN)
    };
    let waker = if flag == WAIT_WAKE_UNSEEN { 0 } else { state.waker_tid };
    state.wake_ns = 0;
    if waker != 0 && state.chain.episodes == 0 && blocked + runq < min_wait_ns() {
        // Most waits of a busy lock.
        state.chain.end_ns = now;
        short::add(tid, state, waker, blocked, runq, now);
        state.waker_stack = NoStack::NotTaken as u64;
        return;
    }
    if state.chain.episodes == 0 {
        state.chain.id = state.current;
        state.chain.start_ns = out;
        state.chain.blocked_ns = 0;
        state.chain.runq_ns = 0;
        state.chain.flags = 0;
    }
    state.chain.end_ns = now;
    state.chain.blocked_ns += blocked;
    state.chain.runq_ns += runq;
    state.chain.flags |= flag;
    state.chain.episodes += 1;
    if waker != 0 {
        // Who woke it could have had both stacks walked.
        for stack in [&mut state.waiter_stack, &mut state.waker_stack] {
            if *stack == NoStack::NotTaken as u64 {
                *stack = NoStack::Limited as u64;
            }
        }
        close(tid, state, waker);
        state.waker_stack = NoStack::NotTaken as u64;
    }
}

/// The thread runs, and its futex wait is not over: its switch-in was not seen. Kernels call the
/// tracepoint at every switch, but virtual machines were seen whose kernel leaves it out while certain
/// tasks of the host's agent are current (perf misses the same switches).
///
/// It ran from then on without a break, as else this would have been noticed before: what it ran since it
/// fell asleep, it ran now. A function of its own, verified once. Returns 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn lw_back_unseen(tid: u32, now: u64, exec_ns: u64) -> u64 {
    let Some(state) = states::of(tid) else { return 0 };
    if state.why != WHY_FUTEX {
        return 0;
    }
    count(Stat::SwitchInUnseen, 1);
    quick::awake(tid, state);
    let ran = exec_ns.saturating_sub(state.out_exec_ns);
    let back = now.saturating_sub(ran).max(state.out_ns).max(state.wake_ns);
    end(tid, state, back);
    state.why = WHY_RUNNING;
    0
}

/// Sends the wait that may still have gone on, if there is one.
#[inline(always)]
pub(crate) fn close(tid: u32, state: &mut ThreadState, waker_tid: u32) {
    if state.chain.episodes != 0 {
        emit::wait(tid, state, waker_tid);
        state.chain.episodes = 0;
    }
}

#[inline(always)]
fn same_wait(before: &FutexIdentity, now: &FutexIdentity) -> bool {
    // The two words of a condition variable that waiters alternate between are one GIL.
    before.shape == now.shape
        && before.lock == now.lock
        && (before.uaddr == now.uaddr || now.shape == Shape::Gil as u32)
}
