//! What a trace holds, as the recorder writes it and the analyses read it.
//!
//! Waits and locks are many and go through postcard (a varint encoding with a written
//! specification); everything else is JSON, so that keys can be added without a new version.
//! Which chunk holds what is in [`super::format`]; `docs/trace-format.md` is for other readers.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use tracer_common::{NoStack, Shape, ShapeTotals, UseKind};

use super::time_unit::TimeUnit;
use crate::units::{
    Address, FrameIndex, LockIndex, Monotonic, Ns, Pid, ProcessIndex, StackIndex, ThreadIndex, Tid,
};

/// What was recorded, where and how. A later one replaces an earlier one (the interpreter of a
/// started command is known only once it runs).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Version of lockwatt that recorded.
    pub lockwatt: String,
    /// The traced process.
    pub target: Target,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// CPUs online.
    pub cpus: u32,
    /// What was asked for.
    pub options: Options,
    /// Beginning of the recording.
    pub start: Monotonic,
    /// The same moment as nanoseconds since 1970 (`CLOCK_REALTIME`).
    pub start_realtime_ns: u64,
    /// The kernel programs that were wanted, and what became of each.
    pub programs: Vec<ProgramState>,
    /// What a hit of a uprobe costs, measured at the start.
    pub uprobe_cost: Option<UprobeCost>,
    /// Why that is not known, if it isn't.
    pub uprobe_cost_unknown_because: Option<String>,
}

/// What one hit of a uprobe costs the thread that makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UprobeCost {
    /// At a function's entry.
    pub entry: Ns,
    /// At its return, with what that costs at the entry.
    pub at_return: Ns,
    /// An uncontended lock and unlock without probes, for comparison.
    pub without: Ns,
}

/// The traced process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Process id on the host.
    pub pid: Pid,
    /// Its executable.
    pub exe: String,
    /// Its arguments.
    pub cmdline: Vec<String>,
    /// `3.14.9`, or none if it is (so far) no CPython.
    pub python: Option<String>,
    /// A free-threaded build.
    pub free_threaded: Option<bool>,
    /// Why locks have no names, if they have none.
    pub unnamed_because: Option<String>,
    /// Why there are no Python stacks, if there are none.
    pub stackless_because: Option<String>,
}

/// Options of the recording that change what the numbers mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Waits below this have no record of their own, only totals.
    pub min_wait: Ns,
    /// No more waits than this got a record of their own, per second; none: there was no limit.
    pub max_events_per_sec: Option<u64>,
    /// `sched` or `syscall`.
    pub hooks: String,
    /// CPU-clock samples per second and CPU; none: no sampler.
    pub sample_hz: Option<u32>,
    /// Opt-in uprobe groups.
    pub uprobes: Vec<String>,
    /// The waiters' native frames were wanted.
    pub native: bool,
    /// The children of traced processes were traced as well.
    pub follow: bool,
    /// What the times of waits and of runs of yields are in. Sums that the kernel made are exact.
    #[serde(rename = "time_unit_ns")]
    pub time_unit: TimeUnit,
}

/// A kernel program and whether it took part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramState {
    /// Its name in the kernel.
    pub name: String,
    /// What it hooks.
    pub hook: String,
    /// Loaded and attached.
    pub attached: bool,
    /// If not, why.
    pub reason: Option<String>,
}

impl ProgramState {
    /// It is one of the opt-in uprobes.
    #[must_use]
    pub fn is_uprobe(&self) -> bool {
        self.hook.starts_with("uprobe/") || self.hook.starts_with("uretprobe/")
    }
}

/// What kind of thing is waited for (design: `report --format json`). Written as its position:
/// append only, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The global interpreter lock.
    Gil,
    /// After a requested GIL drop: waiting until another thread took it.
    GilHandoff,
    /// `ob_mutex` of an object (free-threaded builds).
    Object,
    /// `threading.Lock`.
    Lock,
    /// `threading.RLock`.
    Rlock,
    /// `threading.Condition`.
    Condition,
    /// `threading.Event`.
    Event,
    /// `threading.Semaphore`.
    Semaphore,
    /// `threading.Barrier`.
    Barrier,
    /// `queue.Queue` and its like.
    Queue,
    /// A pool's worker without work.
    Pool,
    /// `Thread.join`.
    Join,
    /// An import lock.
    Import,
    /// A mutex of the runtime or an interpreter.
    Runtime,
    /// A stop-the-world pause.
    StopTheWorld,
    /// `pthread_mutex_t`.
    PthreadMutex,
    /// `pthread_cond_t`.
    PthreadCond,
    /// `pthread_rwlock_t`.
    PthreadRwlock,
    /// A futex of another kind.
    Futex,
    /// Sampled: a fight over a reference count.
    Refcount,
    /// Sampled: a fight over another atomic.
    Atomic,
    /// Not known.
    Unclassified,
}

