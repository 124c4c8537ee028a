//! What a futex wait waits for, in the words of a Python programmer.

use rustc_hash::FxHashMap;
use tracer_common::{FutexIdentity, Shape};

use super::Interpreter;
use crate::target::Memory;
use crate::trace::records::{Class, Kind};
use crate::units::{Address, Pid};

/// A type name longer than this is taken for garbage (bytes).
const MAX_TYPE_NAME: usize = 256;

/// `Py_TPFLAGS_TYPE_SUBCLASS` (`Include/object.h`): instances are types.
const TYPE_SUBCLASS: u64 = 1 << 31;

/// `ob_mutex` in a free-threaded object header (`Include/object.h`).
const OB_MUTEX: u64 = 10;

/// A lock's kind, class, address and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockName {
    /// What it is.
    pub kind: Kind,
    /// What waiting for it means.
    pub class: Class,
    /// The owning object, else the lock.
    pub address: Address,
    /// The lock itself.
    pub lock: Address,
    /// For people.
    pub name: String,
}

/// Names locks by reading the target's memory.
#[derive(Debug, Default)]
pub struct Namer {
    memory: Option<Memory>,
    interpreter: Option<Interpreter>,
    types: FxHashMap<Address, Option<String>>,
}

impl Namer {
    /// For a process of which nothing is known yet: every wait is a plain futex.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { memory: Memory::open(pid).ok(), interpreter: None, types: FxHashMap::default() }
    }

    /// The process turned out to be this interpreter, or (after an `exec`) no longer is one.
    pub fn set_interpreter(&mut self, pid: Pid, interpreter: Option<Interpreter>) {
        self.memory = Memory::open(pid).ok();
        self.interpreter = interpreter;
        self.types.clear();
    }

    /// The target's memory, if it may be read.
    #[must_use]
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// The interpreter, if there is one.
    #[must_use]
    pub fn interpreter(&self) -> Option<&Interpreter> {
        self.interpreter.as_ref()
    }

    /// The same, to be corrected.
    pub fn interpreter_mut(&mut self) -> Option<&mut Interpreter> {
        self.interpreter.as_mut()
    }

    /// Names the lock behind a futex wait. `is_thread` tells whether a number is the id of a
    /// thread of the target: only then is a wait shaped like `pthread_join` one.
    pub fn name(&mut self, id: &FutexIdentity, is_thread: impl Fn(u32) -> bool) -> LockName {
        let futex = Address(id.uaddr);
        let plain = |kind, class, name: &str| LockName {
            kind,
            class,
            address: futex,
            lock: futex,
            name: name.to_owned(),
        };
        let other = |name| plain(Kind::Futex, Class::Unclassified, name);
        match Shape::from_u32(id.shape).unwrap_or(Shape::Futex) {
            Shape::Gil => self.gil(id, Kind::Gil),
            Shape::GilHandoff => self.gil(id, Kind::GilHandoff),
            Shape::Object | Shape::Parked => self.parked(id),
            Shape::Semaphore => other("semaphore"),
            Shape::Mutex => other("mutex"),
            Shape::Join if is_thread(id.val) => plain(Kind::Join, Class::Idle, "thread"),
            Shape::Join | Shape::Futex => other("futex"),
        }
    }

    /// What the kernel side would have said of a lock, had somebody parked on it (a spin that
    /// never parked leaves only the address). `PyMutex` is the only lock that spins.
    #[must_use]
    pub fn parked_identity(&self, lock: u64, object_type: u64) -> FutexIdentity {
        let free_threaded =
            self.interpreter.as_ref().is_some_and(|python| python.layout.free_threaded);
        let object = free_threaded && lock & 15 == OB_MUTEX;
        // Spins before the interpreter was known have no type.
        let object_type =
            if object_type == 0 { self.read_object_type(lock, object) } else { object_type };
        let shape = if object { Shape::Object } else { Shape::Parked } as u32;
        // A PyMutex parks with an argument (`struct mutex_entry`, Python/lock.c).
        FutexIdentity { lock, object_type, shape, park_arg: 1, ..Default::default() }
    }

    /// The type pointer of the object that a lock would be in; 0 if it can't be read.
    fn read_object_type(&self, lock: u64, object: bool) -> u64 {
        let read = || {
            let layout = &self.interpreter.as_ref()?.layout;
            let header = if object { OB_MUTEX } else { layout.object_header };
            let at = lock.checked_sub(header)?.checked_add(layout.ob_type)?;
            self.memory.as_ref()?.word(Address(at))
        };
        read().unwrap_or(0)
    }

    fn gil(&self, id: &FutexIdentity, kind: Kind) -> LockName {
        let gils = self.interpreter.as_ref().map_or(&[][..], |python| &python.gils);
        let number = gils.iter().position(|gil| gil.0 == id.lock).unwrap_or(0);
        let base = if kind == Kind::Gil { "GIL" } else { "GIL hand-off" };
        let name =
            if number == 0 { base.to_owned() } else { format!("{base} of interpreter {number}") };
        let address = Address(id.lock);
        LockName { kind, class: Class::Contention, address, lock: address, name }
    }

    /// A parking-lot wait: the kernel side read the parked address out of its `wait_entry`.
    fn parked(&mut self, id: &FutexIdentity) -> LockName {
        let lock = Address(id.lock);
        let unclassified = |name: String| LockName {
            kind: Kind::Unclassified,
            class: Class::Unclassified,
            address: lock,
            lock,
            name,
        };
        let Some(python) = self.interpreter.as_ref() else {
            return unclassified("parked".to_owned());
        };
        let (runtime, layout) = (python.runtime, python.layout);
        // A raw mutex of the parking lot's own buckets: its record starts with the next waiter's,
        // on another stack, or nothing (`struct raw_mutex_entry`, Python/lock.c).
        if id.lock == 0 {
            return unclassified("parking-lot bucket".to_owned());
        }
        let object_type = self.type_name(Address(id.object_type));
        if id.shape == Shape::Object as u32 {
            let address = Address(id.lock.wrapping_sub(OB_MUTEX));
            return match object_type {
                Some(type_name) => LockName {
                    kind: Kind::Object,
                    class: Class::Contention,
                    address,
                    lock,
                    name: self.object_name(address, type_name),
                },
                None => unclassified("parked mutex".to_owned()),
            };
        }
        let address = Address(id.lock.wrapping_sub(layout.object_header));
        // Whether a Lock or RLock is contended or idled on (an empty queue's get() parks the same
        // way) only the Python frames can tell.
        let owned = |kind, class, name: String| LockName { kind, class, address, lock, name };
        match object_type {
            Some(name) if name == "_thread.lock" => {
                return owned(Kind::Lock, Class::Unclassified, name);
            }
            Some(name) if name == "_thread.RLock" => {
                return owned(Kind::Rlock, Class::Unclassified, name);
            }
            // `get` of an empty SimpleQueue parks on a byte of the queue (Modules/_queuemodule.c).
            Some(name) if name == "_queue.SimpleQueue" => {
                return owned(Kind::Queue, Class::Idle, name);
            }
            _ => {}
        }
        let inside = id.lock.wrapping_sub(runtime.0);
        if inside < layout.runtime_size {
            return unclassified(format!("_PyRuntime+{inside:#x}"));
        }
        unclassified(if id.park_arg == 0 { "parked event" } else { "parked mutex" }.to_owned())
    }

    /// `dict`; `type Account` for a type object, whose own name says more than `type`.
    fn object_name(&self, object: Address, type_name: String) -> String {
        if type_name != "type" {
            return type_name;
        }
        self.read_tp_name(object).map_or(type_name, |name| format!("type {name}"))
    }

    /// The name of a type, if there is a type at that address.
    fn type_name(&mut self, address: Address) -> Option<String> {
        if let Some(known) = self.types.get(&address) {
            return known.clone();
        }
        let name = self.read_type_name(address);
        self.types.insert(address, name.clone());
        name
    }

    fn read_type_name(&self, address: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let memory = self.memory.as_ref()?;
        if address.0 == 0 || !address.0.is_multiple_of(8) {
            return None;
        }
        let field = |base: Address, offset: u64| memory.word(Address(base.0.checked_add(offset)?));
        let metatype = Address(field(address, python.layout.ob_type)?);
        let is_type = metatype == python.type_type
            || (metatype.0.is_multiple_of(8)
                && field(metatype, python.layout.ob_type)? == python.type_type.0
                && field(metatype, python.layout.tp_flags)? & TYPE_SUBCLASS != 0);
        if is_type { self.read_tp_name(address) } else { None }
    }

    fn read_tp_name(&self, object: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let memory = self.memory.as_ref()?;
        let pointer = memory.word(Address(object.0.checked_add(python.layout.tp_name)?))?;
        memory.c_string(Address(pointer), MAX_TYPE_NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(shape: Shape) -> FutexIdentity {
        FutexIdentity { uaddr: 0x1000, val: 7, shape: shape as u32, ..Default::default() }
    }

    #[test]
    fn without_an_interpreter_nothing_is_called_contention() {
        let mut namer = Namer::default();
        for shape in [Shape::Futex, Shape::Object, Shape::Parked, Shape::Semaphore, Shape::Mutex] {
            let name = namer.name(&id(shape), |_| true);
            assert_eq!(name.class, Class::Unclassified, "{shape:?}");
        }
    }

    #[test]
    fn a_join_needs_a_thread_of_the_target() {
        let mut namer = Namer::default();
        assert_eq!(namer.name(&id(Shape::Join), |tid| tid == 7).kind, Kind::Join);
        assert_eq!(namer.name(&id(Shape::Join), |_| false).kind, Kind::Futex);
    }
}
