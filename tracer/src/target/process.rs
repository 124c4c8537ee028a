//! A process and its mappings.

use std::path::{Path, PathBuf};

use procfs::process::MMapPath;

use crate::fault::Fault;
use crate::units::Pid;

/// A live process.
#[derive(Debug)]
pub struct Process {
    /// Its id on the host.
    pub pid: Pid,
    inner: procfs::process::Process,
}

/// A file that the process maps.
#[derive(Clone, Debug)]
pub struct MappedFile {
    /// Its path, as the process sees it.
    pub path: PathBuf,
    /// Where to open it from here: through `/proc`, so that mount namespaces don't matter.
    pub open: PathBuf,
    /// Address of the mapping that has the file's beginning.
    pub start: u64,
}

impl Process {
    /// Looks a process up.
    ///
    /// # Errors
    /// [`Fault::NotTraceable`] if there is none, if it is a thread's id, or if it is a zombie.
    pub fn open(pid: Pid) -> Result<Self, Fault> {
        let gone = || {
            Fault::NotTraceable(format!(
                "no process has PID {}: see `pgrep -a python` for those that run",
                pid.0
            ))
        };
        let raw = i32::try_from(pid.0).map_err(|_| gone())?;
        let inner = procfs::process::Process::new(raw).map_err(|_| gone())?;
        let process = Self { pid, inner };
        if let Some(status) = process.inner.status().ok().filter(|status| status.tgid != raw) {
            return Err(Fault::NotTraceable(format!(
                "{} is a thread of process {}: give the process's PID",
                pid.0, status.tgid
            )));
        }
        if !process.is_alive() {
            return Err(gone());
        }
        Ok(process)
    }

    /// False once the process has ended, even if nobody has waited for it yet.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.inner.is_alive()
    }

    /// Its executable, as the process sees it.
    #[must_use]
    pub fn exe(&self) -> String {
        self.inner.exe().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Its arguments.
    #[must_use]
    pub fn cmdline(&self) -> Vec<String> {
        self.inner.cmdline().unwrap_or_default()
    }

    /// The files that may hold an interpreter: the executable, then every mapped `libpython`.
    ///
    /// # Errors
    /// [`Fault::NotTraceable`] if it is gone, [`Fault::NotPermitted`] if it may not be looked at.
    pub fn interpreter_candidates(&self) -> Result<Vec<MappedFile>, Fault> {
        let exe = self.inner.exe().unwrap_or_default();
        let mut files = self.mapped_files(|path| path == exe || is_libpython(path))?;
        files.sort_by_key(|file| file.path != exe);
        Ok(files)
    }

    /// The files of which it maps the beginning, those that are `wanted` by their paths.
    ///
    /// # Errors
    /// [`Fault::NotTraceable`] if it is gone, [`Fault::NotPermitted`] if it may not be looked at.
    pub fn mapped_files(&self, wanted: impl Fn(&Path) -> bool) -> Result<Vec<MappedFile>, Fault> {
        let maps = self.inner.maps().map_err(|error| match error {
            procfs::ProcError::PermissionDenied(_) => Fault::NotPermitted(format!(
                "process {} may not be looked at: run lockwatt as root (if you do, its user \
                 namespace or a security module keeps it closed)",
                self.pid.0
            )),
            _ => {
                Fault::NotTraceable(format!("process {} ended while it was looked at", self.pid.0))
            }
        })?;
        let exe = self.inner.exe().unwrap_or_default();
        let mut files: Vec<MappedFile> = Vec::new();
        for map in maps {
            let MMapPath::Path(path) = map.pathname else { continue };
            if !wanted(&path) || files.iter().any(|file| file.path == path) || map.offset != 0 {
                continue;
            }
            let (start, end) = map.address;
            // map_files opens the very file that is mapped, even if it was replaced or lives in
            // another mount namespace; it needs a privilege, so the plain path is the fallback.
            let exact = PathBuf::from(format!("/proc/{}/map_files/{start:x}-{end:x}", self.pid.0));
            let open = if std::fs::File::open(&exact).is_ok() {
                exact
            } else if path == exe {
                PathBuf::from(format!("/proc/{}/exe", self.pid.0))
            } else {
                let inside = path.strip_prefix("/").unwrap_or(&path);
                Path::new(&format!("/proc/{}/root", self.pid.0)).join(inside)
            };
            files.push(MappedFile { path, open, start });
        }
        Ok(files)
    }
}

fn is_libpython(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libpython"))
}
