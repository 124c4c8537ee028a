//! The target's PID namespace, where its threads have other ids than on the host.

use crate::units::Pid;

/// PID namespaces between the host's and the process's own: 0 if it is in the host's, or gone.
#[must_use]
pub fn pid_namespace_level(pid: Pid) -> u32 {
    std::fs::read_to_string(format!("/proc/{}/status", pid.0))
        .ok()
        .and_then(|status| parse(&status))
        .unwrap_or(0)
}

/// `NSpid` of `proc_pid_status` (`fs/proc/array.c`): the id in each namespace from here inwards.
fn parse(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    u32::try_from(ids.split_ascii_whitespace().count().checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_namespaces_are_counted() {
        assert_eq!(parse("Name:\tx\nNSpid:\t4242\nUid:\t0\n"), Some(0));
        assert_eq!(parse("NSpid:\t4242\t17\t1\n"), Some(2));
        assert_eq!(parse("Name:\tx\n"), None);
    }
}
