//! Where every CPU's time goes: a program of its own on `sched_switch`, attached only if there is an
//! energy counter that counts. Without one nothing of it runs.
//!
//! A slice is what ran between two switches of a CPU. It is added to the sums of the window in which
//! it lies; one that lies in two is sent to user space, which knows when exactly the counters were
//! read and cuts it there. So all time of all CPUs is in exactly one window, and none is read while it
//! is written.

use core::ptr::{addr_of, read_volatile, write_volatile};

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{Array, PerCpuArray, PerCpuHashMap, RingBuf};
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::energy::{
    CpuClock, CpuSums, EnergySampleKey, IDLE, KERNEL, MAX_CPUS, OTHER, OnCpu, OnCpuKey, Straddle,
    TIMED, TRACED, TRACER, WINDOW_SLOTS,
};
use tracer_common::{DropReason, ThreadState};

use crate::counters::lost;
use crate::globals::{energy_samples, own_tgid, target_tgid};
use crate::process;
use crate::task::{Task, now};

/// `PF_KTHREAD` of `include/linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;
const BPF_RB_NO_WAKEUP: u64 = 1;

/// What each CPU is doing. Mappable for its alignment alone, as `QUICK` is.
#[map]
static CPU_CLOCKS: Array<CpuClock> = Array::with_max_entries(MAX_CPUS, BPF_F_MMAPABLE);

/// The window's number. Written by user space at each reading.
#[map]
static GENERATION: Array<u64> = Array::with_max_entries(1, 0);

/// Time of the target's threads (u).
#[map]
static ON_CPU: PerCpuHashMap<OnCpuKey, OnCpu> = PerCpuHashMap::with_max_entries(1, 0);

/// All other time.
#[map]
static CPU_SUMS: PerCpuArray<CpuSums> = PerCpuArray::with_max_entries(WINDOW_SLOTS, 0);

/// Slices of two windows (u).
#[map]
static STRADDLES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// What the CPU-clock samples found (u).
#[map]
static ENERGY_SAMPLES: PerCpuHashMap<EnergySampleKey, u64> = PerCpuHashMap::with_max_entries(1, 0);

/// Ends one slice and begins the next.
#[btf_tracepoint(function = "sched_switch")]
fn lw_energy(ctx: BtfTracePointContext) -> i32 {
    let (prev, next) = (Task(ctx.arg(1)), Task(ctx.arg(2)));
    slice_ends(kind_of(prev), kind_of(next));
    0
}

/// A CPU-clock sample found this task running. Now and then no switch to it was seen, for a reason that
/// is not known yet: then its slice begins here, instead of at its end. So does the first one of a CPU
/// that has not switched since the program was attached.
#[inline(always)]
pub(super) fn runs(task: Task) {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let Some(clock) = CPU_CLOCKS.get_ptr(cpu) else { return };
    let owner = kind_of(task);
    // SAFETY: this CPU's value; interrupts are off wherever it is written.
    let (kind, tid, since) = unsafe { ((*clock).kind, (*clock).tid, (*clock).since_ns) };
    if since == 0 || owner != (kind, tid) {
        slice_ends(owner, owner);
    }
}

/// Ends the slice of whom it is known to be, `owner`, and begins that of `next`.
#[inline(always)]
fn slice_ends(owner: (u32, u32), next: (u32, u32)) {
    let now = now();
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let Some(clock) = CPU_CLOCKS.get_ptr_mut(cpu) else { return };
    // SAFETY: this CPU's value, which only this program and the sampler write, both with interrupts
    // off; others read it by its `seq`.
    let clock = unsafe { &mut *clock };
    // SAFETY: a live map value, read as a whole.
    let generation = GENERATION.get_ptr(0).map_or(0, |value| unsafe { read_volatile(value) });
    let sibling_busy = if clock.sibling == 0 { 0 } else { busy(clock.sibling - 1, now) };
    let (kind, tid) = owner;
    let since = clock.since_ns;
    let mut busy = clock.busy_ns;
    if since != 0 {
        if owner != (clock.kind, clock.tid) {
            lost(DropReason::EnergySwitchUnseen);
        }
        let time = now.saturating_sub(since);
        let mut shared = 0;
        if kind != IDLE {
            busy += time;
            shared = sibling_busy.saturating_sub(clock.sibling_busy_ns);
            if shared > time {
                shared = time;
            }
        }
        if clock.generation == generation {
            let slot = generation as u32 % WINDOW_SLOTS;
            add(kind, tid, slot, OnCpu { time_ns: time, shared_ns: shared });
        } else {
            let slice = Straddle {
                cpu,
                kind,
                tid,
                _pad: 0,
                since_ns: since,
                until_ns: now,
                shared_ns: shared,
            };
            // What has no room is missing in the sums of its CPU, which user space sees.
            let _ = STRADDLES.output::<Straddle>(&slice, BPF_RB_NO_WAKEUP);
        }
    }
    let (kind, tid) = next;
    let seq = &raw mut clock.seq;
    // SAFETY: a field of a live map value. x86_64 keeps the order of stores, and volatile ones are
    // not moved by the compiler.
    unsafe {
        write_volatile(seq, *seq + 1);
        write_volatile(&raw mut clock.since_ns, now);
        write_volatile(&raw mut clock.busy_ns, busy);
        write_volatile(&raw mut clock.sibling_busy_ns, sibling_busy);
        write_volatile(&raw mut clock.generation, generation);
        write_volatile(&raw mut clock.tid, tid);
        write_volatile(&raw mut clock.kind, kind);
        write_volatile(seq, *seq + 1);
    }
}

