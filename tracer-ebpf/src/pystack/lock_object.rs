//! Which Python object a semaphore belongs to.
//!
//! Up to 3.13 `threading.RLock`, and up to 3.13.0 `Lock`, keep a pointer to a `sem_t` on the heap
//! (`Modules/_threadmodule.c`: `lock_lock` and `rlock_lock`, right behind the object header), and so
//! does the `SimpleQueue` of 3.11 and 3.12. Nothing leads from the semaphore back to the object. But
//! who waits for it has called one of its methods, so the object, or a method bound to it, is on the
//! value stack of its innermost frame; and what points to the semaphore there is no mistake.

use tracer_common::{FutexIdentity, LockObject};

use super::scratch::{code_word, frame_word, load_frame, read_values};
use super::{prepare, thread};
use crate::maps::LOCK_OBJECTS;
use crate::process;
use crate::task::Task;
use crate::user_memory::{three_words, two_words, word};

/// What was looked for in vain is not looked for again for so long.
const RETRY_NS: u64 = 1_000_000_000;
/// Values looked at: more than most functions ever have on their stack.
const MAX_VALUES: u64 = 16;
/// A function with more local variables is taken for garbage.
const MAX_LOCALS: u32 = 1 << 16;
/// Tag bits of a `_PyStackRef` (3.14 and later).
const TAG_BITS: u64 = 3;
const USER_END: u64 = 1 << 47;
const FIRST_PAGE: u64 = 4096;

/// Fills in the object that owns the semaphore `id` waits for, its type and its owner. The waiter is
/// current.
#[inline(always)]
pub(crate) fn find_lock_object(task: Task, id: &mut FutexIdentity, now: u64) {
    let Ok((config, _)) = prepare() else { return };
    // The header ends with the type.
    let type_offset = u64::from(config.ob_type);
    let key = process::tag(id.uaddr);
    // SAFETY: the value is copied at once; it is replaced as a whole.
    let known = unsafe { LOCK_OBJECTS.get(key) }.copied();
    if let Some(LockObject { object, retry_ns }) = known {
        if object == 0 && now < retry_ns || object != 0 && owns(id, object, type_offset) {
            return;
        }
    }
    let object = lw_lock_object(task.pid(), task.namespace_tid(), id.uaddr, now);
    // Should this fail, it is looked for again.
    let _ = LOCK_OBJECTS.insert(key, &LockObject { object, retry_ns: now + RETRY_NS }, 0);
    if object != 0 {
        owns(id, object, type_offset);
    }
}

/// Whether the object owns the semaphore. If so, fills in what it says.
#[inline(always)]
fn owns(id: &mut FutexIdentity, object: u64, type_offset: u64) -> bool {
    // Type, semaphore, and an RLock's `rlock_owner`.
    let Some([object_type, semaphore, owner]) = three_words(object.wrapping_add(type_offset))
    else {
        return false;
    };
    let owns = semaphore == id.uaddr;
    if owns {
        id.object = object;
        id.object_type = object_type;
        id.owner = owner;
    }
    owns
}

/// Looks for the object on the value stack of the thread's innermost frame; 0 if it is not there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lw_lock_object(tid: u32, ns_tid: u32, semaphore: u64, now: u64) -> u64 {
    let Ok((config, walk)) = prepare() else { return 0 };
    if thread::lw_thread(tid, ns_tid, now) == 0 {
        return 0;
    }
    let Some(frame) = thread::current_frame(config, walk).filter(|&frame| frame != 0) else {
        return 0;
    };
    if !load_frame(walk, frame) {
        return 0;
    }
    let code = frame_word(walk, frame, config.frame.executable) & !TAG_BITS;
    // `co_stacksize`, `co_firstlineno` and `co_nlocalsplus` are neighbours in all versions
    // (`Include/cpython/code.h`).
    let sizes = code.wrapping_add(u64::from(config.code_first_line)).wrapping_sub(4);
    let Some([first, second]) = two_words(sizes) else { return 0 };
    let (stack_size, locals) = (first as u32, second as u32);
    if locals > MAX_LOCALS || stack_size == 0 {
        return 0;
    }
    let values = frame + u64::from(config.frame.locals) + 8 * u64::from(locals);
    let count = if u64::from(stack_size) < MAX_VALUES { u64::from(stack_size) } else { MAX_VALUES };
    if !read_values(walk, values, 8 * count as u32) {
        return 0;
    }
    let behind_header = u64::from(config.ob_type) + 8;
    for i in 0..MAX_VALUES {
        if i >= count {
            break;
        }
        let value = code_word(walk, 8 * i as u32) & !TAG_BITS;
        if !is_pointer(value) {
            continue;
        }
        let Some([content, bound_to]) = two_words(value + behind_header) else { continue };
        if content == semaphore {
            return value;
        }
        // `PyCFunctionObject`: `m_ml`, then `m_self` (`Include/cpython/methodobject.h`).
        if is_pointer(bound_to) && word(bound_to + behind_header) == Some(semaphore) {
            return bound_to;
        }
    }
    0
}

#[inline(always)]
fn is_pointer(word: u64) -> bool {
    word & 7 == 0 && word.wrapping_sub(FIRST_PAGE) < USER_END - FIRST_PAGE
}
