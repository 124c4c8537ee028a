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

/// Where a program attaches: a BTF-typed raw tracepoint. Programs there are never skipped, unlike
/// perf-attached ones (docs/hooks.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook(pub &'static str);

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tp_btf/{}", self.0)
    }
}

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
    spec("lw_fork", Hook("sched_process_fork"), Role::Required, "threads born later"),
    spec("lw_exit", Hook("sched_process_exit"), Role::Required, "threads that end"),
    spec("lw_exec", Hook("sched_process_exec"), Role::Required, "a target that execs"),
];

const SCHED: &[ProgramSpec] = &[
    spec("lw_waking", Hook("sched_waking"), Role::Required, "run-queue delay, wakers"),
    spec(
        "lw_switch",
        Hook("sched_switch"),
        Role::Preferred,
        "waits and their locks, from saved registers (5.18 and later)",
    ),
    spec(
        "lw_switch_sys",
        Hook("sched_switch"),
        Role::Fallback,
        "waits, with arguments from the system-call hooks (older kernels)",
    ),
];

const SYSCALL: &[ProgramSpec] = &[
    spec(
        "lw_sys_enter",
        Hook("sys_enter"),
        Role::Required,
        "arguments of every futex call (futex, futex_wait, futex_waitv, futex_wake), every yield",
    ),
    spec("lw_sys_exit", Hook("sys_exit"), Role::Required, "their results, time in yields"),
];

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

/// The programs that a set of hooks wants, in the order in which they are attached: what fills
/// per-thread state comes before what uses it.
#[must_use]
pub fn plan(hooks: Hooks) -> Vec<ProgramSpec> {
    match hooks {
        Hooks::Sched => LIFECYCLE.iter().chain(SCHED).copied().collect(),
        Hooks::Syscall => LIFECYCLE.iter().chain(SYSCALL).chain(SCHED).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_names_are_short_and_distinct() {
        let all = plan(Hooks::Syscall);
        for (i, spec) in all.iter().enumerate() {
            assert!(spec.name.len() <= 15, "{}", spec.name);
            assert!(all[..i].iter().all(|other| other.name != spec.name), "{}", spec.name);
        }
    }
}
