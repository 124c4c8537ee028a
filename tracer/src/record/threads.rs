//! The threads of the recording: thread ids come back, indices don't.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use tracer_common::ThreadState;

use crate::target::{comm, exec_time};
use crate::trace::records::ThreadRecord;
use crate::units::{Monotonic, Ns, Pid, ProcessIndex, ThreadIndex, Tid};

/// The process of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    /// As the host numbers it.
    pub(super) pid: Pid,
    /// Its place among the [processes](super::processes::Processes).
    pub(super) place: usize,
    /// In the trace.
    pub(super) index: ProcessIndex,
}

impl Home {
    /// Of a thread whose process is not known.
    pub(super) const UNKNOWN: Self =
        Self { pid: Pid(0), place: usize::MAX, index: ProcessIndex(u32::MAX) };
}

/// All threads seen so far.
#[derive(Debug)]
pub(super) struct Threads {
    /// The process of a thread of which that is not said.
    home: Home,
    /// The others.
    homes: FxHashMap<Tid, Home>,
    /// By index.
    pids: Vec<Pid>,
    records: Vec<ThreadRecord>,
    /// Those of which more than counters differs from what was last written, by index.
    changed: BTreeSet<usize>,
    /// Those of which counters differ.
    counted: BTreeSet<usize>,
    /// Time on a CPU before the recording, by index.
    exec_before: Vec<Ns>,
    current: FxHashMap<Tid, ThreadIndex>,
    /// Ended threads whose kernel state is still to be removed.
    ended: Vec<Tid>,
}

impl Threads {
    /// `home`: where threads are of which nothing else is said.
    pub(super) fn new(home: Home) -> Self {
        Self {
            home,
            homes: FxHashMap::default(),
            pids: Vec::new(),
            records: Vec::new(),
            changed: BTreeSet::new(),
            counted: BTreeSet::new(),
            exec_before: Vec::new(),
            current: FxHashMap::default(),
            ended: Vec::new(),
        }
    }

    /// The thread that has this id now.
    pub(super) fn index(&mut self, tid: Tid) -> ThreadIndex {
        match self.current.get(&tid) {
            Some(&index) => index,
            None => self.add(tid, None),
        }
    }

    /// Says which process a thread is of, before anything else is said of it.
    pub(super) fn settle(&mut self, tid: Tid, home: Home) {
        self.homes.insert(tid, home);
    }

    /// The process of a thread.
    pub(super) fn home(&self, tid: Tid) -> Home {
        self.homes.get(&tid).copied().unwrap_or(self.home)
    }

    /// Whether that was said, or needs no saying.
    pub(super) fn is_settled(&self, tid: Tid) -> bool {
        self.home.place != usize::MAX || self.homes.contains_key(&tid)
    }

    /// True if a thread with this id has been seen.
    pub(super) fn is_known(&self, tid: Tid) -> bool {
        self.current.contains_key(&tid)
    }

    /// A thread was born.
    pub(super) fn born(&mut self, tid: Tid, at: Monotonic) {
        self.ended.retain(|&ended| ended != tid);
        // Its first waits may have come by another way already.
        let known = self.current.get(&tid).and_then(|index| self.records.get(index.0 as usize));
        if known.is_none_or(|record| record.ended.is_some()) {
            self.add(tid, Some(at));
        }
    }

    /// A thread ends.
    pub(super) fn ended(&mut self, tid: Tid, at: Monotonic, name: &[u8; 16]) {
        let index = self.index(tid);
        self.change(index, |record| {
            record.ended = Some(at);
            record.name = comm_text(name);
        });
        self.ended.push(tid);
    }

    /// Threads that have ended and are gone: their kernel state may be removed.
    pub(super) fn take_gone(&mut self) -> Vec<Tid> {
        let ended = std::mem::take(&mut self.ended);
        let task = |tid: Tid| format!("/proc/{}/task/{}", self.home(tid).pid.0, tid.0);
        let (gone, still): (Vec<_>, Vec<_>) =
            ended.into_iter().partition(|&tid| !std::path::Path::new(&task(tid)).exists());
        self.ended = still;
        gone
    }

    /// Takes over what the kernel side summed up for a thread, and its time on a CPU. Returns the
    /// latter since the thread's birth, if the thread is still there.
    pub(super) fn update(&mut self, tid: Tid, state: &ThreadState) -> Option<Ns> {
        let index = self.index(tid);
        let exec = exec_time(self.home(tid).pid, tid).filter(|_| state.exit_exec_ns == 0);
        let total = exec.unwrap_or(Ns(state.exit_exec_ns));
        let before = self.exec_before.get(index.0 as usize).copied().unwrap_or_default();
        self.change(index, |record| {
            record.oncpu = Ns(total.0.saturating_sub(before.0)).max(record.oncpu);
            record.futex_switches = state.futex_switches;
            record.yield_switches = state.yield_switches + state.spin.yields;
        });
        exec
    }

    /// Reads the names of the threads that live (they may have been set after birth).
    pub(super) fn refresh_names(&mut self) {
        let all = self.records.iter_mut().zip(&self.pids).enumerate();
        for (index, (record, &pid)) in all.filter(|(_, (record, _))| record.ended.is_none()) {
            let name = comm(pid, record.tid);
            if !name.is_empty() && name != record.name {
                record.name = name;
                self.changed.insert(index);
            }
        }
    }

    /// Takes over a thread's name in Python.
    pub(super) fn set_python_name(&mut self, tid: Tid, name: &str) {
        let index = self.index(tid);
        self.change(index, |record| {
            if record.python_name.as_deref() != Some(name) {
                record.python_name = Some(name.to_owned());
            }
        });
    }

    /// The records of threads that are new, have ended or have another name than when they were last
    /// asked for.
    pub(super) fn take_changed(&mut self) -> Vec<ThreadRecord> {
        let changed = std::mem::take(&mut self.changed);
        self.counted.retain(|index| !changed.contains(index));
        changed.into_iter().filter_map(|index| self.records.get(index).cloned()).collect()
    }

    /// The same, and those of which counters have changed. Threads that have ended, of which a long
    /// recording may have many, are not written again and again.
    pub(super) fn take_counted(&mut self) -> Vec<ThreadRecord> {
        self.changed.append(&mut self.counted);
        self.take_changed()
    }

    fn change(&mut self, index: ThreadIndex, change: impl FnOnce(&mut ThreadRecord)) {
        let place = index.0 as usize;
        let Some(record) = self.records.get_mut(place) else { return };
        let counters =
            |record: &ThreadRecord| (record.oncpu, record.futex_switches, record.yield_switches);
        let (before, ended) = (counters(record), record.ended);
        let named = record.python_name.clone();
        change(record);
        if ended != record.ended || named != record.python_name {
            self.changed.insert(place);
        } else if before != counters(record) {
            self.counted.insert(place);
        }
    }

    fn add(&mut self, tid: Tid, born: Option<Monotonic>) -> ThreadIndex {
        let index = ThreadIndex(u32::try_from(self.records.len()).unwrap_or(u32::MAX));
        let Home { pid, index: process, .. } = self.home(tid);
        self.pids.push(pid);
        self.changed.insert(self.records.len());
        self.records.push(ThreadRecord {
            index,
            tid,
            process,
            name: comm(pid, tid),
            born,
            ..ThreadRecord::default()
        });
        let before = if born.is_none() { exec_time(pid, tid) } else { None };
        self.exec_before.push(before.unwrap_or_default());
        self.current.insert(tid, index);
        index
    }
}

pub(super) fn comm_text(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
