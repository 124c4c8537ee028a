//! A recorder that is at work all the time, with hooks that come and go.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{BtfTracePoint, PerfEvent, Program as Kernel};
use aya::util::online_cpus;
use tracer::cpython::{Detected, Namer, detect};
use tracer::probe::Settings;
use tracer::record::{Attached, Finished, Session, StopWhen, attach};
use tracer::target::Process;
use tracer::trace::TimeUnit;
use tracer::trace::records::{Meta, Options, Target};
use tracer::units::{Ns, Pid};
use tracer_common::StackConfig;

use super::program::{Program, Rates};
use super::{Args, SETTLE};

/// The programs that come and go.
const HOT: [&str; 6] =
    ["lw_switch", "lw_switch_sys", "lw_waking", "lw_sys_enter", "lw_sys_exit", "lw_sample"];

/// The hooks of a recording, taken in hand: the recorder goes on, and they come and go.
///
/// To attach what is loaded takes milliseconds, where a recording's beginning and end take a second:
/// so there are ten times the rounds, and the neighbours of a stretch are close by.
pub(super) struct Hooks {
    tracepoints: Vec<BtfTracePoint>,
    sampler: Option<PerfEvent>,
    sample_hz: u32,
    /// Voluntary switches while they were attached.
    pub(super) seen: u64,
}

impl Hooks {
    /// Detaches the programs and keeps them.
    fn take(attached: &mut Attached, args: &Args) -> Result<Self> {
        let (mut tracepoints, mut sampler) = (Vec::new(), None);
        for (name, program) in attached.loaded.ebpf_mut().programs_mut() {
            match program {
                Kernel::BtfTracePoint(program) if HOT.contains(&name) => {
                    let Ok(info) = program.info() else { continue }; // the form not in use
                    // SAFETY: the type is known to be right: it is that of the program itself.
                    tracepoints.push(unsafe {
                        BtfTracePoint::from_program_info(info, name.to_owned().into())
                    }?);
                    program.unload()?;
                }
                Kernel::PerfEvent(program) if args.sample_hz != 0 => {
                    let again =
                        PerfEvent::from_program_info(program.info()?, name.to_owned().into())?;
                    sampler = Some(again);
                    program.unload()?;
                }
                _ => {}
            }
        }
        ensure!(tracepoints.len() >= 2, "the hooks are not loaded");
        Ok(Self { tracepoints, sampler, sample_hz: args.sample_hz, seen: 0 })
    }

    /// Traces for one stretch; the rates in it.
    pub(super) fn traced(&mut self, program: &Program, stretch: Duration) -> Result<Rates> {
        let mut links = Vec::new();
        for program in &mut self.tracepoints {
            let link = program.attach()?;
            links.push(program.take_link(link)?);
        }
        let mut clocks = Vec::new();
        if let Some(sampler) = &mut self.sampler {
            let clock = PerfEventConfig::Software(SoftwareEvent::CpuClock);
            let policy = SamplePolicy::Frequency(u64::from(self.sample_hz));
            for cpu in online_cpus().map_err(|(_, error)| error)? {
                let scope = PerfEventScope::AllProcessesOneCpu { cpu };
                let link = sampler.attach(clock, scope, policy, false)?;
                clocks.push(sampler.take_link(link)?);
            }
        }
        let before = program.voluntary_switches()?;
        std::thread::sleep(SETTLE);
        let rates = program.rates(stretch)?;
        self.seen += program.voluntary_switches()? - before;
        Ok(rates)
    }
}

/// A recording in a thread of its own, which ends with the storm.
pub(super) fn record(
    pid: Pid,
    args: &Args,
) -> Result<(Hooks, std::thread::JoinHandle<Result<Finished>>)> {
    let mut namer = Namer::new(pid);
    let Detected::Interpreter(python) = detect(&Process::open(pid)?)? else {
        anyhow::bail!("the workload is no CPython")
    };
    namer.set_interpreter(pid, Some(*python));
    let min_wait = Ns(10_000);
    let meta = Meta {
        target: Target { pid, ..Target::default() },
        options: Options {
            min_wait,
            hooks: args.hooks.name().to_owned(),
            time_unit: TimeUnit::RECORDED,
            sample_hz: (args.sample_hz != 0).then_some(args.sample_hz),
            ..Options::default()
        },
        ..Meta::default()
    };
    let settings =
        Settings { sample_hz: args.sample_hz, ..Settings::new(pid, min_wait, args.hooks) };
    let mut attached = attach(&settings, &namer)?;
    if args.without_stacks {
        attached.maps.set_stacks(&StackConfig::default())?;
    }
    let hooks = Hooks::take(&mut attached, args)?;
    let (ready, is_ready) = mpsc::channel();
    // It ends with the storm.
    let stop = StopWhen { after: None, own_child: false, quiet: true };
    let file = tempfile::tempfile()?;
    let recorder = std::thread::spawn(move || {
        let session = Session::begin(attached, namer, meta, file)?;
        session.run(stop, move || ready.send(()).context("nobody waits"))
    });
    is_ready.recv().context("the recorder did not start")?;
    Ok((hooks, recorder))
}
