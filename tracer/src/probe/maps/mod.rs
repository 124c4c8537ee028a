//! The kernel side's maps, as user space uses them.

mod counters;
mod processes;
mod spins;
mod threads;

pub use counters::Without;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, Queue, RingBuf};
use tracer_common::{
    InitialWait, InterpreterConfig, LockSamples, LockTotals, ProcessState, QuickState,
    SampleTotals, ShapeTotals, SpinCode, SpinKey, SpinSite, SpinTotals, StackConfig, SyscallTotals,
    ThreadState, ThreadStateAddress,
};

use super::uprobe::UprobeMaps;

/// A map that is not there, not of its type, or can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the kernel side's map {name}: {reason}")]
pub struct MapError {
    name: &'static str,
    reason: String,
}

/// Every map that user space reads or writes. They outlive the programs.
pub struct Maps {
    events: Option<RingBuf<MapData>>,
    threads: HashMap<MapData, u32, ThreadState>,
    states: Array<MapData, ThreadState>,
    quick: Array<MapData, QuickState>,
    initial: HashMap<MapData, u32, InitialWait>,
    interpreter: Array<MapData, InterpreterConfig>,
    stack_config: Array<MapData, StackConfig>,
    processes: HashMap<MapData, u32, ProcessState>,
    numbers: Queue<MapData, u32>,
    thread_states: HashMap<MapData, u32, ThreadStateAddress>,
    spins: PerCpuHashMap<MapData, SpinKey, SpinTotals>,
    spin_sites: HashMap<MapData, u64, SpinSite>,
    spin_code: Array<MapData, SpinCode>,
    samples: PerCpuHashMap<MapData, u64, LockSamples>,
    sampled: PerCpuArray<MapData, SampleTotals>,
    below: PerCpuArray<MapData, ShapeTotals>,
    below_locks: PerCpuArray<MapData, LockTotals>,
    lost: PerCpuArray<MapData, ShapeTotals>,
    lost_locks: PerCpuArray<MapData, LockTotals>,
    limited: PerCpuArray<MapData, ShapeTotals>,
    limited_locks: PerCpuArray<MapData, LockTotals>,
    drops: PerCpuArray<MapData, u64>,
    stats: PerCpuArray<MapData, u64>,
    syscalls: PerCpuArray<MapData, SyscallTotals>,
    /// Those of the opt-in uprobes.
    pub uprobes: UprobeMaps,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            events: Some(take(ebpf, "EVENTS")?),
            threads: take(ebpf, "THREADS")?,
            states: take(ebpf, "STATES")?,
            quick: take(ebpf, "QUICK")?,
            initial: take(ebpf, "INITIAL")?,
            interpreter: take(ebpf, "INTERPRETER")?,
            stack_config: take(ebpf, "STACK_CONFIG")?,
            processes: take(ebpf, "PROCESSES")?,
            numbers: take(ebpf, "NUMBERS")?,
            thread_states: take(ebpf, "THREAD_STATES")?,
            spins: take(ebpf, "SPINS")?,
            spin_sites: take(ebpf, "SPIN_SITES")?,
            spin_code: take(ebpf, "SPIN_CODE")?,
            samples: take(ebpf, "SAMPLES")?,
            sampled: take(ebpf, "SAMPLED")?,
            below: take(ebpf, "BELOW")?,
            below_locks: take(ebpf, "BELOW_LOCKS")?,
            lost: take(ebpf, "LOST")?,
            lost_locks: take(ebpf, "LOST_LOCKS")?,
            limited: take(ebpf, "LIMITED")?,
            limited_locks: take(ebpf, "LIMITED_LOCKS")?,
            drops: take(ebpf, "DROPS")?,
            stats: take(ebpf, "STATS")?,
            syscalls: take(ebpf, "SYSCALLS")?,
            uprobes: UprobeMaps::take(ebpf)?,
        })
    }

    /// The ring buffer; there is one to take.
    pub fn take_events(&mut self) -> Option<RingBuf<MapData>> {
        self.events.take()
    }
}

pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, MapError>
where
    M: TryFrom<Map>,
    M::Error: std::fmt::Display,
{
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| MapError { name, reason: "is missing in the object".to_owned() })?;
    M::try_from(map).map_err(|error| MapError { name, reason: error.to_string() })
}

pub(super) fn failed(name: &'static str) -> impl Fn(aya::maps::MapError) -> MapError {
    move |error| MapError { name, reason: error.to_string() }
}

pub(super) fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    map.get(&index, 0).map_or(0, |values| values.iter().sum())
}
