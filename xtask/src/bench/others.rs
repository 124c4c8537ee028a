//! What else is at work on the machine: a stretch beside a build compares nothing.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

/// Clock ticks of `/proc` in a second (`USER_HZ`, 100 on every Linux that Python runs on).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time so far, in ticks.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// Of all CPUs.
    all: u64,
    /// Of this process and its descendants.
    own: u64,
}

impl Clock {
    pub(super) fn read() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let all = stat.lines().next().map(busy).context("/proc/stat begins with all CPUs")?;
        Ok(Self { all, own: own() })
    }

    /// CPUs that others have used since `before`, in so many seconds.
    #[expect(clippy::cast_precision_loss, reason = "ticks of a few seconds")]
    pub(super) fn others_since(self, before: Self, seconds: f64) -> f64 {
        let own = self.own.saturating_sub(before.own);
        let others = self.all.saturating_sub(before.all).saturating_sub(own);
        others as f64 / TICKS_PER_SECOND / seconds
    }
}

/// `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guest is in user already.
fn busy(line: &str) -> u64 {
    let numbers = line.split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap_or(0u64));
    numbers.enumerate().filter(|(n, _)| ![3, 4].contains(n)).map(|(_, ticks)| ticks).sum()
}

fn own() -> u64 {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may end meanwhile.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        processes.extend(parent_and_ticks(&stat).map(|found| (pid, found)));
    }
    let me = std::process::id();
    let is_own = |mut pid: u32| {
        while pid != me {
            match processes.get(&pid) {
                Some(&(parent, _)) if parent != 0 => pid = parent,
                _ => return false,
            }
        }
        true
    };
    processes.iter().filter(|(pid, _)| is_own(**pid)).map(|(_, (_, ticks))| ticks).sum()
}

/// `proc_pid_stat(5)`: the name in parentheses may hold anything; `ppid` is the 2nd field after it,
/// `utime` and `stime` are the 12th and 13th.
fn parent_and_ticks(stat: &str) -> Option<(u32, u64)> {
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n)?.parse::<u64>().ok();
    Some((fields.get(1)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_a_process_is_called() {
        let stat = "7 (a) b (c) R 3 7 7 0 -1 0 1 2 3 4 50 60 7 8 20 0 1 0 9";
        assert_eq!(parent_and_ticks(stat), Some((3, 110)));
        assert_eq!(busy("cpu  1 2 3 400 500 6 7 8 9 10"), 27);
    }

    #[test]
    fn own_work_is_not_that_of_others() {
        let before = own();
        let begin = std::time::Instant::now();
        while own() < before + 3 {
            assert!(begin.elapsed().as_secs() < 60, "no tick of own CPU time in a minute");
        }
        let clock = |all, own| Clock { all, own };
        let others = clock(300, 150).others_since(clock(100, 50), 2.0);
        assert!((others - 0.5).abs() < 1e-9);
    }
}
