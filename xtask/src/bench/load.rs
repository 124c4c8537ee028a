//! A workload that counts its own operations in a mapped file, and is never asked anything.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::others::Clock;
use crate::{process, workspace};

/// Bytes of the file (`SLOTS` × `LINE` in `scripts/bench/loads.py`).
const BYTES: usize = 512 * 64;

/// What is run, on which interpreter, on which CPUs.
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) python: &'static str,
    pub(super) threads: u32,
    /// `taskset -c`; none: all CPUs.
    cpus: Option<&'static str>,
}

const fn load(
    name: &'static str,
    python: &'static str,
    threads: u32,
    cpus: Option<&'static str>,
) -> Load {
    Load { name, python, threads, cpus }
}

/// All of them. The clients of the HTTP server are a process of their own.
pub(super) const ALL: &[Load] = &[
    load("token", "3.11", 2, Some("0")),
    load("token", "3.14t", 2, Some("0")),
    load("token", "3.15", 2, Some("0")),
    load("short_holds", "3.11", 6, None),
    load("short_holds", "3.14t", 6, None),
    load("long_holds", "3.14t", 6, None),
    load("gil", "3.11", 8, None),
    load("gil", "3.15", 8, None),
    load("dict_storm", "3.14t", 6, None),
    load("list_storm", "3.14t", 6, None),
    load("attribute_storm", "3.14t", 6, None),
    load("idle_pools", "3.11", 0, None),
    load("idle_pools", "3.14t", 0, None),
    load("http_server", "3.11", 8, None),
    load("http_server", "3.14t", 8, None),
    load("uncontended", "3.11", 1, Some("0")),
    load("uncontended", "3.14t", 1, Some("0")),
];

/// A stretch beside more work of others than this, in CPUs, is measured anew, …
const OTHERS: f64 = 0.06;
/// … up to so many times.
const TRIES: u32 = 40;
const LATER: Duration = Duration::from_millis(500);

/// Operations and voluntary context switches per second.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    pub(super) operations: f64,
    pub(super) switches: f64,
    /// CPUs that others used meanwhile.
    pub(super) others: f64,
}

impl Rates {
    /// Others took time that the program and its tracer could have had.
    pub(super) fn disturbed(&self) -> bool {
        self.others > OTHERS
    }
}

/// A workload at work. It ends when this goes.
pub(super) struct Running {
    child: Child,
    counters: File,
}

impl Load {
    /// As `--only` names it, and the table.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.name, self.python)
    }

    /// Where it runs.
    pub(super) fn place(&self) -> String {
        match self.cpus {
            Some(cpus) => format!("{} threads, all on CPU {cpus}", self.threads),
            None if self.threads == 0 => "51 threads and the main one".to_owned(),
            None => format!("{} threads", self.threads),
        }
    }

    /// Starts it, and returns once all of its threads run.
    pub(super) fn start(&self, python: &Path, folder: &Path) -> Result<Running> {
        let path = folder.join("counters");
        let mut options = File::options();
        options.create(true).truncate(true).read(true).write(true);
        let counters = options.open(&path).context("making the file of counters")?;
        counters.set_len(BYTES as u64)?;
        let script = workspace::root().join("scripts/bench/loads.py");
        let mut command = match self.cpus {
            Some(cpus) => {
                let mut command = process::command("taskset");
                command.args(["-c", cpus]).arg(python);
                command
            }
            None => process::command(python),
        };
        command.arg("-B").arg(script).args([self.name, "--threads", &self.threads.to_string()]);
        command.arg("--counters").arg(&path).stdout(Stdio::piped());
        let child = command.spawn().with_context(|| format!("starting {}", self.title()))?;
        let mut running = Running { child, counters };
        let mut line = String::new();
        if let Some(stdout) = &mut running.child.stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        ensure!(line.contains("ready"), "{} did not start", self.title());
        std::thread::sleep(Duration::from_millis(500));
        Ok(running)
    }
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What happens in one stretch of time; in another one if others were at work in it.
    pub(super) fn rates(&self, stretch: Duration) -> Result<Rates> {
        let mut rates = self.rates_once(stretch)?;
        for _ in 0..TRIES {
            if !rates.disturbed() {
                break;
            }
            std::thread::sleep(LATER);
            rates = self.rates_once(stretch)?;
        }
        Ok(rates)
    }

    fn rates_once(&self, stretch: Duration) -> Result<Rates> {
        let clock = Clock::read()?;
        let (begin, before) = (Instant::now(), (self.operations()?, self.switches()?));
        std::thread::sleep(stretch);
        let (after, switches) = (self.operations()?, self.switches()?);
        let seconds = begin.elapsed().as_secs_f64();
        let others = Clock::read()?.others_since(clock, seconds);
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let operations = rate(before.0, after);
        ensure!(operations > 0.0, "the workload stands still");
        Ok(Rates { operations, switches: rate(before.1, switches), others })
    }

    fn operations(&self) -> Result<u64> {
        let mut bytes = [0; BYTES];
        self.counters.read_exact_at(&mut bytes, 0).context("reading the counters")?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|n| u64::from_le_bytes(*n)).sum())
    }

    /// Of all its threads; `/proc` counts them without a tracer.
    fn switches(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread may end meanwhile.
            let Ok(status) = std::fs::read_to_string(task?.path().join("status")) else { continue };
            let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            sum += line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
