//! What `lockwatt record` can be told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::duration::{parse, parse_with_unit};
use crate::cli::energy::EnergyArgs;
use crate::probe::{
    DEFAULT_MAX_EVENTS_PER_SEC, DEFAULT_RING_BYTES, DEFAULT_SAMPLE_HZ, ENERGY_SAMPLE_HZ, Group,
    Groups, Hooks, MAX_PROCESSES, MAX_SAMPLE_HZ, Settings,
};
use crate::trace::TimeUnit;
use crate::trace::records::Options;
use crate::units::{Ns, Pid};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// The process to attach to; can be given more than once
    #[arg(short, long, value_name = "PID", required_unless_present = "command")]
    pub(super) pid: Vec<u32>,

    /// Trace children too: those that the process has, and from their birth those that it forks
    /// (multiprocessing, pre-fork servers, subprocesses), each with an interpreter of its own
    #[arg(long)]
    pub(super) follow: bool,

    /// End after this long (10s, 500ms, 2m); without it at Ctrl-C or at the end of all targets
    #[arg(short, long, value_name = "TIME", value_parser = parse)]
    pub(super) duration: Option<Duration>,

    /// The trace file; `-` is standard output [default: lockwatt-PID.lockwatt]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// Overwrite the trace file if it exists
    #[arg(short, long)]
    pub(super) force: bool,

    /// Waits shorter than this get no record each, but sums by lock, thread and place; 0: all get one, up to
    /// --max-events-per-sec
    #[arg(long, value_name = "TIME", default_value = "10us", value_parser = parse_with_unit)]
    pub(super) min_wait: Duration,

    /// What to hook: `sched` is cheap; `syscall` counts every futex and sched_yield call as well
    #[arg(long, value_enum, default_value_t)]
    pub(super) hooks: Hooks,

    /// Samples of what runs, per second and CPU, to see spinning on the CPU; 0 takes none
    /// [default: 47, with a live energy counter 199]
    #[arg(long, value_name = "HZ", value_parser = sample_hz)]
    pub(super) sample_hz: Option<u32>,

    /// Name the C functions that Python code waits in, and the modules that own futexes
    #[arg(long)]
    pub(super) native: bool,

    /// Also probe libc's locks (`pthread`, or `usdt`) and the interpreter's slow paths (`cpython`): uncontended
    /// acquisitions and hold times. Each hit costs the target microseconds, and so changes the
    /// contention that is measured; what it came to is in the summary
    #[arg(long, value_enum, value_name = "GROUPS", value_delimiter = ',')]
    pub(super) uprobes: Vec<Group>,

    /// Size of the buffer between kernel and recorder, in KiB: a power of two
    #[arg(long, value_name = "KIB", default_value_t = DEFAULT_RING_BYTES / 1024,
          value_parser = buffer_kib)]
    pub(super) buffer: u32,

    /// No more waits than this get a record of their own, per second on average, and at once; the
    /// others are counted, with their time, by kind. 0: no limit
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_EVENTS_PER_SEC)]
    pub(super) max_events_per_sec: u64,

    /// Room for so many processes at a time
    #[arg(long, value_name = "N", default_value_t = MAX_PROCESSES, hide = true,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PROCESSES)))]
    pub(super) max_processes: u32,

    /// Store times to the nanosecond instead of in units of 32 ns; traces are a quarter larger
    #[arg(long)]
    pub(super) exact_times: bool,

    /// Have the kernel count how long lockwatt's programs run, all the time: each run then takes a
    /// little longer. Without it that is estimated, from 20 ms in each 5 s (and counted all the same
    /// if `kernel.bpf_stats_enabled` is on)
    #[arg(long)]
    pub(super) self_stats: bool,

    #[command(flatten)]
    pub(super) energy: EnergyArgs,

    /// No live line and no summary
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// A command to start and trace, after `--`
    #[arg(last = true, value_name = "CMD", conflicts_with = "pid")]
    pub(super) command: Vec<OsString>,
}

const EXAMPLES: &str = "\
EXAMPLES
  lockwatt record -p 4242                        until Ctrl-C, into lockwatt-4242.lockwatt
  lockwatt record -p 4242 -d 10s -o t.lockwatt   for ten seconds
  lockwatt record --min-wait 0 -p 4242           short waits too, up to --max-events-per-sec
  lockwatt record --min-wait 0 --max-events-per-sec 0 -p 4242
                                                 with a record for every wait, at a price
  lockwatt record --sample-hz 1999 -p 4242       finer figures of time spent spinning
  lockwatt record --native -p 4242               with the C functions above the Python ones
  lockwatt record --uprobes pthread -p 4242      with every use of libc's locks, at a price
  lockwatt record -- python3 app.py --port 80    a command, from its first instruction
  lockwatt record --follow -p 4242               a pre-fork server's master with its workers
  lockwatt record --follow -- python3 pool.py    a command and all that it forks
  lockwatt record -p 4242 -p 4243                two processes in one trace
  lockwatt record --energy powercap -p 4242      with joules, or not at all
  lockwatt record -p 4242 -o - | ssh host 'cat > t.lockwatt'";

fn buffer_kib(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(kib) if kib.is_power_of_two() && (4..=1 << 20).contains(&kib) => Ok(kib),
        _ => Err("give a power of two from 4 to 1048576 (KiB)".to_owned()),
    }
}

fn sample_hz(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(hz) if hz <= MAX_SAMPLE_HZ => Ok(hz),
        _ => Err(format!("give 0 (no sampler) to {MAX_SAMPLE_HZ} samples per second and CPU")),
    }
}

impl Args {
    /// More than one process can be in the trace.
    pub(super) fn several(&self) -> bool {
        self.follow || self.pid.len() > 1
    }

    /// 0: no sampler.
    fn hz(&self, energy: bool) -> u32 {
        self.sample_hz.unwrap_or(if energy { ENERGY_SAMPLE_HZ } else { DEFAULT_SAMPLE_HZ })
    }

    /// What the trace says of them; `energy`: with a counter.
    pub(super) fn options(&self, energy: bool) -> Options {
        let hz = self.hz(energy);
        Options {
            max_events_per_sec: (self.max_events_per_sec != 0).then_some(self.max_events_per_sec),
            min_wait: Ns(u64::try_from(self.min_wait.as_nanos()).unwrap_or(u64::MAX)),
            hooks: self.hooks.name().to_owned(),
            native: self.native,
            follow: self.follow,
            time_unit: if self.exact_times { TimeUnit::EXACT } else { TimeUnit::RECORDED },
            uprobes: Groups::new(&self.uprobes).names(),
            sample_hz: (hz != 0).then_some(hz),
        }
    }

    /// What the kernel side is asked for; `energy`: as above.
    pub(super) fn settings(&self, target: Pid, energy: bool) -> Settings {
        let mut settings = Settings::new(target, self.options(energy).min_wait, self.hooks);
        settings.several = self.several();
        settings.follow = self.follow;
        settings.max_processes = self.max_processes;
        settings.native = self.native;
        settings.max_events_per_sec = self.max_events_per_sec;
        settings.uprobes = Groups::new(&self.uprobes);
        settings.sample_hz = self.hz(energy);
        settings.ring_bytes = self.buffer * 1024;
        settings.energy = energy;
        settings
    }
}
