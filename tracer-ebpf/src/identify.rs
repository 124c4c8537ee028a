//! Futex arguments -> shape of the lock behind them, without a uprobe.
//!
//! Runs while the waiter is current (at switch-out), because the words read here live on the
//! waiter's own stack and die with the wait.

use tracer_common::config::MAX_GILS;
use tracer_common::shape::{MARK_COLLECTING, STOP_EVENT_TO_REQUESTER};
use tracer_common::thread::KnownSemaphore;
use tracer_common::{DropReason, FutexIdentity, Shape, ThreadState};

use crate::counters::lost;
use crate::process;
use crate::registers::{Registers, SYS_FUTEX, SYS_FUTEX_WAIT, SYS_FUTEX_WAITV};
use crate::user_memory::{three_words, two_words, word};

// include/uapi/linux/futex.h
const FUTEX_WAIT: u32 = 0;
const FUTEX_REQUEUE: u32 = 3;
const FUTEX_CMP_REQUEUE: u32 = 4;
const FUTEX_WAKE: u32 = 1;
const FUTEX_WAKE_OP: u32 = 5;
const FUTEX_LOCK_PI: u32 = 6;
const FUTEX_UNLOCK_PI: u32 = 7;
const FUTEX_WAIT_BITSET: u32 = 9;
const FUTEX_WAKE_BITSET: u32 = 10;
const FUTEX_WAIT_REQUEUE_PI: u32 = 11;
const FUTEX_CMP_REQUEUE_PI: u32 = 12;
const FUTEX_LOCK_PI2: u32 = 13;
const FUTEX_PRIVATE: u32 = 128;
const FUTEX_COMMAND: u32 = 127;

const PAGE_MASK: u64 = 4095;

/// A parking-lot `wait_entry` is a local of `_PyParkingLot_Park` (`Python/parking_lot.c`), so its
/// semaphore lies this close above the stack pointer at the system call.
const STACK_WINDOW: u64 = 64 * 1024;

/// A semaphore's object is not looked at again for so long.
const BELIEVED_NS: u64 = 1_000_000;

/// Arguments of a futex wait.
#[derive(Clone, Copy)]
pub(crate) struct WaitArguments {
    pub(crate) uaddr: u64,
    pub(crate) op: u32,
    pub(crate) val: u32,
    /// It may end by a timeout.
    pub(crate) timed: bool,
}

/// True for the commands that put the caller to sleep.
#[inline(always)]
pub(crate) fn is_wait(op: u32) -> bool {
    matches!(
        op & FUTEX_COMMAND,
        FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | FUTEX_WAIT_REQUEUE_PI
    )
}

/// The futex wait that a task is in, from its saved registers.
#[inline(always)]
pub(crate) fn wait_of(registers: Registers) -> Option<WaitArguments> {
    match registers.syscall() {
        SYS_FUTEX => {
            let op = registers.argument::<1>() as u32;
            is_wait(op).then(|| WaitArguments {
                uaddr: registers.argument::<0>(),
                op,
                val: registers.argument::<2>() as u32,
                timed: registers.argument::<3>() != 0,
            })
        }
        // futex_wait(uaddr, val, mask, flags, ...): a bitset wait in other clothes.
        SYS_FUTEX_WAIT => Some(WaitArguments {
            uaddr: registers.argument::<0>(),
            op: FUTEX_WAIT_BITSET | FUTEX_PRIVATE,
            val: registers.argument::<1>() as u32,
            timed: registers.argument::<4>() != 0,
        }),
        // futex_waitv(waiters, ...): named by its first futex, `struct futex_waitv.uaddr` at 8.
        SYS_FUTEX_WAITV => Some(WaitArguments {
            uaddr: word(registers.argument::<0>().wrapping_add(8)).unwrap_or(0),
            op: FUTEX_WAIT_BITSET | FUTEX_PRIVATE,
            val: 1,
            timed: registers.argument::<3>() != 0,
        }),
        _ => None,
    }
}

/// True for the system calls that can be a futex wait.
#[inline(always)]
pub(crate) fn is_futex(syscall: u64) -> bool {
    matches!(syscall, SYS_FUTEX | SYS_FUTEX_WAIT | SYS_FUTEX_WAITV)
}

/// True for the system calls that wait or wake.
#[inline(always)]
pub(crate) fn is_futex_call(syscall: u64) -> bool {
    is_futex(syscall) || syscall == crate::registers::SYS_FUTEX_WAKE
}

