//! The threads of the recording: thread ids come back, indices don't.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

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

/// So long after its end a thread's id still means that thread, unless another is born with it: waits
/// that it ended, and energy windows, are told later. Who names it after that names a new one.
const REMEMBERED: Duration = Duration::from_secs(30);

/// A quarter of the smallest room in the kernel side's table may be taken by ended threads until the next
/// flush: as long as possible, since those that have just ended may still be switched.
const MANY_ENDED: usize = 1_024;

/// What is known of one thread.
#[derive(Debug)]
struct Known {
    record: ThreadRecord,
    pid: Pid,
    /// Time on a CPU before the recording.
    exec_before: Ns,
}

/// The threads that live, and those that ended lately.
#[derive(Debug)]
pub(super) struct Threads {
    /// The process of a thread of which that is not said.
    home: Home,
    /// The others.
    homes: FxHashMap<Tid, Home>,
    known: FxHashMap<ThreadIndex, Known>,
    /// The index of the next new one.
    next: u32,
    /// Those of which more than counters differs from what was last written.
    changed: BTreeSet<ThreadIndex>,
    /// Those of which counters differ.
    counted: BTreeSet<ThreadIndex>,
    current: FxHashMap<Tid, ThreadIndex>,
    /// Ended threads whose kernel state is still to be removed.
    ended: Vec<Tid>,
    /// Ended threads that are still known, in the order of their ends.
    leaving: VecDeque<(Instant, Tid, ThreadIndex)>,
}

impl Threads {
    /// `home`: where threads are of which nothing else is said.
    pub(super) fn new(home: Home) -> Self {
        Self {
            home,
            homes: FxHashMap::default(),
            known: FxHashMap::default(),
            next: 0,
            changed: BTreeSet::new(),
            counted: BTreeSet::new(),
            current: FxHashMap::default(),
            ended: Vec::new(),
            leaving: VecDeque::new(),
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
        let known = self.current.get(&tid).and_then(|index| self.known.get(index));
        if known.is_none_or(|known| known.record.ended.is_some()) {
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
        self.leaving.push_back((Instant::now(), tid, index));
    }

    /// Forgets threads that ended a while ago, once the trace has them: a program may start one for each
    /// request.
    pub(super) fn forget_ended(&mut self) {
        let Some(before) = Instant::now().checked_sub(REMEMBERED) else { return };
        self.forget_ended_before(before);
    }

    fn forget_ended_before(&mut self, before: Instant) {
        while let Some(&(at, tid, index)) = self.leaving.front() {
            let written = !self.changed.contains(&index) && !self.counted.contains(&index);
            if at > before || !written {
                return;
            }
            self.leaving.pop_front();
            self.known.remove(&index);
            if self.current.get(&tid) == Some(&index) {
                self.current.remove(&tid);
                self.homes.remove(&tid);
            }
        }
    }

    /// So many have ended that their kernel state is to be removed before the next flush.
    pub(super) fn many_ended(&self) -> bool {
        self.ended.len() >= MANY_ENDED
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
        let before = self.known.get(&index).map_or(Ns(0), |known| known.exec_before);
        self.change(index, |record| {
            record.oncpu = Ns(total.0.saturating_sub(before.0)).max(record.oncpu);
            record.futex_switches = state.futex_switches;
            record.yield_switches = state.yield_switches + state.spin.yields;
        });
        exec
    }

    /// Reads the names of the threads that live (they may have been set after birth).
    pub(super) fn refresh_names(&mut self) {
        let all = self.known.iter_mut();
        for (&index, Known { record, pid, .. }) in all.filter(|(_, one)| one.record.ended.is_none())
        {
            let name = comm(*pid, record.tid);
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
        let known = changed.into_iter().filter_map(|index| self.known.get(&index));
        known.map(|known| known.record.clone()).collect()
    }

    /// The same, and those of which counters have changed. Threads that have ended, of which a long
    /// recording may have many, are not written again and again.
    pub(super) fn take_counted(&mut self) -> Vec<ThreadRecord> {
        self.changed.append(&mut self.counted);
        self.take_changed()
    }

    fn change(&mut self, index: ThreadIndex, change: impl FnOnce(&mut ThreadRecord)) {
        let Some(Known { record, .. }) = self.known.get_mut(&index) else { return };
        let counters =
            |record: &ThreadRecord| (record.oncpu, record.futex_switches, record.yield_switches);
        let (before, ended) = (counters(record), record.ended);
        let named = record.python_name.clone();
        change(record);
        if ended != record.ended || named != record.python_name {
            self.changed.insert(index);
        } else if before != counters(record) {
            self.counted.insert(index);
        }
    }

    fn add(&mut self, tid: Tid, born: Option<Monotonic>) -> ThreadIndex {
        let index = ThreadIndex(self.next);
        self.next = self.next.saturating_add(1);
        let Home { pid, index: process, .. } = self.home(tid);
        let record = ThreadRecord {
            index,
            tid,
            process,
            name: comm(pid, tid),
            born,
            ..ThreadRecord::default()
        };
        let before = if born.is_none() { exec_time(pid, tid) } else { None };
        let exec_before = before.unwrap_or_default();
        self.changed.insert(index);
        self.known.insert(index, Known { record, pid, exec_before });
        self.current.insert(tid, index);
        index
    }
}

pub(super) fn comm_text(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads() -> Threads {
        Threads::new(Home { pid: Pid(u32::MAX), place: 0, index: ProcessIndex(0) })
    }

    #[test]
    fn what_is_kept_of_ended_threads_does_not_grow() {
        let mut threads = threads();
        let lives = threads.index(Tid(1));
        for n in 0..10_000 {
            let tid = Tid(10 + n % 500);
            threads.born(tid, Monotonic(1));
            let index = threads.index(tid);
            threads.ended(tid, Monotonic(2), b"worker\0\0\0\0\0\0\0\0\0\0");
            assert_eq!(threads.index(tid), index, "records about it are told later");
            if n % 100 == 99 {
                let written = threads.take_changed();
                assert!(written.iter().filter(|one| one.ended.is_some()).count() == 100);
                threads.take_gone();
                threads.forget_ended_before(Instant::now());
                assert_eq!(threads.known.len(), 1, "the one that lives");
            }
        }
        let left = (threads.current.len(), threads.leaving.len(), threads.ended.len());
        assert_eq!(left, (1, 0, 0));
        assert_eq!(threads.index(Tid(1)), lives);
        assert_eq!(threads.next, 10_001, "each has an index of its own");
    }

    #[test]
    fn a_thread_that_is_not_written_yet_or_ended_just_now_is_kept() {
        let mut threads = threads();
        threads.born(Tid(7), Monotonic(1));
        threads.ended(Tid(7), Monotonic(2), &[0; 16]);
        threads.forget_ended_before(Instant::now());
        assert_eq!(threads.take_changed().len(), 1, "it was not written");
        threads.forget_ended();
        assert_eq!(threads.known.len(), 1, "it ended just now");
        threads.born(Tid(7), Monotonic(3));
        threads.take_changed();
        threads.forget_ended_before(Instant::now());
        assert!(threads.is_known(Tid(7)), "this id is another thread's by now");
        assert_eq!(threads.known.len(), 1);
    }
}
