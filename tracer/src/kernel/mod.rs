//! What can this kernel do, and what may we do on it?

pub mod btf;
pub mod privileges;

pub use btf::BtfError;
pub use privileges::Privileges;

/// `uname -r`.
#[must_use]
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// `uname -m`.
#[must_use]
pub fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// `CLOCK_MONOTONIC` now, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_now() -> crate::units::Monotonic {
    crate::units::Monotonic(nanoseconds(rustix::time::ClockId::Monotonic))
}

/// `CLOCK_REALTIME` now, in nanoseconds since 1970.
#[must_use]
pub fn realtime_now_ns() -> u64 {
    nanoseconds(rustix::time::ClockId::Realtime)
}

/// CPU time that this process has used, in nanoseconds.
#[must_use]
pub fn own_cpu_ns() -> u64 {
    nanoseconds(rustix::time::ClockId::ProcessCPUTime)
}

/// CPU time that this thread has used, in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(rustix::time::ClockId::ThreadCPUTime)
}

/// The most memory that this process has had resident, in bytes.
#[must_use]
pub fn own_peak_memory() -> Option<u64> {
    let status = procfs::process::Process::myself().and_then(|own| own.status()).ok()?;
    status.vmhwm.map(|kib| kib * 1024)
}

fn nanoseconds(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}
