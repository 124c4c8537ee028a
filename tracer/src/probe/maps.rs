//! The kernel side's maps, as user space uses them.

use std::collections::BTreeMap;

use aya::maps::{
    Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues, Queue, RingBuf,
};
use aya::{Ebpf, Pod};
use tracer_common::counter::LOCK_SLOTS;
use tracer_common::thread::{ASLEEP, QUICK_SLOTS};
use tracer_common::{
    DropReason, InitialWait, InterpreterConfig, LockSamples, LockTotals, ProcessState, QuickState,
    SampleTotals, Shape, ShapeTotals, SpinCode, SpinKey, SpinSite, SpinTotals, StackConfig, Stat,
    SyscallTotals, ThreadState, ThreadStateAddress,
};

use super::uprobe::UprobeMaps;
use crate::trace::records::ShapeSums;
use crate::units::{Address, Pid, Tid};

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
    limited: PerCpuArray<MapData, ShapeTotals>,
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
            limited: take(ebpf, "LIMITED")?,
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

    /// Tells the kernel side about the interpreter.
    ///
    /// # Errors
    /// If the kernel refuses (it has no reason to).
    pub fn set_interpreter(&mut self, config: &InterpreterConfig) -> Result<(), MapError> {
        // The update is no single store: invalid while it is under way.
        let invalid = InterpreterConfig { valid: 0, ..*config };
        self.interpreter.set(0, invalid, 0).map_err(failed("INTERPRETER"))?;
        self.interpreter.set(0, *config, 0).map_err(failed("INTERPRETER"))
    }

    /// Tells the kernel side where the interpreter keeps its stacks.
    ///
    /// # Errors
    /// If the kernel refuses (it has no reason to).
    pub fn set_stacks(&mut self, config: &StackConfig) -> Result<(), MapError> {
        let invalid = StackConfig { valid: 0, ..*config };
        self.stack_config.set(0, invalid, 0).map_err(failed("STACK_CONFIG"))?;
        self.stack_config.set(0, *config, 0).map_err(failed("STACK_CONFIG"))
    }

    /// Tells the kernel side what is known of one of several processes.
    ///
    /// # Errors
    /// If the table is full.
    pub fn set_process(&mut self, pid: Pid, state: &ProcessState) -> Result<(), MapError> {
        self.processes.insert(pid.0, state, 0).map_err(failed("PROCESSES"))
    }

    /// What the kernel side knows of one of several processes.
    #[must_use]
    pub fn process(&self, pid: Pid) -> Option<ProcessState> {
        self.processes.get(&pid.0, 0).ok()
    }

    /// All of several processes.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        self.processes.keys().flatten().map(Pid).collect()
    }

    /// Forgets a process that has ended.
    pub fn remove_process(&mut self, pid: Pid) {
        // Not there any more is as good.
        let _ = self.processes.remove(&pid.0);
    }

    /// Gives the kernel side a number for the memory of a process to come. False if it has enough.
    pub fn give_number(&mut self, number: u32) -> bool {
        self.numbers.push(number, 0).is_ok()
    }

    /// Says where a thread's `PyThreadState` is. If the table is full the kernel side searches.
    pub fn set_thread_state(&mut self, tid: Tid, state: &ThreadStateAddress) {
        let _ = self.thread_states.insert(tid.0, state, 0);
    }

    /// Losses by reason; zeros are left out.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<String, u64> {
        DropReason::ALL
            .iter()
            .map(|&(reason, name)| (name.to_owned(), sum(&self.drops, reason as u32)))
            .filter(|&(_, count)| count != 0)
            .collect()
    }

    /// The other counters, by name.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<String, u64> {
        Stat::ALL
            .iter()
            .map(|&(stat, name)| (name.to_owned(), sum(&self.stats, stat as u32)))
            .collect()
    }

    /// Waits below the threshold, by shape number, but for those in [`Self::below_locks`].
    #[must_use]
    pub fn below(&self) -> BTreeMap<u32, ShapeSums> {
        shapes(&self.below)
    }

    /// Those by shape number and lock.
    #[must_use]
    pub fn below_locks(&self) -> BTreeMap<(u32, Address), ShapeSums> {
        let mut out = BTreeMap::new();
        for slot in 0..LOCK_SLOTS {
            // Each CPU gives the slot to the first lock that it sees.
            for one in self.below_locks.get(&slot, 0).iter().flat_map(|values| values.iter()) {
                if one.totals.waits != 0 {
                    let sums: &mut ShapeSums =
                        out.entry((one.shape, Address(one.lock))).or_default();
                    sums.add(&one.totals);
                }
            }
        }
        out
    }

    /// Waits whose event was lost, by shape number.
    #[must_use]
    pub fn lost(&self) -> BTreeMap<u32, ShapeSums> {
        shapes(&self.lost)
    }

    /// Waits beyond the limit, by shape number.
    #[must_use]
    pub fn limited(&self) -> BTreeMap<u32, ShapeSums> {
        shapes(&self.limited)
    }

    /// Yields by lock address and stack, summed over the CPUs.
    #[must_use]
    pub fn spins(&self) -> Vec<(SpinKey, SpinTotals)> {
        self.spins
            .iter()
            .flatten()
            .map(|(key, per_cpu)| {
                let mut sums = SpinTotals::default();
                for totals in per_cpu.iter() {
                    sums.yields += totals.yields;
                    sums.yielded_ns += totals.yielded_ns;
                    sums.spin_ns += totals.spin_ns;
                    // Only the CPU that saw the lock first read its type.
                    sums.object_type = sums.object_type.max(totals.object_type);
                }
                (key, sums)
            })
            .collect()
    }

    /// Places that spin and the register (1-based) that is known to hold the lock there: return
    /// addresses of their `sched_yield` calls, as the kernel side marked them
    /// ([`tracer_common::process::tag`]) and as they are.
    #[must_use]
    pub fn spin_sites(&self) -> Vec<(Address, Address, u64)> {
        let sites = self.spin_sites.iter().flatten();
        let address = |ret| Address(tracer_common::process::untag(ret));
        let sites = sites.map(|(ret, site)| (Address(ret), address(ret), site.register));
        sites.filter(|&(.., register)| register != 0).collect()
    }

    /// Forgets what there is of memories that are gone; `gone` is asked for each address that is marked
    /// ([`tracer_common::process::tag`]).
    pub fn forget_tagged(&mut self, gone: impl Fn(u64) -> bool) {
        let spins: Vec<SpinKey> =
            self.spins.keys().flatten().filter(|key| gone(key.lock)).collect();
        for key in spins {
            // Not there any more is as good, here and below.
            let _ = self.spins.remove(&key);
        }
        let samples: Vec<u64> = self.samples.keys().flatten().filter(|&lock| gone(lock)).collect();
        for lock in samples {
            let _ = self.samples.remove(&lock);
        }
        let sites: Vec<u64> = self.spin_sites.keys().flatten().filter(|&ret| gone(ret)).collect();
        for ret in sites {
            let _ = self.spin_sites.remove(&ret);
        }
    }

    /// Forgets which registers hold locks where: the target has replaced its code.
    pub fn forget_spin_sites(&mut self) {
        let places: Vec<u64> = self.spin_sites.keys().flatten().collect();
        for ret in places {
            // Not there any more is as good.
            let _ = self.spin_sites.remove(&ret);
        }
    }

    /// Tells the sampler of a function that spins. False if there is no such slot.
    pub fn set_spin_code(&mut self, slot: u32, code: SpinCode) -> bool {
        self.spin_code.set(slot, code, 0).is_ok()
    }

    /// Samples by the address of the lock that was spun on, summed over the CPUs.
    #[must_use]
    pub fn samples(&self) -> Vec<(Address, LockSamples)> {
        let all = self.samples.iter().flatten();
        let sum = |per_cpu: PerCpuValues<LockSamples>| LockSamples {
            samples: per_cpu.iter().map(|one| one.samples).sum(),
            // Only the CPU that saw the lock first read its type.
            object_type: per_cpu.iter().map(|one| one.object_type).max().unwrap_or(0),
        };
        all.map(|(lock, per_cpu)| (Address(lock), sum(per_cpu))).collect()
    }

    /// All samples, summed over the CPUs.
    #[must_use]
    pub fn sampled(&self) -> SampleTotals {
        let mut sums = SampleTotals::default();
        for totals in self.sampled.get(&0, 0).iter().flat_map(|values| values.iter()) {
            sums.ticks += totals.ticks;
            sums.target += totals.target;
            sums.spinning += totals.spinning;
            sums.ambiguous += totals.ambiguous;
            sums.lost += totals.lost;
        }
        sums
    }

    /// What the system-call hooks counted, by name.
    #[must_use]
    pub fn syscalls(&self) -> BTreeMap<String, u64> {
        let mut sums = SyscallTotals::default();
        for totals in self.syscalls.get(&0, 0).iter().flat_map(|values| values.iter()) {
            sums.waits_woken += totals.waits_woken;
            sums.waits_again += totals.waits_again;
            sums.waits_timed_out += totals.waits_timed_out;
            sums.waits_interrupted += totals.waits_interrupted;
            sums.waits_failed += totals.waits_failed;
            sums.wakes += totals.wakes;
            sums.wakes_empty += totals.wakes_empty;
            sums.yields += totals.yields;
        }
        [
            ("waits_woken", sums.waits_woken),
            ("waits_again", sums.waits_again),
            ("waits_timed_out", sums.waits_timed_out),
            ("waits_interrupted", sums.waits_interrupted),
            ("waits_failed", sums.waits_failed),
            ("wakes", sums.wakes),
            ("wakes_empty", sums.wakes_empty),
            ("yields", sums.yields),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
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

fn shapes<T>(map: &PerCpuArray<T, ShapeTotals>) -> BTreeMap<u32, ShapeSums>
where
    T: std::borrow::Borrow<MapData>,
    ShapeTotals: Pod,
{
    Shape::ALL
        .iter()
        .filter_map(|&shape| {
            let per_cpu = map.get(&(shape as u32), 0).ok()?;
            let mut sums = ShapeSums::default();
            per_cpu.iter().for_each(|totals| sums.add(totals));
            (sums.waits != 0).then_some((shape as u32, sums))
        })
        .collect()
}
