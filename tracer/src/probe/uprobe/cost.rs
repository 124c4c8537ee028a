//! What a hit of a uprobe costs here: measured on lockwatt's own mutex.

use std::ffi::c_int;

use super::attach::Uprobes;
use super::library::Library;
use super::table::{Group, Groups};
use crate::kernel::{btf, thread_cpu_ns};
use crate::probe::load::create;
use crate::probe::plan::Hooks;
use crate::probe::settings::Settings;
use crate::target::Process;
use crate::trace::records::UprobeCost;
use crate::units::{Ns, Pid};

/// glibc's `pthread_mutex_t`: 40 bytes, all zero if unlocked (`PTHREAD_MUTEX_INITIALIZER`).
type PthreadMutex = [u64; 5];

unsafe extern "C" {
    fn pthread_mutex_lock(mutex: *mut PthreadMutex) -> c_int;
    fn pthread_mutex_unlock(mutex: *mut PthreadMutex) -> c_int;
}

/// Each set of probes comes and goes this often: another CPU frequency, or a hypervisor that gives
/// this machine less for a while, is then in all of them.
const ROUNDS: usize = 9;
/// Calls with each set of probes in a round: the median of this many runs of that many calls.
const RUNS: usize = 10;
const CALLS: u32 = 200;

/// Locks and unlocks a mutex of our own, without probes, with one at the entry of
/// `pthread_mutex_lock`, and with one at its return as well, 18,000 times each, in turns.
///
/// The figures are those of an idle machine and of warm caches: medians of what the rounds differ by.
///
/// # Errors
/// If the probes can't be attached to this process, or what they cost is lost in noise.
pub fn measure() -> Result<UprobeCost, String> {
    let own = Pid(std::process::id());
    let process = Process::open(own).map_err(|error| error.to_string())?;
    let libraries = Library::of(&process, Group::Pthread)?;
    let place = libraries.iter().find_map(|library| library.place("pthread_mutex_lock"));
    let (file, offset) = place.ok_or("lockwatt's own libc has no pthread_mutex_lock")?;

    let settings = Settings {
        ring_bytes: 4096,
        max_threads: 64,
        uprobes: Groups::new(&[Group::Pthread]),
        ..Settings::new(own, Ns(0), Hooks::Sched)
    };
    let offsets = btf::task_offsets().map_err(|error| error.to_string())?;
    let mut ebpf = create(&settings, offsets).map_err(|error| error.to_string())?;
    let mut probes = Uprobes::default();
    let place = (file, offset, None);

    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let without = lock_and_unlock();
        probes.one(&mut ebpf, "lw_u_mutex", own, place)?;
        let entry = lock_and_unlock();
        probes.one(&mut ebpf, "lw_u_return", own, place)?;
        let both = lock_and_unlock();
        probes.detach(&mut ebpf);
        rounds.push([without, entry, both]);
    }
    let cost = of_rounds(&rounds);
    // A return costs so much less (a system call instead of a breakpoint, from 6.11 on) that 0 is what
    // is found of it on a busy machine.
    if cost.entry.0 == 0 {
        let rounds =
            rounds.iter().map(|[without, entry, both]| format!("{without}, {entry}, {both}"));
        let rounds: Vec<_> = rounds.collect();
        return Err(format!(
            "lost in noise: a lock and unlock took, without probes, with one and with two: {}",
            rounds.join("; ")
        ));
    }
    Ok(cost)
}

/// The medians of what a call took without probes, and of how much longer each one made it.
fn of_rounds(rounds: &[[Ns; 3]]) -> UprobeCost {
    let longer = |from: usize, to: usize| {
        median(rounds.iter().map(|round| round[to].0.saturating_sub(round[from].0)))
    };
    UprobeCost {
        entry: longer(0, 1),
        at_return: longer(1, 2),
        without: median(rounds.iter().map(|round| round[0].0)),
    }
}

/// 0 of nothing.
fn median(values: impl Iterator<Item = u64>) -> Ns {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    Ns(values.get(values.len() / 2).copied().unwrap_or(0))
}

/// Median CPU time of an uncontended lock and unlock: what the target does to this CPU meanwhile is
/// not in it.
fn lock_and_unlock() -> Ns {
    let mut mutex: PthreadMutex = [0; 5];
    median((0..RUNS).map(|_| {
        let begin = thread_cpu_ns();
        for _ in 0..CALLS {
            let mutex = std::hint::black_box(&raw mut mutex);
            // SAFETY: an initialised mutex that stays where it is and that nobody else uses.
            unsafe {
                pthread_mutex_lock(mutex);
                pthread_mutex_unlock(mutex);
            }
        }
        (thread_cpu_ns() - begin) / u64::from(CALLS)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_round_does_not_count() {
        let round = |without, entry, both| [Ns(without), Ns(entry), Ns(both)];
        let rounds = [round(16, 6_000, 9_000), round(16, 18_200, 18_200), round(17, 6_200, 9_300)];
        let cost = of_rounds(&rounds);
        assert_eq!((cost.without, cost.entry, cost.at_return), (Ns(16), Ns(6_183), Ns(3_000)));
        assert_eq!(of_rounds(&[]), UprobeCost::default());
    }
}
