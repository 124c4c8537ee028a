//! `sched_switch` and `sched_waking`: where a wait begins, is woken and ends.
//!
//! Prototypes (`include/trace/events/sched.h`):
//! `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next,
//! unsigned int prev_state)` (the last one from 5.18 on), `sched_waking(struct task_struct *p)`.
//!
//! Almost every switch of a free-threaded storm is a `sched_yield`, a million a second, so its path
//! is the shortest: no clock, and two looks into a table without hashing.

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::event::WAIT_CLIPPED_START;
use tracer_common::thread::{
    ASLEEP, ASLEEP_TOLD, SyscallState, ThreadState, WHY_FUTEX, WHY_OTHER, WHY_PREEMPTED,
    WHY_RUNNING, WHY_YIELD,
};
use tracer_common::{DropReason, NoStack, Shape, Stat};

use super::energy;
use crate::counters::{count, lost};
use crate::globals::{min_wait_ns, syscall_hooks, target_tgid};
use crate::identify::{self, WaitArguments};
use crate::maps::INITIAL;
use crate::process;
use crate::pystack::{self, Frequent};
use crate::registers::{Registers, SYS_SCHED_YIELD};
use crate::task::{Task, now};
use crate::{episode, native, quick, spin, states};

/// `TASK_INTERRUPTIBLE` of `include/linux/sched.h`: how a futex wait sleeps
/// (`futex_do_wait`, `kernel/futex/waitwake.c`). A fault or a stop signal sleeps otherwise.
const TASK_INTERRUPTIBLE: u32 = 1;
/// What a thread waits for so soon after it waited for it before is the same object still.
const AGAIN_NS: u64 = 1_000_000;
/// A thread's last switch-out, after its exit was seen.
const TASK_DEAD: u32 = 0x80;

/// Default form: futex arguments from the saved registers of the task switched out.
/// Needs `bpf_task_pt_regs` (5.15) and the tracepoint's `prev_state` (5.18).
#[btf_tracepoint(function = "sched_switch")]
#[inline(always)]
fn lw_switch(ctx: BtfTracePointContext) -> i32 {
    switch::<true, true>(&ctx)
}

/// System-call form, for kernels without those: arguments from `sys_enter`, the state from the
/// task itself.
#[btf_tracepoint(function = "sched_switch")]
fn lw_switch_sys(ctx: BtfTracePointContext) -> i32 {
    switch::<false, false>(&ctx)
}

/// Who wakes whom, and since when the woken thread could run.
#[btf_tracepoint(function = "sched_waking")]
#[inline(always)]
fn lw_waking(ctx: BtfTracePointContext) -> i32 {
    waking::<true>(Task(ctx.arg(0)));
    0
}

/// [`lw_switch`] of several processes.
#[btf_tracepoint(function = "sched_switch")]
#[inline(always)]
fn lw_switch_all(ctx: BtfTracePointContext) -> i32 {
    switch::<true, false>(&ctx)
}

/// [`lw_waking`] of several processes.
#[btf_tracepoint(function = "sched_waking")]
#[inline(always)]
fn lw_waking_all(ctx: BtfTracePointContext) -> i32 {
    waking::<false>(Task(ctx.arg(0)));
    0
}

#[inline(always)]
fn switch<const REGISTERS: bool, const ONE: bool>(ctx: &BtfTracePointContext) -> i32 {
    let (prev, next) = (Task(ctx.arg(1)), Task(ctx.arg(2)));
    let target = target_tgid();
    let mut time = 0;
    if process::includes::<ONE>(target, prev) {
        let preempted = ctx.arg::<u64>(0) & 0xff != 0;
        let state = if REGISTERS { ctx.arg(3) } else { prev.state() };
        // As many switches as waits: a thread that is woken often takes the CPU from who wakes it, at
        // the end of its system call (where it is not called a preemption, but runs on).
        let nothing = REGISTERS
            && syscall_hooks() == 0
            && (preempted || state == 0)
            && (!preempted && yields(prev) || quick::only_runs(prev.pid()));
        if !nothing {
            time = now();
            switch_out::<REGISTERS, ONE>(prev, preempted, state, time);
        }
    }
    if process::includes::<ONE>(target, next) {
        let tid = next.pid();
        // Only the end of a futex wait needs a look.
        let waited = !REGISTERS
            || syscall_hooks() != 0
            || quick::is_asleep(tid)
                .unwrap_or_else(|| identify::is_futex(Registers::of(next.0).syscall()));
        if waited {
            if time == 0 {
                time = now();
            }
            switch_in(tid, time);
        }
    }
    0
}

