//! The recording's main loop: drain, write, watch for the end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracer_common::{InterpreterConfig, StackConfig};

use super::attach::{Attached, introduce};
use super::intake::{Intake, Taken};
use super::kernel_log::KernelLog;
use super::spin_code::SpinCodes;
use super::status::StatusLine;
use crate::cpython::{Detected, Namer, detect, interpreters, verify};
use crate::kernel::monotonic_now;
use crate::probe::{Groups, Loaded, Maps, Uprobes};
use crate::target::{Process, tids};
use crate::trace::TraceWriter;
use crate::trace::records::{End, Meta, Totals};
use crate::units::{Monotonic, Ns, Pid};

/// The ring buffer is looked at this often even if nobody says that it fills up. Each look takes a
/// CPU from the target, in a storm from one that holds a lock: seldom is better.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// Counters and everything buffered go to the file this often: what `kill -9` can cost.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Counters are written at each flush if so many times their length has been written since, …
const TOTALS_SHARE: u64 = 16;
/// … and this often anyway.
const TOTALS_AT_LEAST_EVERY: Duration = Duration::from_secs(10);
/// A starting interpreter is looked for this often, at first and later.
const DETECT_EVERY: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(200)];
/// How long "at first" is.
const DETECT_EAGERLY: Duration = Duration::from_secs(3);

/// What ends a recording, beside the target's exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopWhen {
    /// This long after its start.
    pub after: Option<Duration>,
    /// The target is a command that we started: Ctrl-C is for it, and we go on until it ends.
    /// A second Ctrl-C is for us.
    pub own_child: bool,
    /// No live line.
    pub quiet: bool,
}

/// How a recording went.
#[derive(Debug)]
pub struct Finished {
    /// Why it ended.
    pub reason: &'static str,
    /// Its last metadata.
    pub meta: Meta,
    /// Its last counters.
    pub totals: Totals,
    /// How long it was.
    pub duration: Ns,
}

/// A recording under way.
pub struct Session {
    pid: Pid,
    loaded: Option<Loaded>,
    maps: Maps,
    ring: Option<RingBuf<MapData>>,
    uprobes: Uprobes,
    attached_waits: rustc_hash::FxHashMap<crate::units::Tid, tracer_common::InitialWait>,
    intake: Intake,
    meta: Meta,
    start: Monotonic,
    kernel_log: Option<KernelLog>,
    /// When counters were last written, how long they were, and how long the file was then.
    totals_at: Option<Instant>,
    totals_bytes: u64,
    waits_at_totals: u64,
    /// The kernel counts the programs' time as long as this is open.
    _statistics: Option<OwnedFd>,
    /// The look-out for an interpreter; `None`: it is known.
    lookout: Option<Lookout>,
}

/// When to look for an interpreter next, in a target that has none yet.
#[derive(Clone, Copy, Debug)]
struct Lookout {
    since: Instant,
    next: Instant,
}

impl Lookout {
    fn begin() -> Self {
        let now = Instant::now();
        Self { since: now, next: now }
    }

    fn again(self) -> Self {
        let eager = self.since.elapsed() < DETECT_EAGERLY;
        Self { next: Instant::now() + DETECT_EVERY[usize::from(!eager)], ..self }
    }
}

