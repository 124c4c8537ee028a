//! Which locks a blocked thread is inside a `with` block of, read from its frames.
//!
//! A plain `threading.Lock` doesn't say who has it. But a `with` block keeps the lock's `__exit__`
//! on the frame's value stack until it is left: 3.11 to 3.13 as a bound method, 3.14 and later as a
//! method and, beside it, the lock (`BEFORE_WITH`, `LOAD_SPECIAL`, Python/bytecodes.c). How much of
//! that stack is in use while a frame runs is in a register. The exception table says it too: the
//! entry for the current instruction holds the depth down to which the stack is unwound, and a
//! `with` block has such an entry, from the moment on that the lock was taken. So neither what
//! lies above, left over from before, nor a block that is about to be entered is taken for one.
//!
//! A `threading.Condition` is a class in Python: its `__exit__` is a Python function's, and the lock
//! is its `_lock`. While its `wait` runs, that lock was let go, whoever's block it is in.

use super::attributes::Attributes;
use super::block::pointer;
use super::text::read_bytes;
use super::walk::{Step, TAG, each_frame};
use super::{CodeNames, Interpreter, Resolved};
use crate::target::Memory;
use crate::units::Address;

/// Slots of one frame's value stack that are looked at, from the bottom on.
const MAX_SLOTS: u32 = 256;
/// Locks that one thread is said to have, at most.
const MAX_HELD: usize = 256;
/// A longer exception table is not read (bytes).
const MAX_TABLE: usize = 1 << 20;
/// Longer names are none of those that are looked for (bytes).
const MAX_NAME: usize = 64;
/// `threading.py`: its first local is the condition.
const WAITING: &str = "Condition.wait";

/// A lock that a thread is inside a `with` block of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// `id(lock)`.
    pub object: Address,
    /// What is waited on: its `PyMutex`, or its semaphore.
    pub lock: Address,
    /// The Python frame of the block; 0 is the leaf.
    pub depth: u32,
}

/// The locks, `threading.Lock` and `RLock`, that the thread with its `PyThreadState` at `thread` is
/// inside a `with` block of, and that are locked. The thread has to be blocked, and to stay so.
///
/// A `Condition`'s lock is one of them. At most 256; what can't be read is left out. A lock inside of
/// any other object is not found, nor is one that was taken by `acquire()`.
#[must_use]
pub fn held_locks(
    memory: &Memory,
    python: &Interpreter,
    names: &mut CodeNames,
    thread: Address,
) -> Vec<Held> {
    let objects = Objects { memory, python };
    let mut held = Vec::new();
    let mut let_go = Vec::new();
    let mut depth = 0;
    each_frame(memory, python, thread, |step| {
        match names.resolve(memory, python, &step.raw) {
            // What no stack shows is no frame of it.
            Resolved::Shim => return,
            Resolved::Place(place) if place.function == WAITING => {
                let_go.extend(objects.first_local(&step).and_then(|own| objects.lock_of(own)));
            }
            Resolved::Place(_) | Resolved::Gone => {}
        }
        for (object, lock) in of_frame(memory, python, &step).unwrap_or_default() {
            if held.len() < MAX_HELD && !let_go.contains(&object) {
                held.push(Held { object, lock, depth });
            }
        }
        depth += 1;
    });
    held
}

/// Locks of the `with` blocks that a frame is in.
fn of_frame(memory: &Memory, python: &Interpreter, step: &Step) -> Option<Vec<(Address, Address)>> {
    let layout = python.frames.as_ref().ok()?;
    let code = Address(step.raw.code);
    let header = python.layout.object_header;
    // PyCodeObject (Include/cpython/code.h), 3.11 to 3.15: a var-sized object's header, co_consts,
    // co_names, co_exceptiontable; co_nlocalsplus follows co_firstlineno.
    let table = pointer(memory.word(code.field(header + 24)?)?)?;
    let lines = pointer(memory.word(code.field(layout.code.line_table)?)?)?;
    let of_type = |object: Address| memory.word(object.field(layout.ob_type)?);
    if of_type(table)? != of_type(lines)? {
        return None; // no `bytes`: not the layout of this version
    }
    let table = read_bytes(memory, &layout.strings, table, MAX_TABLE)?;
    let used = stack_depth(&table, step.raw.lasti)?.min(MAX_SLOTS);
    let locals = u64::from(memory.half_word(code.field(layout.code.first_line + 4)?)?);
    let stack = step.frame.field(layout.frame.locals)?.field(locals.checked_mul(8)?)?;
    let slot = |n: u32| {
        let word = memory.word(stack.field(8 * u64::from(n))?)?;
        pointer(word & !TAG)
    };
    let objects = Objects { memory, python };
    let mut found = Vec::new();
    for n in 0..used {
        let Some(object) = slot(n) else { continue };
        let next = if n + 1 < used { slot(n + 1) } else { None };
        let lock = objects.exits(object, next).and_then(|lock| objects.locked(lock));
        found.extend(lock);
    }
    Some(found)
}

/// Objects that matter here, told by the names of their types.
struct Objects<'a> {
    memory: &'a Memory,
    python: &'a Interpreter,
}

