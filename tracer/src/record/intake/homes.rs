//! Of which process a thread is, and of which memories its addresses.

use super::Intake;
use crate::probe::Maps;
use crate::record::processes::Processes;
use crate::record::stacks::Memories;
use crate::record::threads::Home;
use crate::units::{Pid, Tid};

impl Intake {
    /// Looks at the target's threads anew: names, and where their stacks are.
    pub(in crate::record) fn refresh_threads(&mut self, maps: &mut Maps) {
        self.threads.refresh_names();
        for place in self.processes.living() {
            self.refresh_threads_of(place, maps);
        }
    }

    /// The same of one process.
    pub(in crate::record) fn refresh_threads_of(&mut self, place: usize, maps: &mut Maps) {
        let Some(traced) = self.processes.get_mut(place) else { return };
        traced.thread_ids.refresh(traced.pid, &traced.namer, maps);
        for (tid, name) in traced.thread_ids.names() {
            self.threads.set_python_name(tid, name);
        }
    }

    /// Says of which process a thread is; `pid` 0: nobody said.
    pub(in crate::record) fn settle(&mut self, tid: Tid, pid: Pid) {
        let pid = if pid == Pid(0) { process_of(tid).unwrap_or_default() } else { pid };
        if let Some(place) = self.processes.place(pid)
            && let Some(traced) = self.processes.get(place)
        {
            self.threads.settle(tid, Home { pid, place, index: traced.record.index });
        }
    }

    /// The process of a thread.
    pub(super) fn home(&mut self, tid: Tid) -> Home {
        if !self.threads.is_settled(tid) {
            self.settle(tid, Pid(0)); // the record of its birth was lost
        }
        self.threads.home(tid)
    }

    /// Number of the memory of a thread.
    pub(super) fn memory_of(&mut self, tid: Tid) -> u32 {
        let place = self.home(tid).place;
        self.processes.get(place).map_or(0, |traced| traced.number)
    }

    /// A process's memory, and those that it was copied from.
    pub(super) fn memories(processes: &Processes, place: usize) -> Memories<'_> {
        let Some(own) = processes.get(place) else { return Vec::new() };
        let all =
            std::iter::once(own).chain(own.ancestors.iter().filter_map(|&n| processes.get(n)));
        all.map(|traced| (traced.number, &traced.namer)).collect()
    }
}

/// The process of a thread, if that is still there.
fn process_of(tid: Tid) -> Option<Pid> {
    let status = std::fs::read(format!("/proc/{}/status", tid.0)).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok().map(Pid)
}