/// What a wait means for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A lock that somebody else held.
    Contention,
    /// Nothing to do.
    Idle,
    /// The world was stopped.
    Pause,
    /// Can't be told from what was recorded.
    Unclassified,
}

impl Kind {
    /// The name in JSON, in folded stacks and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gil => "gil",
            Self::GilHandoff => "gil_handoff",
            Self::Object => "object",
            Self::Lock => "lock",
            Self::Rlock => "rlock",
            Self::Condition => "condition",
            Self::Event => "event",
            Self::Semaphore => "semaphore",
            Self::Barrier => "barrier",
            Self::Queue => "queue",
            Self::Pool => "pool",
            Self::Join => "join",
            Self::Import => "import",
            Self::Runtime => "runtime",
            Self::StopTheWorld => "stop_the_world",
            Self::PthreadMutex => "pthread_mutex",
            Self::PthreadCond => "pthread_cond",
            Self::PthreadRwlock => "pthread_rwlock",
            Self::Futex => "futex",
            Self::Refcount => "refcount",
            Self::Atomic => "atomic",
            Self::Unclassified => "unclassified",
        }
    }

    /// The kind and class of waits of which only the shape is known (those below the threshold
    /// or lost).
    #[must_use]
    pub fn of_shape(shape: Shape) -> (Self, Class) {
        match shape {
            Shape::Gil => (Self::Gil, Class::Contention),
            Shape::GilHandoff => (Self::GilHandoff, Class::Contention),
            Shape::Object => (Self::Object, Class::Contention),
            Shape::Join => (Self::Join, Class::Idle),
            Shape::Futex | Shape::Semaphore | Shape::Mutex => (Self::Futex, Class::Unclassified),
            Shape::Parked => (Self::Unclassified, Class::Unclassified),
        }
    }
}

impl Class {
    /// The name in JSON and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Contention => "contention",
            Self::Idle => "idle",
            Self::Pause => "pause",
            Self::Unclassified => "unclassified",
        }
    }
}

/// A lock, interned: waits name it by `index`. Once written it is never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Its number in this trace, from 0, in order of appearance.
    pub index: LockIndex,
    /// What it is.
    pub kind: Kind,
    /// What waiting for it means.
    pub class: Class,
    /// The owning object (`id(obj)`) where there is one, else the lock.
    pub address: Address,
    /// The lock itself: parked address, semaphore, GIL.
    pub lock: Address,
    /// For people: the object's type name (`dict`), `GIL`, `semaphore`, …
    pub name: String,
    /// The [`Shape`] number that the kernel side gave it.
    pub shape: u32,
}

/// A thread of the target. Snapshots: a later record of the same index replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadRecord {
    /// Its number in this trace, from 0.
    pub index: ThreadIndex,
    /// Its id on the host.
    pub tid: Tid,
    /// Its process.
    pub process: ProcessIndex,
    /// Its name in the kernel (comm).
    pub name: String,
    /// Its name in Python (`threading.Thread.name`), if that was read.
    pub python_name: Option<String>,
    /// When it was born, if during the recording.
    pub born: Option<Monotonic>,
    /// When it ended, if during the recording.
    pub ended: Option<Monotonic>,
    /// Time on a CPU during the recording.
    pub oncpu: Ns,
    /// Switch-outs into a blocked futex wait, before any stitching.
    pub futex_switches: u64,
    /// Switch-outs from `sched_yield`.
    pub yield_switches: u64,
}

/// A place in a program, interned: stacks name it by `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRecord {
    /// Its number in this trace, from 0, in order of appearance.
    pub index: FrameIndex,
    /// `co_qualname`, or `[code gone]` if the code object was freed before it was read. Of a native
    /// frame its symbol, or `+0x…`, the address in its module.
    pub function: String,
    /// `co_filename`, or the path of a native frame's module; empty if it is not known.
    pub file: String,
    /// The line of the current instruction; 0 if it has none.
    pub line: u32,
    /// No Python code. Native frames come before the Python frame that called them.
    pub native: bool,
}

/// A Python stack, interned: waits name it by `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRecord {
    /// Its number in this trace, from 0, in order of appearance.
    pub index: StackIndex,
    /// Its frames, leaf first.
    pub frames: Vec<FrameIndex>,
    /// A [`tracer_common::WalkEnd`] number: whether the outer frames are all there.
    pub end: u32,
}

/// The Python stack of one side of a wait, or why there is none. Serialised as its number
/// ([`SideStack::to_u64`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub enum SideStack {
    /// There is none.
    Missing(NoStack),
    /// There is one.
    Stack(StackIndex),
}

