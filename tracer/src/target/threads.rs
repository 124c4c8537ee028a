//! The target's threads, as `/proc` shows them.

use std::fs;

use crate::units::{Address, Ns, Pid, Tid};

/// A futex wait that a thread was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockedFutex {
    /// The futex word.
    pub uaddr: Address,
    /// The `op` argument.
    pub op: u32,
    /// The `val` argument.
    pub val: u32,
    /// The thread's user stack pointer.
    pub sp: Address,
}

/// `futex` on x86_64.
const SYS_FUTEX: &str = "202";

/// The ids of all threads.
///
/// # Errors
/// If the process is gone.
pub fn tids(pid: Pid) -> std::io::Result<Vec<Tid>> {
    let mut tids: Vec<Tid> = fs::read_dir(format!("/proc/{}/task", pid.0))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Tid))
        .collect();
    tids.sort_unstable();
    Ok(tids)
}

/// The futex wait that a thread has been in all the time that this call took; `None` if it is in
/// none, or moved meanwhile.
#[must_use]
pub fn blocked_futex(pid: Pid, tid: Tid) -> Option<BlockedFutex> {
    let before = switches(pid, tid)?;
    let text = fs::read_to_string(format!("/proc/{}/task/{}/syscall", pid.0, tid.0)).ok()?;
    let found = parse_syscall(&text)?;
    (switches(pid, tid)? == before).then_some(found)
}

/// `proc_pid_syscall` of `fs/proc/base.c`: number, six arguments, stack pointer, program counter;
/// or `running`.
fn parse_syscall(text: &str) -> Option<BlockedFutex> {
    let mut words = text.split_ascii_whitespace();
    if words.next()? != SYS_FUTEX {
        return None;
    }
    let values: Vec<u64> = words
        .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16))
        .collect::<Result<_, _>>()
        .ok()?;
    let &[uaddr, op, val, _, _, _, sp, _] = values.as_slice() else { return None };
    // The kernel takes the low halves of `int op` and `u32 val`.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what the kernel takes")]
    Some(BlockedFutex { uaddr: Address(uaddr), op: op as u32, val: val as u32, sp: Address(sp) })
}

/// The thread's id in the innermost PID namespace that it is in, which is what the program itself
/// (and CPython's `native_thread_id`) calls it; `None` if the thread is gone.
#[must_use]
pub fn ns_tid(pid: Pid, tid: Tid) -> Option<u32> {
    last_ns_pid(&status(pid, tid)?)
}

/// `/proc/PID/task/TID/status`. A thread's name in it is cut after 15 bytes, also in the middle of
/// a character (CPython 3.14 and later write names there): it need not be text.
fn status(pid: Pid, tid: Tid) -> Option<String> {
    let bytes = fs::read(format!("/proc/{}/task/{}/status", pid.0, tid.0)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last number of `NSpid` (`task_state`, `fs/proc/array.c`): outermost namespace first.
fn last_ns_pid(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_ascii_whitespace().last()?.parse().ok()
}

/// Voluntary and involuntary context switches together: unchanged means that it did not run.
fn switches(pid: Pid, tid: Tid) -> Option<u64> {
    let status = status(pid, tid)?;
    let counts = status.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.ends_with("ctxt_switches").then(|| value.trim().parse::<u64>().ok())?
    });
    Some(counts.sum())
}

/// The thread's name in the kernel; empty if it is gone.
#[must_use]
pub fn comm(pid: Pid, tid: Tid) -> String {
    fs::read(format!("/proc/{}/task/{}/comm", pid.0, tid.0))
        .map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
        .unwrap_or_default()
}

/// Time that a thread has spent on a CPU since its birth (`sum_exec_runtime`, first word of
/// `proc_pid_schedstat`, `fs/proc/base.c`); for a running thread as of the last tick.
#[must_use]
pub fn exec_time(pid: Pid, tid: Tid) -> Option<Ns> {
    let text = fs::read_to_string(format!("/proc/{}/task/{}/schedstat", pid.0, tid.0)).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().map(Ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futex_lines_are_understood_and_others_are_not() {
        let line = "202 0x7f01 0x189 0x0 0x0 0x0 0xffffffff 0x7ffc10 0x7f99\n";
        let expected =
            BlockedFutex { uaddr: Address(0x7f01), op: 0x189, val: 0, sp: Address(0x7ffc10) };
        assert_eq!(parse_syscall(line), Some(expected));
        assert_eq!(parse_syscall("running\n"), None);
        assert_eq!(parse_syscall("-1 0x7ffc10 0x7f99\n"), None);
        assert_eq!(parse_syscall("202 0x1\n"), None);
        assert_eq!(parse_syscall(""), None);
    }

    #[test]
    fn the_innermost_namespace_s_id_is_taken() {
        assert_eq!(last_ns_pid("Name:\tx\nNSpid:\t4242\t17\t3\nNSpgid:\t9\n"), Some(3));
        assert_eq!(last_ns_pid("NSpid:\t4242\n"), Some(4242));
        assert_eq!(last_ns_pid("NSpid:\n"), None);
        assert_eq!(last_ns_pid("Name:\tNSpid:\t1\n"), None);
        let own = std::process::id();
        assert!(ns_tid(Pid(own), Tid(own)).is_some());
        assert_eq!(ns_tid(Pid(own), Tid(u32::MAX)), None);
    }

    #[test]
    fn a_name_cut_within_a_character_is_no_obstacle() {
        let named = std::thread::Builder::new().name("название".to_owned());
        let (send, receive) = std::sync::mpsc::channel();
        let thread = named.spawn(move || {
            let tid = Tid(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
            let pid = Pid(std::process::id());
            send.send((comm(pid, tid), switches(pid, tid), ns_tid(pid, tid))).expect("heard");
        });
        thread.expect("a thread").join().expect("no panic");
        let (comm, switches, id) = receive.recv().expect("an answer");
        assert_eq!(comm, "названи\u{fffd}");
        assert!(switches.is_some() && id.is_some());
    }

    #[test]
    fn own_threads_are_listed() {
        let pid = Pid(std::process::id());
        assert!(tids(pid).expect("own threads").contains(&Tid(pid.0)));
        assert!(tids(Pid(u32::MAX)).is_err());
    }
}
