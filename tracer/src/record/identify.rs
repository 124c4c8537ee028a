//! From the futex of a thread that is blocked already to its lock: the twin of `identify` of the
//! kernel side, for waits found at the attach.

use tracer_common::{FutexIdentity, InterpreterConfig, Shape};

use crate::cpython::{Interpreter, Namer, lock_object};
use crate::target::BlockedFutex;
use crate::units::Address;

// include/uapi/linux/futex.h
const FUTEX_COMMAND: u32 = 127;
const FUTEX_PRIVATE: u32 = 128;
const FUTEX_WAIT: u32 = 0;
const FUTEX_WAIT_BITSET: u32 = 9;

/// A semaphore of the parking lot lies this close above the waiter's stack pointer (see
/// `identify` of the kernel side, of which this is the twin for waits found at attach).
const STACK_WINDOW: u64 = 64 * 1024;

/// What is known of the lock; none if the thread waits for no futex.
pub(super) fn identify(
    found: &BlockedFutex,
    namer: &Namer,
    thread: Option<Address>,
) -> Option<FutexIdentity> {
    let command = found.op & FUTEX_COMMAND;
    if command != FUTEX_WAIT && command != FUTEX_WAIT_BITSET {
        return None;
    }
    let uaddr = found.uaddr.0;
    let mut id = FutexIdentity { uaddr, op: found.op, val: found.val, ..Default::default() };
    let plain = if command == FUTEX_WAIT {
        if found.val == 2 { Shape::Mutex } else { Shape::Futex }
    } else if found.op & FUTEX_PRIVATE == 0 && found.val != 0 {
        Shape::Join
    } else if found.val == 0 {
        Shape::Semaphore
    } else {
        Shape::Futex
    };
    id.shape = plain as u32;
    if plain == Shape::Mutex {
        let owner = namer.memory().and_then(|memory| memory.half_word(found.uaddr.field(8)?));
        id.owner = owner.map_or(0, u64::from);
    }
    let Some(python) = namer.interpreter() else { return Some(id) };
    let config = python.kernel_config();
    if let Some((shape, gil)) = gil_of(uaddr, python, &config) {
        id.shape = shape as u32;
        id.lock = gil.0;
        return Some(id);
    }
    let on_stack = uaddr.wrapping_sub(found.sp.0) < STACK_WINDOW;
    if config.parking_lot == 0 || command != FUTEX_WAIT_BITSET || !on_stack {
        if plain == Shape::Semaphore {
            own(&mut id, namer, python, thread);
        }
        return Some(id);
    }
    let memory = namer.memory()?;
    id.park_arg = memory.word(Address(uaddr.wrapping_sub(16)))?;
    id.lock = memory.word(Address(uaddr.wrapping_sub(8)))?;
    let object = config.free_threaded != 0 && id.lock & 15 == 10;
    id.shape = if object { Shape::Object } else { Shape::Parked } as u32;
    let header = if object { 10 } else { u64::from(config.lock_mutex) };
    let type_at = id.lock.wrapping_sub(header).wrapping_add(u64::from(config.ob_type));
    id.object_type = memory.word(Address(type_at)).unwrap_or(0);
    if !object {
        id.owner = memory.word(Address(id.lock.wrapping_add(8))).unwrap_or(0);
    }
    Some(id)
}

/// Fills in the object that owns the semaphore, and what it says.
fn own(id: &mut FutexIdentity, namer: &Namer, python: &Interpreter, thread: Option<Address>) {
    let read = || {
        let memory = namer.memory()?;
        let object = lock_object(memory, python, thread?, Address(id.uaddr))?;
        let word = |offset| memory.word(object.field(offset)?);
        let header = python.layout.object_header;
        Some((object.0, word(python.layout.ob_type)?, word(header + 8)?))
    };
    if let Some((object, object_type, owner)) = read() {
        (id.object, id.object_type, id.owner) = (object, object_type, owner);
    }
}

fn gil_of(
    uaddr: u64,
    python: &Interpreter,
    config: &InterpreterConfig,
) -> Option<(Shape, Address)> {
    python.gils.iter().find_map(|&gil| {
        let offset = uaddr.wrapping_sub(gil.0);
        let inside = u64::from(config.gil_cond)..u64::from(config.gil_end);
        inside.contains(&offset).then(|| {
            let handoff = offset >= u64::from(config.gil_switch_cond);
            (if handoff { Shape::GilHandoff } else { Shape::Gil }, gil)
        })
    })
}