/// Counts the yield that the task is in, if it is in one.
#[inline(always)]
fn yields(prev: Task) -> bool {
    let registers = Registers::of(prev.0);
    if registers.syscall() != SYS_SCHED_YIELD {
        return false;
    }
    let tid = prev.pid();
    if !quick::counts_yield(tid, registers) {
        if thread_state(tid).is_some_and(|state| state.why == WHY_FUTEX) {
            episode::lw_back_unseen(tid, now(), prev.exec_ns());
        }
        if let Some(state) = thread_state(tid) {
            spin::on_yield(state, registers, prev);
        }
    }
    true
}

#[inline(always)]
fn thread_state(tid: u32) -> Option<&'static mut ThreadState> {
    let state = states::of(tid);
    if state.is_none() {
        lost(DropReason::ThreadUnknown);
    }
    state
}

#[inline(always)]
fn switch_out<const REGISTERS: bool, const ONE: bool>(
    prev: Task,
    preempted: bool,
    task_state: u32,
    now: u64,
) {
    if task_state & TASK_DEAD != 0 {
        return; // its last words were taken at exit, and user space may have removed its state
    }
    let tid = prev.pid();
    let Some(mut state) = thread_state(tid) else { return };
    if state.why == WHY_FUTEX {
        episode::lw_back_unseen(tid, now, prev.exec_ns());
        let Some(as_it_is_now) = thread_state(tid) else { return };
        state = as_it_is_now;
    }
    if syscall_hooks() != 0 && state.syscall.yielding != 0 {
        // On the CPU in the call so far; `leave_yield` has the rest, from the switch-in on.
        let spun = now.saturating_sub(state.spin.mark_ns.max(state.in_ns));
        state.spin.spin_ns += spun;
        energy::spun(tid, state.spin.lock, spun);
    }
    // On the CPU in a futex call so far; `leave_futex` has the rest.
    let calling = syscall_hooks() != 0 && state.syscall.active != 0;
    let called = if calling { now.saturating_sub(state.spin.mark_ns.max(state.in_ns)) } else { 0 };
    state.out_ns = now;
    if preempted || task_state == 0 {
        state.why = WHY_PREEMPTED;
        if calling {
            // Rare, and not worth a look at the arguments.
            let wait = identify::is_wait(state.syscall.op);
            energy::spun(tid, if wait { 0 } else { state.syscall.sp }, called);
        }
        if syscall_hooks() == 0 {
            spin::flush(tid, state, now, prev.exec_ns());
        } else if !preempted && in_yield::<REGISTERS>(prev, &state.syscall) {
            state.why = WHY_YIELD;
        }
        return;
    }
    state.why = WHY_OTHER;
    if task_state & TASK_INTERRUPTIBLE != 0 {
        if let Some((wait, sp)) = futex_wait::<REGISTERS>(prev, &state.syscall) {
            state.why = WHY_FUTEX;
            state.futex_switches += 1;
            let again = now.saturating_sub(state.chain.end_ns) < AGAIN_NS;
            if !identify::recall(state, wait, now) {
                identify::identify(&mut state.current, wait, sp, again);
                if state.current.shape == Shape::Semaphore as u32 {
                    pystack::find_lock_object(prev, &mut state.current, now);
                    identify::remember(state, now);
                }
            }
            quick::fall_asleep(tid, state);
            spin::on_park(state, state.current.lock);
            if calling {
                let lock = state.current.lock;
                energy::spun(tid, lock, called + energy::straight(state, lock));
            }
            state.out_exec_ns = prev.exec_ns();
            spin::flush(tid, state, now, state.out_exec_ns);
            episode::begin(tid, state, now);
            own_stack::<ONE>(prev, state, wait.timed, now);
            return;
        }
    }
    spin::flush(tid, state, now, prev.exec_ns());
    episode::close(tid, state, 0);
}

