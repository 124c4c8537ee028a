//! CPUs that go on- or offline during a recording. What runs on a new one is seen by nobody, and an old
//! one's last slice has no end: from then on it is not known whose time is whose.

use std::fs;
use std::path::{Path, PathBuf};

use super::assemble::RawWindow;
use super::topology::{CPUS, cpu_list};
use crate::trace::energy::{CpuTime, Shares};
use crate::units::{Monotonic, Ns};

/// A look costs some microseconds, and CPUs seldom come and go.
const EVERY: Ns = Ns(1_000_000_000);

/// Looks now and then whether the CPUs are still the same.
#[derive(Debug)]
pub struct Hotplug {
    file: PathBuf,
    cpus: Vec<u32>,
    /// The last look that found them unchanged.
    same: Monotonic,
    changed: bool,
}

impl Hotplug {
    /// For these CPUs, which are online now.
    #[must_use]
    pub fn new(cpus: &[u32], now: Monotonic) -> Self {
        Self::of(Path::new(CPUS), cpus, now)
    }

    fn of(root: &Path, cpus: &[u32], now: Monotonic) -> Self {
        Self { file: root.join("online"), cpus: cpus.to_vec(), same: now, changed: false }
    }

    /// Looks, if it is time to; says which CPUs there are if that is news.
    pub fn look(&mut self, now: Monotonic) -> Option<String> {
        if self.changed || now.since(self.same) < EVERY {
            return None;
        }
        // A kernel that doesn't say has no hot-plug.
        let online = fs::read_to_string(&self.file).ok();
        match online.filter(|text| cpu_list(text) != self.cpus) {
            Some(text) => {
                self.changed = true;
                Some(text.trim().to_owned())
            }
            None => {
                self.same = now;
                None
            }
        }
    }

    /// Makes all time of a window that ended after the CPUs were last known to be the same one that is
    /// not accounted for; true if it did.
    pub fn mark(&self, window: &mut RawWindow) -> bool {
        if !self.changed || window.end <= self.same {
            return false;
        }
        let lost = Shares { alone: window.end.since(window.start), shared: Ns(0) };
        for cpu in &mut window.cpus {
            *cpu = CpuTime { cpu: cpu.cpu, lost, ..CpuTime::default() };
        }
        window.threads.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Tid;

    const SECOND: u64 = 1_000_000_000;

    fn window(start: u64) -> RawWindow {
        let time = Shares { alone: Ns(60), shared: Ns(0) };
        let cpu = |cpu| CpuTime { cpu, idle: Ns(40), ..CpuTime::default() };
        RawWindow {
            start: Monotonic(start),
            end: Monotonic(start + 100),
            cpus: vec![cpu(0), cpu(3)],
            threads: vec![(Tid(1), 0, time), (Tid(2), 3, time)],
            ..RawWindow::default()
        }
    }

    #[test]
    fn from_the_last_good_look_on_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(dir.path().join("online"), text).unwrap();
        write("0,3\n");
        let mut hotplug = Hotplug::of(dir.path(), &[0, 3], Monotonic(0));
        assert_eq!(hotplug.look(Monotonic(SECOND)), None);
        write("0-3\n");
        // Not yet.
        assert_eq!(hotplug.look(Monotonic(SECOND + 1)), None);
        assert!(!hotplug.mark(&mut window(SECOND + 1)));
        assert_eq!(hotplug.look(Monotonic(2 * SECOND)).as_deref(), Some("0-3"));
        // Once is enough, and it does not come back.
        write("0,3\n");
        assert_eq!(hotplug.look(Monotonic(4 * SECOND)), None);
        let mut before = window(SECOND - 100);
        assert!(!hotplug.mark(&mut before));
        assert_eq!(before, window(SECOND - 100));
        for start in [SECOND - 50, 5 * SECOND] {
            let mut after = window(start);
            assert!(hotplug.mark(&mut after));
            assert!(after.threads.is_empty());
            let lost = Shares { alone: Ns(100), shared: Ns(0) };
            let all: Vec<_> = after.cpus.iter().map(|cpu| (cpu.cpu, cpu.idle, cpu.lost)).collect();
            assert_eq!(all, [(0, Ns(0), lost), (3, Ns(0), lost)]);
        }
    }

    #[test]
    fn a_kernel_that_does_not_say_has_none() {
        let mut hotplug = Hotplug::of(Path::new("/nowhere"), &[0], Monotonic(0));
        assert_eq!(hotplug.look(Monotonic(SECOND)), None);
    }
}
