//! Waits that are still under way when the recording ends, clipped to it.

use tracer_common::event::{EVENT_WAIT, WAIT_CLIPPED_END, WAIT_CLIPPED_START, WaitEvent};
use tracer_common::thread::{Chain, WHY_FUTEX, WHY_RUNNING, WHY_YIELD};
use tracer_common::{InitialWait, SpinKey, SpinTotals, ThreadState};

use crate::units::{Monotonic, Ns, Tid};

/// What a thread's last state holds that no event has told.
#[derive(Debug, Default)]
pub(super) struct Remainder {
    /// The wait under way, or the one that might have gone on.
    pub(super) wait: Option<WaitEvent>,
    /// What was spun on and where, and the yields, with time off and on the CPU in them.
    pub(super) spin: Option<(SpinKey, SpinTotals)>,
}

/// Reads the remainder out of a thread's state. `initial` is the wait it was found in at attach,
/// `exec` its time on a CPU so far (as of the last tick, if it runs).
pub(super) fn remainder(
    tid: Tid,
    state: &ThreadState,
    initial: Option<&InitialWait>,
    end: Monotonic,
    exec: Option<Ns>,
) -> Remainder {
    let mut chain = state.chain;
    if state.why == WHY_FUTEX {
        if chain.episodes == 0 {
            chain = Chain { id: state.current, start_ns: state.out_ns, ..Chain::default() };
        }
        extend(&mut chain, state.out_ns, state.wake_ns, end.0);
    } else if state.why == WHY_RUNNING
        && state.out_ns == 0
        && let Some(initial) = initial
    {
        // Not switched once since the beginning: it has waited all the time.
        chain = Chain { id: initial.id, start_ns: initial.start_ns, ..Chain::default() };
        chain.flags |= WAIT_CLIPPED_START;
        extend(&mut chain, initial.start_ns, state.wake_ns, end.0);
    }
    let spin = &state.spin;
    let yielded = if spin.start_ns == 0 {
        let under_way = if state.why == WHY_YIELD { end.0.saturating_sub(state.out_ns) } else { 0 };
        spin.yielded_ns + under_way
    } else {
        // As the kernel side's `spin::flush` does it.
        let ran = exec.map_or(0, |exec| exec.0.saturating_sub(spin.start_exec_ns));
        end.0.saturating_sub(spin.start_ns).saturating_sub(ran)
    };
    Remainder {
        wait: (chain.episodes != 0).then(|| event(tid, &chain, state)),
        spin: (spin.yields != 0).then_some((
            SpinKey { lock: spin.lock, stack: spin.stack },
            SpinTotals {
                yields: spin.yields,
                yielded_ns: yielded,
                spin_ns: spin.spin_ns,
                object_type: 0,
            },
        )),
    }
}

fn extend(chain: &mut Chain, out_ns: u64, wake_ns: u64, end_ns: u64) {
    let woken = if wake_ns >= out_ns { wake_ns.min(end_ns) } else { end_ns };
    chain.blocked_ns += woken.saturating_sub(out_ns);
    chain.runq_ns += end_ns.saturating_sub(woken);
    chain.end_ns = end_ns;
    chain.flags |= WAIT_CLIPPED_END;
    chain.episodes += 1;
}

fn event(tid: Tid, chain: &Chain, state: &ThreadState) -> WaitEvent {
    WaitEvent {
        event: EVENT_WAIT,
        tid: tid.0,
        start_ns: chain.start_ns,
        end_ns: chain.end_ns,
        blocked_ns: chain.blocked_ns,
        runq_ns: chain.runq_ns,
        uaddr: chain.id.uaddr,
        lock: chain.id.lock,
        park_arg: chain.id.park_arg,
        object_type: chain.id.object_type,
        op: chain.id.op,
        val: chain.id.val,
        shape: chain.id.shape,
        flags: chain.flags | state.holder_flags,
        episodes: chain.episodes,
        waiter_stack: state.waiter_stack,
        native_stack: state.native_stack,
        holder_stack: state.holder_stack,
        holder_ns_tid: state.holder_ns_tid,
        marks: chain.id.marks,
        object: chain.id.object,
        owner: chain.id.owner,
        subjects: state.subjects,
        ..WaitEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Monotonic = Monotonic(1_000);

    fn wait_of(state: &ThreadState, initial: Option<&InitialWait>) -> Option<WaitEvent> {
        remainder(Tid(1), state, initial, END, None).wait
    }

    #[test]
    fn a_sleeping_thread_waits_until_the_end() {
        let state = ThreadState { why: WHY_FUTEX, out_ns: 400, ..Default::default() };
        let wait = wait_of(&state, None).expect("a wait");
        assert_eq!((wait.start_ns, wait.end_ns), (400, 1_000));
        assert_eq!((wait.blocked_ns, wait.runq_ns), (600, 0));
        assert_eq!(wait.flags, WAIT_CLIPPED_END);
    }

    #[test]
    fn a_woken_thread_that_has_not_run_yet_is_in_the_run_queue() {
        let state = ThreadState { why: WHY_FUTEX, out_ns: 400, wake_ns: 900, ..Default::default() };
        let wait = wait_of(&state, None).expect("a wait");
        assert_eq!((wait.blocked_ns, wait.runq_ns), (500, 100));
    }

    #[test]
    fn an_open_chain_is_told_even_if_the_thread_runs() {
        let chain = Chain {
            start_ns: 100,
            end_ns: 300,
            blocked_ns: 190,
            runq_ns: 10,
            episodes: 2,
            ..Default::default()
        };
        let state = ThreadState { out_ns: 1, chain, ..Default::default() };
        let wait = wait_of(&state, None).expect("a wait");
        assert_eq!((wait.blocked_ns, wait.runq_ns, wait.episodes), (190, 10, 2));
        assert_eq!(wait.flags, 0);
        let state = ThreadState { why: WHY_FUTEX, out_ns: 500, ..state };
        let wait = wait_of(&state, None).expect("a wait");
        assert_eq!((wait.start_ns, wait.blocked_ns, wait.episodes), (100, 690, 3));
    }

    #[test]
    fn time_neither_run_nor_slept_since_the_first_yield_was_yielded() {
        let mut state = ThreadState::default();
        state.spin.lock = 7;
        state.spin.yields = 3;
        state.spin.start_ns = 200;
        state.spin.start_exec_ns = 5_000;
        let rest = remainder(Tid(1), &state, None, END, Some(Ns(5_300)));
        let (key, spin) = rest.spin.expect("a spin");
        assert_eq!((key.lock, spin.yields, spin.yielded_ns, spin.spin_ns), (7, 3, 500, 0));
    }

    #[test]
    fn a_thread_that_never_moved_waited_all_along_only_if_it_was_found_waiting() {
        let state = ThreadState::default();
        assert!(wait_of(&state, None).is_none());
        let initial = InitialWait { start_ns: 250, ..Default::default() };
        let wait = wait_of(&state, Some(&initial)).expect("a wait");
        assert_eq!((wait.start_ns, wait.blocked_ns), (250, 750));
        assert_eq!(wait.flags, WAIT_CLIPPED_START | WAIT_CLIPPED_END);
        let moved = ThreadState { out_ns: 300, ..Default::default() };
        assert!(wait_of(&moved, Some(&initial)).is_none());
    }
}
