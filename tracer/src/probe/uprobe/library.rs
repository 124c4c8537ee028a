//! The target's files that have functions to hook.

use std::path::Path;

use super::table::{Group, Probed, USDT};
use crate::target::{Function, Functions, MappedFile, Process, Usdt};

/// A file of the target whose functions are hooked.
#[derive(Clone, Debug)]
pub struct Library {
    pub(super) file: MappedFile,
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

    pub(super) fn usdt(&self, name: &str) -> impl Iterator<Item = &Usdt> {
        let usdt = self.functions.usdt.iter();
        usdt.filter(move |probe| probe.provider == "libc" && probe.name == name)
    }

    /// Names of its USDT probes that are about locks. Not each glibc has any.
    #[must_use]
    pub fn lock_usdt(&self) -> Vec<&str> {
        let about = ["mutex_", "rwlock_", "rdlock_", "wrlock_", "cond_", "sem_", "lll_"];
        let lock = |name: &str| about.iter().any(|start| name.starts_with(start));
        let mut names: Vec<_> = self.functions.usdt.iter().map(|u| u.name.as_str()).collect();
        names.retain(|name| lock(name));
        names.sort_unstable();
        names.dedup();
        names
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

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// glibc's files by their names, since 2.34 and before. Another libc has other structs.
fn is_glibc(path: &Path) -> bool {
    let name = file_name(path);
    ["libc.so.6", "libc-2.", "libpthread.so.0", "libpthread-2."]
        .iter()
        .any(|start| name.starts_with(start))
}

/// The first of the files that has a function, with the function and its copies.
pub(super) fn find<'a>(
    libraries: &'a [Library],
    probed: &Probed,
) -> Option<(&'a Library, &'a [Function])> {
    let named = |library: &'a Library| (library, library.functions.named(probed.function));
    libraries.iter().map(named).find(|(_, functions)| !functions.is_empty())
}