/// The stacks that only the waiter itself can have walked, at its switch-out: its own where no waker
/// will come by, and the GIL holder's.
#[inline(always)]
fn own_stack<const ONE: bool>(prev: Task, state: &mut ThreadState, timed: bool, now: u64) {
    let gil = state.current.shape == Shape::Gil as u32;
    let goes_on = state.chain.episodes != 0;
    // A GIL wait is timed, but mostly ends by a wake within its first slice.
    let woken = episode::just_woken(state, now);
    // Its waker may be of another process, where this one's memory can't be read.
    let shared = !ONE && process::several() && identify::is_shared(state.current.op);
    let no_waker = goes_on || (timed && !gil) || woken || shared;
    if no_waker && state.waiter_stack < u64::from(NoStack::COUNT) {
        // Woken already, it will not wait for long.
        let told = pystack::is_told(&state.current);
        let why = if told { Frequent::ShortWait } else { Frequent::Untold };
        if (woken || shared) && !goes_on && !pystack::affordable(why, now) {
            state.waiter_stack = NoStack::Limited as u64;
            return;
        }
        state.waiter_stack = pystack::of_waiter(prev, state, now);
        state.native_stack = native::of_waiter(prev, &state.current, now);
    }
    if gil && goes_on {
        let holder = pystack::of_holder(prev, state.current.lock, now);
        state.holder_stack = holder.stack;
        state.holder_ns_tid = holder.ns_tid;
        state.holder_flags = holder.flags;
    }
}

#[inline(always)]
fn in_yield<const REGISTERS: bool>(prev: Task, syscall: &SyscallState) -> bool {
    if REGISTERS {
        Registers::of(prev.0).syscall() == SYS_SCHED_YIELD
    } else {
        syscall.yielding != 0
    }
}

/// The futex wait that the task is blocked in, with its stack pointer.
#[inline(always)]
fn futex_wait<const REGISTERS: bool>(
    prev: Task,
    syscall: &SyscallState,
) -> Option<(WaitArguments, u64)> {
    let SyscallState { uaddr, op, val, .. } = *syscall;
    let traced = syscall_hooks() != 0 && syscall.active != 0 && identify::is_wait(op);
    if !REGISTERS {
        let wait = WaitArguments { uaddr, op, val, timed: false };
        return traced.then_some((wait, syscall.sp));
    }
    let registers = Registers::of(prev.0);
    if syscall_hooks() == 0 {
        return identify::wait_of(registers).map(|wait| (wait, registers.sp()));
    }
    // No `Option` that lives on: the fields of a `None` are copied from registers that nothing was
    // written to, which the verifier refuses.
    let (waits, saved) = match identify::wait_of(registers) {
        Some(wait) => (true, wait),
        None => (false, WaitArguments { uaddr: 0, op: 0, val: 0, timed: false }),
    };
    let same = saved.uaddr == uaddr && saved.op == op && saved.val == val;
    let agree = if waits { traced && same } else { !traced };
    count(if agree { Stat::ArgumentsMatch } else { Stat::ArgumentsMismatch }, 1);
    waits.then_some((saved, registers.sp()))
}

#[inline(always)]
fn switch_in(tid: u32, now: u64) {
    let Some(state) = thread_state(tid) else { return };
    quick::awake(tid, state);
    match state.why {
        WHY_FUTEX => episode::end(tid, state, now),
        WHY_YIELD => state.spin.yielded_ns += now - state.out_ns,
        WHY_RUNNING if state.out_ns == 0 => {
            // The first thing seen of this thread: it may have been waiting since before us.
            // SAFETY: user space writes an entry once and never changes it.
            if let Some(initial) = unsafe { INITIAL.get(tid) } {
                state.current = initial.id;
                state.out_ns = initial.start_ns;
                episode::end(tid, state, now);
                state.chain.flags |= WAIT_CLIPPED_START;
            }
        }
        _ => {}
    }
    state.why = WHY_RUNNING;
    if syscall_hooks() != 0 {
        state.in_ns = now;
    }
}