/// The lock that the current thread's futex call is for, as far as its word says: the GIL, or what is
/// parked on, which stands before the semaphore on a waiter's stack. 0 if it does not say.
#[inline(always)]
pub(crate) fn lock_of_call(registers: Registers) -> u64 {
    let uaddr = registers.argument::<0>();
    let Some(interpreter) = process::interpreter() else { return 0 };
    for i in 0..MAX_GILS {
        if i as u32 >= interpreter.gil_count {
            break;
        }
        let offset = uaddr.wrapping_sub(interpreter.gils[i]);
        if offset >= u64::from(interpreter.gil_cond) && offset < u64::from(interpreter.gil_end) {
            return interpreter.gils[i];
        }
    }
    if interpreter.parking_lot == 0 {
        return 0;
    }
    let Some(lock) = word(uaddr.wrapping_sub(8)) else { return 0 };
    // A waker's word lies on another thread's stack, or is no semaphore at all.
    let own = uaddr.wrapping_sub(registers.sp()) < STACK_WINDOW;
    if own || crate::mutex::lw_is_mutex(lock) != 0 { lock } else { 0 }
}

/// True if `waker` is in a system call that wakes waiters of `uaddr`.
#[inline(always)]
pub(crate) fn wakes(waker: Registers, uaddr: u64) -> bool {
    match waker.syscall() {
        SYS_FUTEX => match waker.argument::<1>() as u32 & FUTEX_COMMAND {
            FUTEX_WAKE | FUTEX_WAKE_BITSET | FUTEX_UNLOCK_PI => waker.argument::<0>() == uaddr,
            FUTEX_WAKE_OP | FUTEX_REQUEUE | FUTEX_CMP_REQUEUE | FUTEX_CMP_REQUEUE_PI => {
                waker.argument::<0>() == uaddr || waker.argument::<4>() == uaddr
            }
            _ => false,
        },
        crate::registers::SYS_FUTEX_WAKE => waker.argument::<0>() == uaddr,
        _ => false,
    }
}

/// True if both are in futex calls that other processes can take part in, on words that can be the
/// same: memory that is shared may be at another address in each process, but at the same place in
/// its page.
#[inline(always)]
pub(crate) fn wakes_elsewhere(waker: Registers, sleeper: Registers) -> bool {
    if waker.syscall() != SYS_FUTEX || sleeper.syscall() != SYS_FUTEX {
        return false;
    }
    let Some(wait) = wait_of(sleeper).filter(|wait| is_shared(wait.op)) else { return false };
    let op = waker.argument::<1>() as u32;
    let wakes = matches!(op & FUTEX_COMMAND, FUTEX_WAKE | FUTEX_WAKE_BITSET | FUTEX_WAKE_OP);
    wakes && is_shared(op) && (wait.uaddr ^ waker.argument::<0>()) & PAGE_MASK == 0
}

/// True for a futex whose waiters and wakers can be of different processes.
#[inline(always)]
pub(crate) fn is_shared(op: u32) -> bool {
    op & FUTEX_PRIVATE == 0
}

/// Fills in what `wait` waits for if that is the semaphore that was last looked at, a moment ago, and
/// its object had no owner then: a `Lock`, or an `RLock` that was just let go.
#[inline(always)]
pub(crate) fn recall(state: &mut ThreadState, wait: WaitArguments, now: u64) -> bool {
    let known = &state.known;
    if known.uaddr != wait.uaddr
        || now >= known.until_ns
        || !matches!(plain_shape(wait.op, wait.val), Shape::Semaphore)
    {
        return false;
    }
    state.current = FutexIdentity {
        uaddr: wait.uaddr,
        op: wait.op,
        val: wait.val,
        shape: Shape::Semaphore as u32,
        object: known.object,
        object_type: known.object_type,
        ..FutexIdentity::default()
    };
    true
}

/// Keeps what was found out of a semaphore.
#[inline(always)]
pub(crate) fn remember(state: &mut ThreadState, now: u64) {
    let FutexIdentity { uaddr, object, object_type, owner, .. } = state.current;
    if object != 0 && owner == 0 {
        state.known = KnownSemaphore { uaddr, object, object_type, until_ns: now + BELIEVED_NS };
    }
}