impl Session {
    /// Begins a trace for an attached target. `meta` is completed with what attaching gave.
    ///
    /// # Errors
    /// If the trace's beginning can't be written.
    pub fn begin(mut attached: Attached, namer: Namer, mut meta: Meta, file: File) -> Result<Self> {
        let pid = meta.target.pid;
        meta.start = attached.start;
        meta.start_realtime_ns = crate::kernel::realtime_now_ns()
            .saturating_sub(monotonic_now().since(attached.start).0);
        meta.programs = attached.loaded.programs.clone();
        let groups = Groups::named(&meta.options.uprobes);
        let mut uprobes = Uprobes::default();
        // A command that has yet to become a program has nothing to hook.
        if let (Some(python), Ok(process)) = (namer.interpreter(), Process::open(pid)) {
            let minor = Some(python.version.minor().1);
            let ebpf = attached.loaded.ebpf_mut();
            meta.programs.extend(uprobes.attach(ebpf, &process, groups, minor));
        }
        let sampler = attached.loaded.has("lw_sample");
        if !sampler {
            meta.options.sample_hz = None; // the programs say why
        }
        let lookout = namer.interpreter().is_none().then(Lookout::begin);
        let mut writer = TraceWriter::new(file)?;
        writer.meta(&meta)?;
        let hooks = attached.loaded.hooks;
        let mut intake = Intake::new(
            pid,
            namer,
            writer,
            attached.start,
            meta.options.min_wait,
            hooks,
            meta.options.native,
        );
        if !groups.is_empty() {
            intake.uses.begin(meta.uprobe_cost);
        }
        for (tid, _) in attached.maps.threads() {
            intake.threads.index(tid);
        }
        intake.spin_codes = sampler.then(|| SpinCodes::new(pid));
        intake.refresh_threads(&mut attached.maps);
        let ring = attached.maps.take_events();
        let kernel_log = KernelLog::open(attached.loaded.ebpf_mut());
        Ok(Self {
            pid,
            loaded: Some(attached.loaded),
            maps: attached.maps,
            ring,
            uprobes,
            attached_waits: attached.initial,
            intake,
            start: attached.start,
            meta,
            kernel_log,
            totals_at: None,
            totals_bytes: 0,
            waits_at_totals: 0,
            _statistics: None,
            lookout,
        })
    }

    /// Has the kernel count how long its programs run, which makes each run longer.
    ///
    /// # Errors
    /// The kernel's: it is older than 5.8, or refuses.
    pub fn count_run_time(&mut self) -> Result<()> {
        let open = aya::sys::enable_stats(aya::sys::Stats::RunTime);
        self._statistics = Some(open.context("the kernel does not count its programs' time")?);
        Ok(())
    }