/// What a waker must know of whom it wakes.
struct Sleeper {
    /// The futex it sleeps on, or is about to.
    uaddr: u64,
    /// Since when.
    out_ns: u64,
    /// It does sleep.
    asleep: bool,
    /// What it sleeps on says what it is.
    told: bool,
}

#[inline(always)]
fn waking<const ONE: bool>(task: Task) {
    let target = target_tgid();
    if !process::includes::<ONE>(target, task) {
        return;
    }
    let tid = task.pid();
    // SAFETY: a helper without arguments.
    let current = Task(unsafe { bpf_get_current_task_btf() }.cast());
    // Wakings also come from timers and other interrupts; then current has nothing to do with it.
    let traced = process::includes::<ONE>(target, current);
    let waker = if traced && current.pid() != tid { current.pid() } else { 0 };
    let now = now();
    // Whoever is delayed here has just let go of a lock, and a storm of them grows calmer with each
    // hundred nanoseconds. So one cache line of the sleeper's must do if there are no stacks to walk.
    if let Some(slot) = quick::of(tid) {
        let told = slot.asleep == ASLEEP_TOLD;
        let asleep = told || slot.asleep == ASLEEP;
        let sleeper = Sleeper { uaddr: slot.uaddr, out_ns: slot.out_ns, asleep, told };
        let woke = waker != 0 && wakes::<ONE>(task, current, &sleeper);
        slot.waker_tid = if woke { waker } else { 0 };
        slot.wake_ns = now;
        if woke {
            stacks::<ONE>(task, current, &sleeper, now);
        }
    } else if let Some(state) = thread_state(tid) {
        // Never switched since the beginning: it has been asleep since before us.
        let asleep = state.why == WHY_FUTEX || (state.why == WHY_RUNNING && state.out_ns == 0);
        let sleeper = Sleeper { uaddr: 0, out_ns: state.out_ns, asleep, told: false };
        let woke = waker != 0 && wakes::<ONE>(task, current, &sleeper);
        state.waker_tid = if woke { waker } else { 0 };
        state.wake_ns = now;
        if woke {
            stacks::<ONE>(task, current, &sleeper, now);
        }
    }
}

/// Whether the current task, another thread of the target, wakes the sleeper by a futex call.
#[inline(always)]
fn wakes<const ONE: bool>(task: Task, current: Task, sleeper: &Sleeper) -> bool {
    let waker = Registers::of(current.0);
    if !process::same::<ONE>(task, current) {
        return identify::wakes_elsewhere(waker, Registers::of(task.0));
    }
    if sleeper.uaddr != 0 {
        return identify::wakes(waker, sleeper.uaddr);
    }
    identify::wait_of(Registers::of(task.0)).is_some_and(|wait| identify::wakes(waker, wait.uaddr))
}

/// The stacks of waiter and waker. What is not walked here is `limited` when the wait is sent.
#[inline(always)]
fn stacks<const ONE: bool>(task: Task, current: Task, sleeper: &Sleeper, now: u64) {
    let blocked = now.saturating_sub(sleeper.out_ns);
    if !sleeper.asleep {
        count(Stat::WokenBeforeSleep, 1);
    }
    // Two walks delay the wake by some microseconds, which in a storm is what makes its contention go
    // away.
    if !pystack::worth_it(sleeper.told, blocked, now) {
        return;
    }
    let Some(state) = thread_state(task.pid()) else { return };
    if !sleeper.asleep {
        // It is about to go to sleep, and to be in the run queue all the while. It may be back in
        // user mode before its stack is read, so only the waker's is.
        state.waker_stack = pystack::of_task(current, now);
        return;
    }
    // Waiter and waker share an address space, and both stand still in the kernel: both stacks are
    // walked here, once, with the time blocked known. (If they do share it: `own_stack`.)
    if state.waiter_stack < u64::from(NoStack::COUNT) && process::same::<ONE>(task, current) {
        state.waiter_stack = pystack::of_waiter(task, state, now);
        if blocked >= min_wait_ns() {
            state.native_stack = native::of_waiter(task, &state.current, now);
        }
    }
    state.waker_stack = pystack::of_task(current, now);
}
