//! Loading and attaching, each program on its own: a refusal is a missing feature with a reason.

use std::time::{Duration, Instant};

use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{BtfTracePoint, PerfEvent, Program, ProgramError};
use aya::util::online_cpus;
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use tracer_common::config::TaskOffsets;

use super::maps::{MapError, Maps};
use super::plan::{Hook, Hooks, ProgramSpec, Role, plan};
use super::uprobe::{Groups, MAX_USES};
use crate::kernel::{BtfError, btf};
use crate::target::pid_namespace_level;
use crate::trace::records::ProgramState;
use crate::units::{Ns, Pid};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lockwatt-ebpf.o"));

/// What the programs are built for, before they are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The traced process, or the first of several.
    pub target: Pid,
    /// There can be more than one: those in the table of processes are traced.
    pub several: bool,
    /// Children of traced processes are traced as well. Needs `several`.
    pub follow: bool,
    /// Waits below this get no event.
    pub min_wait: Ns,
    /// Which hooks.
    pub hooks: Hooks,
    /// Ring buffer bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Room for this many threads.
    pub max_threads: u32,
    /// Room for this many processes, if there can be several; no more than [`MAX_PROCESSES`].
    pub max_processes: u32,
    /// A program to do without, as if the kernel had refused it (to test the fallbacks).
    pub without: Option<&'static str>,
    /// Copy the waiters' native stacks.
    pub native: bool,
    /// Room for what these opt-in uprobes count.
    pub uprobes: Groups,
    /// CPU-clock samples per second and CPU; 0: none.
    pub sample_hz: u32,
    /// Per CPU, stacks of short waits, and of yields, are walked this far apart on average.
    pub short_walk_every: Ns,
    /// Room for where the CPUs' time goes: there is an energy counter.
    pub energy: bool,
}

/// Default size of the ring buffer: some 80,000 waits.
pub const DEFAULT_RING_BYTES: u32 = 8 << 20;
/// 250 a second.
const SHORT_WALK_EVERY: Ns = Ns(4_000_000);
/// Room for processes, if there can be several: those that live, and those that ended within the
/// last second.
pub const MAX_PROCESSES: u32 = 4_096;
/// Room for places that yield, of one process.
const MAX_SITES: u32 = 256;
/// Default room for threads.
const DEFAULT_MAX_THREADS: u32 = 16_384;

impl Settings {
    /// Default sizes, and no sampler.
    #[must_use]
    pub fn new(target: Pid, min_wait: Ns, hooks: Hooks) -> Self {
        Self {
            target,
            several: false,
            follow: false,
            min_wait,
            hooks,
            ring_bytes: DEFAULT_RING_BYTES,
            max_threads: DEFAULT_MAX_THREADS,
            max_processes: MAX_PROCESSES,
            native: false,
            uprobes: Groups::default(),
            sample_hz: 0,
            short_walk_every: SHORT_WALK_EVERY,
            energy: false,
            without: None,
        }
    }
}

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

/// Attached programs. They are detached when this is dropped; the maps live on.
pub struct Loaded {
    /// What became of each program.
    pub programs: Vec<ProgramState>,
    /// The hooks in use: the system-call form if the kernel needs it.
    pub hooks: Hooks,
    ebpf: Ebpf,
}

/// An object whose maps exist and whose programs wait to be attached.
pub struct Prepared {
    /// The kernel side's maps, to be filled in before attaching.
    pub maps: Maps,
    ebpf: Ebpf,
    btf: Btf,
    hooks: Hooks,
    sample_hz: u32,
    several: bool,
    without: Option<&'static str>,
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
        .map_max_entries("THREADS", settings.max_threads)
        .map_max_entries("PROCESSES", max_processes)
        .map_max_entries("NUMBERS", max_processes)
        .map_max_entries("SPIN_SITES", max_sites)
        .map_max_entries("INITIAL", settings.max_threads)
        .map_max_entries("THREAD_STATES", settings.max_threads)
        .map_max_entries("USES", max_uses)
        .map_max_entries("UPROBE_THREADS", max_probed)
        .load(OBJECT)
        .map_err(|source| LoadError::Object { source: Box::new(source) })
}