/// Fills in what `wait` waits for. The waiter is current, `sp` is its user stack pointer. `again`: the
/// thread waited for what `id` still has less than a moment ago.
#[inline(always)]
pub(crate) fn identify(id: &mut FutexIdentity, wait: WaitArguments, sp: u64, again: bool) {
    let WaitArguments { uaddr, op, val, .. } = wait;
    let known = if again { (id.lock, id.object_type) } else { (0, 0) };
    id.uaddr = uaddr;
    id.op = op;
    id.val = val;
    id.lock = 0;
    id.park_arg = 0;
    id.object_type = 0;
    id.marks = 0;
    id.object = 0;
    id.owner = 0;
    let shape = plain_shape(op, val);
    id.shape = shape as u32;
    if matches!(shape, Shape::Mutex) {
        // `pthread_mutex_t`: `__lock`, `__count`, `__owner` (sysdeps/x86/nptl/bits/struct_mutex.h).
        id.owner = word(uaddr.wrapping_add(8)).unwrap_or(0) & u64::from(u32::MAX);
    }
    let Some(interpreter) = process::interpreter() else { return };
    if interpreter.valid == 0 {
        return;
    }
    for i in 0..MAX_GILS {
        if i as u32 >= interpreter.gil_count {
            break;
        }
        // The whole struct's range: which word of a condition variable is waited on depends on
        // glibc (group 0 or 1, and its version).
        let offset = uaddr.wrapping_sub(interpreter.gils[i]);
        if offset >= u64::from(interpreter.gil_cond) && offset < u64::from(interpreter.gil_end) {
            let handoff = offset >= u64::from(interpreter.gil_switch_cond);
            id.shape = if handoff { Shape::GilHandoff } else { Shape::Gil } as u32;
            id.lock = interpreter.gils[i];
            return;
        }
    }
    if interpreter.parking_lot == 0
        || op & FUTEX_COMMAND != FUTEX_WAIT_BITSET
        || uaddr.wrapping_sub(sp) >= STACK_WINDOW
    {
        return;
    }
    // struct wait_entry { void *park_arg; uintptr_t addr; _PySemaphore sema; ... } of
    // Python/parking_lot.c, 3.13 to 3.15: the futex is the first word of `sema`.
    let Some([park_arg, address]) = two_words(uaddr.wrapping_sub(16)) else {
        lost(DropReason::ParkWordsFault);
        return;
    };
    id.lock = address;
    id.park_arg = park_arg;
    let object = interpreter.free_threaded != 0 && address & 15 == 10;
    id.shape = if object { Shape::Object } else { Shape::Parked } as u32;
    if park_arg == 0 && interpreter.gc_collecting != 0 {
        // Events, once flags and threads that stand still while the world is stopped park without an
        // argument: none of them is frequent.
        let collecting = word(interpreter.gc_collecting).unwrap_or(0) as u32 != 0;
        id.marks = if collecting { MARK_COLLECTING } else { 0 };
    }
    if address <= STACK_WINDOW || address.wrapping_sub(sp) < STACK_WINDOW {
        return;
    }
    if object && known.0 == address && known.1 != 0 {
        // A read costs as much as all the rest, and objects don't come and go that fast.
        id.object_type = known.1;
    } else if object {
        match object_type(address) {
            Some(object_type) => id.object_type = object_type,
            None => lost(DropReason::ObjectTypeFault),
        }
    } else if let Some([object_type, _, owner]) = three_words(address.wrapping_sub(8)) {
        // A Lock or RLock has its mutex right behind the type. An RLock's owner follows: `struct
        // _PyRecursiveMutex { PyMutex mutex; PyThread_ident_t thread; size_t level; }`. A PyMutex
        // outside any object has neither, and there may be nothing before it.
        id.object_type = object_type;
        id.owner = owner;
        if park_arg == 0 && interpreter.free_threaded != 0 {
            // Who stops the world waits for an event that its own `PyThreadState *` stands near:
            // `struct _stoptheworld_state { ...; PyEvent stop_event; Py_ssize_t thread_countdown;
            // PyThreadState *requester; }` (Include/internal/pycore_interp_structs.h), 3.13 to 3.15.
            id.owner = word(address.wrapping_add(STOP_EVENT_TO_REQUESTER)).unwrap_or(0);
        }
    }
}

/// What would be the type pointer of the object that the `PyMutex` at `address` belongs to:
/// `ob_mutex` of any object (offset 10, free-threaded), or the mutex right behind the header of a
/// `threading.Lock`.
#[inline(always)]
pub(crate) fn object_type(address: u64) -> Option<u64> {
    let interpreter = process::interpreter()?;
    let mutex = if interpreter.free_threaded != 0 && address & 15 == 10 {
        10
    } else {
        u64::from(interpreter.lock_mutex)
    };
    word(address.wrapping_sub(mutex).wrapping_add(u64::from(interpreter.ob_type)))
}

#[inline(always)]
fn plain_shape(op: u32, val: u32) -> Shape {
    match op & FUTEX_COMMAND {
        FUTEX_WAIT_BITSET if op & FUTEX_PRIVATE == 0 && val != 0 => Shape::Join,
        FUTEX_WAIT_BITSET if val == 0 => Shape::Semaphore,
        FUTEX_WAIT if val == 2 => Shape::Mutex,
        _ => Shape::Futex,
    }
}
