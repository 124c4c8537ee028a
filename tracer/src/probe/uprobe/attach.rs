//! Attaching the uprobes to the files that the target maps.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::Ebpf;
use aya::programs::uprobe::{
    UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeLinkId, UProbeScope,
};
use aya::programs::{Program, ProgramError, UProbe};

use super::library::{Library, file_name, find};
use super::table::{AT_RETURN, Group, Groups, Probed, USDT, usdt_register};
use crate::probe::load::refusal;
use crate::target::{Function, Process};
use crate::trace::records::ProgramState;
use crate::units::Pid;

/// The uprobes of a recording.
#[derive(Debug, Default)]
pub struct Uprobes {
    links: Vec<(&'static str, UProbeLinkId)>,
    /// Which programs are attached where (device, inode, offset): they stay so over an exec.
    hooked: BTreeSet<(u64, u64, u64, &'static str)>,
    /// What came of loading each program.
    loaded: BTreeMap<&'static str, Option<String>>,
}

impl Uprobes {
    /// Hooks the functions of these groups in a process, each for itself. `minor` is the
    /// interpreter's version. What the process does not have is said of each function; what is hooked
    /// already, since the process was another program, stays so.
    pub fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        process: &Process,
        groups: Groups,
        minor: Option<u8>,
    ) -> Vec<ProgramState> {
        let mut states = Vec::new();
        for group in groups.iter() {
            let libraries = Library::of(process, group);
            if group == Group::Usdt {
                self.usdt(ebpf, process.pid, libraries.as_deref(), &mut states);
            }
            for probed in group.probes() {
                let found = libraries.as_ref().map(|all| find(all, &probed));
                let found = match found {
                    Ok(Some(found)) => found,
                    Ok(None) => {
                        let reason = "the process has no such function".to_owned();
                        states.push(state(probed.entry, &hook(&probed, None), Some(reason)));
                        continue;
                    }
                    Err(reason) => {
                        states.push(state(
                            probed.entry,
                            &hook(&probed, None),
                            Some(reason.clone()),
                        ));
                        continue;
                    }
                };
                for function in found.1 {
                    self.function(
                        ebpf,
                        process.pid,
                        &probed,
                        (found.0, function),
                        minor,
                        &mut states,
                    );
                }
            }
        }
        states
    }

    fn function(
        &mut self,
        ebpf: &mut Ebpf,
        pid: Pid,
        probed: &Probed,
        (library, function): (&Library, &Function),
        minor: Option<u8>,
        states: &mut Vec<ProgramState>,
    ) {
        let copy = function.symbol != probed.function;
        let cookie =
            probed.python.map(|(kind, argument)| kind.cookie(argument.number(copy, minor)));
        // The entry first: a return without it says nothing.
        for program in [Some(probed.entry), probed.at_return].into_iter().flatten() {
            let place = (library.file.open.as_path(), function.offset, cookie);
            let reason = self.one(ebpf, program, pid, place).err();
            let mut hook = hook(probed, Some((library, function)));
            if probed.at_return == Some(program) {
                hook = hook.replacen("uprobe/", "uretprobe/", 1);
            }
            states.push(state(program, &hook, reason));
        }
    }

    /// Hooks libc's USDT probes.
    fn usdt(
        &mut self,
        ebpf: &mut Ebpf,
        pid: Pid,
        libraries: Result<&[Library], &String>,
        states: &mut Vec<ProgramState>,
    ) {
        let libraries = match libraries {
            Ok(libraries) => libraries,
            Err(reason) => {
                return states.push(state("lw_u_acquired", "uprobe/usdt", Some(reason.clone())));
            }
        };
        for (name, program, kind) in USDT {
            let all = || libraries.iter().flat_map(|l| l.usdt(name).map(move |probe| (l, probe)));
            if all().next().is_none() {
                let reason = "the process's libc has no such USDT probe".to_owned();
                states.push(state(program, &format!("uprobe/usdt:{name}"), Some(reason)));
            }
            for (library, probe) in all() {
                let hook = format!(
                    "uprobe/usdt:{name}+{:#x} ({})",
                    probe.offset,
                    file_name(library.path())
                );
                let reason = match usdt_register(&probe.arguments) {
                    _ if probe.guarded => Err("it is guarded by a counter".to_owned()),
                    None => Err(format!("its argument is not in a register: {}", probe.arguments)),
                    register => {
                        let cookie = Some(kind.cookie(register));
                        let place = (library.file.open.as_path(), probe.offset, cookie);
                        self.one(ebpf, program, pid, place)
                    }
                };
                states.push(state(program, &hook, reason.err()));
            }
        }
    }

    /// Loads a program if it is not loaded yet, and attaches it.
    pub(super) fn one(
        &mut self,
        ebpf: &mut Ebpf,
        name: &'static str,
        pid: Pid,
        (file, offset, cookie): (&Path, u64, Option<u64>),
    ) -> Result<(), String> {
        let pid = NonZeroU32::new(pid.0).ok_or("no such process")?;
        let program = program(ebpf, name).map_err(|error| refusal(&error))?;
        let loaded = self
            .loaded
            .entry(name)
            .or_insert_with(|| program.load().err().map(|error| refusal(&error)));
        if let Some(reason) = loaded {
            return Err(reason.clone());
        }
        let known = std::fs::metadata(file).ok().map(|at| (at.dev(), at.ino(), offset, name));
        if known.is_some_and(|known| self.hooked.contains(&known)) {
            return Ok(());
        }
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let point = UProbeAttachPoint { location, cookie };
        let link = program
            .attach(point, file, UProbeScope::OneProcess(pid))
            .map_err(|error| refusal(&error))?;
        self.links.push((name, link));
        self.hooked.extend(known);
        Ok(())
    }

    /// Takes all of them away: those at returns first, since a return without its entry would count
    /// as a loss. The kernel takes some 100 ms for each.
    pub fn detach(&mut self, ebpf: &mut Ebpf) {
        drop(self.take(ebpf));
    }

    /// Does the same in the background; what the probes count must have been stopped. The end of
    /// this process waits for it.
    pub fn leave(&mut self, ebpf: &mut Ebpf) {
        let links = self.take(ebpf);
        if !links.is_empty() {
            std::thread::spawn(move || drop(links));
        }
    }

    fn take(&mut self, ebpf: &mut Ebpf) -> Vec<UProbeLink> {
        self.hooked.clear();
        let (returns, entries): (Vec<_>, Vec<_>) =
            self.links.drain(..).partition(|&(name, _)| name == AT_RETURN);
        let all = returns.into_iter().chain(entries);
        all.filter_map(|(name, link)| program(ebpf, name).ok()?.take_link(link).ok()).collect()
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe, ProgramError> {
    match ebpf.program_mut(name) {
        Some(Program::UProbe(program)) => Ok(program),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// `uprobe/pthread_mutex_lock (libc.so.6)`.
fn hook(probed: &Probed, found: Option<(&Library, &Function)>) -> String {
    match found {
        Some((library, function)) => {
            format!("uprobe/{} ({})", function.symbol, file_name(library.path()))
        }
        None => format!("uprobe/{}", probed.function),
    }
}

fn state(name: &str, hook: &str, reason: Option<String>) -> ProgramState {
    ProgramState {
        name: name.to_owned(),
        hook: hook.to_owned(),
        attached: reason.is_none(),
        reason,
    }
}
