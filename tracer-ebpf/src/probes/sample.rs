//! The CPU-clock sampler: spinning that never gives the CPU away makes no switch to be seen at.
//!
//! A software event per CPU (`PERF_COUNT_SW_CPU_CLOCK`, a high-resolution timer), so it runs in a
//! hard interrupt, never inside another program of ours on `sched_switch` or `sched_waking`, which
//! run with interrupts off; but it may interrupt one on `sys_enter`. It touches no state of those:
//! no thread state, no scratch, hence no stack.
//!
//! Whatever the timer interrupted, the saved user registers of the current task are what they were
//! at its system call or, in user mode, at the interrupt. Time with interrupts off (inside the
//! scheduler, at either end of a system call) is seen a little later, mostly still in the same spin.

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;
use tracer_common::energy::{ANYTHING, IN_FUTEX, SPINNING};
use tracer_common::sample::SPIN_CODE_SLOTS;
use tracer_common::thread::SPIN_REGISTERS;
use tracer_common::{DropReason, LockSamples};

use super::energy;
use crate::counters::lost;
use crate::globals::{energy_samples, target_tgid};
use crate::identify::{self, object_type};
use crate::maps::{SAMPLED, SAMPLES, SPIN_SITES};
use crate::mutex::{lw_is_mutex, register_at};
use crate::process;
use crate::registers::{Registers, SYS_SCHED_YIELD};
use crate::task::Task;
use crate::user_memory::word;

/// glibc's `sched_yield` is no longer than this before its system call
/// (`endbr64; mov $24, %eax; syscall` is 11 bytes), and with what comes after it.
const STUB_BEFORE: u64 = 16;
const STUB_BYTES: u64 = 48;

/// What a sample hit.
enum Hit {
    /// Anything else.
    Other,
    /// A place where threads spin; for what is not known.
    Ambiguous,
    /// Spinning on this lock.
    Spinning(u64),
}

/// Counts what the target's threads spin on.
#[perf_event]
fn lw_sample(_ctx: PerfEventContext) -> u32 {
    sample();
    0
}

#[inline(always)]
fn sample() {
    let Some(totals) = SAMPLED.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's value, and this program does not interrupt itself.
    let totals = unsafe { &mut *totals };
    totals.ticks += 1;
    // SAFETY: a helper without arguments.
    let current = Task(unsafe { bpf_get_current_task_btf() }.cast());
    if energy_samples() != 0 {
        energy::runs(current);
    }
    if !process::includes::<false>(target_tgid(), current) {
        return;
    }
    totals.target += 1;
    let registers = Registers::of(current.0);
    let hit = if registers.syscall() == SYS_SCHED_YIELD {
        in_yield(registers)
    } else if registers.interrupted() {
        in_user_mode(registers)
    } else {
        Hit::Other
    };
    if energy_samples() != 0 {
        by_thread(current.pid(), registers, &hit);
    }
    match hit {
        Hit::Other => {}
        Hit::Ambiguous => totals.ambiguous += 1,
        Hit::Spinning(lock) => {
            totals.spinning += 1;
            if !add(lock) {
                totals.lost += 1;
            }
        }
    }
}

/// The same by thread, and what it does in futex calls: all that is waiting on the CPU.
#[inline(always)]
fn by_thread(tid: u32, registers: Registers, hit: &Hit) {
    energy::sampled(tid, ANYTHING, 0);
    match hit {
        Hit::Spinning(lock) => energy::sampled(tid, SPINNING, process::tag(*lock)),
        Hit::Ambiguous => energy::sampled(tid, SPINNING, 0),
        Hit::Other => {
            if identify::is_futex_call(registers.syscall()) {
                let lock = identify::lock_of_call(registers);
                energy::sampled(tid, IN_FUTEX, if lock == 0 { 0 } else { process::tag(lock) });
            }
        }
    }
}

/// In the system call, at whose stub's return address (`spin`) the lock's register is known.
#[inline(always)]
fn in_yield(registers: Registers) -> Hit {
    let Some(ret) = word(registers.sp()) else {
        lost(DropReason::YieldStackFault);
        return Hit::Ambiguous;
    };
    let mut saved = [0; SPIN_REGISTERS];
    registers.save(&mut saved);
    spinning(registers, register_at(ret, registers.ip(), &saved))
}

/// In the stub, before or after the system call, or in the function that spins.
#[inline(always)]
fn in_user_mode(registers: Registers) -> Hit {
    let ip = registers.ip();
    if let Some(ret) = word(registers.sp()) {
        // SAFETY: the value is read at once, and its register is written as a whole.
        if let Some(site) = unsafe { SPIN_SITES.get(process::tag(ret)) } {
            // Elsewhere an old return address may be left in what another function does not use.
            if ip.wrapping_sub(site.stub.wrapping_sub(STUB_BEFORE)) < STUB_BYTES {
                return spinning(registers, site.register as u32);
            }
        }
    }
    for slot in 0..SPIN_CODE_SLOTS {
        let Some(code) = process::spin_code(slot) else { break };
        if ip.wrapping_sub(code.start) < code.end.wrapping_sub(code.start) {
            let lock = registers.callee_saved(code.register as u32);
            // In its first and last instructions the register is still, or again, the caller's.
            let sure = SAMPLES.get_ptr(process::tag(lock)).is_some() || lw_is_mutex(lock) != 0;
            return if sure { Hit::Spinning(lock) } else { Hit::Ambiguous };
        }
    }
    Hit::Other
}

#[inline(always)]
fn spinning(registers: Registers, register: u32) -> Hit {
    match registers.callee_saved(register) {
        0 => Hit::Ambiguous,
        lock => Hit::Spinning(lock),
    }
}

/// One more sample for a lock; false if there is no room for it.
#[inline(always)]
fn add(lock: u64) -> bool {
    let key = process::tag(lock);
    if let Some(sums) = SAMPLES.get_ptr_mut(key) {
        // SAFETY: a live per-CPU map value of this CPU, written by this program only.
        unsafe { (*sums).samples += 1 };
        return true;
    }
    let first = LockSamples { samples: 1, object_type: object_type(lock).unwrap_or(0) };
    SAMPLES.insert(key, &first, 0).is_ok()
}
