//! Every map, with who writes and who reads it. Sizes marked (u) are set by user space at load.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, Queue, RingBuf};
use tracer_common::counter::LOCK_SLOTS;
use tracer_common::rate::Rate;
use tracer_common::sample::SPIN_CODE_SLOTS;
use tracer_common::thread::QUICK_SLOTS;
use tracer_common::{
    DropReason, InitialWait, InterpreterConfig, LockObject, LockSamples, LockTotals, ProcessState,
    QuickState, SampleTotals, Shape, ShapeTotals, SpinCode, SpinKey, SpinSite, SpinTotals,
    StackConfig, Stat, SyscallTotals, ThreadState, ThreadStateAddress,
};

use crate::native::NativeScratch;
use crate::pystack::Walk;

/// Records for user space (u).
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Records that this CPU has put there.
#[map]
pub(crate) static RECORDS: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Thread id -> its state (u), if that is not in `STATES`: then only the key counts, until the thread
/// ends. User space inserts the threads found at attach and removes dead
/// ones; `lw_fork` inserts those born later. Preallocated: `sched_switch` only looks up.
#[map]
pub(crate) static THREADS: HashMap<u32, ThreadState> = HashMap::with_max_entries(1024, 0);

/// Thread id modulo the size -> its quick state. Slots are given by user space to the threads found
/// at attach, and by `lw_fork`.
///
/// Mappable for its alignment alone: the values of such a map begin at a page
/// (`array_map_alloc`, `kernel/bpf/arraymap.c`), else a slot would lie across two cache lines.
#[map]
pub(crate) static QUICK: Array<QuickState> = Array::with_max_entries(QUICK_SLOTS, BPF_F_MMAPABLE);

/// States of the threads that have a quick slot, at the same places.
#[map]
pub(crate) static STATES: Array<ThreadState> = Array::with_max_entries(QUICK_SLOTS, 0);

/// One all-zero state to insert from: a `ThreadState` is too large for the BPF stack.
#[map]
pub(crate) static ZERO_STATE: Array<ThreadState> = Array::with_max_entries(1, 0);

/// Thread id -> the wait found under way at attach (u). Written by user space, read at a thread's
/// first switch-in.
#[map]
pub(crate) static INITIAL: HashMap<u32, InitialWait> = HashMap::with_max_entries(1024, 0);

/// Where the interpreter keeps its locks. Written by user space.
#[map]
pub(crate) static INTERPRETER: Array<InterpreterConfig> = Array::with_max_entries(1, 0);

/// Where the interpreter keeps threads, frames and code. Written by user space.
#[map]
pub(crate) static STACK_CONFIG: Array<StackConfig> = Array::with_max_entries(1, 0);

/// Process id -> what is known of it, in a recording of several processes (u). Written by user space
/// for those found at the attach, and when an interpreter is found; by `lw_fork` for their children.
#[map]
pub(crate) static PROCESSES: HashMap<u32, ProcessState> = HashMap::with_max_entries(1, 0);

/// Numbers for the memories of processes to come (u). Kept full by user space, which knows those that
/// are in use.
#[map]
pub(crate) static NUMBERS: Queue<u32> = Queue::with_max_entries(1, 0);

/// Thread id -> its `PyThreadState` (u). Written by user space at attach and now and then, and
/// here for a thread that was born later.
#[map]
pub(crate) static THREAD_STATES: HashMap<u32, ThreadStateAddress> =
    HashMap::with_max_entries(1024, 0);

/// Scratch of a stack walk.
#[map]
pub(crate) static WALK: PerCpuArray<Walk> = PerCpuArray::with_max_entries(1, 0);

/// Scratch of a copy of a native stack.
#[map]
pub(crate) static NATIVE: PerCpuArray<NativeScratch> = PerCpuArray::with_max_entries(1, 0);

/// Semaphore -> the Python object that owns it. Filled in at the first wait for each.
#[map]
pub(crate) static LOCK_OBJECTS: LruHashMap<u64, LockObject> =
    LruHashMap::with_max_entries(16384, 0);

/// Ids of the stacks that user space has. One that falls out is sent again.
#[map]
pub(crate) static STACKS_SENT: LruHashMap<u64, u32> = LruHashMap::with_max_entries(32768, 0);

/// Return address of a `sched_yield` call -> the register that holds the lock there (u).
#[map]
pub(crate) static SPIN_SITES: HashMap<u64, SpinSite> = HashMap::with_max_entries(256, 0);

/// Lock and stack -> yields. Inserted at the first spin of its kind only.
#[map]
pub(crate) static SPINS: PerCpuHashMap<SpinKey, SpinTotals> =
    PerCpuHashMap::with_max_entries(8192, 0);

/// Functions that spin. Written by user space, which knows where functions begin and end.
#[map]
pub(crate) static SPIN_CODE: Array<SpinCode> = Array::with_max_entries(SPIN_CODE_SLOTS, 0);

/// Lock -> samples that hit a thread spinning on it.
#[map]
pub(crate) static SAMPLES: PerCpuHashMap<u64, LockSamples> =
    PerCpuHashMap::with_max_entries(4096, 0);

/// All samples.
#[map]
pub(crate) static SAMPLED: PerCpuArray<SampleTotals> = PerCpuArray::with_max_entries(1, 0);

/// Waits below the threshold, by shape, but for those in `BELOW_LOCKS`.
#[map]
pub(crate) static BELOW: PerCpuArray<ShapeTotals> =
    PerCpuArray::with_max_entries(Shape::COUNT as u32, 0);

/// The part of them that is of one lock, where the shape does not say what waiting for it means.
#[map]
pub(crate) static BELOW_LOCKS: PerCpuArray<LockTotals> =
    PerCpuArray::with_max_entries(LOCK_SLOTS, 0);

/// Waits that were beyond the limit, by shape, but for those in `LIMITED_LOCKS`.
#[map]
pub(crate) static LIMITED: PerCpuArray<ShapeTotals> =
    PerCpuArray::with_max_entries(Shape::COUNT as u32, 0);

/// As `BELOW_LOCKS`.
#[map]
pub(crate) static LIMITED_LOCKS: PerCpuArray<LockTotals> =
    PerCpuArray::with_max_entries(LOCK_SLOTS, 0);

/// The limit of waits with a record.
#[map]
pub(crate) static RATE: Array<Rate> = Array::with_max_entries(1, 0);

/// Waits whose event was lost, by shape, but for those in `LOST_LOCKS`.
#[map]
pub(crate) static LOST: PerCpuArray<ShapeTotals> =
    PerCpuArray::with_max_entries(Shape::COUNT as u32, 0);

/// As `BELOW_LOCKS`.
#[map]
pub(crate) static LOST_LOCKS: PerCpuArray<LockTotals> =
    PerCpuArray::with_max_entries(LOCK_SLOTS, 0);

/// Losses by [`DropReason`].
#[map]
pub(crate) static DROPS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(DropReason::COUNT as u32, 0);

/// Counters by [`Stat`].
#[map]
pub(crate) static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Stat::COUNT as u32, 0);

/// What the system-call hooks count.
#[map]
pub(crate) static SYSCALLS: PerCpuArray<SyscallTotals> = PerCpuArray::with_max_entries(1, 0);
