//! Records into the ring buffer.

use aya_ebpf::helpers::bpf_get_current_comm;
use tracer_common::event::{ShortEvent, SpinEvent, ThreadEvent, WaitEvent};
use tracer_common::thread::{Chain, Spin};
use tracer_common::{
    DropReason, EVENT_SHORT, EVENT_SPIN, EVENT_WAIT, FutexIdentity, NoStack, ThreadState,
};

use crate::counters::{add_below, add_without_record, lock_of, lost, one};
use crate::globals::{min_wait_ns, wake_bytes};
use crate::maps::{EVENTS, LIMITED, LIMITED_LOCKS, LOST, LOST_LOCKS, RECORDS};
use crate::rate;

// include/uapi/linux/bpf.h
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// Records of a CPU between two looks at how full the buffer is: 3 KiB of waits, or 32 KiB of native
/// stacks.
const LOOK_EVERY: u32 = 16;
/// Where that would be too much of it.
const SMALL_BYTES: u64 = 256 << 10;

/// Waking the reader costs an interrupt on the target's CPU, so it happens only when the buffer
/// fills up; otherwise the reader looks by itself every 100 ms. Nor does each record have to look, as
/// long as those between two looks are few against the buffer.
#[inline(always)]
fn wakeup() -> u64 {
    let Some(records) = RECORDS.get_ptr_mut(0) else { return BPF_RB_NO_WAKEUP };
    // SAFETY: this CPU's value; a count lost to an interrupt does no harm.
    let n = unsafe {
        *records = (*records).wrapping_add(1);
        *records
    };
    let look = wake_bytes() < SMALL_BYTES || n % LOOK_EVERY == 0;
    if look && EVENTS.query(BPF_RB_AVAIL_DATA) >= wake_bytes() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}

