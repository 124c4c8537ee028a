//! The program and the maps that say where every CPU's time goes. Loaded and attached by itself, and
//! only if there is an energy counter.

use aya::maps::{Array, MapData, PerCpuArray, PerCpuHashMap, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};
use tracer_common::energy::{
    CpuClock, CpuSums, EnergySampleKey, OnCpu, OnCpuKey, Straddle, WINDOW_SLOTS,
};

use super::load::refusal;
use super::maps::{MapError, failed, take};
use crate::energy::topology::Cpu;
use crate::trace::records::ProgramState;

/// The program.
pub const PROGRAM: &str = "lw_energy";
const HOOK: &str = "sched_switch";
/// Room for slices of two windows: some 6,500.
const STRADDLE_BYTES: u32 = 1 << 18;
/// Threads and locks that samples are told apart by, between two looks.
const MAX_SAMPLES: u32 = 1 << 14;

/// Makes the maps as large as they must be.
pub(super) fn make_room(loader: &mut EbpfLoader<'_>, max_threads: u32) {
    loader
        .map_max_entries("ON_CPU", max_threads.saturating_mul(WINDOW_SLOTS).min(1 << 16))
        .map_max_entries("STRADDLES", STRADDLE_BYTES)
        .map_max_entries("ENERGY_SAMPLES", MAX_SAMPLES);
}

/// Where the CPUs' time goes.
pub struct EnergyMaps {
    clocks: Array<MapData, CpuClock>,
    generation: Array<MapData, u64>,
    on_cpu: PerCpuHashMap<MapData, OnCpuKey, OnCpu>,
    sums: PerCpuArray<MapData, CpuSums>,
    straddles: RingBuf<MapData>,
}

/// What the samples found, by thread.
pub struct EnergySampleMap(PerCpuHashMap<MapData, EnergySampleKey, u64>);

/// Attaches the program; what became of it, and its maps.
///
/// # Errors
/// If a map is not there, or CPUs can't be told who their siblings are.
pub fn attach(
    ebpf: &mut Ebpf,
    cpus: &[Cpu],
) -> Result<(ProgramState, EnergyMaps, EnergySampleMap), MapError> {
    let mut maps = EnergyMaps {
        clocks: take(ebpf, "CPU_CLOCKS")?,
        generation: take(ebpf, "GENERATION")?,
        on_cpu: take(ebpf, "ON_CPU")?,
        sums: take(ebpf, "CPU_SUMS")?,
        straddles: take(ebpf, "STRADDLES")?,
    };
    let samples = EnergySampleMap(take(ebpf, "ENERGY_SAMPLES")?);
    for cpu in cpus {
        let sibling = cpu.sibling.map_or(0, |sibling| sibling + 1);
        let clock = CpuClock { sibling, ..CpuClock::default() };
        maps.clocks.set(cpu.cpu, clock, 0).map_err(failed("CPU_CLOCKS"))?;
    }
    let reason = attach_program(ebpf).err();
    let state = ProgramState {
        name: PROGRAM.to_owned(),
        hook: format!("tp_btf/{HOOK}"),
        attached: reason.is_none(),
        reason,
    };
    Ok((state, maps, samples))
}

fn attach_program(ebpf: &mut Ebpf) -> Result<(), String> {
    let btf = Btf::from_sys_fs().map_err(|error| error.to_string())?;
    let program = ebpf.program_mut(PROGRAM).ok_or("it is missing in the object")?;
    let program: &mut BtfTracePoint =
        program.try_into().map_err(|error: aya::programs::ProgramError| error.to_string())?;
    let attached = program.load(HOOK, &btf).and_then(|()| program.attach().map(drop));
    attached.map_err(|error| refusal(&error))
}

impl EnergyMaps {
    /// From now on slices belong to this window.
    ///
    /// # Errors
    /// If the kernel refuses (it has no reason to).
    pub fn begin(&mut self, generation: u64) -> Result<(), MapError> {
        self.generation.set(0, generation, 0).map_err(failed("GENERATION"))
    }

    /// What a CPU is doing; none if it changed during each of several looks.
    #[must_use]
    pub fn clock(&self, cpu: u32) -> Option<CpuClock> {
        // Values are copied word by word: what is read between two equal even numbers is whole.
        let look = || self.clocks.get(&cpu, 0).ok();
        for _ in 0..16 {
            let (first, second) = (look()?, look()?);
            if first.seq == second.seq && first.seq & 1 == 0 {
                return Some(first);
            }
        }
        None
    }

    /// Slices that lie in two windows.
    pub fn straddles(&mut self) -> Vec<Straddle> {
        let mut out = Vec::new();
        while let Some(record) = self.straddles.next() {
            if let Some(slice) = straddle(&record) {
                out.push(slice);
            }
        }
        out
    }

    /// Takes the sums of a window that nobody writes to any more: by CPU, and by thread and CPU.
    pub fn take(&mut self, generation: u64) -> (Vec<CpuSums>, Vec<(u32, Vec<OnCpu>)>) {
        let slot = u32::try_from(generation % u64::from(WINDOW_SLOTS)).unwrap_or(0);
        let sums: Vec<CpuSums> =
            self.sums.get(&slot, 0).map(|values| values.to_vec()).unwrap_or_default();
        let zeros = vec![CpuSums::default(); sums.len()];
        if let Ok(zeros) = aya::maps::PerCpuValues::try_from(zeros) {
            // It has no reason to be refused; if it is, the window's time is counted twice, which
            // whoever adds it up sees.
            let _ = self.sums.set(slot, zeros, 0);
        }
        let keys: Vec<OnCpuKey> =
            self.on_cpu.keys().flatten().filter(|key| key.slot == slot).collect();
        let threads = keys.into_iter().filter_map(|key| {
            let values = self.on_cpu.get(&key, 0).ok()?.to_vec();
            let _ = self.on_cpu.remove(&key);
            Some((key.tid, values))
        });
        let threads: Vec<_> = threads.collect();
        (sums, threads)
    }
}

fn straddle(bytes: &[u8]) -> Option<Straddle> {
    let half = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    Some(Straddle {
        cpu: half(0)?,
        kind: half(4)?,
        tid: half(8)?,
        _pad: 0,
        since_ns: word(16)?,
        until_ns: word(24)?,
        shared_ns: word(32)?,
    })
}

impl EnergySampleMap {
    /// Takes what was found since the last look, by CPU.
    pub fn take(&mut self) -> Vec<(EnergySampleKey, Vec<u64>)> {
        let keys: Vec<EnergySampleKey> = self.0.keys().flatten().collect();
        let taken = keys.into_iter().filter_map(|key| {
            let values = self.0.get(&key, 0).ok()?.to_vec();
            let _ = self.0.remove(&key);
            Some((key, values))
        });
        taken.collect()
    }
}
