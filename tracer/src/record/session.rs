//! The recording's main loop: drain, write, watch for the end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use rustc_hash::FxHashSet;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracer_common::{InterpreterConfig, ProcessState, StackConfig};

use super::attach::{Attached, NEXT_NUMBER, introduce, process_state};
use super::energy::Energy;
use super::intake::{Intake, Taken};
use super::kernel_log::KernelLog;
use super::lookout::Lookout;
use super::processes::Processes;
use super::run_time::{RunTime, counted_anyway};
use super::spin_code::spin_code_writer;
use super::status::StatusLine;
use crate::cpython::{Detected, Namer, detect, interpreters, verify};
use crate::energy::Source;
use crate::kernel::monotonic_now;
use crate::probe::{Groups, Hooks, Loaded, Maps, Uprobes};
use crate::target::{Process, tids};
use crate::trace::TraceWriter;
use crate::trace::energy::EnergySource;
use crate::trace::records::{End, Meta, Target, Totals};
use crate::units::{Monotonic, Ns, Pid};

/// The ring buffer is looked at this often even if nobody says that it fills up. Each look takes a
/// CPU from the target, in a storm from one that holds a lock: seldom is better.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// Counters and everything buffered go to the file this often: what `kill -9` can cost.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Counters are written at each flush if so many times their length has been written since, …
const TOTALS_SHARE: u64 = 64;
/// … and this often anyway.
const TOTALS_AT_LEAST_EVERY: Duration = Duration::from_secs(10);

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
    statistics: Option<OwnedFd>,
    /// It counts it all the time, or is asked to now and then.
    run_time_counted: bool,
    run_time: RunTime,
    /// Processes with a look-out for an interpreter.
    searching: Vec<usize>,
    /// A command that we started has ended, and others that it forked have not.
    command_ended: bool,
    /// The counter that is read, if there is one.
    energy: Option<Energy>,
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
        let mut writer = TraceWriter::new(file)?.with_time_unit(meta.options.time_unit);
        writer.meta(&meta)?;
        let hooks = attached.loaded.hooks;
        let several = !attached.processes.is_empty();
        let processes = if several {
            Self::begin_several(&mut attached, namer, &meta, sampler)
        } else {
            Processes::one(meta.target.clone(), namer, sampler)
        };
        let mut intake = Intake::new(
            processes,
            sampler,
            writer,
            attached.start,
            meta.options.min_wait,
            hooks,
            meta.options.native,
        );
        if !groups.is_empty() {
            intake.uses.begin(meta.uprobe_cost);
        }
        for (tid, state) in attached.maps.threads() {
            if several {
                intake.settle(tid, Pid(state.tgid));
                let place = intake.threads.home(tid).place;
                intake.processes.thread_born(place);
            }
            intake.threads.index(tid);
        }
        let searching = intake.processes.living();
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
            statistics: None,
            run_time_counted: false,
            run_time: RunTime::new(true),
            searching,
            command_ended: false,
            energy: None,
        })
    }

    /// Has the kernel count how long its programs run, which makes each run longer.
    ///
    /// # Errors
    /// The kernel's: it is older than 5.8, or refuses.
    pub fn count_run_time(&mut self) -> Result<()> {
        let open = aya::sys::enable_stats(aya::sys::Stats::RunTime);
        self.statistics = Some(open.context("the kernel does not count its programs' time")?);
        Ok(())
    }

    /// Begins to read an energy counter, or notes why there is none.
    ///
    /// # Errors
    /// If the kernel refuses the program that times every CPU, or the trace can't be written.
    pub fn begin_energy(
        &mut self,
        source: Option<Box<dyn Source>>,
        record: &EnergySource,
    ) -> Result<()> {
        if let (Some(source), Some(loaded)) = (source, &mut self.loaded) {
            let (energy, state) = Energy::start(loaded, source, record)?;
            self.energy = Some(energy);
            self.meta.programs.push(state);
            self.intake.writer.meta(&self.meta)?;
        }
        let spin_timed = self.energy.is_some() && self.intake.hooks == Hooks::Syscall;
        let record = EnergySource { spin_timed, futex_timed: spin_timed, ..record.clone() };
        Ok(self.intake.writer.energy_source(&record)?)
    }

    /// Takes over the processes that were found at the attach; `namer` is the first one's.
    fn begin_several(
        attached: &mut Attached,
        mut namer: Namer,
        meta: &Meta,
        sampler: bool,
    ) -> Processes {
        let found = std::mem::take(&mut attached.processes);
        let mut processes = Processes::several(sampler, NEXT_NUMBER);
        for one in found {
            let first = one.pid == meta.target.pid;
            let target = if first { meta.target.clone() } else { one.target };
            let own = if first { std::mem::take(&mut namer) } else { one.namer };
            let place = processes.add(one.pid, one.number, own, one.came, target);
            if let Some(traced) = processes.get_mut(place) {
                traced.record.recorded = one.recorded;
                if one.recorded {
                    traced.lookout = None;
                }
            }
        }
        processes
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
        let mut first_ended = false;
        ready()?;
        self.run_time_counted = self.statistics.is_some() || counted_anyway();
        self.run_time = RunTime::new(self.run_time_counted);
        let reason = loop {
            let run_time_at = self.run_time.next;
            let look_at = self.next_look();
            let looking = look_at.is_some();
            let look_at = look_at.unwrap_or(begun + far);
            tokio::select! {
                _ = exited.readable(), if !first_ended => {
                    first_ended = true;
                    if !self.intake.processes.several {
                        break "target_exited";
                    }
                    self.drain(ring.get_mut())?; // its last words
                }
                () = sleep_until(deadline) => break "duration",
                () = received(&mut interrupt) => {
                    interrupts += 1;
                    if !stop.own_child || first_ended || interrupts > 1 {
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
                    self.refresh_spin_codes();
                }
                () = sleep_until(look_at), if looking => self.look_where_due()?,
                () = sleep_until(run_time_at.unwrap_or(begun + far)), if run_time_at.is_some() => {
                    self.run_time.turn(self.loaded.as_ref());
                }
                _ = flush.tick() => self.flush()?,
            }
            if first_ended && self.is_over() {
                break "target_exited";
            }
            if first_ended && stop.own_child && !self.command_ended {
                self.command_ended = true;
                if !stop.quiet {
                    status.clear();
                    eprintln!(
                        "lockwatt: the command has ended; processes that it forked live on, and are \
                         recorded until they end (Ctrl-C ends the recording)"
                    );
                }
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
            if Intake::is_exec(&record) && !self.intake.processes.several {
                self.intake.keep_sums(&mut self.maps)?;
            }
            match self.intake.take(&record, &self.maps)? {
                Taken::Recorded | Taken::Ended => {}
                Taken::Born(place) => self.searching.push(place),
                Taken::Exec(place) => self.forget_interpreter(place)?,
            }
        }
        if self.intake.processes.several {
            self.intake.give_numbers(&mut self.maps);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let gone = self.intake.threads.take_gone();
        self.intake.uses.retire(&gone, &mut self.maps);
        for tid in gone {
            self.maps.remove_thread(tid);
        }
        if self.intake.processes.several {
            self.reconcile()?;
        }
        self.intake.below_pending.clear();
        for (tid, state) in self.maps.threads() {
            self.intake.pending(&state);
            if !self.intake.threads.is_settled(tid) {
                self.intake.settle(tid, Pid(state.tgid));
            }
            self.intake.threads.update(tid, &state);
        }
        for place in self.intake.processes.living() {
            self.recheck_interpreter(place)?;
        }
        self.intake.refresh_threads(&mut self.maps);
        self.look_at_programs();
        self.intake.retire(&mut self.maps)?;
        let totals = self.intake.totals(&self.maps, monotonic_now())?;
        self.write_processes()?;
        self.write_energy()?;
        self.write_counters(&totals)?;
        self.intake.writer.flush()?;
        if let Some(log) = &mut self.kernel_log {
            log.drain();
        }
        Ok(())
    }

    fn write_energy(&mut self) -> Result<()> {
        if let Some(energy) = &mut self.energy {
            energy.write(&mut self.intake, &self.maps)?;
        }
        Ok(())
    }

    /// Writes new threads, and the counters, unless they would be most of the file: those of many locks
    /// or threads are long, and the last ones alone count. A killed recording lacks the counters of its
    /// last seconds.
    fn write_counters(&mut self, totals: &Totals) -> Result<()> {
        let threads = self.intake.threads.take_changed();
        self.intake.writer.threads(&threads)?;
        let (before, waits) = (self.intake.writer.bytes_written(), self.waits_at_totals);
        let few = before - waits < self.totals_bytes * TOTALS_SHARE;
        if few && self.totals_at.is_some_and(|at| at.elapsed() < TOTALS_AT_LEAST_EVERY) {
            return Ok(());
        }
        // What is buffered before them goes first, and is none of theirs.
        self.intake.writer.flush()?;
        let before = self.intake.writer.bytes_written();
        let threads = self.intake.threads.take_counted();
        self.intake.writer.threads(&threads)?;
        self.intake.writer.totals(totals)?;
        self.waits_at_totals = self.intake.writer.bytes_written();
        self.totals_bytes = self.waits_at_totals - before;
        self.totals_at = Some(Instant::now());
        Ok(())
    }

    /// Asks the kernel how long the programs have run, if it counts that.
    fn look_at_programs(&mut self) {
        if let Some(loaded) = self.loaded.as_ref().filter(|_| self.run_time_counted) {
            self.intake.bpf_run = loaded.run_times();
        }
        self.intake.bpf_sampled = self.run_time.sampled;
    }

    fn forget_interpreter(&mut self, place: usize) -> Result<()> {
        let several = self.intake.processes.several;
        if !several {
            self.maps.set_interpreter(&InterpreterConfig::default())?;
            self.maps.set_stacks(&StackConfig::default())?;
            self.maps.forget_spin_sites();
        }
        let Some(traced) = self.intake.processes.get_mut(place) else { return Ok(()) };
        traced.namer.set_interpreter(traced.pid, None);
        traced.lookout = Some(Lookout::begin());
        if let Some(codes) = &mut traced.spin_codes {
            codes.forget(&mut spin_code_writer(&mut self.maps, several.then_some(traced.pid)));
        }
        if several {
            // As the kernel side did already; but an older state may have been written since.
            let state = ProcessState { number: traced.number, ..ProcessState::default() };
            self.maps.set_process(traced.pid, &state)?;
        }
        if !self.searching.contains(&place) {
            self.searching.push(place);
        }
        self.look_for_interpreter(place)
    }

    /// When an interpreter is to be looked for next.
    fn next_look(&mut self) -> Option<Instant> {
        let processes = &self.intake.processes;
        let lookout = |place: &usize| processes.get(*place).and_then(|traced| traced.lookout);
        self.searching.retain(|place| lookout(place).is_some());
        self.searching.iter().filter_map(|place| Some(lookout(place)?.next)).min()
    }

    fn look_where_due(&mut self) -> Result<()> {
        let now = Instant::now();
        for place in self.searching.clone() {
            let traced = self.intake.processes.get(place);
            if traced.and_then(|traced| traced.lookout).is_some_and(|lookout| lookout.next <= now) {
                self.look_for_interpreter(place)?;
            }
        }
        Ok(())
    }

    fn look_for_interpreter(&mut self, place: usize) -> Result<()> {
        let several = self.intake.processes.several;
        let Some(traced) = self.intake.processes.get_mut(place) else { return Ok(()) };
        let again = if several { Lookout::again_among_many } else { Lookout::again };
        traced.lookout = traced.lookout.map(again);
        let pid = traced.pid;
        let Ok(process) = Process::open(pid) else { return Ok(()) }; // its end is seen elsewhere
        let Ok(detected) = detect(&process) else { return Ok(()) };
        let exe = process.exe();
        if exe.is_empty() {
            return Ok(()); // it is ending, its memory is gone already: what it was is known
        }
        let before = traced.record.target.clone();
        let mut target = before.clone();
        target.exe = exe;
        target.cmdline = process.cmdline();
        target.unnamed_because = None;
        target.stackless_because = None;
        match detected {
            Detected::Interpreter(python) => {
                target.python = Some(python.version.to_string());
                target.free_threaded = Some(python.layout.free_threaded);
                target.stackless_because = python.frames.as_ref().err().map(ToString::to_string);
                traced.namer.set_interpreter(pid, Some(*python));
                traced.lookout = None;
                traced.record.recorded = true;
                self.introduce(place)?;
                self.intake.refresh_threads_of(place, &mut self.maps);
                self.attach_uprobes(&process);
            }
            Detected::NotYet => {}
            Detected::UnknownLayout { version, why } => {
                target.python = version.map(|version| version.to_string());
                target.unnamed_because = Some(why.to_string());
                traced.lookout = None;
                traced.record.recorded = true;
                if several {
                    self.introduce(place)?;
                }
                self.attach_uprobes(&process);
            }
            Detected::NotCPython => {
                target.python = None;
                target.free_threaded = None;
                target.unnamed_because = Some(format!("{} is no CPython", target.exe));
            }
        }
        self.set_target(place, target)
    }

    /// Tells the kernel side about the interpreter of a process.
    fn introduce(&mut self, place: usize) -> Result<()> {
        let Some(traced) = self.intake.processes.get(place) else { return Ok(()) };
        let python = traced.namer.interpreter();
        if !self.intake.processes.several {
            return python.map_or(Ok(()), |python| introduce(&mut self.maps, python));
        }
        // What it learned of spinning stays.
        let before = self.maps.process(traced.pid).unwrap_or_default();
        let state = ProcessState {
            spin_code: before.spin_code,
            ..process_state(traced.number, traced.record.recorded, python)
        };
        Ok(self.maps.set_process(traced.pid, &state)?)
    }

    /// A process turned out to be something else.
    fn set_target(&mut self, place: usize, target: Target) -> Result<()> {
        let Some(traced) = self.intake.processes.get_mut(place) else { return Ok(()) };
        if traced.record.target == target {
            return Ok(());
        }
        traced.record.target = target;
        traced.changed = true;
        if place == 0 {
            let target = traced.record.target.clone();
            self.meta.target = target;
            self.intake.writer.meta(&self.meta)?;
        }
        Ok(())
    }

    fn write_processes(&mut self) -> Result<()> {
        if self.intake.processes.several {
            let changed = self.intake.processes.changed();
            self.intake.writer.processes(&changed)?;
        }
        Ok(())
    }

    /// What was lost of births and ends is found out.
    fn reconcile(&mut self) -> Result<()> {
        for place in self.intake.reconcile(&self.maps) {
            if let Some(traced) = self.intake.processes.get_mut(place) {
                traced.lookout = Some(Lookout::begin());
            }
            self.searching.push(place);
        }
        Ok(())
    }

    /// Nothing that is recorded lives on, nor anything that may soon be recorded.
    fn is_over(&self) -> bool {
        !self.intake.processes.iter().any(|(_, traced)| {
            traced.lives()
                && (traced.record.recorded || traced.lookout.is_some_and(Lookout::is_new))
        })
    }

    fn refresh_spin_codes(&mut self) {
        let several = self.intake.processes.several;
        let sites = self.maps.spin_sites();
        for (place, ret, register) in sites {
            let Some((place, _)) = self.intake.processes.of_tagged(place.0) else { continue };
            let Some(traced) = self.intake.processes.get_mut(place) else { continue };
            let pid = several.then_some(traced.pid);
            if let Some(codes) = &mut traced.spin_codes {
                codes.learn(ret, register, &mut spin_code_writer(&mut self.maps, pid));
            }
        }
    }

    /// Hooks the functions of an interpreter that was found only now, or after an exec again.
    /// In a recording of one process only.
    fn attach_uprobes(&mut self, process: &Process) {
        let groups = Groups::named(&self.meta.options.uprobes);
        let Some(loaded) = self.loaded.as_mut().filter(|_| !groups.is_empty()) else { return };
        let only = self.intake.processes.get(0);
        let minor =
            only.and_then(|only| only.namer.interpreter()).map(|python| python.version.minor().1);
        let states = self.uprobes.attach(loaded.ebpf_mut(), process, groups, minor);
        self.meta.programs.retain(|program| !program.is_uprobe());
        self.meta.programs.extend(states);
    }

    /// What may have changed since the interpreter was found: subinterpreters have come or gone,
    /// or a layout that nothing spoke against then turns out to be another.
    fn recheck_interpreter(&mut self, place: usize) -> Result<()> {
        let Some(traced) = self.intake.processes.get_mut(place) else { return Ok(()) };
        let namer = &traced.namer;
        let (Some(memory), Some(python)) = (namer.memory(), namer.interpreter()) else {
            return Ok(());
        };
        let now = interpreters(memory, python.runtime, &python.layout);
        if !now.is_empty() && now != python.interpreters {
            return self.look_for_interpreter(place);
        }
        if python.frames_checked || python.frames.is_err() {
            return Ok(());
        }
        let checked = verify(memory, traced.pid, python);
        let Some(python) = traced.namer.interpreter_mut() else { return Ok(()) };
        match checked {
            Ok(checked) => python.frames_checked = checked,
            Err(why) => {
                let stackless_because = Some(why.to_string());
                python.frames = Err(why);
                let target = Target { stackless_because, ..traced.record.target.clone() };
                self.introduce(place)?;
                self.set_target(place, target)?;
            }
        }
        Ok(())
    }

    /// Detaches, takes in what is left, and closes the trace.
    fn close(&mut self, reason: &'static str) -> Result<Finished> {
        self.intake.refresh_threads(&mut self.maps);
        let mut alive = FxHashSet::default();
        for place in self.intake.processes.living() {
            let traced = self.intake.processes.get(place);
            alive.extend(traced.into_iter().flat_map(|t| tids(t.pid).unwrap_or_default()));
        }
        self.run_time.finish(self.loaded.as_ref());
        self.look_at_programs();
        if let Some(energy) = &mut self.energy {
            energy.stop();
        }
        self.drop_programs();
        let end = monotonic_now();
        if let Some(mut ring) = self.ring.take() {
            self.drain(&mut ring)?;
        }
        self.intake.below_pending.clear();
        for (tid, state) in self.maps.threads() {
            self.intake.pending(&state);
            let initial = self.attached_waits.get(&tid);
            if alive.contains(&tid) {
                self.intake.last_words(tid, &state, initial, end)?;
            } else {
                self.intake.threads.update(tid, &state);
            }
        }
        self.intake.write_held()?;
        let totals = self.intake.totals(&self.maps, end)?;
        self.write_processes()?;
        self.write_energy()?;
        let threads = self.intake.threads.take_counted();
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
        if let Some(energy) = &mut self.energy {
            energy.stop();
        }
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
