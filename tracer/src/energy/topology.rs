//! Which CPU is of which package, and which two share a core.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Where the kernel describes them.
pub(super) const CPUS: &str = "/sys/devices/system/cpu";

/// One CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Its number.
    pub cpu: u32,
    /// `physical_package_id`; none: not known.
    pub package: Option<u32>,
    /// `die_id`.
    pub die: Option<u32>,
    /// The one other CPU on its core. None as well if there are several (SMT4, SMT8).
    pub sibling: Option<u32>,
}

/// The CPUs that are online.
#[must_use]
pub fn online() -> Vec<Cpu> {
    read(Path::new(CPUS))
}

/// The same from a tree elsewhere.
#[must_use]
pub fn read(root: &Path) -> Vec<Cpu> {
    let text = |path: String| std::fs::read_to_string(root.join(path)).ok();
    let online = text("online".to_owned()).map(|text| cpu_list(&text)).unwrap_or_default();
    let of = |cpu| {
        let id = |name: &str| {
            // -1 where the kernel doesn't know.
            text(format!("cpu{cpu}/topology/{name}")).and_then(|text| text.trim().parse().ok())
        };
        let core = text(format!("cpu{cpu}/topology/thread_siblings_list"));
        let mut others = core.map(|text| cpu_list(&text)).unwrap_or_default();
        others.retain(|other| *other != cpu && online.contains(other));
        let sibling = if others.len() == 1 { others.first().copied() } else { None };
        Cpu { cpu, package: id("physical_package_id"), die: id("die_id"), sibling }
    };
    online.iter().map(|&cpu| of(cpu)).collect()
}

/// `0-3,8` as numbers. What makes no sense is left out.
#[must_use]
pub fn cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
            && last.saturating_sub(first) < 1 << 16
        {
            cpus.extend(first..=last);
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_packages_with_two_threads_a_core() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::write(root.join("online"), "0-3\n").unwrap();
        for cpu in 0..4 {
            let topology = root.join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&topology).unwrap();
            std::fs::write(topology.join("physical_package_id"), format!("{}\n", cpu / 2)).unwrap();
            let siblings = if cpu < 2 { "0-1\n" } else { "2,3\n" };
            std::fs::write(topology.join("thread_siblings_list"), siblings).unwrap();
        }
        let cpus = read(root);
        assert_eq!(cpus.iter().map(|cpu| cpu.package).collect::<Vec<_>>(), [0, 0, 1, 1].map(Some));
        assert_eq!(cpus.iter().map(|cpu| cpu.sibling).collect::<Vec<_>>(), [1, 0, 3, 2].map(Some));
        assert_eq!(cpu_list("0-1,7,x,9-8"), [0, 1, 7]);
    }
}
