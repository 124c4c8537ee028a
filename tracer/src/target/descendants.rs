//! The children that processes have now.

use std::fs;

use super::threads::tids;
use crate::units::{Pid, Tid};

/// The children of these processes, their children, and so on; without the processes themselves.
///
/// From `/proc/PID/task/TID/children` (`CONFIG_PROC_CHILDREN`, which every distribution sets): a child
/// that ends meanwhile may hide one of its siblings, so this is to be asked until nothing is new.
#[must_use]
pub fn descendants(of: &[Pid]) -> Vec<Pid> {
    let mut found: Vec<Pid> = of.to_vec();
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for tid in tids(pid).unwrap_or_default() {
            for child in children(pid, tid) {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
        }
    }
    found.split_off(of.len())
}

fn children(pid: Pid, tid: Tid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{}/task/{}/children", pid.0, tid.0));
    let text = text.unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok().map(Pid)).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_childs_child_is_found() {
        let shell = Command::new("sh").args(["-c", "sleep 20 & wait"]).stdin(Stdio::null()).spawn();
        let mut shell = shell.expect("sh");
        let pid = Pid(shell.id());
        let begin = std::time::Instant::now();
        let found = loop {
            let found = descendants(&[pid]);
            if !found.is_empty() || begin.elapsed().as_secs() > 10 {
                break found;
            }
        };
        assert_eq!(found.len(), 1);
        assert!(descendants(&[Pid(std::process::id())]).contains(&found[0]));
        let kill = rustix::process::Pid::from_raw(i32::try_from(found[0].0).expect("a pid"));
        rustix::process::kill_process(kill.expect("a pid"), rustix::process::Signal::TERM)
            .expect("killed");
        shell.wait().expect("ended");
    }
}