impl Default for SideStack {
    fn default() -> Self {
        Self::Missing(NoStack::NotTaken)
    }
}

/// One wait. `wait` = `blocked` + `runq`; the rest of `end − start` was spent on the CPU between
/// stitched episodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who waited.
    pub thread: ThreadIndex,
    /// For what.
    pub lock: LockIndex,
    /// First switch-out.
    pub start: Monotonic,
    /// Last switch-in.
    pub end: Monotonic,
    /// Switch-out to waking.
    pub blocked: Ns,
    /// Waking to switch-in.
    pub runq: Ns,
    /// Blocked episodes stitched into this wait.
    pub episodes: u32,
    /// `WAIT_*` flags of [`tracer_common::event`].
    pub flags: u32,
    /// Who ended it by a futex wake, if somebody did.
    pub waker: Option<ThreadIndex>,
    /// Where the waiter waited.
    pub waiter_stack: SideStack,
    /// Where the waker was when it let go.
    pub waker_stack: SideStack,
    /// Who held the GIL, if the runtime's own record of it could be read during the wait.
    pub holder: Option<ThreadIndex>,
    /// Where the holder was then; `WAIT_HOLDER_*` flags say how far it can be trusted.
    pub holder_stack: SideStack,
}

impl Wait {
    /// Blocked and run-queue time together.
    #[must_use]
    pub fn total(&self) -> Ns {
        self.blocked + self.runq
    }

    /// The rest of the time from its beginning to its end: between its sleeps, when the thread woke up
    /// by itself, looked, and went on waiting.
    #[must_use]
    pub fn awake(&self) -> Ns {
        Ns(self.end.since(self.start).0.saturating_sub(self.total().0))
    }
}

/// Sums over waits without a record of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShapeSums {
    /// How many waits.
    pub waits: u64,
    /// Switch-out to waking.
    pub blocked: Ns,
    /// Waking to switch-in.
    pub runq: Ns,
    /// The longest.
    pub max: Ns,
}

impl ShapeSums {
    /// Adds what one CPU counted.
    pub fn add(&mut self, totals: &ShapeTotals) {
        *self += Self {
            waits: totals.waits,
            blocked: Ns(totals.blocked_ns),
            runq: Ns(totals.runq_ns),
            max: Ns(totals.max_ns),
        };
    }
}

impl AddAssign for ShapeSums {
    fn add_assign(&mut self, other: Self) {
        self.waits = self.waits.saturating_add(other.waits);
        self.blocked += other.blocked;
        self.runq += other.runq;
        self.max = self.max.max(other.max);
    }
}

/// A run of yields of one thread for one lock, long enough to be told by itself. It is in no
/// [`SpinSums`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct YieldRun {
    /// Who yielded.
    pub thread: ThreadIndex,
    /// For what.
    pub lock: LockIndex,
    /// First switch-out.
    pub start: Monotonic,
    /// When something else followed.
    pub end: Monotonic,
    /// Off the CPU in between; the rest it ran.
    pub yielded: Ns,
    /// Yields that gave the CPU away.
    pub yields: u64,
    /// Where the first of them was.
    pub stack: SideStack,
}

/// Waits below the threshold of one thread for one lock, added up. They are in no other sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortWaits {
    /// Who waited.
    pub thread: ThreadIndex,
    /// For what.
    pub lock: LockIndex,
    /// Switch-out of the first.
    pub start: Monotonic,
    /// Switch-in of the last.
    pub end: Monotonic,
    /// How many; at least one.
    pub waits: u64,
    /// Switch-out to waking, of all.
    pub blocked: Ns,
    /// Waking to switch-in, of all.
    pub runq: Ns,
    /// The longest.
    pub max: Ns,
    /// Who ended the last one by a futex wake.
    pub waker: Option<ThreadIndex>,
    /// Where the last one was. Of the others the place is not known.
    pub waiter_stack: SideStack,
    /// Where the waker of the last one was when it let go.
    pub waker_stack: SideStack,
}

/// Waits below the threshold for one lock: a part of [`Totals::below`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BelowSums {
    /// The lock.
    pub lock: LockIndex,
    /// The [`Shape`] number that they are counted under in [`Totals::below`].
    pub shape: u32,
    /// The waits.
    pub sums: ShapeSums,
}

/// Yields tied to one lock, from one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpinSums {
    /// The lock.
    pub lock: LockIndex,
    /// Where they were made; written as [`SideStack::to_u64`].
    pub stack: SideStack,
    /// `sched_yield` calls: with default hooks those that gave up the CPU, with `--hooks syscall`
    /// all.
    pub yields: u64,
    /// Time off the CPU in them.
    pub yielded: Ns,
    /// Time on the CPU in and between them; `None` with default hooks, which can't see it.
    pub spin: Option<Ns>,
}

