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

/// Calls with each set of probes: the median of this many runs of that many calls.
const RUNS: usize = 100;
const CALLS: u32 = 200;

/// Locks and unlocks a mutex of our own, without probes, with one at the entry of
/// `pthread_mutex_lock`, and with one at its return as well, 20,000 times each.
///
/// The figures are those of an idle machine and of warm caches.
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

    let before = lock_and_unlock();
    probes.one(&mut ebpf, "lw_u_mutex", own, place)?;
    let entry = lock_and_unlock();
    probes.one(&mut ebpf, "lw_u_return", own, place)?;
    let both = lock_and_unlock();
    probes.detach(&mut ebpf);
    let without = before.min(lock_and_unlock());

    let cost = UprobeCost {
        entry: Ns(entry.0.saturating_sub(without.0)),
        at_return: Ns(both.0.saturating_sub(entry.0)),
        without,
    };
    if cost.entry.0 == 0 || cost.at_return.0 == 0 {
        return Err(format!(
            "lost in noise: a lock and unlock took {without} without probes, {entry} with one, \
             {both} with two"
        ));
    }
    Ok(cost)
}

/// Median CPU time of an uncontended lock and unlock: what the target does to this CPU meanwhile is
/// not in it.
fn lock_and_unlock() -> Ns {
    let mut mutex: PthreadMutex = [0; 5];
    let mut runs: Vec<u64> = (0..RUNS)
        .map(|_| {
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
        })
        .collect();
    runs.sort_unstable();
    Ns(runs[RUNS / 2])
}
