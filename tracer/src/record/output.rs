//! Where the trace goes: a file that is never overwritten silently, or standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fault::Fault;
use crate::units::Pid;

/// An opened, still empty output.
#[derive(Debug)]
pub struct Output {
    /// What to write to.
    pub file: File,
    /// Where it is; `None` for standard output.
    pub path: Option<PathBuf>,
}

impl Output {
    /// Opens the output: `requested`, or `lockwatt-PID.lockwatt` here (with a number behind it if
    /// that exists).
    ///
    /// # Errors
    /// If it exists and `force` is not given, or can't be created.
    pub fn open(requested: Option<&Path>, force: bool, pid: Pid) -> Result<Self> {
        match requested {
            Some(path) if path == Path::new("-") => Self::standard_output(),
            Some(path) => Self::create(path, force),
            None => Self::default_name(pid),
        }
    }

    fn standard_output() -> Result<Self> {
        if io::stdout().is_terminal() {
            return Err(Fault::Usage(
                "a trace is not text: send `-o -` into a file or a pipe".to_owned(),
            )
            .into());
        }
        let fd = io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
        Ok(Self { file: fd.into(), path: None })
    }

    fn create(path: &Path, force: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true);
        if force {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        match options.open(path) {
            Ok(file) => Ok(Self { file, path: Some(path.to_path_buf()) }),
            // A device or a pipe can't be overwritten.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !path.is_file() => {
                let file = OpenOptions::new()
                    .write(true)
                    .open(path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(Self { file, path: Some(path.to_path_buf()) })
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(anyhow::anyhow!(
                "{} exists: give another -o, or --force to overwrite it",
                path.display()
            )),
            Err(error) => {
                Err(error).with_context(|| format!("cannot write the trace to {}", path.display()))
            }
        }
    }

    fn default_name(pid: Pid) -> Result<Self> {
        let names = std::iter::once(format!("lockwatt-{}.lockwatt", pid.0))
            .chain((2..1000).map(|n| format!("lockwatt-{}-{n}.lockwatt", pid.0)));
        for name in names {
            match OpenOptions::new().write(true).create_new(true).open(&name) {
                Ok(file) => return Ok(Self { file, path: Some(name.into()) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot write {name} in this folder: give another place with -o")
                    });
                }
            }
        }
        anyhow::bail!("lockwatt-{}*.lockwatt: too many of them here: give a name with -o", pid.0)
    }

    /// Removes the file again: nothing was recorded.
    pub fn discard(self) {
        if let Some(path) = self.path.filter(|path| path.is_file()) {
            // It is empty; if it can't be removed, it stays.
            let _ = std::fs::remove_file(path);
        }
    }
}
