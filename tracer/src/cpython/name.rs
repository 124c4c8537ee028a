//! What a futex wait waits for, in the words of a Python programmer.

use rustc_hash::{FxHashMap, FxHashSet};
use tracer_common::shape::MARK_COLLECTING;
use tracer_common::{FutexIdentity, MAX_GILS, SUBJECTS, Shape};

use super::block::pointer;
use super::runtime_fields::{self, RuntimeLock};
use super::situation::{LockType, Situation};
use super::{Interpreter, read_str};
use crate::target::Memory;
use crate::trace::records::{Class, Kind};
use crate::units::{Address, Pid};

/// A type name longer than this is taken for garbage (bytes).
const MAX_TYPE_NAME: usize = 256;

/// `Py_TPFLAGS_TYPE_SUBCLASS` (`Include/object.h`): instances are types.
const TYPE_SUBCLASS: u64 = 1 << 31;

/// From `mutex` to `stop_event` in `struct _stoptheworld_state`: three `bool`s lie between them
/// (`Include/internal/pycore_interp_structs.h`, 3.13 to 3.15).
const STOP_MUTEX_TO_EVENT: u64 = 4;

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

/// What the waiter's frames say about a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// Nothing: there are none.
    Nothing,
    /// The lock is waited for as such.
    Itself,
    /// It is waited for as part of something else.
    As(Situation),
}

/// All that is known of a wait when it gets its name.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What the kernel side saw.
    pub id: &'a FutexIdentity,
    /// What the frames say.
    pub told: Told,
    /// First local variables of the innermost frames; 0: not read.
    pub subjects: [u64; SUBJECTS],
    /// The waiter's `PyThreadState`.
    pub thread: Option<Address>,
    /// `id.val` is the id of a thread of the target: only then is a wait shaped like `pthread_join`
    /// one.
    pub is_thread: bool,
}

impl<'a> Seen<'a> {
    /// Of which nothing but its lock is known.
    #[must_use]
    pub fn alone(id: &'a FutexIdentity) -> Self {
        Self { id, told: Told::Nothing, subjects: [0; SUBJECTS], thread: None, is_thread: false }
    }
}

/// Names locks by reading the target's memory.
#[derive(Debug, Default)]
pub struct Namer {
    memory: Option<Memory>,
    interpreter: Option<Interpreter>,
    types: FxHashMap<Address, Option<String>>,
    /// Mutexes of who stops the world: the runtime has one, each interpreter another.
    stop_mutexes: FxHashSet<Address>,
    /// Of the process that forked this one: what was there then is there still.
    parent: Option<Memory>,
}

