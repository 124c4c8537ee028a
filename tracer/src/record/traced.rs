//! One process, and what is known of it.

use super::lookout::Lookout;
use super::natives::Natives;
use super::shared::SharedMemory;
use super::spin_code::SpinCodes;
use super::thread_ids::ThreadIds;
use crate::cpython::Namer;
use crate::trace::processes::ProcessRecord;
use crate::units::Pid;

/// One process, and what is known of it.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) pid: Pid,
    /// Of its memory.
    pub(super) number: u32,
    pub(super) namer: Namer,
    pub(super) thread_ids: ThreadIds,
    pub(super) natives: Natives,
    /// With a sampler.
    pub(super) spin_codes: Option<SpinCodes>,
    pub(super) shared: SharedMemory,
    /// The look-out for an interpreter; `None`: it is known, or the process has ended.
    pub(super) lookout: Option<Lookout>,
    pub(super) record: ProcessRecord,
    /// Processes whose memory this one's was copied from, the parent first.
    pub(super) ancestors: Vec<usize>,
    /// Threads that were seen to be born, and not to end.
    pub(super) alive: u32,
    /// The record is not in the trace as it is.
    pub(super) changed: bool,
}

impl Traced {
    pub(super) fn new(pid: Pid, number: u32, namer: Namer, sampler: bool) -> Self {
        let lookout = namer.interpreter().is_none().then(Lookout::begin);
        Self {
            pid,
            number,
            namer,
            thread_ids: ThreadIds::default(),
            natives: Natives::new(pid),
            spin_codes: sampler.then(|| SpinCodes::new(pid)),
            shared: SharedMemory::default(),
            lookout,
            record: ProcessRecord::default(),
            ancestors: Vec::new(),
            alive: 0,
            changed: true,
        }
    }

    /// For a thread whose process is not known.
    pub(super) fn unknown() -> Self {
        Self { lookout: None, ..Self::new(Pid(0), 0, Namer::default(), false) }
    }

    /// It has not ended.
    pub(super) fn lives(&self) -> bool {
        self.record.ended.is_none()
    }

    /// Frees what only a living process needs.
    pub(super) fn forget(&mut self) {
        self.thread_ids = ThreadIds::default();
        self.natives = Natives::new(self.pid);
        self.shared = SharedMemory::default();
        self.lookout = None;
    }
}