/// What was done with one lock, as the opt-in uprobes saw it; or calls of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UseSums {
    /// The lock; none: not known, or one of too many.
    pub lock: Option<LockIndex>,
    /// `pthread_mutex`, `sem`, … or the interpreter's function ([`tracer_common::UseKind`]).
    pub what: String,
    /// Times that somebody got it, waiting or not.
    pub acquisitions: u64,
    /// Calls that returned without it.
    pub failed: u64,
    /// Unlocks, posts, signals.
    pub releases: u64,
    /// Of a condition: waits; of a function: calls.
    pub calls: u64,
    /// Holds that ended, from an acquisition to the release by the same thread.
    pub holds: u64,
    /// Time held in them.
    pub held: Ns,
    /// The longest.
    pub max_held: Ns,
}

impl UseSums {
    /// It is of a lock that is acquired and released; else of calls of a function, or a condition.
    #[must_use]
    pub fn is_lock(&self) -> bool {
        let locks = [UseKind::Mutex, UseKind::Rwlock, UseKind::Semaphore];
        locks.iter().any(|kind| kind.name() == self.what)
    }
}

/// What the CPU-clock sampler counted. Each sample stands for `1 / sample_hz` of a second on a CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampled {
    /// Ticks of the clock on all CPUs, whatever ran.
    pub ticks: u64,
    /// Of those, the target's.
    pub target: u64,
    /// Of those, spinning on a lock that is known: the sum of `locks`, and `lost`.
    pub spinning: u64,
    /// Of the target's, at a place where threads spin, and it is not known for what. In no lock.
    pub ambiguous: u64,
    /// Spinning on a known lock for which there was no room.
    pub lost: u64,
    /// Functions that spin and are known only roughly.
    pub inexact: u64,
    /// By lock.
    pub locks: Vec<LockSamples>,
}

/// Samples that hit a thread spinning on one lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockSamples {
    /// The lock.
    pub lock: LockIndex,
    /// Samples.
    pub samples: u64,
}

/// Counters so far. A later one replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// When they were read.
    pub at: Monotonic,
    /// Wait records in the trace so far.
    pub events: u64,
    /// Losses by reason (`DropReason` names, and those of the recorder); zeros are left out.
    pub drops: BTreeMap<String, u64>,
    /// Counters that are no loss (`Stat` names).
    pub stats: BTreeMap<String, u64>,
    /// Waits in [`ShortWaits`] records in the trace so far.
    pub short_waits: u64,
    /// Other waits below the threshold, by [`Shape`] number.
    pub below: BTreeMap<u32, ShapeSums>,
    /// The part of them of which the lock is known, where its shape says too little.
    pub below_locks: Vec<BelowSums>,
    /// Waits beyond `--max-events-per-sec`, by [`Shape`] number: they have no record.
    pub limited: BTreeMap<u32, ShapeSums>,
    /// Waits whose record was lost, by [`Shape`] number.
    pub lost: BTreeMap<u32, ShapeSums>,
    /// Yields by lock, but for those with a record of their own.
    pub spins: Vec<SpinSums>,
    /// [`YieldRun`] records in the trace so far.
    pub yield_runs: u64,
    /// What `--uprobes` counted.
    pub uses: Vec<UseSums>,
    /// Samples of the CPU clock; none: no sampler.
    pub sampled: Option<Sampled>,
    /// What `--hooks syscall` counted, by name.
    pub syscalls: Option<BTreeMap<String, u64>>,
    /// What the recorder itself used: `recorder_cpu_ns`, `bytes_written`, …
    pub self_cost: BTreeMap<String, u64>,
}

/// A lock that a thread seems to have which was blocked when the recording ended: read from its
/// frames, because the lock itself does not say who has it. An inference, not a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeldRecord {
    /// Who seems to have it.
    pub thread: ThreadIndex,
    /// The lock object (`id(lock)`).
    pub object: Address,
    /// What is waited on in it, as [`LockRecord::lock`]; 0 if that is not known.
    pub lock: Address,
    /// What says so.
    pub how: HeldHow,
    /// Which of the thread's Python frames says so; 0 is the leaf. They are those of the waiter's
    /// stack of the wait that was under way.
    pub depth: u32,
}

/// What says that a thread has a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldHow {
    /// The frame is inside a `with` block of it: its `__exit__` waits on the frame's stack.
    With,
    /// The frame's code has called its `acquire`, and not its `release` since.
    Acquire,
    /// Something that this version doesn't know, and does not believe.
    #[default]
    #[serde(other)]
    Other,
}

/// How the recording ended. Written last; a trace without it was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// End of the recording.
    pub at: Monotonic,
    /// `target_exited`, `duration`, `interrupted`, …
    pub reason: String,
}
