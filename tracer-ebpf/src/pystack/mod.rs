//! Python stacks, walked where they stand still: of the current thread, and of a waiter that its
//! waker is about to wake. Both are in the current address space.
//!
//! A stack is sent once, under an id that is a hash of its frames; waits carry ids.

mod code;
mod frames;
mod holder;
mod lock_object;
mod scratch;
mod subjects;
mod thread;

use tracer_common::event::EVENT_STACK;
use tracer_common::stack::MAX_FRAMES;
use tracer_common::{
    DropReason, FutexIdentity, NoStack, RawFrame, SUBJECTS, Shape, StackConfig, StackEvent, Stat,
    ThreadState, WalkEnd,
};

pub(crate) use holder::of_holder;
pub(crate) use lock_object::find_lock_object;
pub(crate) use scratch::Walk;
pub(crate) use thread::forget;

use crate::counters::{count, lost};
use crate::emit;
use crate::globals::short_walk_every_ns;
use crate::maps::{STACKS_SENT, WALK};
use crate::process;
use crate::registers::Registers;
use crate::task::Task;

/// Native stacks are rarer than other frequent walks, 1,000 per second: 2 KiB each, and unwound one by one.
const NATIVE_COPY_EVERY_NS: u64 = 1_000_000;
/// In a storm of yields most runs are long. Those beyond 250 a second are in the totals.
const LONG_YIELDS_EVERY_NS: u64 = 4_000_000;
/// 50 a second do for naming futexes.
const PLAIN_COPY_EVERY_NS: u64 = 20_000_000;
/// So many of them at once.
const SHORT_WALKS_BURST: u64 = 50;
/// A wait that was blocked for so long is walked. So is, of shorter ones, each with which their sum
/// has grown by so much: a sample by time, in which a place has the share that it has of the waiting.
const EARNS_WALK_NS: u64 = 4_000_000;
/// Waits that only a stack names are walked more often: if blocked for so long, …
const UNTOLD_WALKED_NS: u64 = 100_000;
/// … and this many times as many short ones.
const UNTOLD_MORE_OFTEN: u64 = 4;
/// What a wait counts beside the time that it was blocked: it will be in the run queue as well.
const RUN_QUEUE_NS: u64 = 20_000;

/// The Python stack of a thread that runs no Python code now, because it is in the kernel: its id,
/// or a [`NoStack`] number. `task` is in the current address space.
#[inline(always)]
pub(crate) fn of_task(task: Task, now: u64) -> u64 {
    lw_stack(task.pid(), task.namespace_tid(), now, 0, Registers::of(task.0).sp())
}

/// What is waited for says what it is without a stack, which tells the place alone.
#[inline(always)]
pub(crate) fn is_told(id: &FutexIdentity) -> bool {
    const TOLD: [u32; 3] = [Shape::Gil as u32, Shape::GilHandoff as u32, Shape::Object as u32];
    TOLD.contains(&id.shape)
}

/// The same of a waiter; fills in its state's subjects, if what it waits for is told by them.
#[inline(always)]
pub(crate) fn of_waiter(task: Task, state: &mut ThreadState, now: u64) -> u64 {
    let untold = !is_told(&state.current);
    let sp = Registers::of(task.0).sp();
    let stack = lw_stack(task.pid(), task.namespace_tid(), now, u64::from(untold), sp);
    if untold {
        if let Some(walk) = WALK.get_ptr(0) {
            // SAFETY: this CPU's value, which the call has just filled in.
            state.subjects = unsafe { (*walk).subjects };
        }
    }
    stack
}

// A function with a global symbol is verified once per program, for all arguments; any other again
// for every path that leads to a call. So those with long loops, and what calls them, are global.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lw_stack(tid: u32, ns_tid: u32, now: u64, with_subjects: u64, sp: u64) -> u64 {
    let (config, walk) = match prepare() {
        Ok(ready) => ready,
        Err(why) => return why as u64,
    };
    // SAFETY: this CPU's value.
    unsafe { (*walk).subjects = [0; SUBJECTS] };
    if thread::lw_thread(tid, ns_tid, now) == 0 {
        return NoStack::NoThreadState as u64;
    }
    let Some(frame) = thread::current_frame(config, walk) else {
        lost(DropReason::StackFrameFault);
        return NoStack::Unreadable as u64;
    };
    // SAFETY: this CPU's value. What is in the window is of an earlier walk.
    unsafe {
        (*walk).window_frames = 0;
        (*walk).user_sp = sp;
    }
    if with_subjects != 0 {
        subjects::lw_subjects(frame);
    }
    code::begin(config, walk, now);
    let end = frames::walk_frames(config, frame);
    count(Stat::StacksWalked, 1);
    match end {
        WalkEnd::Complete => {}
        WalkEnd::Truncated => count(Stat::StacksTruncated, 1),
        WalkEnd::FrameFault => lost(DropReason::StackFrameFault),
        WalkEnd::BadFrame => lost(DropReason::StackBadFrame),
        WalkEnd::NotCode => lost(DropReason::StackNotCode),
        WalkEnd::CodeFault => lost(DropReason::StackCodeFault),
    }
    intern(walk, tid, end)
}

