//! The program that is looked at, and what can be seen of it without a tracer.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tracer::target::tids;
use tracer::units::Pid;

use super::Args;

/// Bytes of the file of counters (`SLOTS` × `LINE` in `scripts/bench/loads.py`).
const COUNTERS: usize = 512 * 64;

/// Per second, over one stretch.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    /// Voluntary context switches of all threads, which `/proc` counts.
    pub(super) switches: f64,
    /// What the program counts itself, if it does.
    pub(super) operations: Option<f64>,
}

/// A workload at work. It ends when this goes.
pub(super) struct Program {
    child: Child,
    counters: Option<File>,
}

impl Program {
    /// Starts it, and returns once its threads run.
    pub(super) fn start(args: &Args) -> Result<Self> {
        let variable = format!("LOCKWATT_PYTHON_{}", args.python.to_uppercase().replace('.', "_"));
        let python = std::env::var(&variable).with_context(|| {
            format!("{variable} is not set: run `cargo xtask bench perturbation`")
        })?;
        let mut command = match &args.cpus {
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpus, &python]);
                command
            }
            None => Command::new(python),
        };
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
        command.arg("-B");
        let (name, says) = match &args.load {
            Some(load) => {
                command.arg(scripts.join("bench/loads.py")).arg(load);
                (load, "ready")
            }
            None => {
                command.arg(scripts.join("workloads").join(format!("{}.py", args.workload)));
                (&args.workload, "pid")
            }
        };
        command.args(["--threads", &args.threads.to_string()]).stdout(Stdio::piped());
        let counters = args.load.as_ref().map(|_| tempfile::NamedTempFile::new()).transpose()?;
        if let Some(counters) = &counters {
            counters.as_file().set_len(COUNTERS as u64)?;
            command.arg("--counters").arg(counters.path());
        }
        let child = command.spawn()?;
        let mut program = Self { child, counters: None };
        let mut line = String::new();
        let stdout = program.child.stdout.take().context("no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.contains(says), "{name} did not start");
        std::thread::sleep(Duration::from_millis(500));
        // The program's threads have it mapped: its name is not needed any more.
        program.counters = counters.map(tempfile::NamedTempFile::into_file);
        Ok(program)
    }

    /// One that blocks as often as asked for.
    pub(super) fn start_blocking(args: &Args) -> Result<Self> {
        const TRIES: u32 = 40;
        if args.load.is_some() {
            return Self::start(args); // it does what it does
        }
        for _ in 0..TRIES {
            let storm = Self::start(args)?;
            if storm.rates(Duration::from_millis(500))?.switches >= args.min_rate {
                return Ok(storm);
            }
        }
        anyhow::bail!("{} never blocked {} times a second", args.workload, args.min_rate)
    }

    pub(super) fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    pub(super) fn voluntary_switches(&self) -> Result<u64> {
        let pid = self.pid();
        let mut sum = 0;
        for tid in tids(pid)? {
            // A thread may end meanwhile.
            let path = format!("/proc/{}/task/{}/status", pid.0, tid.0);
            let Ok(status) = std::fs::read_to_string(path) else { continue };
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += line.context("no voluntary_ctxt_switches")?.trim().parse::<u64>()?;
        }
        Ok(sum)
    }

    fn operations(&self) -> Result<Option<u64>> {
        let Some(counters) = &self.counters else { return Ok(None) };
        let mut bytes = [0; COUNTERS];
        counters.read_exact_at(&mut bytes, 0).context("reading the counters")?;
        Ok(Some(bytes.as_chunks::<8>().0.iter().map(|n| u64::from_le_bytes(*n)).sum()))
    }

    /// What happens in one stretch of time.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn rates(&self, stretch: Duration) -> Result<Rates> {
        let (begin, before) = (Instant::now(), (self.voluntary_switches()?, self.operations()?));
        std::thread::sleep(stretch);
        let after = (self.voluntary_switches()?, self.operations()?);
        let seconds = begin.elapsed().as_secs_f64();
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Ok(Rates {
            switches: rate(before.0, after.0),
            operations: before.1.zip(after.1).map(|(before, after)| rate(before, after)),
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
