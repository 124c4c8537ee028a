//! From the kernel side's records to the trace's.

mod below;
mod held;
mod homes;
mod in_flight;
mod lifecycle;
mod naming;
mod short;
mod spins;
mod totals;
mod waits;

use std::collections::BTreeMap;
use std::fs::File;

use rustc_hash::FxHashMap;
use tracer_common::event::{ThreadEvent, WaitEvent};
use tracer_common::{
    EVENT_EXEC, EVENT_NATIVE, EVENT_SHORT, EVENT_SPIN, EVENT_STACK, EVENT_THREAD_EXIT,
    EVENT_THREAD_NEW, EVENT_WAIT, ShortEvent, SpinEvent, SpinKey, SpinTotals,
};
use zerocopy::FromBytes;

use self::below::{ByAddress, Replaced};
use super::locks::Locks;
use super::places::Places;
use super::processes::Processes;
use super::run_time::Sampled as RunTimeSampled;
use super::shared::SharedWord;
use super::stacks::Stacks;
use super::threads::{Home, Threads};
use super::uses::Uses;
use crate::kernel::MapMemory;
use crate::probe::{Hooks, Maps};
use crate::trace::processes::LockProcess;
use crate::trace::records::{LockRecord, ShapeSums, SideStack, SpinSums};
use crate::trace::writer::{TraceWriter, WriteError};
use crate::units::{Address, LockIndex, Monotonic, Ns, ProcessIndex, Tid};

/// Where records go.
pub(super) type Sink = TraceWriter<File>;

/// What a record meant for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing beyond the trace.
    Recorded,
    /// A process replaced itself: its interpreter is another now.
    Exec(usize),
    /// A process was born.
    Born(usize),
    /// A thread ended.
    Ended,
}

/// Running sums for the live line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    pub(super) waits: u64,
    pub(super) wait: Ns,
    pub(super) contention: Ns,
}

/// Takes in records and writes the trace.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) processes: Processes,
    pub(super) live: Live,
    pub(super) writer: Sink,
    pub(super) threads: Threads,
    /// With `--uprobes`.
    pub(super) uses: Uses,
    /// There is a sampler.
    sampler: bool,
    pub(super) locks: Locks,
    pub(super) stacks: Stacks,
    /// Locks in memory that processes share: the number that stands for its memory, and the address in
    /// the process that was seen to use it first.
    shared: FxHashMap<SharedWord, (u32, Address)>,
    places: Places,
    /// The waiters' native frames were asked for.
    with_native: bool,
    start: Monotonic,
    min_wait: Ns,
    pub(super) hooks: Hooks,
    malformed: u64,
    yield_runs: u64,
    /// Waits with a record of their own.
    events: u64,
    /// Waits in sums of short ones.
    short_waits: u64,
    /// Waits still under way at the end that were below the threshold.
    below: BTreeMap<u32, ShapeSums>,
    /// Those of programs that the target has replaced.
    below_replaced: Replaced,
    /// The same of waits beyond the limit, and of lost ones.
    limited_replaced: Replaced,
    lost_replaced: Replaced,
    /// Those that the threads have in their states.
    pub(super) below_pending: ByAddress,
    /// Spins still under way at the end.
    spins: Vec<(SpinKey, SpinTotals)>,
    /// Yields and samples of memories that are gone, of which the kernel side has no entry any more.
    retired_spins: BTreeMap<(LockIndex, SideStack), SpinSums>,
    retired_samples: BTreeMap<LockIndex, u64>,
    /// Memories that are gone; of these no record comes any more after the next flush.
    gone: Vec<(usize, u32)>,
    /// Threads whose waits were under way at the end, and on which futex.
    under_way: Vec<(Tid, Address)>,
    /// What the kernel side's maps take.
    pub(super) map_memory: Option<MapMemory>,
    /// How long and how often the programs have run, if the kernel counts that.
    pub(super) bpf_run: Option<(Ns, u64)>,
    /// The same of moments, if it is only asked to now and then.
    pub(super) bpf_sampled: RunTimeSampled,
}

