//! Threads as the host numbers them, as their own PID namespace does, and their `PyThreadState`s.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tracer_common::{SUBJECTS, ThreadStateAddress};

use crate::cpython::{
    CodeNames, Held, Namer, Walk, first_locals, held_locks, thread_ident, thread_name,
    thread_states, walk,
};
use crate::probe::Maps;
use crate::target::{blocked_futex, ns_tid, tids};
use crate::units::{Address, Pid, Tid};

/// Of more threads than this, each is asked for its name once only.
const RENAMED_THREADS: usize = 64;

/// A thread that is not known may have been born since the last look, if that was longer ago.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is known of the target's threads beside their waits.
#[derive(Debug, Default)]
pub(super) struct ThreadIds {
    by_namespace: FxHashMap<u32, Tid>,
    /// With the thread's id in its own PID namespace.
    states: FxHashMap<Tid, (Address, u32)>,
    /// By `pthread_self()`, as an RLock keeps its owner.
    by_ident: FxHashMap<u64, Tid>,
    names: FxHashMap<Tid, String>,
    looked: Option<Instant>,
    codes: CodeNames,
}

impl ThreadIds {
    /// Looks at all threads anew, and tells the kernel side their thread states: it finds new ones
    /// itself, but not among many.
    pub(super) fn refresh(&mut self, pid: Pid, namer: &Namer, maps: &mut Maps) {
        self.look(pid, namer);
        let (Some(memory), Some(python)) = (namer.memory(), namer.interpreter()) else { return };
        for (&tid, &(address, ns_tid)) in &self.states {
            let state = ThreadStateAddress { address: address.0, ns_tid, ..Default::default() };
            maps.set_thread_state(tid, &state);
        }
        self.names.retain(|tid, _| self.states.contains_key(tid));
        let again = self.states.len() <= RENAMED_THREADS;
        for (&tid, &(state, _)) in &self.states {
            if (again || !self.names.contains_key(&tid))
                && let Some(name) = thread_name(memory, python, &mut self.codes, state)
            {
                self.names.insert(tid, name);
            }
        }
    }

    fn look(&mut self, pid: Pid, namer: &Namer) {
        let (Some(memory), Some(python)) = (namer.memory(), namer.interpreter()) else { return };
        self.looked = Some(Instant::now());
        let threads = tids(pid).unwrap_or_default();
        self.by_namespace =
            threads.iter().filter_map(|&tid| Some((ns_tid(pid, tid)?, tid))).collect();
        self.states.clear();
        self.by_ident.clear();
        for (ns_tid, address) in thread_states(memory, python) {
            let Some(&tid) = self.by_namespace.get(&ns_tid) else { continue };
            // A thread has a state in each interpreter that it ran in; the first is the newest.
            self.states.entry(tid).or_insert((address, ns_tid));
            if let Some(ident) = thread_ident(memory, python, address) {
                self.by_ident.insert(ident, tid);
            }
        }
    }

    /// Looks again if that is worth it: somebody asks for a thread that may have been born since.
    fn look_again(&mut self, pid: Pid, namer: &Namer) {
        if self.looked.is_none_or(|looked| looked.elapsed() > LOOK_AGAIN) {
            self.look(pid, namer);
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

    /// The thread whose `pthread_self()` this is.
    pub(super) fn by_ident(&mut self, ident: u64, pid: Pid, namer: &Namer) -> Option<Tid> {
        if ident != 0 && !self.by_ident.contains_key(&ident) {
            self.look_again(pid, namer);
        }
        self.by_ident.get(&ident).copied()
    }

    /// A thread's `PyThreadState`.
    pub(super) fn state(&mut self, tid: Tid, pid: Pid, namer: &Namer) -> Option<Address> {
        if !self.states.contains_key(&tid) {
            self.look_again(pid, namer);
        }
        self.states.get(&tid).map(|&(address, _)| address)
    }

    /// The host's id of a thread.
    pub(super) fn host(&self, ns_tid: u32) -> Option<Tid> {
        self.by_namespace.get(&ns_tid).copied()
    }

    /// The Python stack of a thread that is blocked on `futex` and stays so while it is walked, and
    /// the first local variables of its innermost frames.
    pub(super) fn walk_blocked(
        &self,
        pid: Pid,
        tid: Tid,
        futex: Address,
        namer: &Namer,
    ) -> Option<(Walk, [u64; SUBJECTS])> {
        let blocked = || blocked_futex(pid, tid).is_some_and(|found| found.uaddr == futex);
        let (memory, python) = (namer.memory()?, namer.interpreter()?);
        let (state, _) = *self.states.get(&tid)?;
        if !blocked() {
            return None;
        }
        let walked = (walk(memory, python, state)?, first_locals(memory, python, state));
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
        let (state, _) = *self.states.get(&tid)?;
        if !blocked() {
            return None;
        }
        let held = held_locks(memory, python, &mut self.codes, state);
        blocked().then_some(held)
    }
}
