//! A Python program of `scripts` as a child: its lines, its end.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use tracer::units::Pid;

/// No program is silent for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program; killed when dropped.
pub(crate) struct Program {
    child: Child,
    name: String,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// The folder of this name in `scripts`.
pub(crate) fn scripts(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(folder)
}

/// The programs in a folder of `scripts`, by name, without what they share.
///
/// # Errors
/// If there is no such folder.
pub(crate) fn names(folder: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(scripts(folder)).with_context(|| format!("scripts/{folder}"))? {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".py"));
        names.extend(name.filter(|name| !name.starts_with('_')).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// If it can't be started.
    pub(crate) fn start(
        python: &Path,
        folder: &str,
        name: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut child = Command::new(python)
            .arg(scripts(folder).join(name).with_extension("py"))
            .args(arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = channel();
        // Ends with the program, or once nobody listens.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        Ok(Self { child, name: name.to_owned(), stdin, lines })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// The next line that it prints.
    ///
    /// # Errors
    /// If it ends or falls silent.
    pub(crate) fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).with_context(|| format!("{} said no more", self.name))
    }

    /// Gives it a line on its standard input.
    ///
    /// # Errors
    /// If it doesn't read.
    pub(crate) fn go(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        stdin.write_all(b"\n").with_context(|| format!("{} does not listen", self.name))
    }

    /// Ends its standard input.
    pub(crate) fn let_go(&mut self) {
        self.stdin = None;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
