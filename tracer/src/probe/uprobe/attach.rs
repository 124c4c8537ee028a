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

use super::table::{AT_RETURN, Group, Groups, Probed, USDT, usdt_register};
use crate::probe::load::refusal;
use crate::target::{Function, Functions, MappedFile, Process, Usdt};
use crate::trace::records::ProgramState;
use crate::units::Pid;

/// A file of the target whose functions are hooked.
#[derive(Clone, Debug)]
pub struct Library {
    file: MappedFile,
    functions: Functions,
}

impl Library {
    /// Its path, as the target sees it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Where to attach to one of its functions: file and offset.
    pub(super) fn place(&self, function: &str) -> Option<(&Path, u64)> {
        let function = self.functions.named(function).first()?;
        Some((&self.file.open, function.offset))
    }

    /// How many functions and copies of functions there are to hook.
    #[must_use]
    pub fn hooked(&self) -> usize {
        self.functions.count()
    }

    /// How many USDT probes there are to hook.
    #[must_use]
    pub fn hooked_usdt(&self) -> usize {
        USDT.iter().map(|&(name, ..)| self.usdt(name).count()).sum()
    }

    fn usdt(&self, name: &str) -> impl Iterator<Item = &Usdt> {
        let usdt = self.functions.usdt.iter();
        usdt.filter(move |probe| probe.provider == "libc" && probe.name == name)
    }

    /// Names of its USDT probes that are about locks. (Debian's glibc has none of any kind.)
    #[must_use]
    pub fn lock_usdt(&self) -> Vec<&str> {
        let about = ["mutex_", "rwlock_", "rdlock_", "wrlock_", "cond_", "sem_", "lll_"];
        let lock = |name: &str| about.iter().any(|start| name.starts_with(start));
        let mut names: Vec<_> = self.functions.usdt.iter().map(|u| u.name.as_str()).collect();
        names.dedup();
        let names = names.into_iter();
        names.filter(|name| lock(name)).collect()
    }

    /// The functions of a group that none of these files has.
    #[must_use]
    pub fn missing(libraries: &[Self], group: Group) -> Vec<&'static str> {
        let probes = group.probes();
        probes.iter().filter(|p| find(libraries, p).is_none()).map(|p| p.function).collect()
    }

    /// The target's files for a group, or why there are none. Before glibc 2.34 most of libc's lock
    /// functions are in a libpthread.
    ///
    /// # Errors
    /// If there are none, or they can't be read.
    pub fn of(process: &Process, group: Group) -> Result<Vec<Self>, String> {
        let wanted: Vec<_> = group.probes().iter().map(|probed| probed.function).collect();
        let mut files = match group {
            Group::Pthread | Group::Usdt => process.mapped_files(is_glibc),
            Group::Cpython => process.interpreter_candidates(),
        }
        .map_err(|error| error.to_string())?;
        // What libpthread has is what is called: libc's own are stand-ins.
        files.sort_by_key(|file| !file_name(&file.path).starts_with("libpthread"));
        let read = |file: MappedFile| match Functions::read(&file, &wanted) {
            Ok(functions) => Ok(Self { file, functions }),
            Err(error) => Err(error.to_string()),
        };
        let mut libraries: Vec<_> = files.into_iter().map(read).collect::<Result<_, _>>()?;
        let any = |library: &Self| library.hooked() > 0 || library.hooked_usdt() > 0;
        if libraries.iter().any(any) {
            libraries.retain(any);
        }
        match (group, libraries.is_empty()) {
            (_, false) => Ok(libraries),
            (Group::Pthread | Group::Usdt, true) => Err("the process maps no glibc".to_owned()),
            (Group::Cpython, true) => Err("the process maps no interpreter".to_owned()),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// glibc's files by their names, since 2.34 and before. Another libc has other structs.
fn is_glibc(path: &Path) -> bool {
    let name = file_name(path);
    ["libc.so.6", "libc-2.", "libpthread.so.0", "libpthread-2."]
        .iter()
        .any(|start| name.starts_with(start))
}

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

fn find<'a>(libraries: &'a [Library], probed: &Probed) -> Option<(&'a Library, &'a [Function])> {
    let named = |library: &'a Library| (library, library.functions.named(probed.function));
    libraries.iter().map(named).find(|(_, functions)| !functions.is_empty())
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
