//! Attaching to a live process: programs, threads, and the waits that are already under way.
//!
//! Order matters. Threads are put into the table when new ones are seen already and before any
//! other program is attached, so that the first thing that happens to each is seen; waits under way
//! are looked up afterwards, so that a thread that has not been seen moving since has been waiting
//! since before the beginning.

use anyhow::{Context, Result};
use rustc_hash::FxHashMap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracer_common::thread::ThreadState;
use tracer_common::{InitialWait, ProcessState};

use super::description::describe;
use super::identify::identify;
use crate::cpython::{Detected, Interpreter, Namer, detect, thread_states};
use crate::kernel::monotonic_now;
use crate::probe::{Loaded, MAX_PROCESSES, Maps, Prepared, Settings, load};
use crate::target::{Process, blocked_futex, descendants, ns_tid, tids};
use crate::trace::processes::Came;
use crate::trace::records::Target;
use crate::units::{Address, Monotonic, Pid, Tid};

/// Processes that are there already have numbers up to here, those born later the ones above.
const FIRST_GIVEN: u32 = MAX_PROCESSES;
/// The first number that is neither in use nor given to the kernel side at the attach.
pub(super) const NEXT_NUMBER: u32 = FIRST_GIVEN + MAX_PROCESSES + 1;

/// The kernel side at work.
pub struct Attached {
    /// The programs; dropping them detaches.
    pub loaded: Loaded,
    /// Their maps.
    pub maps: Maps,
    /// Beginning of the recording.
    pub start: Monotonic,
    /// Waits found under way.
    pub initial: FxHashMap<Tid, InitialWait>,
    /// In a recording of several, the processes that there are, the first target first; else empty.
    pub processes: Vec<Found>,
}

/// A process found at the attach to several.
#[derive(Debug)]
pub struct Found {
    /// Its id on the host.
    pub pid: Pid,
    /// Of its memory, as the kernel side knows it.
    pub number: u32,
    /// Knows its interpreter, if it has one. The first target's is the caller's.
    pub namer: Namer,
    /// What it is.
    pub target: Target,
    /// How it came into the recording.
    pub came: Came,
    /// Its waits are recorded: it is a CPython.
    pub recorded: bool,
}

/// Attaches to a process. `namer` knows its interpreter, if that is known already.
///
/// # Errors
/// If the kernel refuses a required program, or the process ends meanwhile.
pub fn attach(settings: &Settings, namer: &Namer) -> Result<Attached> {
    attach_all(settings, namer, Came::Attached, Vec::new())
}

/// Attaches to several processes: the first, whose interpreter `namer` knows and which `came` so, and
/// `others`, with the children of all of them if the settings say so.
///
/// # Errors
/// As [`attach`].
pub fn attach_all(
    settings: &Settings,
    namer: &Namer,
    came: Came,
    others: Vec<Found>,
) -> Result<Attached> {
    let mut prepared = load(settings)?;
    if settings.several {
        return attach_several(settings, namer, came, others, prepared);
    }
    if let Some(python) = namer.interpreter() {
        introduce(&mut prepared.maps, python)?;
    }
    let mut known = Vec::new();
    let (loaded, mut maps) =
        prepared.attach(|maps| add_threads(maps, settings.target, &mut known))?;
    let start = monotonic_now();
    let mut initial = FxHashMap::default();
    find_waits(settings.target, &known, namer, start, &mut maps, &mut initial)?;
    Ok(Attached { loaded, maps, start, initial, processes: Vec::new() })
}

fn attach_several(
    settings: &Settings,
    namer: &Namer,
    came: Came,
    mut others: Vec<Found>,
    mut prepared: Prepared,
) -> Result<Attached> {
    raise_file_limit();
    let recorded = namer.interpreter().is_some();
    let first = process_state(1, recorded, namer.interpreter());
    let mut number = 1;
    prepared.maps.set_process(settings.target, &first)?;
    for other in &mut others {
        number += 1;
        other.number = number;
        let state = process_state(number, other.recorded, other.namer.interpreter());
        prepared.maps.set_process(other.pid, &state)?;
    }
    for to_come in 1..=settings.max_processes {
        prepared.maps.give_number(FIRST_GIVEN + to_come);
    }
    let mut all = vec![Found {
        pid: settings.target,
        number: 1,
        namer: Namer::default(),
        target: Target::default(),
        came,
        recorded,
    }];
    all.append(&mut others);
    let mut known: FxHashMap<Pid, Vec<Tid>> = FxHashMap::default();
    let (loaded, mut maps) = prepared.attach(|maps| -> Result<()> {
        for found in &all {
            add_threads_of(maps, found.pid, known.entry(found.pid).or_default(), found.pid)?;
        }
        if settings.follow {
            add_descendants(maps, &mut all, &mut known, &mut number)?;
        }
        Ok(())
    })?;
    let start = monotonic_now();
    let mut initial = FxHashMap::default();
    for found in &all {
        let namer = if found.pid == settings.target { namer } else { &found.namer };
        let threads = known.get(&found.pid).map_or(&[][..], Vec::as_slice);
        if found.recorded {
            find_waits(found.pid, threads, namer, start, &mut maps, &mut initial)?;
        }
    }
    Ok(Attached { loaded, maps, start, initial, processes: all })
}

