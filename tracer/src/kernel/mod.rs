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

/// What this process's maps take in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapMemory {
    /// Bytes of all of them, on all CPUs (`memlock` of `/proc/self/fdinfo/*`: `map_mem_usage` since 6.4,
    /// before that what is allocated beforehand).
    pub bytes: u64,
    /// Bytes of them that are also resident in this process: ring buffers map their pages twice.
    pub mapped: u64,
}

/// The memory of the maps that this process has open now.
#[must_use]
pub fn own_map_memory() -> Option<MapMemory> {
    let mut all = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").ok()? {
        // Descriptors come and go.
        let Ok(text) = entry.and_then(|entry| std::fs::read_to_string(entry.path())) else {
            continue;
        };
        all.extend(map_bytes(&text)); // one map may have several descriptors
    }
    let mapped = resident(&std::fs::read_to_string("/proc/self/smaps").ok()?);
    Some(MapMemory { bytes: all.values().sum(), mapped })
}

/// Bytes of maps that are resident in a process, as `smaps` lists them: a line for the mapping, then one
/// for each figure.
fn resident(smaps: &str) -> u64 {
    let (mut of_map, mut kib) = (false, 0);
    for line in smaps.lines() {
        if let Some(rss) = line.strip_prefix("Rss:").filter(|_| of_map) {
            kib += rss.trim().strip_suffix(" kB").and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        } else if line
            .starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase())
        {
            of_map = line.ends_with("anon_inode:bpf-map");
        }
    }
    kib * 1024
}

/// A map's number and size, if the descriptor is of one.
fn map_bytes(fdinfo: &str) -> Option<(u64, u64)> {
    let number = |key: &str| {
        fdinfo.lines().find_map(|line| line.strip_prefix(key))?.trim().parse::<u64>().ok()
    };
    Some((number("map_id:")?, number("memlock:")?))
}

fn nanoseconds(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{map_bytes, resident};

    #[test]
    fn only_what_is_mapped_of_maps_is_counted() {
        let smaps = "7f00-7f10 r--s 0000 00:0e 1030    anon_inode:bpf-map\n\
                     Size:  8200 kB\nRss:                8196 kB\nPss:  8196 kB\n\
                     7f10-7f20 rw-p 0000 00:00 0    [heap]\nSize: 20 kB\nRss:   16 kB\n\
                     7f20-7f30 rw-s 0000 00:0e 1030    anon_inode:bpf-map\nRss:    4 kB\n";
        assert_eq!(resident(smaps), 8_200 * 1024);
        assert_eq!(resident(""), 0);
    }

    #[test]
    fn a_maps_size_is_read_from_its_descriptor() {
        let map = "pos:\t0\nflags:\t02000002\nmap_type:\t1\nmax_entries:\t16384\n\
                   map_flags:\t0x0\nmemlock:\t13240768\nmap_id:\t156821\nfrozen:\t0\n";
        assert_eq!(map_bytes(map), Some((156_821, 13_240_768)));
        let program = "pos:\t0\nprog_type:\t26\nmemlock:\t4096\nprog_id:\t7\n";
        assert_eq!(map_bytes(program), None);
    }
}