impl Namer {
    /// For a process of which nothing is known yet: every wait is a plain futex.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { memory: Memory::open(pid).ok(), ..Self::default() }
    }

    /// For a process that another one has just forked: it has the same interpreter, with the same
    /// objects at the same addresses.
    #[must_use]
    pub fn forked(pid: Pid, parent: &Self) -> Self {
        // Names that could not be read may be readable now.
        let types = parent.types.iter().filter(|(_, name)| name.is_some());
        Self {
            memory: Memory::open(pid).ok(),
            interpreter: parent.interpreter.clone(),
            types: types.map(|(&address, name)| (address, name.clone())).collect(),
            stop_mutexes: parent.stop_mutexes.clone(),
            parent: parent.memory.as_ref().and_then(|memory| memory.try_clone().ok()),
        }
    }

    /// The process turned out to be this interpreter, or (after an `exec`) no longer is one.
    pub fn set_interpreter(&mut self, pid: Pid, interpreter: Option<Interpreter>) {
        self.memory = Memory::open(pid).ok();
        self.interpreter = interpreter;
        self.types.clear();
        self.stop_mutexes.clear();
        self.parent = None;
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

    /// The waiter stands still while the world is stopped: it parks on its own thread state
    /// (`tstate_wait_attach`, Python/pystate.c).
    #[must_use]
    pub fn waits_on_own_state(&self, wait: &Seen<'_>) -> bool {
        let offset = self.interpreter.as_ref().and_then(|python| python.layout.thread_state);
        wait.id.shape == Shape::Parked as u32
            && offset
                .zip(wait.thread)
                .is_some_and(|(offset, thread)| thread.0.wrapping_add(offset) == wait.id.lock)
    }

    /// The waiter stops the world, or waits for its turn to do so. Told by the struct that the event is
    /// in, which has the waiter as its requester: where that struct is no table has to say. Once its
    /// event was seen, its mutex is known as well.
    pub fn stops_the_world(&mut self, wait: &Seen<'_>) -> bool {
        let (id, lock) = (wait.id, Address(wait.id.lock));
        if id.shape != Shape::Parked as u32 {
            return false;
        }
        if id.park_arg != 0 {
            return self.stop_mutexes.contains(&lock);
        }
        let requester = wait.thread.is_some_and(|thread| thread.0 == id.owner);
        if requester && self.stop_mutexes.len() < MAX_GILS {
            self.stop_mutexes.insert(Address(id.lock.wrapping_sub(STOP_MUTEX_TO_EVENT)));
        }
        requester
    }

    /// What a lock is can be read at its address, whatever its waiters do.
    pub fn tells_itself(&mut self, id: &FutexIdentity) -> bool {
        self.runtime_field(Address(id.lock)).is_some()
            || matches!(self.lock_type(id), LockType::Rlock | LockType::SimpleQueue)
    }

    /// What a wait's lock itself is known to be, which decides what the waiter's frames can say.
    pub fn lock_type(&mut self, id: &FutexIdentity) -> LockType {
        let shape = Shape::from_u32(id.shape);
        if !matches!(shape, Some(Shape::Parked | Shape::Semaphore)) {
            return LockType::Other;
        }
        match self.type_name(Address(id.object_type)).as_deref() {
            Some("_thread.lock") => LockType::Lock,
            Some("_thread.RLock") => LockType::Rlock,
            Some("_queue.SimpleQueue") => LockType::SimpleQueue,
            Some("_multiprocessing.SemLock") => LockType::SemLock,
            // Nothing leads from a semaphore to its Lock, if it is that of one.
            _ if shape == Some(Shape::Semaphore) => LockType::Lock,
            _ => LockType::Other,
        }
    }

    /// Names what a futex wait waits for.
    pub fn name(&mut self, wait: &Seen<'_>) -> LockName {
        let lock = self.lock_name(wait);
        let Told::As(situation) = wait.told else { return lock };
        // Frames say what a Lock is for. These say what they are: whoever waits for the GIL on its way
        // out of `Thread.join` does not join.
        if matches!(
            lock.kind,
            Kind::Gil | Kind::GilHandoff | Kind::StopTheWorld | Kind::Object | Kind::Runtime
        ) {
            return lock;
        }
        let subject = situation.subject.and_then(|n| wait.subjects.get(n)).copied().unwrap_or(0);
        let subject = if subject == 0 { None } else { pointer(subject) };
        let name = match situation.text {
            Some(n) => wait.subjects.get(n).and_then(|&text| self.module_name(pointer(text)?)),
            None => subject.and_then(|subject| self.subject_name(situation.kind, subject)),
        };
        LockName {
            kind: situation.kind,
            class: situation.class,
            address: subject.unwrap_or(lock.address),
            // Each wait may have had a lock of its own: what they are for is one thing.
            lock: subject.unwrap_or(lock.lock),
            name: name.unwrap_or_else(|| situation.name.to_owned()),
        }
    }

    fn lock_name(&mut self, wait: &Seen<'_>) -> LockName {
        let id = wait.id;
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
            Shape::Object | Shape::Parked => self.parked(wait),
            Shape::Semaphore => self.object_lock(wait, futex).unwrap_or_else(|| other("semaphore")),
            Shape::Mutex => plain(Kind::PthreadMutex, Class::Contention, "mutex"),
            Shape::Join if wait.is_thread => plain(Kind::Join, Class::Idle, "Thread"),
            Shape::Join | Shape::Futex => other("futex"),
        }
    }

    /// `module NAME`, after the string that a function of importlib was called with. The lock itself is
    /// gone with the import; the name lives in `sys.modules` or in the code that imports.
    fn module_name(&self, text: Address) -> Option<String> {
        let layout = self.interpreter.as_ref()?.frames.as_ref().ok()?;
        let name = read_str(self.memory.as_ref()?, &layout.strings, text)?;
        let plausible = |c: char| c.is_alphanumeric() || c == '.' || c == '_' || c == '-';
        (!name.is_empty() && name.chars().all(plausible)).then(|| format!("module {name}"))
    }

    /// What an object is called that frames led to. It may be gone by now, and another be there: only
    /// names that it can have are taken.
    fn subject_name(&mut self, kind: Kind, subject: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let memory = self.memory.as_ref()?;
        let object_type = memory.word(subject.field(python.layout.ob_type)?)?;
        let prefix = match (kind, self.type_name(Address(object_type))?.as_str()) {
            (Kind::Queue, "PriorityQueue" | "LifoQueue") => "queue",
            (Kind::Semaphore, "BoundedSemaphore") | (Kind::Join, "Timer") => "threading",
            _ => return None,
        };
        Some(format!("{prefix}.{}", self.type_name(Address(object_type))?))
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
    fn parked(&mut self, wait: &Seen<'_>) -> LockName {
        let id = wait.id;
        let lock = Address(id.lock);
        let named =
            |kind, class, address, name: String| LockName { kind, class, address, lock, name };
        let unclassified =
            |name: &str| named(Kind::Unclassified, Class::Unclassified, lock, name.to_owned());
        if self.interpreter.is_none() {
            return unclassified("parked");
        }
        // A raw mutex of the parking lot's own buckets: its record starts with the next waiter's,
        // on another stack, or nothing (`struct raw_mutex_entry`, Python/lock.c).
        if id.lock == 0 {
            let bucket = "parking-lot bucket".to_owned();
            return named(Kind::Runtime, Class::Contention, lock, bucket);
        }
        if self.waits_on_own_state(wait) {
            return self.pause(id, "stop-the-world");
        }
        if self.stops_the_world(wait) {
            return self.pause(id, "stop-the-world request");
        }
        if let Some(field) = self.runtime_field(lock) {
            return match field {
                RuntimeLock::StopTheWorld => self.pause(id, "stop-the-world request"),
                RuntimeLock::Mutex(name) => {
                    let import = name.starts_with("imports.");
                    let kind = if import { Kind::Import } else { Kind::Runtime };
                    named(kind, Class::Contention, lock, name)
                }
            };
        }
        if id.shape == Shape::Object as u32 {
            let address = Address(id.lock.wrapping_sub(OB_MUTEX));
            return match self.type_name(Address(id.object_type)) {
                Some(type_name) => {
                    let name = self.object_name(address, type_name);
                    named(Kind::Object, Class::Contention, address, name)
                }
                None => unclassified("parked mutex"),
            };
        }
        if let Some(found) = self.object_lock(wait, lock) {
            return found;
        }
        if let Some(place) = self.inside_runtime(lock) {
            return unclassified(&place);
        }
        // The event of a `ThreadHandle` (`Modules/_threadmodule.c`): 57 bytes into a heap block.
        match (id.park_arg, id.lock & 15) {
            (0, 9) => named(Kind::Join, Class::Idle, lock, "Thread".to_owned()),
            (0, _) => unclassified("parked event"),
            // A free-threaded dict's keys have a mutex of their own (`dk_mutex`).
            (_, 11) if self.is_free_threaded() => {
                named(Kind::Object, Class::Contention, lock, "dict keys".to_owned())
            }
            // Somewhere in C memory; somebody holds it.
            (..) => named(Kind::Runtime, Class::Contention, lock, "PyMutex".to_owned()),
        }
    }

    fn is_free_threaded(&self) -> bool {
        self.interpreter.as_ref().is_some_and(|python| python.layout.free_threaded)
    }

    /// A Lock, an RLock or the like. Whether a Lock is fought over or idled on (an empty queue's get()
    /// waits the same way) only the frames can tell.
    fn object_lock(&mut self, wait: &Seen<'_>, lock: Address) -> Option<LockName> {
        let id = wait.id;
        let header = self.interpreter.as_ref()?.layout.object_header;
        let address = if id.object == 0 { id.lock.wrapping_sub(header) } else { id.object };
        let name = self.type_name(Address(id.object_type))?;
        let (kind, class) = match name.as_str() {
            "_thread.lock" if wait.told == Told::Nothing => (Kind::Lock, Class::Unclassified),
            "_thread.lock" => (Kind::Lock, Class::Contention),
            // Nothing in the library waits for an RLock in order to idle.
            "_thread.RLock" => (Kind::Rlock, Class::Contention),
            // `get` of an empty SimpleQueue parks on a byte of the queue (Modules/_queuemodule.c).
            "_queue.SimpleQueue" => (Kind::Queue, Class::Idle),
            // A Lock, RLock or Semaphore of multiprocessing, or a part of its other classes.
            "_multiprocessing.SemLock" if wait.told == Told::Nothing => {
                (Kind::Lock, Class::Unclassified)
            }
            "_multiprocessing.SemLock" => (Kind::Lock, Class::Contention),
            _ => return None,
        };
        Some(LockName { kind, class, address: Address(address), lock, name })
    }

    /// A stop-the-world pause is of the interpreter: its threads have their own words to wait on.
    fn pause(&self, id: &FutexIdentity, name: &str) -> LockName {
        let collecting = id.marks & MARK_COLLECTING != 0;
        let address = self
            .interpreter
            .as_ref()
            .and_then(|python| python.interpreters.last())
            .copied()
            .unwrap_or(Address(id.lock));
        let name = format!("{name}{}", if collecting { " (GC)" } else { "" });
        LockName { kind: Kind::StopTheWorld, class: Class::Pause, address, lock: address, name }
    }

    fn runtime_field(&self, lock: Address) -> Option<RuntimeLock> {
        let python = self.interpreter.as_ref()?;
        let layout = &python.layout;
        let object = layout.free_threaded && lock.0 & 15 == OB_MUTEX;
        let offset = |base: Address, size: u64| {
            Some(lock.0.wrapping_sub(base.0)).filter(|&offset| offset < size)
        };
        let size = layout.interpreter_size;
        let found = python.interpreters.iter().find_map(|&base| {
            runtime_fields::in_interpreter(
                python.version,
                layout.free_threaded,
                size,
                offset(base, size)?,
            )
        });
        // The main interpreter and immortal objects are in `_PyRuntime` too.
        found.or_else(|| {
            let at = offset(python.runtime, layout.runtime_size).filter(|_| !object)?;
            runtime_fields::in_runtime(python.version, layout.runtime_size, at)
        })
    }

    /// Where in the runtime a lock is that has no name.
    fn inside_runtime(&self, lock: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let (layout, runtime) = (&python.layout, python.runtime);
        let inside = |base: Address, size| {
            Some(lock.0.wrapping_sub(base.0)).filter(|&offset: &u64| offset < size)
        };
        let in_interpreter =
            python.interpreters.iter().find_map(|&base| inside(base, layout.interpreter_size));
        match in_interpreter {
            Some(offset) => Some(format!("interpreter+{offset:#x}")),
            None => inside(runtime, layout.runtime_size).map(|at| format!("_PyRuntime+{at:#x}")),
        }
    }

    /// `dict`; `type Account` for a type object, whose own name says more than `type`.
    fn object_name(&self, object: Address, type_name: String) -> String {
        if type_name != "type" {
            return type_name;
        }
        let name = self.memory.as_ref().and_then(|memory| self.read_tp_name(memory, object));
        name.map_or(type_name, |name| format!("type {name}"))
    }

    /// The name of a type, if there is a type at that address.
    fn type_name(&mut self, address: Address) -> Option<String> {
        if let Some(known) = self.types.get(&address) {
            return known.clone();
        }
        // A process that has ended can't be asked; the one that forked it may live.
        let name = self.read_type_name(self.memory.as_ref(), address);
        let name = name.or_else(|| self.read_type_name(self.parent.as_ref(), address));
        self.types.insert(address, name.clone());
        name
    }

    fn read_type_name(&self, memory: Option<&Memory>, address: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let memory = memory?;
        if address.0 == 0 || !address.0.is_multiple_of(8) {
            return None;
        }
        let field = |base: Address, offset: u64| memory.word(Address(base.0.checked_add(offset)?));
        let metatype = Address(field(address, python.layout.ob_type)?);
        let is_type = metatype == python.type_type
            || (metatype.0.is_multiple_of(8)
                && field(metatype, python.layout.ob_type)? == python.type_type.0
                && field(metatype, python.layout.tp_flags)? & TYPE_SUBCLASS != 0);
        if is_type { self.read_tp_name(memory, address) } else { None }
    }

    fn read_tp_name(&self, memory: &Memory, object: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
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
    fn without_an_interpreter_only_a_mutex_is_called_contention() {
        let mut namer = Namer::default();
        for shape in [Shape::Futex, Shape::Object, Shape::Parked, Shape::Semaphore, Shape::Join] {
            let id = id(shape);
            let name = namer.name(&Seen::alone(&id));
            assert_eq!(name.class, Class::Unclassified, "{shape:?}");
        }
        let id = id(Shape::Mutex);
        assert_eq!(namer.name(&Seen::alone(&id)).kind, Kind::PthreadMutex);
    }

    #[test]
    fn a_join_needs_a_thread_of_the_target() {
        let mut namer = Namer::default();
        let id = id(Shape::Join);
        let seen = |is_thread| Seen { is_thread, ..Seen::alone(&id) };
        assert_eq!(namer.name(&seen(true)).kind, Kind::Join);
        assert_eq!(namer.name(&seen(false)).kind, Kind::Futex);
    }

    #[test]
    fn the_gil_is_the_gil_whatever_the_frames_say() {
        let mut namer = Namer::default();
        let join = Situation {
            kind: Kind::Join,
            class: Class::Idle,
            name: "Thread",
            subject: Some(0),
            text: None,
        };
        for (shape, kind) in [(Shape::Gil, Kind::Gil), (Shape::GilHandoff, Kind::GilHandoff)] {
            let id = FutexIdentity { lock: 0x9000, ..id(shape) };
            let seen =
                Seen { told: Told::As(join), subjects: [0x5000, 0, 0, 0], ..Seen::alone(&id) };
            let name = namer.name(&seen);
            assert_eq!((name.kind, name.class), (kind, Class::Contention));
            assert_eq!(name.lock, Address(0x9000));
        }
    }

    #[test]
    fn what_the_frames_say_is_what_it_is() {
        let mut namer = Namer::default();
        let id = id(Shape::Semaphore);
        let situation = Situation {
            kind: Kind::Queue,
            class: Class::Idle,
            name: "queue.Queue",
            subject: Some(1),
            text: None,
        };
        let seen = Seen {
            told: Told::As(situation),
            subjects: [0x5000, 0x6000, 0, 0],
            ..Seen::alone(&id)
        };
        let name = namer.name(&seen);
        assert_eq!((name.kind, name.class), (Kind::Queue, Class::Idle));
        assert_eq!((name.address, name.name.as_str()), (Address(0x6000), "queue.Queue"));
        let seen = Seen { subjects: [0; SUBJECTS], ..seen };
        assert_eq!(namer.name(&seen).address, Address(0x1000), "the lock, for want of the queue");
    }
}