/// Nanoseconds that anything ran on another CPU, up to now.
#[inline(always)]
fn busy(cpu: u32, now: u64) -> u64 {
    let Some(clock) = CPU_CLOCKS.get_ptr(cpu) else { return 0 };
    let mut sum = 0;
    for _ in 0..2 {
        // SAFETY: fields of a live map value, read as a whole each; whether they belong together is
        // what `seq` says.
        let (before, since, busy, kind, after) = unsafe {
            (
                read_volatile(addr_of!((*clock).seq)),
                read_volatile(addr_of!((*clock).since_ns)),
                read_volatile(addr_of!((*clock).busy_ns)),
                read_volatile(addr_of!((*clock).kind)),
                read_volatile(addr_of!((*clock).seq)),
            )
        };
        sum = busy;
        if kind != IDLE && since != 0 {
            sum += now.saturating_sub(since);
        }
        if before == after && before & 1 == 0 {
            break;
        }
    }
    sum
}

#[inline(always)]
fn kind_of(task: Task) -> (u32, u32) {
    let tid = task.pid();
    if tid == 0 {
        return (IDLE, 0);
    }
    if process::includes::<false>(target_tgid(), task) {
        return (TRACED, tid);
    }
    let kind = if task.tgid() == own_tgid() {
        TRACER
    } else if task.flags() & PF_KTHREAD != 0 {
        KERNEL
    } else {
        OTHER
    };
    (kind, 0)
}

#[inline(always)]
fn add(kind: u32, tid: u32, slot: u32, slice: OnCpu) {
    if kind == TRACED {
        let key = OnCpuKey { tid, slot };
        if let Some(sums) = ON_CPU.get_ptr_mut(key) {
            // SAFETY: a live per-CPU map value of this CPU, written by this program only.
            unsafe { plus(&mut *sums, slice) };
            return;
        }
        if ON_CPU.insert(key, slice, 0).is_ok() {
            return;
        }
    }
    let Some(sums) = CPU_SUMS.get_ptr_mut(slot) else { return };
    // SAFETY: as above.
    let sums = unsafe { &mut *sums };
    // By constants: the verifier knows no bound of a kind that was read from a map.
    match kind {
        IDLE => plus(&mut sums.kinds[IDLE as usize], slice),
        KERNEL => plus(&mut sums.kinds[KERNEL as usize], slice),
        OTHER => plus(&mut sums.kinds[OTHER as usize], slice),
        TRACER => plus(&mut sums.kinds[TRACER as usize], slice),
        _ => plus(&mut sums.kinds[TRACED as usize], slice),
    }
}

#[inline(always)]
fn plus(sums: &mut OnCpu, slice: OnCpu) {
    sums.time_ns += slice.time_ns;
    sums.shared_ns += slice.shared_ns;
}

/// Counts what a CPU-clock sample found a thread doing; `lock` is marked with its memory.
#[inline(always)]
pub(super) fn sampled(tid: u32, doing: u32, lock: u64) {
    count(EnergySampleKey { lock, tid, doing }, 1);
}

/// The current thread was at a lock for so long (`--hooks syscall`); 0: which one is not known.
#[inline(always)]
pub(super) fn spun(tid: u32, lock: u64, ns: u64) {
    if energy_samples() != 0 && ns != 0 {
        let lock = if lock == 0 { 0 } else { process::tag(lock) };
        count(EnergySampleKey { lock, tid, doing: TIMED }, ns);
    }
}

/// Time that the thread spent on the way to the futex wait under way, if that turned out to be for the
/// lock that it spun for; told once.
#[inline(always)]
pub(super) fn straight(state: &mut ThreadState, lock: u64) -> u64 {
    let gap = if lock == state.spin.lock { u64::from(state.spin.gap_ns) } else { 0 };
    state.spin.gap_ns = 0;
    gap
}

#[inline(always)]
fn count(key: EnergySampleKey, n: u64) {
    if let Some(count) = ENERGY_SAMPLES.get_ptr_mut(key) {
        // SAFETY: a live per-CPU map value of this CPU. A key that the sampler writes is written by
        // nothing else, and what it may interrupt writes other keys.
        unsafe { *count += n };
        return;
    }
    // Without room it is as if the sample had not been taken: shares stay what they are.
    let _ = ENERGY_SAMPLES.insert(key, n, 0);
}
