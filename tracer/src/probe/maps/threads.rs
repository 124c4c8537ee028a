//! Threads and their states.

use tracer_common::thread::{ASLEEP, QUICK_SLOTS};
use tracer_common::{InitialWait, QuickState, ThreadState, ThreadStateAddress};

use super::{MapError, Maps, failed};
use crate::units::Tid;

impl Maps {
    /// Adds a thread unless the kernel side already knows it.
    ///
    /// # Errors
    /// If the table is full.
    pub fn add_thread(&mut self, tid: Tid, state: &ThreadState) -> Result<(), MapError> {
        /// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
        const NO_EXIST: u64 = 1;
        let slot = self.quick_slot(tid);
        if slot.tid == 0 {
            self.states.set(tid.0 % QUICK_SLOTS, state, 0).map_err(failed("STATES"))?;
            // Its first switch-in may be the end of a wait that is under way.
            let slot = QuickState { tid: tid.0, asleep: ASLEEP, ..QuickState::default() };
            self.quick.set(tid.0 % QUICK_SLOTS, slot, 0).map_err(failed("QUICK"))?;
        }
        match self.threads.insert(tid.0, state, NO_EXIST) {
            Err(error) if self.thread(tid).is_none() => Err(failed("THREADS")(error)),
            _ => Ok(()),
        }
    }

    /// A thread's state.
    #[must_use]
    pub fn thread(&self, tid: Tid) -> Option<ThreadState> {
        let state = self.threads.get(&tid.0, 0).ok()?;
        Some(self.with_quick(tid, state))
    }

    fn quick_slot(&self, tid: Tid) -> QuickState {
        self.quick.get(&(tid.0 % QUICK_SLOTS), 0).unwrap_or_default()
    }

    /// What is known of a thread, of which the table of all threads has `state`.
    fn with_quick(&self, tid: Tid, mut state: ThreadState) -> ThreadState {
        let slot = self.quick_slot(tid);
        if slot.tid == tid.0 {
            state = self.states.get(&(tid.0 % QUICK_SLOTS), 0).unwrap_or(state);
            state.spin.yields += slot.yields;
            if slot.wake_ns != 0 {
                state.wake_ns = slot.wake_ns;
                state.waker_tid = slot.waker_tid;
            }
        }
        state
    }

    /// All threads and their states.
    #[must_use]
    pub fn threads(&self) -> Vec<(Tid, ThreadState)> {
        let all = self.threads.iter().flatten().map(|(tid, state)| (Tid(tid), state));
        all.map(|(tid, state)| (tid, self.with_quick(tid, state))).collect()
    }

    /// Forgets a dead thread.
    pub fn remove_thread(&mut self, tid: Tid) {
        // Not there any more is as good.
        let _ = self.threads.remove(&tid.0);
    }

    /// Says that a thread has been waiting since before the recording.
    ///
    /// # Errors
    /// If the table is full.
    pub fn add_initial_wait(&mut self, tid: Tid, wait: &InitialWait) -> Result<(), MapError> {
        self.initial.insert(tid.0, wait, 0).map_err(failed("INITIAL"))
    }

    /// Says where a thread's `PyThreadState` is. If the table is full the kernel side searches.
    pub fn set_thread_state(&mut self, tid: Tid, state: &ThreadStateAddress) {
        let _ = self.thread_states.insert(tid.0, state, 0);
    }
}