impl Intake {
    pub(super) fn new(
        processes: Processes,
        sampler: bool,
        writer: Sink,
        start: Monotonic,
        min_wait: Ns,
        hooks: Hooks,
        native: bool,
    ) -> Self {
        let home = match processes.get(0).filter(|_| !processes.several) {
            Some(only) => Home { pid: only.pid, place: 0, index: only.record.index },
            None => Home::UNKNOWN,
        };
        Self {
            processes,
            live: Live::default(),
            writer,
            threads: Threads::new(home),
            uses: Uses::default(),
            sampler,
            locks: Locks::default(),
            stacks: Stacks::default(),
            shared: FxHashMap::default(),
            places: Places::default(),
            with_native: native,
            start,
            min_wait,
            hooks,
            malformed: 0,
            yield_runs: 0,
            events: 0,
            short_waits: 0,
            below: BTreeMap::new(),
            map_memory: None,
            below_replaced: Replaced::default(),
            limited_replaced: Replaced::default(),
            lost_replaced: Replaced::default(),
            below_pending: ByAddress::new(),
            spins: Vec::new(),
            retired_spins: BTreeMap::new(),
            retired_samples: BTreeMap::new(),
            gone: Vec::new(),
            under_way: Vec::new(),
            bpf_run: None,
            bpf_sampled: RunTimeSampled::default(),
        }
    }

    /// Takes in one ring-buffer record.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn take(&mut self, bytes: &[u8], maps: &Maps) -> Result<Taken, WriteError> {
        let kind = bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        match kind {
            EVENT_WAIT => match WaitEvent::read_from_prefix(bytes) {
                Ok((event, _)) => self.wait(&event)?,
                Err(_) => self.malformed += 1,
            },
            EVENT_SHORT => match ShortEvent::read_from_prefix(bytes) {
                Ok((event, _)) => self.short(&event)?,
                Err(_) => self.malformed += 1,
            },
            EVENT_SPIN => match SpinEvent::read_from_prefix(bytes) {
                Ok((event, _)) => self.yields(&event)?,
                Err(_) => self.malformed += 1,
            },
            EVENT_STACK => {
                let place = self.home(tid_in(bytes)).place;
                let memories = Self::memories(&self.processes, place);
                if !self.stacks.take(bytes, &memories, &mut self.writer)? {
                    self.malformed += 1;
                }
            }
            EVENT_NATIVE => {
                let place = self.home(tid_in(bytes)).place;
                if let Some(traced) = self.processes.get_mut(place)
                    && !traced.natives.take(bytes, &traced.namer)
                {
                    self.malformed += 1;
                }
            }
            EVENT_THREAD_NEW | EVENT_THREAD_EXIT | EVENT_EXEC => {
                match ThreadEvent::read_from_prefix(bytes) {
                    Ok((event, _)) => return Ok(self.thread(&event, maps)),
                    Err(_) => self.malformed += 1,
                }
            }
            _ => self.malformed += 1,
        }
        Ok(Taken::Recorded)
    }

    /// Writes a lock's record, if it is new; `owner`: whose it is, if it is in nobody else's memory.
    fn write_lock(
        &mut self,
        new: Option<LockRecord>,
        owner: Option<ProcessIndex>,
    ) -> Result<(), WriteError> {
        let Some(record) = new else { return Ok(()) };
        if self.processes.several {
            self.writer.lock_process(LockProcess { lock: record.index, process: owner })?;
        }
        self.writer.lock(record)
    }
}

/// The thread that a record is of: each begins with its kind and a thread id.
fn tid_in(bytes: &[u8]) -> Tid {
    Tid(bytes.get(4..8).and_then(|word| word.first_chunk()).map_or(0, |w| u32::from_le_bytes(*w)))
}
