//! Loading the object: its maps are made, its programs wait.

use aya::programs::ProgramError;
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use tracer_common::config::TaskOffsets;
use tracer_common::{WaitEvent, rate};

use super::maps::{MapError, Maps};
use super::plan::Hooks;
use super::settings::{MAX_PROCESSES, Settings};
use super::uprobe::MAX_USES;
use crate::kernel::{BtfError, btf};
use crate::target::{pid_namespace_level, tids};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lockwatt-ebpf.o"));

/// Room for places that yield, of one process.
const MAX_SITES: u32 = 256;

/// Room for threads of a process that does not have half as many.
const FEW_THREADS: u32 = 4_096;
const SPARE_THREADS: u32 = 256;

/// Why nothing could be attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel's type information.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// aya's own reading of it.
    #[error("{}: {source}", btf::VMLINUX)]
    AyaBtf {
        /// The error.
        source: aya::BtfError,
    },
    /// The maps could not be made.
    #[error("the kernel did not take lockwatt's maps: {}", chain(.source))]
    Object {
        /// The error.
        source: Box<aya::EbpfError>,
    },
    /// A map is not what it should be.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A required program was refused.
    #[error("the kernel did not take {name} ({hook}): {reason}; `lockwatt doctor` shows the rest")]
    Refused {
        /// The program.
        name: &'static str,
        /// What it hooks.
        hook: String,
        /// The kernel's reason.
        reason: String,
    },
}

/// An object whose maps exist and whose programs wait to be attached.
pub struct Prepared {
    /// The kernel side's maps, to be filled in before attaching.
    pub maps: Maps,
    pub(super) ebpf: Ebpf,
    pub(super) btf: Btf,
    pub(super) hooks: Hooks,
    pub(super) sample_hz: u32,
    pub(super) several: bool,
    pub(super) without: Option<&'static str>,
}

/// Creates the maps.
///
/// # Errors
/// [`LoadError`] if the kernel has no BTF or refuses a map.
pub fn load(settings: &Settings) -> Result<Prepared, LoadError> {
    let offsets = btf::task_offsets()?;
    let btf = Btf::from_sys_fs().map_err(|source| LoadError::AyaBtf { source })?;
    let mut ebpf = create(settings, offsets)?;
    let maps = Maps::take(&mut ebpf)?;
    let Settings { hooks, sample_hz, several, without, .. } = *settings;
    Ok(Prepared { maps, ebpf, btf, hooks, sample_hz, several, without })
}

pub(super) fn create(settings: &Settings, offsets: TaskOffsets) -> Result<Ebpf, LoadError> {
    let syscall_hooks = u32::from(settings.hooks == Hooks::Syscall);
    let wake_bytes = u64::from(settings.ring_bytes / 4);
    let uprobes = !settings.uprobes.is_empty();
    let (max_uses, max_probed) = if uprobes { (MAX_USES, settings.max_threads) } else { (1, 1) };
    let (target, max_processes, max_sites) = if settings.several {
        (0, settings.max_processes, 2 * MAX_PROCESSES)
    } else {
        (settings.target.0, 1, MAX_SITES)
    };
    let rooms = Rooms::of(settings);
    // As many at once as half of the ring holds, each with the header that the kernel gives it
    // (`BPF_RINGBUF_HDR_SZ`): the recorder has the time in which the other half fills up.
    let record = size_of::<WaitEvent>() as u64 + 8;
    let depth =
        rate::depth(settings.max_events_per_sec, u64::from(settings.ring_bytes) / 2 / record);
    let mut loader = EbpfLoader::new();
    let (energy, own) = (u32::from(settings.energy), std::process::id());
    if settings.energy {
        super::energy::make_room(&mut loader, settings.max_threads);
    }
    loader
        .override_global("ENERGY_ON", &energy, true)
        .override_global("OWN_TGID", &own, true)
        .override_global("TASK_FLAGS", &offsets.flags, true)
        .override_global("TARGET_TGID", &target, true)
        .override_global("FOLLOW_FORKS", &u32::from(settings.follow), true)
        .override_global("MIN_WAIT_NS", &settings.min_wait.0, true)
        .override_global("SYSCALL_HOOKS", &syscall_hooks, true)
        .override_global("SHORT_WALK_EVERY_NS", &settings.short_walk_every.0, true)
        .override_global("RATE_COST", &rate::cost(settings.max_events_per_sec), true)
        .override_global("RATE_DEPTH", &depth, true)
        .override_global("NATIVE_STACKS", &u32::from(settings.native), true)
        .override_global("WAKE_BYTES", &wake_bytes, true)
        .override_global("TASK_PID", &offsets.pid, true)
        .override_global("TASK_TGID", &offsets.tgid, true)
        .override_global("TASK_STATE", &offsets.state, true)
        .override_global("TASK_EXEC", &offsets.sum_exec_runtime, true)
        .override_global("TASK_THREAD_PID", &offsets.thread_pid, true)
        .override_global("PID_NUMBERS", &offsets.pid_numbers, true)
        .override_global("PID_LEVEL", &offsets.pid_level, true)
        .override_global("NAMESPACE_LEVEL", &pid_namespace_level(settings.target), true)
        .map_max_entries("EVENTS", settings.ring_bytes)
        .map_max_entries("THREADS", rooms.threads)
        .map_max_entries("PROCESSES", max_processes)
        .map_max_entries("NUMBERS", max_processes)
        .map_max_entries("SPIN_SITES", max_sites)
        .map_max_entries("INITIAL", rooms.initial)
        .map_max_entries("THREAD_STATES", rooms.threads)
        .map_max_entries("USES", max_uses)
        .map_max_entries("UPROBE_THREADS", max_probed)
        .load(OBJECT)
        .map_err(|source| LoadError::Object { source: Box::new(source) })
}

/// Room for threads in tables that take it whether there are so many or not.
#[derive(Debug, PartialEq, Eq)]
struct Rooms {
    threads: u32,
    /// Those that waited when the recording began.
    initial: u32,
}

impl Rooms {
    fn of(settings: &Settings) -> Self {
        let most = settings.max_threads;
        if settings.several {
            return Self { threads: most, initial: most };
        }
        let now = tids(settings.target).map_or(0, |all| all.len());
        Self::for_threads(u32::try_from(now).unwrap_or(u32::MAX), most)
    }

    /// Of a process that has so many now.
    fn for_threads(now: u32, most: u32) -> Self {
        let twice = now.saturating_mul(2);
        // Some are born between this and the attach.
        let initial = twice.saturating_add(SPARE_THREADS).min(most);
        Self { threads: twice.max(FEW_THREADS).min(most), initial }
    }
}

/// The kernel's reason in one line: the error, and the last thing the verifier said.
pub(super) fn refusal(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let last = log
            .lines()
            .rfind(|line| {
                let statistics = ["processed ", "verification time ", "stack depth "];
                !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start))
            })
            .unwrap_or("no word from the verifier")
            .to_owned();
        return format!("{io_error} ({last})");
    }
    chain(error)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Rooms;

    #[test]
    fn there_is_room_for_twice_the_threads_and_for_some_thousands() {
        let rooms = |now| {
            let Rooms { threads, initial } = Rooms::for_threads(now, 16_384);
            (threads, initial)
        };
        assert_eq!(rooms(1), (4_096, 258));
        assert_eq!(rooms(3_000), (6_000, 6_256));
        assert_eq!(rooms(20_000), (16_384, 16_384));
        assert_eq!(rooms(u32::MAX), (16_384, 16_384));
    }
}
