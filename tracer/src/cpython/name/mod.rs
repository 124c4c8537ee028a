//! What a futex wait waits for, in the words of a Python programmer.

mod parked;
mod runtime;
mod types;

use rustc_hash::{FxHashMap, FxHashSet};
use tracer_common::{FutexIdentity, SUBJECTS, Shape};

use super::Interpreter;
use super::block::pointer;
use super::situation::{LockType, Situation};
use crate::target::Memory;
use crate::trace::records::{Class, Kind};
use crate::units::{Address, Pid};

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
