//! A recording in this process, of another process.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tracer::cpython::{Detected, Namer, detect};
use tracer::probe::{Hooks, Settings};
use tracer::record::{Finished, Session, StopWhen, attach};
use tracer::target::Process;
use tracer::trace::TimeUnit;
use tracer::trace::records::{Meta, Options, Target};
use tracer::units::{Ns, Pid};

use super::seen::{Recording, read};

/// What to record with.
#[derive(Clone, Debug)]
pub(crate) struct How {
    /// Hooks.
    pub(crate) hooks: Hooks,
    /// Waits below this have no record.
    pub(crate) min_wait: Ns,
    /// Long waits, and a hundred of them in each truth program; else short ones, and fewer.
    pub(crate) long: bool,
    /// Threads that wait in each truth program; none: as many as it likes.
    pub(crate) waiters: Option<u32>,
    /// Traces are kept in this folder.
    pub(crate) keep: Option<PathBuf>,
}

/// A recording under way.
pub(crate) struct Recorder {
    thread: JoinHandle<Result<Finished>>,
    file: File,
}

impl Recorder {
    /// Attaches, and returns once everything is in place. Ends after `after`, or with the target.
    ///
    /// # Errors
    /// If the process is no CPython, or the kernel refuses.
    pub(crate) fn start(pid: Pid, how: &How, name: &str, after: Duration) -> Result<Self> {
        let mut namer = Namer::new(pid);
        let Detected::Interpreter(python) = detect(&Process::open(pid)?)? else {
            anyhow::bail!("process {} is no CPython", pid.0)
        };
        namer.set_interpreter(pid, Some(*python));
        let meta = Meta {
            target: Target { pid, ..Target::default() },
            options: Options {
                min_wait: how.min_wait,
                hooks: how.hooks.name().to_owned(),
                time_unit: TimeUnit::RECORDED,
                ..Options::default()
            },
            ..Meta::default()
        };
        let attached = attach(&Settings::new(pid, how.min_wait, how.hooks), &namer)?;
        let (ready, is_ready) = mpsc::channel();
        let stop = StopWhen { after: Some(after), own_child: false, quiet: true };
        let file = match &how.keep {
            Some(folder) => create(&folder.join(format!("{name}.lockwatt")))?,
            None => tempfile::tempfile()?,
        };
        let output = file.try_clone()?;
        let thread = std::thread::spawn(move || {
            let session = Session::begin(attached, namer, meta, output)?;
            session.run(stop, move || ready.send(()).context("nobody waits"))
        });
        if is_ready.recv().is_err() {
            let outcome = thread.join().map_err(|_| anyhow::anyhow!("the recorder panicked"))?;
            return Err(outcome.err().context("the recorder did not start")?);
        }
        Ok(Self { thread, file })
    }

    /// Waits for its end, and reads what it wrote.
    ///
    /// # Errors
    /// If the recording failed or can't be read.
    pub(crate) fn finish(mut self) -> Result<Recording> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the recorder panicked"))??;
        self.file.seek(SeekFrom::Start(0))?;
        let recording = read(self.file)?;
        ensure!(recording.summary.completeness.file.closed, "the trace was not closed");
        Ok(recording)
    }
}

fn create(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    file.with_context(|| path.display().to_string())
}