impl Prepared {
    /// Attaches the planned programs. `add_threads` is called when threads born from then on are
    /// seen, and before anything looks them up.
    ///
    /// # Errors
    /// [`LoadError::Refused`] if a required program is refused and has no stand-in, and the errors
    /// of `add_threads`.
    pub fn attach<E: From<LoadError>>(
        mut self,
        add_threads: impl FnOnce(&mut Maps) -> Result<(), E>,
    ) -> Result<(Loaded, Maps), E> {
        // Verifying takes a good part of a second, attaching next to nothing: first the one for
        // all, then the other, so that there is hardly a time at which only some are attached.
        let mut programs = Vec::new();
        let mut loaded = Vec::new();
        let mut preferred_failed = None;
        for spec in plan(self.hooks, self.sample_hz != 0, self.several) {
            if spec.role == Role::Fallback && preferred_failed.is_none() {
                continue; // what it stands in for works
            }
            let state = self.state_of(&spec, Self::load_one);
            if let Some(reason) = state.reason.clone().filter(|_| !state.attached) {
                let refused = |reason| {
                    let (name, hook) = (spec.name, spec.hook.to_string());
                    Err(LoadError::Refused { name, hook, reason }.into())
                };
                match spec.role {
                    Role::Required => return refused(reason),
                    Role::Preferred if self.hooks == Hooks::Sched => {
                        return refused(format!("{reason}; try `--hooks syscall`"));
                    }
                    Role::Preferred => preferred_failed = Some(reason),
                    Role::Fallback if preferred_failed.is_some() => return refused(reason),
                    Role::Fallback | Role::Optional => {}
                }
            }
            loaded.push((spec, state));
        }
        let mut add_threads = Some(add_threads);
        for (spec, mut state) in loaded {
            if spec.uses_threads()
                && let Some(add_threads) = add_threads.take()
            {
                add_threads(&mut self.maps)?;
            }
            if state.attached {
                state = self.state_of(&spec, Self::attach_loaded);
                if let Some(reason) = state.reason.clone()
                    && spec.role != Role::Optional
                {
                    let (name, hook) = (spec.name, spec.hook.to_string());
                    return Err(LoadError::Refused { name, hook, reason }.into());
                }
            }
            programs.push(state);
        }
        Ok((Loaded { programs, hooks: self.hooks, ebpf: self.ebpf }, self.maps))
    }

    /// Attaches one program alone, which is not of the plan (for benches).
    ///
    /// # Errors
    /// [`LoadError::Refused`].
    pub fn attach_alone(mut self, spec: &ProgramSpec) -> Result<(Loaded, Maps), LoadError> {
        let state = self.state_of(spec, |this, spec| {
            this.load_one(spec).and_then(|()| this.attach_loaded(spec))
        });
        if let Some(reason) = state.reason {
            let (name, hook) = (spec.name, spec.hook.to_string());
            return Err(LoadError::Refused { name, hook, reason });
        }
        let programs = vec![state];
        Ok((Loaded { programs, hooks: self.hooks, ebpf: self.ebpf }, self.maps))
    }

    /// Loads and attaches every program of the plan, whatever the others did (for `doctor`).
    #[must_use]
    pub fn attach_each(mut self) -> Vec<(ProgramSpec, ProgramState)> {
        let both = |this: &mut Self, spec: &ProgramSpec| {
            this.load_one(spec).and_then(|()| this.attach_loaded(spec))
        };
        let all = plan(self.hooks, self.sample_hz != 0, self.several);
        all.into_iter().map(|spec| (spec, self.state_of(&spec, both))).collect()
    }