/// Adds the children that the processes have already, and their children: those that are born from now
/// on are seen by the kernel side.
fn add_descendants(
    maps: &mut Maps,
    all: &mut Vec<Found>,
    known: &mut FxHashMap<Pid, Vec<Tid>>,
    number: &mut u32,
) -> Result<()> {
    loop {
        // One that is born while its parent is not known yet is found the next time.
        let before = all.len();
        for pid in descendants(&all.iter().map(|found| found.pid).collect::<Vec<_>>()) {
            if maps.process(pid).is_some() {
                continue;
            }
            *number += 1;
            let Some(found) = look_at(pid, *number) else { continue };
            let python = found.namer.interpreter();
            maps.set_process(pid, &process_state(*number, found.recorded, python))?;
            all.push(found);
        }
        for found in &all[before..] {
            // It may have ended meanwhile.
            let _ = add_threads_of(maps, found.pid, known.entry(found.pid).or_default(), found.pid);
        }
        if all.len() == before || *number >= FIRST_GIVEN {
            return Ok(());
        }
    }
}

/// The memory of each process is kept open. Where no more can be had, names are missing.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// What a process is that is there already; `None` if it is gone.
pub fn look_at(pid: Pid, number: u32) -> Option<Found> {
    let process = Process::open(pid).ok()?;
    let mut target = Target { pid, ..Target::default() };
    target.exe = process.exe();
    target.cmdline = process.cmdline();
    let mut namer = Namer::new(pid);
    let detected = detect(&process).ok()?;
    describe(&mut target, &detected);
    let recorded = match detected {
        Detected::Interpreter(python) => {
            namer.set_interpreter(pid, Some(*python));
            true
        }
        Detected::UnknownLayout { .. } => true,
        Detected::NotYet | Detected::NotCPython => false,
    };
    Some(Found { pid, number, namer, target, came: Came::Attached, recorded })
}

/// What the kernel side is told of one of several processes.
pub(super) fn process_state(
    number: u32,
    recorded: bool,
    python: Option<&Interpreter>,
) -> ProcessState {
    ProcessState {
        number,
        recorded: u32::from(recorded),
        interpreter: python.map(Interpreter::kernel_config).unwrap_or_default(),
        stacks: python.and_then(Interpreter::stack_config).unwrap_or_default(),
        ..ProcessState::default()
    }
}

/// Finds the waits that threads have been in since before the recording.
fn find_waits(
    pid: Pid,
    known: &[Tid],
    namer: &Namer,
    start: Monotonic,
    maps: &mut Maps,
    initial: &mut FxHashMap<Tid, InitialWait>,
) -> Result<()> {
    let states: FxHashMap<u32, Address> = match (namer.memory(), namer.interpreter()) {
        (Some(memory), Some(python)) => thread_states(memory, python).into_iter().rev().collect(),
        _ => FxHashMap::default(),
    };
    for &tid in known {
        let Some(found) = blocked_futex(pid, tid) else { continue };
        let thread = ns_tid(pid, tid).and_then(|id| states.get(&id)).copied();
        let Some(id) = identify(&found, namer, thread) else { continue };
        let wait = InitialWait { id, start_ns: start.0 };
        maps.add_initial_wait(tid, &wait)?;
        initial.insert(tid, wait);
    }
    Ok(())
}

/// Tells the kernel side about an interpreter: its locks, and its stacks if their layout is known.
///
/// # Errors
/// If the kernel refuses (it has no reason to).
pub(super) fn introduce(maps: &mut Maps, python: &Interpreter) -> Result<()> {
    maps.set_interpreter(&python.kernel_config())?;
    maps.set_stacks(&python.stack_config().unwrap_or_default())?;
    Ok(())
}

fn add_threads(maps: &mut Maps, pid: Pid, known: &mut Vec<Tid>) -> Result<()> {
    add_threads_of(maps, pid, known, Pid(0))
}

/// `tgid`: what is noted of their process, 0 in a recording of one.
fn add_threads_of(maps: &mut Maps, pid: Pid, known: &mut Vec<Tid>, tgid: Pid) -> Result<()> {
    let state = ThreadState { tgid: tgid.0, ..ThreadState::default() };
    let all = tids(pid).with_context(|| format!("process {} ended during the attach", pid.0));
    for tid in all.map_err(|e| crate::fault::Fault::NotTraceable(format!("{e:#}")))? {
        if !known.contains(&tid) {
            maps.add_thread(tid, &state)?;
            known.push(tid);
        }
    }
    Ok(())
}
