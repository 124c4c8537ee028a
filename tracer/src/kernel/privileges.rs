//! Which privileges we have, checked before anything is loaded.

use crate::fault::Fault;

/// Capability numbers of `include/uapi/linux/capability.h`.
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// The effective capabilities that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// Programs and maps may be created (`CAP_BPF`, or `CAP_SYS_ADMIN`).
    pub bpf: bool,
    /// Tracing programs may be attached and may read kernel memory (`CAP_PERFMON`, or
    /// `CAP_SYS_ADMIN`).
    pub perfmon: bool,
    /// Other users' processes may be read (`CAP_SYS_PTRACE`).
    pub ptrace: bool,
}

impl Privileges {
    /// Reads `CapEff` of this process.
    ///
    /// # Errors
    /// If `/proc/self/status` can't be read or has no such line.
    pub fn read() -> std::io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        Self::parse(&status).ok_or_else(|| std::io::Error::other("/proc/self/status: no CapEff"))
    }

    fn parse(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let caps = u64::from_str_radix(line.trim(), 16).ok()?;
        let has = |cap: u32| caps & (1 << cap) != 0;
        let admin = has(CAP_SYS_ADMIN);
        Some(Self {
            bpf: has(CAP_BPF) || admin,
            perfmon: has(CAP_PERFMON) || admin,
            ptrace: has(CAP_SYS_PTRACE),
        })
    }

    /// What is missing to record, by capability name.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let wanted =
            [(self.bpf, "CAP_BPF"), (self.perfmon, "CAP_PERFMON"), (self.ptrace, "CAP_SYS_PTRACE")];
        wanted.into_iter().filter(|(have, _)| !have).map(|(_, name)| name).collect()
    }

    /// Succeeds if a recording is possible.
    ///
    /// # Errors
    /// [`Fault::NotPermitted`] naming what is missing.
    pub fn check(&self) -> Result<(), Fault> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Fault::NotPermitted(format!(
            "recording needs {}: run it as root (sudo lockwatt …); `lockwatt doctor` shows what \
             this user may do",
            missing.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_when_missing() {
        let none = Privileges::parse("CapEff:\t0000000000000000\n").expect("parses");
        assert_eq!(none.missing(), ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]);
        let root = Privileges::parse("Name:\tx\nCapEff:\t000001fffeffffff\n").expect("parses");
        assert!(root.missing().is_empty());
        assert!(Privileges::parse("CapEff:\tzz\n").is_none());
    }
}