impl Objects<'_> {
    fn type_is(&self, object: Address, names: &[&str]) -> bool {
        let name = || {
            let layout = &self.python.layout;
            let of = pointer(self.memory.word(object.field(layout.ob_type)?)?)?;
            let name = self.memory.word(of.field(layout.tp_name)?)?;
            self.memory.c_string(Address(name), MAX_NAME)
        };
        name().is_some_and(|name| names.contains(&name.as_str()))
    }

    /// The object whose `__exit__` waits here: bound to it, or with it in the next slot.
    fn exits(&self, object: Address, next: Option<Address>) -> Option<Address> {
        let header = self.python.layout.object_header;
        let word = |offset| self.memory.word(object.field(header + offset)?);
        let is_exit = |definition: u64| {
            // PyMethodDef begins with its name (Include/methodobject.h).
            let name = self.memory.word(pointer(definition)?)?;
            Some(self.memory.c_string(Address(name), MAX_NAME)? == "__exit__")
        };
        if self.type_is(object, &["builtin_function_or_method"]) {
            // PyCFunctionObject: m_ml, m_self (Include/cpython/methodobject.h).
            return pointer(word(8)?).filter(|_| word(0).and_then(is_exit) == Some(true));
        }
        // On that part of the stack are loops, exceptions and blocks: a function is a block's.
        if self.type_is(object, &["method"]) {
            // PyMethodObject: im_func, im_self (Include/cpython/classobject.h).
            return self.lock_of(pointer(word(8)?)?);
        }
        if self.type_is(object, &["function"]) {
            return self.lock_of(next?);
        }
        if self.type_is(object, &["method_descriptor"]) {
            // PyMethodDescrObject: d_type, d_name, d_qualname, d_method (Include/cpython/descrobject.h).
            return next.filter(|_| word(24).and_then(is_exit) == Some(true));
        }
        None
    }

    /// The lock of a `threading.Condition`.
    fn lock_of(&self, condition: Address) -> Option<Address> {
        if !self.type_is(condition, &["Condition"]) {
            return None;
        }
        Attributes::new(self.memory, self.python)?.get(condition, "_lock")
    }

    fn first_local(&self, step: &Step) -> Option<Address> {
        let layout = self.python.frames.as_ref().ok()?;
        let word = self.memory.word(step.frame.field(layout.frame.locals)?)?;
        pointer(word & !TAG)
    }

    /// A lock that is locked: the object, and what is waited on.
    fn locked(&self, object: Address) -> Option<(Address, Address)> {
        if !self.type_is(object, &["_thread.lock", "_thread.RLock"]) {
            return None;
        }
        // A PyMutex, one byte whose lowest bit is set while it is locked; or, in older versions, a
        // pointer to a semaphore, whose value (the low half of glibc's sem_t) is then 0.
        let lock = object.field(self.python.layout.object_header)?;
        match pointer(self.memory.word(lock)?) {
            Some(semaphore) => {
                (self.memory.half_word(semaphore)? == 0).then_some((object, semaphore))
            }
            None => (self.memory.half_word(lock)? & 1 == 1).then_some((object, lock)),
        }
    }
}

/// How much of the value stack is certainly in use at an instruction: the depth of its entry in an
/// exception table; none if it has no entry (`Objects/exception_handling_notes.txt`; all in code
/// units).
fn stack_depth(table: &[u8], at: u32) -> Option<u32> {
    let mut bytes = table.iter().copied().peekable();
    while bytes.peek().is_some() {
        let mut varint = || {
            let mut value = 0u32;
            loop {
                let byte = bytes.next()?;
                value = value.checked_mul(64)? | u32::from(byte & 63);
                if byte & 64 == 0 {
                    return Some(value);
                }
            }
        };
        let (start, length, _target, depth) = (varint()?, varint()?, varint()?, varint()?);
        if at >= start && at - start < length {
            return Some(depth >> 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::stack_depth;

    #[test]
    fn an_exception_table_says_how_deep_the_stack_is() {
        // def f(a, b):
        //     with a:
        //         with b: pass
        // on 3.11: 15-16 → depth 1, then 17-18 → depth 2, and one that needs two bytes.
        let table = [0x80 | 15, 2, 30, 1 << 1 | 1, 0x80 | 17, 2, 40, 2 << 1 | 1];
        let depth = |at| stack_depth(&table, at);
        assert_eq!(
            [14, 15, 16, 17, 18, 19].map(depth),
            [None, Some(1), Some(1), Some(2), Some(2), None]
        );
        let long = [0x80 | 64 | 2, 5, 64 | 1, 0, 64 | 3, 7, 3 << 1];
        assert_eq!(stack_depth(&long, 2 * 64 + 5), Some(3));
        assert_eq!(stack_depth(&long, 2 * 64 + 5 + 63), Some(3));
        assert_eq!(stack_depth(&long, 2 * 64 + 5 + 64), None);
    }

    #[test]
    fn damaged_tables_end() {
        assert_eq!(stack_depth(&[], 0), None);
        assert_eq!(stack_depth(&[0x80, 1, 1], 0), None);
        assert_eq!(stack_depth(&[0xff; 100], 0), None);
    }
}
