//! The probe table: every program, what it hooks, when it is wanted, what goes without it.

use std::fmt;

/// Which set of hooks a recording uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Hooks {
    /// Scheduler hooks only: cheap, and the contention stays what it was.
    #[default]
    Sched,
    /// The futex and sched_yield system calls as well: exact call counts; dearer, and it disturbs.
    Syscall,
}

impl Hooks {
    /// The name in options, traces and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sched => "sched",
            Self::Syscall => "syscall",
        }
    }
}

/// Where a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A BTF-typed raw tracepoint. Programs there are never skipped, unlike perf-attached ones
    /// (docs/hooks.md).
    Tracepoint(&'static str),
    /// The CPU clock of every CPU that is online: a software perf event.
    CpuClock,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint(name) => write!(f, "tp_btf/{name}"),
            Self::CpuClock => f.write_str("perf_event/cpu-clock"),
        }
    }
}

/// CPU-clock samples per second and CPU, unless asked for otherwise: a prime, so that it keeps step
/// with nothing. A tick costs what it interrupts 7 µs on one virtual machine and 45 on another, which
/// at 199 was 0.9 % of a program that does not wait at all (docs/hooks.md).
pub const DEFAULT_SAMPLE_HZ: u32 = 47;
/// The same where there is an energy counter: samples then also say how a thread's energy is split.
pub const ENERGY_SAMPLE_HZ: u32 = 199;
/// The most that can be asked for: there a sample is taken every 100 µs.
pub const MAX_SAMPLE_HZ: u32 = 10_000;

/// What happens without a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// No recording.
    Required,
    /// The next program in the table stands in for it.
    Preferred,
    /// Stands in for the `Preferred` one before it; not used if that one works.
    Fallback,
    /// A feature is missing.
    Optional,
}

/// A line of the probe table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramSpec {
    /// The program's name, at most 15 characters.
    pub name: &'static str,
    /// What it hooks.
    pub hook: Hook,
    /// What happens without it.
    pub role: Role,
    /// What it is for.
    pub purpose: &'static str,
}

const LIFECYCLE: &[ProgramSpec] = &[
    spec("lw_fork", Hook::Tracepoint("sched_process_fork"), Role::Required, "threads born later"),
    spec("lw_exit", Hook::Tracepoint("sched_process_exit"), Role::Required, "threads that end"),
    spec("lw_exec", Hook::Tracepoint("sched_process_exec"), Role::Required, "a target that execs"),
];

const SCHED: &[ProgramSpec] = &[
    spec("lw_waking", Hook::Tracepoint("sched_waking"), Role::Required, "run-queue delay, wakers"),
    spec(
        "lw_switch",
        Hook::Tracepoint("sched_switch"),
        Role::Preferred,
        "waits and their locks, from saved registers (5.18 and later)",
    ),
    spec(
        "lw_switch_sys",
        Hook::Tracepoint("sched_switch"),
        Role::Fallback,
        "waits, with arguments from the system-call hooks (older kernels)",
    ),
];

/// The same of several processes.
const SCHED_ALL: &[ProgramSpec] = &[
    spec(
        "lw_waking_all",
        Hook::Tracepoint("sched_waking"),
        Role::Required,
        "run-queue delay, wakers, of several processes",
    ),
    spec(
        "lw_switch_all",
        Hook::Tracepoint("sched_switch"),
        Role::Preferred,
        "waits and their locks, of several processes",
    ),
    SCHED[2],
];

const SYSCALL: &[ProgramSpec] = &[
    spec(
        "lw_sys_enter",
        Hook::Tracepoint("sys_enter"),
        Role::Required,
        "arguments of every futex call (futex, futex_wait, futex_waitv, futex_wake), every yield",
    ),
    spec(
        "lw_sys_exit",
        Hook::Tracepoint("sys_exit"),
        Role::Required,
        "their results, time in yields",
    ),
];

/// Nothing waits for it, so it comes last.
const SAMPLER: ProgramSpec = spec(
    "lw_sample",
    Hook::CpuClock,
    Role::Optional,
    "spinning that never gives the CPU away, as samples (--sample-hz)",
);

/// No recording uses it: a walk of the current thread's stack at each `sched_yield`, to measure.
pub const WALK: ProgramSpec =
    spec("lw_walk", Hook::Tracepoint("sys_enter"), Role::Required, "what a walk costs");

const fn spec(name: &'static str, hook: Hook, role: Role, purpose: &'static str) -> ProgramSpec {
    ProgramSpec { name, hook, role, purpose }
}

impl ProgramSpec {
    /// It looks up threads, so that they must be in the table before it is attached.
    #[must_use]
    pub fn uses_threads(&self) -> bool {
        !LIFECYCLE.iter().any(|spec| spec.name == self.name)
    }
}

/// The programs that a set of hooks wants, and the sampler if it is wanted, in the order in which
/// they are attached: what fills per-thread state comes before what uses it. `several`: processes, not
/// one.
#[must_use]
pub fn plan(hooks: Hooks, sampler: bool, several: bool) -> Vec<ProgramSpec> {
    let syscall = if hooks == Hooks::Syscall { SYSCALL } else { &[] };
    let sampler = sampler.then_some(&SAMPLER);
    let sched = if several { SCHED_ALL } else { SCHED };
    LIFECYCLE.iter().chain(syscall).chain(sched).chain(sampler).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_names_are_short_and_distinct() {
        let all = [false, true].map(|several| plan(Hooks::Syscall, true, several));
        for all in all {
            for (i, spec) in all.iter().enumerate() {
                assert!(spec.name.len() <= 15, "{}", spec.name);
                assert!(all[..i].iter().all(|other| other.name != spec.name), "{}", spec.name);
            }
        }
    }
}
