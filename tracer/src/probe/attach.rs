//! Attaching, each program on its own: a refusal is a missing feature with a reason.

use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{BtfTracePoint, PerfEvent, Program, ProgramError};
use aya::util::online_cpus;

use super::load::{LoadError, Prepared, refusal};
use super::maps::Maps;
use super::plan::{Hook, Hooks, ProgramSpec, Role, plan};
use crate::trace::records::ProgramState;
use crate::units::Ns;

/// Attached programs. They are detached when this is dropped; the maps live on.
pub struct Loaded {
    /// What became of each program.
    pub programs: Vec<ProgramState>,
    /// The hooks in use: the system-call form if the kernel needs it.
    pub hooks: Hooks,
    ebpf: Ebpf,
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

    /// The same for all that are loaded, the energy program and the uprobes among them; `None` if the
    /// kernel doesn't count.
    #[must_use]
    pub fn run_times(&self) -> Option<(Ns, u64)> {
        // Those that were attached later are not in `programs`; one that is not attached never ran.
        let times = self.ebpf.programs().filter_map(|(name, _)| self.run_time(name));
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

impl Drop for Loaded {
    /// In the reverse of the order in which they were attached, which takes some time: who looks threads
    /// up goes before who sees them born.
    fn drop(&mut self) {
        for state in self.programs.iter().rev().filter(|state| state.attached) {
            if let Some(Program::BtfTracePoint(program)) = self.ebpf.program_mut(&state.name) {
                // What is refused here is unloaded with the rest.
                let _ = program.unload();
            }
        }
    }
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

fn not_attached(spec: &ProgramSpec, reason: String) -> ProgramState {
    ProgramState {
        name: spec.name.to_owned(),
        hook: spec.hook.to_string(),
        attached: false,
        reason: Some(reason),
    }
}