    /// Records until something ends it, then closes the trace. `ready` is called once everything
    /// is in place.
    ///
    /// # Errors
    /// If the trace can't be written (what was written stays readable), or the runtime can't
    /// watch the target.
    pub fn run(mut self, stop: StopWhen, ready: impl FnOnce() -> Result<()>) -> Result<Finished> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop")?;
        let outcome = runtime.block_on(self.record(stop, ready));
        let outcome = match outcome {
            Ok(reason) => self.close(reason),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            self.salvage();
        }
        outcome
    }

    async fn record(
        &mut self,
        stop: StopWhen,
        ready: impl FnOnce() -> Result<()>,
    ) -> Result<&'static str> {
        let pidfd = i32::try_from(self.pid.0)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("no such PID")
            .and_then(|pid| {
                pidfd_open(pid, PidfdFlags::NONBLOCK).context("cannot watch the target")
            })
            .map_err(|error| crate::fault::Fault::NotTraceable(format!("{error:#}")))?;
        // SAFETY: an owned descriptor that stays open, and the same, as long as the AsyncFd.
        let exited = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        let ring = self.ring.take().context("the ring buffer is gone")?;
        // SAFETY: the ring buffer owns its map's descriptor and never changes it.
        let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut drain = interval(DRAIN_EVERY);
        drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flush = interval(FLUSH_EVERY);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let far = Duration::from_secs(100 * 365 * 86_400);
        let begun = Instant::now();
        let deadline = begun + stop.after.unwrap_or(far);
        let mut status = StatusLine::new(stop.quiet);
        let mut interrupts = 0;
        ready()?;
        let reason = loop {
            let look_at = self.lookout.map_or(begun + far, |lookout| lookout.next);
            tokio::select! {
                _ = exited.readable() => break "target_exited",
                () = sleep_until(deadline) => break "duration",
                () = received(&mut interrupt) => {
                    interrupts += 1;
                    if !stop.own_child || interrupts > 1 {
                        break "interrupted";
                    }
                }
                () = received(&mut terminate) => break "terminated",
                guard = ring.readable_mut() => {
                    let mut guard = guard?;
                    let outcome = self.drain(guard.get_inner_mut());
                    guard.clear_ready();
                    outcome?;
                }
                _ = drain.tick() => {
                    self.drain(ring.get_mut())?;
                    if let Some(codes) = &mut self.intake.spin_codes {
                        codes.refresh(&mut self.maps);
                    }
                }
                () = sleep_until(look_at), if self.lookout.is_some() => {
                    self.look_for_interpreter()?;
                }
                _ = flush.tick() => self.flush()?,
            }
            if status.is_due() {
                let drops: u64 = self.maps.drops().values().sum();
                status.update(begun.elapsed(), &self.intake.live, drops);
            }
        };
        status.clear();
        self.ring = Some(ring.into_inner());
        Ok(reason)
    }

    fn drain(&mut self, ring: &mut RingBuf<MapData>) -> Result<()> {
        while let Some(record) = ring.next() {
            if Intake::is_exec(&record) {
                self.intake.keep_uses(&mut self.maps)?;
            }
            if self.intake.take(&record, &self.maps)? == Taken::Exec {
                self.forget_interpreter()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let gone = self.intake.threads.take_gone();
        self.intake.uses.retire(&gone, &mut self.maps);
        for tid in gone {
            self.maps.remove_thread(tid);
        }
        for (tid, state) in self.maps.threads() {
            self.intake.threads.update(tid, &state);
        }
        self.recheck_interpreter()?;
        self.intake.refresh_threads(&mut self.maps);
        self.look_at_programs();
        let totals = self.intake.totals(&self.maps, monotonic_now())?;
        let threads = self.intake.threads.take_changed();
        self.intake.writer.threads(&threads)?;
        self.write_totals(&totals)?;
        self.intake.writer.flush()?;
        if let Some(log) = &mut self.kernel_log {
            log.drain();
        }
        Ok(())
    }

    /// Writes the counters, unless they would be most of the file: those of many locks are long, and
    /// the last ones alone count. A killed recording lacks the counters of its last seconds.
    fn write_totals(&mut self, totals: &Totals) -> Result<()> {
        let (before, waits) = (self.intake.writer.bytes_written(), self.waits_at_totals);
        let few = before - waits < self.totals_bytes * TOTALS_SHARE;
        if few && self.totals_at.is_some_and(|at| at.elapsed() < TOTALS_AT_LEAST_EVERY) {
            return Ok(());
        }
        // What is buffered before them goes first, and is none of theirs.
        self.intake.writer.flush()?;
        let before = self.intake.writer.bytes_written();
        self.intake.writer.totals(totals)?;
        self.waits_at_totals = self.intake.writer.bytes_written();
        self.totals_bytes = self.waits_at_totals - before;
        self.totals_at = Some(Instant::now());
        Ok(())
    }

    /// Asks the kernel how long the programs have run, if it counts that.
    fn look_at_programs(&mut self) {
        if let Some(loaded) = &self.loaded {
            self.intake.bpf_run = loaded.run_times();
        }
    }

    fn forget_interpreter(&mut self) -> Result<()> {
        self.intake.namer.set_interpreter(self.pid, None);
        self.maps.set_interpreter(&InterpreterConfig::default())?;
        self.maps.set_stacks(&StackConfig::default())?;
        self.maps.forget_spin_sites();
        if let Some(codes) = &mut self.intake.spin_codes {
            codes.forget(&mut self.maps);
        }
        self.lookout = Some(Lookout::begin());
        self.look_for_interpreter()
    }

    fn look_for_interpreter(&mut self) -> Result<()> {
        self.lookout = self.lookout.map(Lookout::again);
        let Ok(process) = Process::open(self.pid) else { return Ok(()) }; // its end is seen elsewhere
        let Ok(detected) = detect(&process) else { return Ok(()) };
        let exe = process.exe();
        if exe.is_empty() {
            return Ok(()); // it is ending, its memory is gone already: what it was is known
        }
        let before = self.meta.target.clone();
        let target = &mut self.meta.target;
        target.exe = exe;
        target.cmdline = process.cmdline();
        target.unnamed_because = None;
        target.stackless_because = None;
        match detected {
            Detected::Interpreter(python) => {
                target.python = Some(python.version.to_string());
                target.free_threaded = Some(python.layout.free_threaded);
                target.stackless_because = python.frames.as_ref().err().map(ToString::to_string);
                introduce(&mut self.maps, &python)?;
                self.intake.namer.set_interpreter(self.pid, Some(*python));
                self.lookout = None;
                self.intake.refresh_threads(&mut self.maps);
                self.attach_uprobes(&process);
            }
            Detected::NotYet => {}
            Detected::UnknownLayout { version, why } => {
                target.python = version.map(|version| version.to_string());
                target.unnamed_because = Some(why.to_string());
                self.lookout = None;
                self.attach_uprobes(&process);
            }
            Detected::NotCPython => {
                target.python = None;
                target.free_threaded = None;
                target.unnamed_because = Some(format!("{} is no CPython", target.exe));
            }
        }
        if self.meta.target != before {
            self.intake.writer.meta(&self.meta)?;
        }
        Ok(())
    }

    /// Hooks the functions of an interpreter that was found only now, or after an exec again.
    fn attach_uprobes(&mut self, process: &Process) {
        let groups = Groups::named(&self.meta.options.uprobes);
        let Some(loaded) = self.loaded.as_mut().filter(|_| !groups.is_empty()) else { return };
        let minor = self.intake.namer.interpreter().map(|python| python.version.minor().1);
        let states = self.uprobes.attach(loaded.ebpf_mut(), process, groups, minor);
        self.meta.programs.retain(|program| !program.is_uprobe());
        self.meta.programs.extend(states);
    }

    /// What may have changed since the interpreter was found: subinterpreters have come or gone,
    /// or a layout that nothing spoke against then turns out to be another.
    fn recheck_interpreter(&mut self) -> Result<()> {
        let namer = &self.intake.namer;
        let (Some(memory), Some(python)) = (namer.memory(), namer.interpreter()) else {
            return Ok(());
        };
        let now = interpreters(memory, python.runtime, &python.layout);
        if !now.is_empty() && now != python.interpreters {
            return self.look_for_interpreter();
        }
        if python.frames_checked || python.frames.is_err() {
            return Ok(());
        }
        let checked = verify(memory, self.pid, python);
        let Some(python) = self.intake.namer.interpreter_mut() else { return Ok(()) };
        match checked {
            Ok(checked) => python.frames_checked = checked,
            Err(why) => {
                self.meta.target.stackless_because = Some(why.to_string());
                python.frames = Err(why);
                introduce(&mut self.maps, python)?;
                self.intake.writer.meta(&self.meta)?;
            }
        }
        Ok(())
    }

    /// Detaches, takes in what is left, and closes the trace.
    fn close(&mut self, reason: &'static str) -> Result<Finished> {
        self.intake.refresh_threads(&mut self.maps);
        let alive = tids(self.pid).unwrap_or_default();
        self.look_at_programs();
        self.drop_programs();
        let end = monotonic_now();
        if let Some(mut ring) = self.ring.take() {
            self.drain(&mut ring)?;
        }
        for (tid, state) in self.maps.threads() {
            let initial = self.attached_waits.get(&tid);
            if alive.contains(&tid) {
                self.intake.last_words(tid, &state, initial, end)?;
            } else {
                self.intake.threads.update(tid, &state);
            }
        }
        self.intake.write_held()?;
        let totals = self.intake.totals(&self.maps, end)?;
        let threads = self.intake.threads.take_changed();
        self.intake.writer.threads(&threads)?;
        self.intake.writer.totals(&totals)?;
        self.intake.writer.close(&End { at: end, reason: reason.to_owned() })?;
        if let Some(log) = &mut self.kernel_log {
            log.drain();
        }
        Ok(Finished { reason, meta: self.meta.clone(), totals, duration: end.since(self.start) })
    }

    /// Detaches everything. The uprobes, which take seconds, stop counting at once.
    fn drop_programs(&mut self) {
        if let Some(loaded) = &mut self.loaded {
            // Refused, what they still count is in the trace: no harm.
            let _ = self.maps.uprobes.stop();
            self.uprobes.leave(loaded.ebpf_mut());
        }
        drop(self.loaded.take());
    }

    /// After a failed write: detaches, and leaves a file with everything that still fits.
    fn salvage(&mut self) {
        self.drop_programs();
        let end = End { at: monotonic_now(), reason: "write_failed".to_owned() };
        // The first failure is the one to report, and the file is readable either way.
        let _ = self.intake.writer.rescue(&end);
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await; // no more signals will come
    }
}
