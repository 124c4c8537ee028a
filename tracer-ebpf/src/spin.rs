//! `sched_yield` spins of a free-threaded `PyMutex`, tied to their lock by a register.
//!
//! `_PyMutex_LockTimed` (`Python/lock.c`) calls `sched_yield` up to 40 times before it parks, and
//! keeps the mutex in a callee-saved register across the call. Which one depends on the compiler,
//! so it is learned per return address: the park that follows names the same lock, and where none
//! follows only one register looks like it (`mutex`).

use tracer_common::thread::{Spin, ThreadState};
use tracer_common::{DropReason, NoStack, SpinKey, SpinTotals, Stat};

use crate::counters::{count, lost};
use crate::emit;
use crate::globals::{min_wait_ns, syscall_hooks};
use crate::identify::object_type;
use crate::maps::{SPIN_SITES, SPINS};
use crate::mutex::{register_at, vote};
use crate::process;
use crate::pystack::{self, Frequent};
use crate::quick;
use crate::registers::Registers;
use crate::task::{Task, now};
use crate::user_memory::word;

/// `include/uapi/linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;
/// Runs of yields with less time off the CPU are only summed up.
const TOLD_NS: u64 = 25_000;

/// The current task is in `sched_yield`, and `quick` has not counted that. The same loop on the same
/// lock only counts.
#[inline(always)]
pub(crate) fn on_yield(state: &mut ThreadState, registers: Registers, task: Task) {
    let sp = registers.sp();
    if state.spin.yields != 0
        && state.spin.sp == sp
        && state.spin.register != 0
        && registers.callee_saved(state.spin.register) == state.spin.lock
    {
        state.spin.yields += 1;
        return;
    }
    let (now, exec_ns) = if syscall_hooks() == 0 { (now(), task.exec_ns()) } else { (0, 0) };
    let tid = task.pid();
    flush(tid, state, now, exec_ns);
    // System-call hooks call this with interrupts on, where no stack may be walked (`pystack`).
    state.spin.stack = if syscall_hooks() != 0 {
        NoStack::NotTaken as u64
    } else if pystack::affordable(Frequent::Yields, now) {
        pystack::of_task(task, now)
    } else {
        NoStack::Limited as u64
    };
    let spin = &mut state.spin;
    spin.start_ns = now;
    spin.start_exec_ns = exec_ns;
    spin.yields = 1;
    registers.save(&mut spin.registers);
    // In a storm a thread comes back to the lock that it last spun on, by the same way.
    let again = spin.sp == sp
        && spin.register != 0
        && spin.lock != 0
        && registers.callee_saved(spin.register) == spin.lock;
    if !again {
        spin.sp = sp;
        find_lock(spin, registers);
    }
    if syscall_hooks() == 0 {
        quick::begin_spin(tid, spin);
    }
}

/// Which lock the yield is for, by the place that it was called from.
#[inline(always)]
fn find_lock(spin: &mut Spin, registers: Registers) {
    // glibc's sched_yield has no frame of its own, so its return address is on top of the stack.
    spin.ret = match word(spin.sp) {
        Some(ret) => ret,
        None => {
            lost(DropReason::YieldStackFault);
            0
        }
    };
    let register = register_at(spin.ret, registers.ip(), &spin.registers);
    spin.register = register;
    spin.lock = registers.callee_saved(register);
}

/// The current task is about to park on `lock`: learn from it.
#[inline(always)]
pub(crate) fn on_park(state: &mut ThreadState, lock: u64) {
    if state.spin.yields != 0
        && lock != 0
        && state.spin.lock != lock // else there is nothing to learn
        && state.spin.ret != 0
        && learn(state, lock)
        && state.spin.lock == 0
    {
        state.spin.lock = lock;
    }
}

/// Votes for the registers that held `lock`; true if there was one.
#[inline(always)]
fn learn(state: &ThreadState, lock: u64) -> bool {
    let spin = &state.spin;
    let mut held = false;
    for register in spin.registers {
        held |= register == lock;
    }
    if !held {
        return false;
    }
    let Some(site) = SPIN_SITES.get_ptr_mut(process::tag(spin.ret)) else {
        return true; // the table of places is full
    };
    // SAFETY: a live map value; votes lost to a race only delay the learning.
    vote(unsafe { &mut *site }, &spin.registers, lock);
    true
}

/// Books the yields counted so far.
///
/// By default no yield is timed by itself: between the first of them and now the thread did nothing
/// but run and yield (whatever else it does flushes first), so what it did not run, it yielded.
#[inline(always)]
pub(crate) fn flush(tid: u32, state: &mut ThreadState, now: u64, exec_ns: u64) {
    let spin = &mut state.spin;
    if spin.yields == 0 && spin.yielded_ns == 0 {
        return;
    }
    if syscall_hooks() == 0 {
        spin.yields += quick::end_spin(tid);
        let ran = exec_ns.saturating_sub(spin.start_exec_ns);
        spin.yielded_ns = now.saturating_sub(spin.start_ns).saturating_sub(ran);
    }
    state.yield_switches += spin.yields;
    if is_told(spin, now) && emit::spin(tid, spin, object_type(spin.lock).unwrap_or(0), now) {
        spin.yields = 0;
        spin.yielded_ns = 0;
        return;
    }
    let key = SpinKey { lock: process::tag(spin.lock), stack: spin.stack };
    if spin.lock == 0 || !add(&key, spin.yields, spin.yielded_ns, spin.spin_ns) {
        count(Stat::YieldsUnattributed, spin.yields);
        count(Stat::YieldedUnattributedNs, spin.yielded_ns);
    }
    spin.yields = 0;
    spin.yielded_ns = 0;
    spin.spin_ns = 0;
}

/// The run of yields gets a record of its own, by thread and time: it is as long as a wait, and there
/// are not too many of them.
#[inline(always)]
fn is_told(spin: &Spin, now: u64) -> bool {
    syscall_hooks() == 0
        && spin.lock != 0
        && spin.yielded_ns >= TOLD_NS.max(min_wait_ns())
        && pystack::affordable(Frequent::LongYields, now)
}

#[inline(always)]
fn add(key: &SpinKey, yields: u64, yielded_ns: u64, spin_ns: u64) -> bool {
    if add_to(key, yields, yielded_ns, spin_ns) {
        return true;
    }
    // A program with ever new stacks fills the table: each lock keeps a place without one.
    let stackless = SpinKey { lock: key.lock, stack: NoStack::Limited as u64 };
    let object_type = object_type(process::untag(key.lock)).unwrap_or(0);
    let totals = SpinTotals { yields, yielded_ns, spin_ns, object_type };
    if SPINS.insert(key, &totals, 0).is_ok() {
        let nothing = SpinTotals { yields: 0, yielded_ns: 0, spin_ns: 0, object_type };
        // It is mostly there already; without it, a full table loses the lock.
        let _ = SPINS.insert(&stackless, &nothing, BPF_NOEXIST);
        return true;
    }
    let added = add_to(&stackless, yields, yielded_ns, spin_ns);
    if !added {
        lost(DropReason::SpinTableFull);
    }
    added
}

#[inline(always)]
fn add_to(key: &SpinKey, yields: u64, yielded_ns: u64, spin_ns: u64) -> bool {
    let Some(totals) = SPINS.get_ptr_mut(key) else { return false };
    // SAFETY: a live per-CPU map value of this CPU.
    let totals = unsafe { &mut *totals };
    totals.yields += yields;
    totals.yielded_ns += yielded_ns;
    totals.spin_ns += spin_ns;
    true
}
