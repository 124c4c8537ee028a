//! A recording under way: how it begins, and what belongs to it.

mod close;
mod event_loop;
mod flush;
mod interpreters;
mod turn;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use tokio::time::Instant;

use super::attach::{Attached, NEXT_NUMBER};
use super::energy::Energy;
use super::intake::Intake;
use super::kernel_log::KernelLog;
use super::processes::Processes;
use super::run_time::RunTime;
use crate::cpython::Namer;
use crate::energy::Source;
use crate::kernel::{monotonic_now, own_map_memory};
use crate::probe::{Groups, Hooks, Loaded, Maps, Uprobes};
use crate::target::Process;
use crate::trace::TraceWriter;
use crate::trace::energy::EnergySource;
use crate::trace::records::{Meta, Totals};
use crate::units::{Monotonic, Ns, Pid};

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
        intake.map_memory = own_map_memory();
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
}