/// A finished wait: an event if it is long enough, a total otherwise. Never both, never neither.
#[inline(always)]
pub(crate) fn wait(tid: u32, state: &ThreadState, waker_tid: u32) {
    let chain = &state.chain;
    let total = one(chain.blocked_ns, chain.runq_ns);
    let (lock, shape) = (lock_of(&chain.id), chain.id.shape);
    if chain.blocked_ns + chain.runq_ns < min_wait_ns() {
        add_below(lock, shape, &total);
        return;
    }
    if !rate::allows(chain.end_ns) {
        add_without_record(&LIMITED_LOCKS, &LIMITED, lock, shape, &total);
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<WaitEvent>(0) else {
        lost(DropReason::RingFullWait);
        add_without_record(&LOST_LOCKS, &LOST, lock, shape, &total);
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: `event` points to the reserved record; every field is written before it is sent.
    unsafe {
        fill(event, EVENT_WAIT, tid, state, &chain.id, waker_tid);
        times(event, chain);
    }
    entry.submit(wakeup());
}

/// The waits below the threshold for the current lock, whose sums are at `at`; false if there is no
/// room: then they are told later.
#[inline(always)]
pub(crate) fn short(tid: u32, state: &ThreadState, at: usize, waker_tid: u32, now: u64) -> bool {
    let Some(slot) = state.short.get(at) else { return false };
    let Some(mut entry) = EVENTS.reserve::<ShortEvent>(0) else { return false };
    let event = entry.as_mut_ptr();
    // SAFETY: as above.
    unsafe {
        let wait = &raw mut (*event).wait;
        fill(wait, EVENT_SHORT, tid, state, &state.current, waker_tid);
        (*wait).start_ns = slot.since_ns;
        (*wait).end_ns = now;
        (*wait).blocked_ns = slot.totals.blocked_ns;
        (*wait).runq_ns = slot.totals.runq_ns;
        (*wait).flags = 0;
        (*wait).episodes = 1;
        (*event).waits = slot.totals.waits;
        (*event).max_ns = slot.totals.max_ns;
    }
    entry.submit(wakeup());
    true
}

/// When the wait was.
///
/// # Safety
/// `event` points to a record.
#[inline(always)]
unsafe fn times(event: *mut WaitEvent, chain: &Chain) {
    // SAFETY: the caller's promise.
    unsafe {
        (*event).start_ns = chain.start_ns;
        (*event).end_ns = chain.end_ns;
        (*event).blocked_ns = chain.blocked_ns;
        (*event).runq_ns = chain.runq_ns;
        (*event).flags |= chain.flags;
        (*event).episodes = chain.episodes;
    }
}

/// All of a record but its times, and with only those flags that are the holder's.
///
/// # Safety
/// `event` points to a record.
#[inline(always)]
unsafe fn fill(
    event: *mut WaitEvent,
    kind: u32,
    tid: u32,
    state: &ThreadState,
    id: &FutexIdentity,
    waker_tid: u32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        (*event).event = kind;
        (*event).tid = tid;
        (*event).uaddr = id.uaddr;
        (*event).lock = id.lock;
        (*event).park_arg = id.park_arg;
        (*event).object_type = id.object_type;
        (*event).op = id.op;
        (*event).val = id.val;
        (*event).shape = id.shape;
        (*event).flags = state.holder_flags;
        (*event).waker_tid = waker_tid;
        (*event).waiter_stack = state.waiter_stack;
        (*event).native_stack = state.native_stack;
        (*event).waker_stack =
            if waker_tid == 0 { NoStack::NotTaken as u64 } else { state.waker_stack };
        (*event).holder_stack = state.holder_stack;
        (*event).holder_ns_tid = state.holder_ns_tid;
        (*event).marks = id.marks;
        (*event).object = id.object;
        (*event).owner = id.owner;
        (*event).subjects = state.subjects;
    }
}

/// A run of yields that has just ended; false if there is no room: then it belongs into the totals.
#[inline(always)]
pub(crate) fn spin(tid: u32, spin: &Spin, object_type: u64, now: u64) -> bool {
    let Some(mut entry) = EVENTS.reserve::<SpinEvent>(0) else { return false };
    let event = entry.as_mut_ptr();
    // SAFETY: as above.
    unsafe {
        (*event).event = EVENT_SPIN;
        (*event).tid = tid;
        (*event).start_ns = spin.start_ns;
        (*event).end_ns = now;
        (*event).yielded_ns = spin.yielded_ns;
        (*event).yields = spin.yields;
        (*event).lock = spin.lock;
        (*event).object_type = object_type;
        (*event).stack = spin.stack;
    }
    entry.submit(wakeup());
    true
}

/// A record of variable length; false if there is no room. User space should look soon: what the
/// record speaks of must be read before it changes.
#[inline(always)]
pub(crate) fn record(bytes: &[u8]) -> bool {
    EVENTS.output::<[u8]>(bytes, BPF_RB_FORCE_WAKEUP).is_ok()
}

/// A record of variable length that can wait.
#[inline(always)]
pub(crate) fn bulk(bytes: &[u8]) -> bool {
    EVENTS.output::<[u8]>(bytes, wakeup()).is_ok()
}

/// Of which process a thread is, in a recording of several; all 0 else.
#[derive(Clone, Copy, Default)]
pub(crate) struct Origin {
    pub(crate) tgid: u32,
    pub(crate) number: u32,
    /// Who forked the process that is born.
    pub(crate) parent: u32,
}

/// A change in the life of a thread. Rare, and user space should look soon.
#[inline(always)]
pub(crate) fn thread(kind: u32, tid: u32, time_ns: u64, origin: Origin) {
    let Some(mut entry) = EVENTS.reserve::<ThreadEvent>(0) else {
        lost(DropReason::RingFullThread);
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: as above.
    unsafe {
        (*event).event = kind;
        (*event).tid = tid;
        (*event).time_ns = time_ns;
        (*event).comm = bpf_get_current_comm().unwrap_or([0; 16]);
        (*event).tgid = origin.tgid;
        (*event).number = origin.number;
        (*event).parent = origin.parent;
        (*event)._pad = 0;
    }
    entry.submit(BPF_RB_FORCE_WAKEUP);
}
