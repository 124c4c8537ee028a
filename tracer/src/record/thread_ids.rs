//! Threads as the host numbers them, as their own PID namespace does, and their `PyThreadState`s.

use rustc_hash::FxHashMap;
use tracer_common::ThreadStateAddress;

use crate::cpython::{CodeNames, Held, Namer, held_locks, thread_name, thread_states, walk};
use crate::probe::Maps;
use crate::target::{blocked_futex, ns_tid, tids};
use crate::units::{Address, Pid, Tid};

/// Of more threads than this, each is asked for its name once only.
const RENAMED_THREADS: usize = 64;

/// What is known of the target's threads beside their waits.
#[derive(Debug, Default)]
pub(super) struct ThreadIds {
    by_namespace: FxHashMap<u32, Tid>,
    states: FxHashMap<Tid, Address>,
    names: FxHashMap<Tid, String>,
    codes: CodeNames,
}

impl ThreadIds {
    /// Looks at all threads anew, and tells the kernel side their thread states: it finds new ones
    /// itself, but not among many.
    pub(super) fn refresh(&mut self, pid: Pid, namer: &Namer, maps: &mut Maps) {
        let (Some(memory), Some(python)) = (namer.memory(), namer.interpreter()) else { return };
        let threads = tids(pid).unwrap_or_default();
        self.by_namespace =
            threads.iter().filter_map(|&tid| Some((ns_tid(pid, tid)?, tid))).collect();
        self.states.clear();
        for (ns_tid, address) in thread_states(memory, python) {
            let Some(&tid) = self.by_namespace.get(&ns_tid) else { continue };
            // A thread has a state in each interpreter that it ran in; the first is the newest.
            if self.states.insert(tid, address).is_none() {
                let state = ThreadStateAddress { address: address.0, ns_tid, ..Default::default() };
                maps.set_thread_state(tid, &state);
            }
        }
        self.names.retain(|tid, _| self.states.contains_key(tid));
        let again = self.states.len() <= RENAMED_THREADS;
        for (&tid, &state) in &self.states {
            if (again || !self.names.contains_key(&tid))
                && let Some(name) = thread_name(memory, python, &mut self.codes, state)
            {
                self.names.insert(tid, name);
            }
        }
    }

    /// `threading.Thread.name` of the threads that have one, as last read.
    pub(super) fn names(&self) -> impl Iterator<Item = (Tid, &str)> {
        self.names.iter().map(|(&tid, name)| (tid, name.as_str()))
    }

    /// The process is another program now.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The host's id of a thread.
    pub(super) fn host(&self, ns_tid: u32) -> Option<Tid> {
        self.by_namespace.get(&ns_tid).copied()
    }

    /// The Python stack of a thread that is blocked on `futex` and stays so while it is walked.
    pub(super) fn walk_blocked(
        &self,
        pid: Pid,
        tid: Tid,
        futex: Address,
        namer: &Namer,
    ) -> Option<crate::cpython::Walk> {
        let blocked = || blocked_futex(pid, tid).is_some_and(|found| found.uaddr == futex);
        let (memory, python) = (namer.memory()?, namer.interpreter()?);
        let state = *self.states.get(&tid)?;
        if !blocked() {
            return None;
        }
        let walked = walk(memory, python, state)?;
        blocked().then_some(walked)
    }

    /// The locks that a thread seems to have which is blocked on `futex` and stays so meanwhile.
    pub(super) fn held_while_blocked(
        &mut self,
        pid: Pid,
        tid: Tid,
        futex: Address,
        namer: &Namer,
    ) -> Option<Vec<Held>> {
        let blocked = || blocked_futex(pid, tid).is_some_and(|found| found.uaddr == futex);
        let (memory, python) = (namer.memory()?, namer.interpreter()?);
        let state = *self.states.get(&tid)?;
        if !blocked() {
            return None;
        }
        let held = held_locks(memory, python, &mut self.codes, state);
        blocked().then_some(held)
    }
}