/// Reasons to walk that can be very frequent. Each has a budget of its own.
#[derive(Clone, Copy)]
pub(crate) enum Frequent {
    /// A wait that is short so far, and may still grow long in the run queue: to place it.
    ShortWait = 0,
    /// A run of yields.
    Yields = 1,
    /// A copy of a native stack.
    Native = 2,
    /// The same, in order to learn what a futex is.
    Plain = 3,
    /// No walk: a record of a long run of yields.
    LongYields = 4,
    /// A short wait of which only the stack tells what it is for.
    Untold = 5,
}

impl Frequent {
    pub(super) const COUNT: usize = 6;
}

/// Whether one more such walk may be made on this CPU now.
#[inline(always)]
pub(crate) fn affordable(why: Frequent, now: u64) -> bool {
    let cost_ns = match why {
        Frequent::ShortWait | Frequent::Yields => short_walk_every_ns(),
        Frequent::Untold => short_walk_every_ns() / UNTOLD_MORE_OFTEN,
        Frequent::Native => NATIVE_COPY_EVERY_NS,
        Frequent::LongYields => LONG_YIELDS_EVERY_NS,
        Frequent::Plain => PLAIN_COPY_EVERY_NS,
    };
    let Some(walk) = WALK.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's value; the programs that use it run with interrupts off.
    let paid_until = unsafe { &mut (*walk).paid_until_ns[why as usize] };
    let from = if *paid_until > now { *paid_until } else { now };
    let affordable = from - now < SHORT_WALKS_BURST * cost_ns;
    if affordable {
        *paid_until = from + cost_ns;
    }
    affordable
}

/// Whether a wait that was blocked for so long gets its stacks: each long one, a sample of the others by
/// their time, and each while there are few.
#[inline(always)]
pub(crate) fn worth_it(told: bool, blocked_ns: u64, now: u64) -> bool {
    if !told {
        return blocked_ns >= UNTOLD_WALKED_NS || affordable(Frequent::Untold, now);
    }
    if blocked_ns >= EARNS_WALK_NS {
        return true;
    }
    let Some(walk) = WALK.get_ptr_mut(0) else { return false };
    // SAFETY: as in `affordable`.
    let earned_ns = unsafe { &mut (*walk).earned_ns };
    *earned_ns += blocked_ns + RUN_QUEUE_NS;
    if *earned_ns >= EARNS_WALK_NS {
        *earned_ns -= EARNS_WALK_NS;
        return true;
    }
    affordable(Frequent::ShortWait, now)
}

/// The end of a walk, from its number.
#[inline(always)]
fn end(number: u64) -> WalkEnd {
    // A table lookup by number would need a check that the verifier can follow.
    match number {
        0 => WalkEnd::Complete,
        1 => WalkEnd::Truncated,
        2 => WalkEnd::FrameFault,
        3 => WalkEnd::BadFrame,
        4 => WalkEnd::NotCode,
        _ => WalkEnd::CodeFault,
    }
}

#[inline(always)]
fn prepare() -> Result<(&'static StackConfig, *mut Walk), NoStack> {
    let config = process::stack_config().filter(|config| config.valid != 0);
    let config = config.ok_or(NoStack::NoInterpreter)?;
    // One scratch for all programs: they run on `sched_switch` and `sched_waking`, both with
    // interrupts off, so none runs inside another.
    let walk = WALK.get_ptr_mut(0).ok_or(NoStack::NoInterpreter)?;
    Ok((config, walk))
}

/// The id of the stack that was just walked; sends the stack unless it was sent before.
#[inline(always)]
fn intern(walk: *mut Walk, tid: u32, end: WalkEnd) -> u64 {
    // SAFETY: this CPU's value, see `prepare`.
    let event = unsafe { &mut (*walk).event };
    if event.frames == 0 {
        return match end {
            WalkEnd::Complete => NoStack::NoFrames,
            _ => NoStack::Unreadable,
        } as u64;
    }
    let id = event.id;
    // SAFETY: this CPU's value, and 8 bits as the index of 256 slots.
    let sent = unsafe { &mut *(&raw mut (*walk).sent).cast::<u64>().add((id >> 56) as usize) };
    if *sent == id {
        return id;
    }
    // SAFETY: the value is not looked at.
    if unsafe { STACKS_SENT.get(id) }.is_some() {
        *sent = id;
        return id;
    }
    event.event = EVENT_STACK;
    event.tid = tid;
    event.end = end as u32;
    let frames = (event.frames as usize).min(MAX_FRAMES);
    let len = size_of::<StackEvent>() + frames * size_of::<RawFrame>();
    // SAFETY: `event` and `frames` are neighbours in the `#[repr(C)]` scratch, and `len` ends at
    // the latest with `frames`.
    let record = unsafe { core::slice::from_raw_parts(walk.cast::<u8>().cast_const(), len) };
    if !emit::record(record) {
        lost(DropReason::RingFullStack);
        return NoStack::RingFull as u64;
    }
    // Should this fail, the stack is sent again.
    let _ = STACKS_SENT.insert(id, &1, 0);
    id
}