    /// What comes of doing something with a program; `attached` says that it worked.
    fn state_of(
        &mut self,
        spec: &ProgramSpec,
        step: impl FnOnce(&mut Self, &ProgramSpec) -> Result<(), ProgramError>,
    ) -> ProgramState {
        if self.without == Some(spec.name) {
            return not_attached(spec, "left out on request".to_owned());
        }
        match step(self, spec) {
            Ok(()) => ProgramState {
                name: spec.name.to_owned(),
                hook: spec.hook.to_string(),
                attached: true,
                reason: None,
            },
            Err(error) => not_attached(spec, refusal(&error)),
        }
    }

    fn load_one(&mut self, spec: &ProgramSpec) -> Result<(), ProgramError> {
        match spec.hook {
            Hook::Tracepoint(name) => {
                program::<BtfTracePoint>(&mut self.ebpf, spec)?.load(name, &self.btf)
            }
            Hook::CpuClock => program::<PerfEvent>(&mut self.ebpf, spec)?.load(),
        }
    }

    fn attach_loaded(&mut self, spec: &ProgramSpec) -> Result<(), ProgramError> {
        match spec.hook {
            Hook::Tracepoint(_) => {
                program::<BtfTracePoint>(&mut self.ebpf, spec)?.attach().map(drop)
            }
            Hook::CpuClock => {
                let program = program(&mut self.ebpf, spec)?;
                let attached = attach_sampler(program, self.sample_hz);
                if attached.is_err() {
                    program.unload()?; // half of the CPUs would be no sample
                }
                attached
            }
        }
    }
}

/// Attaches to the clock of each CPU: events of threads would miss those that are born later, unless
/// each were inherited.
fn attach_sampler(program: &mut PerfEvent, hz: u32) -> Result<(), ProgramError> {
    let clock = PerfEventConfig::Software(SoftwareEvent::CpuClock);
    // As a frequency, so that the machine's own limit (`kernel.perf_event_max_sample_rate`) holds;
    // for this clock the kernel makes a fixed period of it (`perf_swevent_init_hrtimer`).
    let policy = SamplePolicy::Frequency(u64::from(hz));
    let cpus = online_cpus().map_err(|(_, error)| error)?;
    // Spread over a period. Each clock ticks at its distance from the others for the whole recording:
    // one that came some microseconds after another CPU's would always find that one's thread in the
    // other's interrupt, where it holds nothing up. (Seen: most of the spinning missing on that CPU,
    // in four of nine recordings.)
    let apart = Duration::from_secs(1) / hz.max(1) / u32::try_from(cpus.len().max(1)).unwrap_or(1);
    let begun = Instant::now();
    for (n, cpu) in (0..).zip(cpus) {
        std::thread::sleep((apart * n).saturating_sub(begun.elapsed()));
        program.attach(clock, PerfEventScope::AllProcessesOneCpu { cpu }, policy, false)?;
    }
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, spec: &ProgramSpec) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(spec.name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

impl Loaded {
    /// The object, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Whether a program of this name takes part.
    #[must_use]
    pub fn has(&self, program: &str) -> bool {
        self.programs.iter().any(|state| state.name == program && state.attached)
    }

    /// The same for all of them together; `None` if the kernel doesn't count.
    #[must_use]
    pub fn run_times(&self) -> Option<(Ns, u64)> {
        let attached = self.programs.iter().filter(|state| state.attached);
        let times = attached.filter_map(|state| self.run_time(&state.name));
        let (time, runs) = times.fold((Ns(0), 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (runs > 0).then_some((time, runs))
    }

    /// Time spent in a program and how often it ran, as the kernel counted it; zeros unless its
    /// statistics are on (`kernel.bpf_stats_enabled`). `None` if it is not loaded.
    #[must_use]
    pub fn run_time(&self, program: &str) -> Option<(Ns, u64)> {
        let info = self.ebpf.program(program)?.info().ok()?;
        Some((Ns(u64::try_from(info.run_time().as_nanos()).ok()?), info.run_count()))
    }
}

fn not_attached(spec: &ProgramSpec, reason: String) -> ProgramState {
    ProgramState {
        name: spec.name.to_owned(),
        hook: spec.hook.to_string(),
        attached: false,
        reason: Some(reason),
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
