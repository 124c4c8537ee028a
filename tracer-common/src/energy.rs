//! Where every CPU's time goes, cut at the readings of the energy counters. Only with a live counter.

use crate::plain_data;

/// Nothing runs.
pub const IDLE: u32 = 0;
/// A thread of the kernel.
pub const KERNEL: u32 = 1;
/// A thread of another program.
pub const OTHER: u32 = 2;
/// A thread of lockwatt.
pub const TRACER: u32 = 3;
/// A thread of a traced process.
pub const TRACED: u32 = 4;
/// How many of these there are.
pub const KINDS: usize = 5;

/// Sums are kept for so many windows: one is written to, one may still be, the others are read.
pub const WINDOW_SLOTS: u32 = 4;
/// CPUs that there can be.
pub const MAX_CPUS: u32 = 1024;

/// What one CPU is doing. Read by its sibling and by user space while it may be written: `seq` is odd
/// meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CpuClock {
    /// Goes up by 2 with each switch.
    pub seq: u64,
    /// The last switch; 0: none was seen yet.
    pub since_ns: u64,
    /// Nanoseconds that anything ran, up to then.
    pub busy_ns: u64,
    /// The sibling's, then.
    pub sibling_busy_ns: u64,
    /// The window in which that was.
    pub generation: u64,
    /// Who runs since then, if it is of a traced process.
    pub tid: u32,
    /// A kind.
    pub kind: u32,
    /// The other CPU of the core, plus 1; 0: there is none. Written by user space.
    pub sibling: u32,
    /// Always 0.
    pub _pad: [u32; 3],
}

/// Time on a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OnCpu {
    /// All of it.
    pub time_ns: u64,
    /// Of that, while the core's other CPU was busy.
    pub shared_ns: u64,
}

/// Whose time, and in which slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct OnCpuKey {
    /// A thread of a traced process.
    pub tid: u32,
    /// The window's number modulo [`WINDOW_SLOTS`].
    pub slot: u32,
}

/// Time of one CPU in one window by kind. That of [`TRACED`] is of threads for which the table had no
/// room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CpuSums {
    /// By kind.
    pub kinds: [OnCpu; KINDS],
}

/// A slice that began in an earlier window than it ended in: user space cuts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Straddle {
    /// Where.
    pub cpu: u32,
    /// A kind.
    pub kind: u32,
    /// Who, if it is of a traced process.
    pub tid: u32,
    /// Always 0.
    pub _pad: u32,
    /// From.
    pub since_ns: u64,
    /// To.
    pub until_ns: u64,
    /// Of that, while the core's other CPU was busy.
    pub shared_ns: u64,
}

/// Any sample of a thread.
pub const ANYTHING: u32 = 0;
/// One that found it spinning, `sched_yield` included.
pub const SPINNING: u32 = 1;
/// One that found it in a futex call.
pub const IN_FUTEX: u32 = 2;
/// No sample: nanoseconds on the CPU in and between yields and in futex calls, timed at each of
/// them (`--hooks syscall`).
pub const TIMED: u32 = 3;

/// What a sample found, or what was timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct EnergySampleKey {
    /// The lock, marked with its memory; 0: not known.
    pub lock: u64,
    /// The thread.
    pub tid: u32,
    /// What it was doing.
    pub doing: u32,
}

plain_data!(CpuClock = 64, OnCpu = 16, CpuSums = 80, Straddle = 40, EnergySampleKey = 16);

const _: () = assert!(size_of::<OnCpuKey>() == 8);
// SAFETY: `#[repr(C)]`, two integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for OnCpuKey {}
