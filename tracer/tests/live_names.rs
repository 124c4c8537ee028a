//! Ring 4: Python stacks of live interpreters, read from outside, are exactly those that the
//! threads note themselves on the line where they block.

use std::process::Command;

use serde_json::Value;
use tracer::cpython::{
    CodeNames, Detected, Interpreter, LayoutError, Place, Resolved, detect, thread_name,
    thread_states, verify, walk,
};
use tracer::target::{Memory, Process, blocked_futex, ns_tid, tids};
use tracer::units::{Address, Pid, Tid};
use tracer_common::stack::{MAX_FRAMES, NO_FRAME_FIELD};
use tracer_common::{RawFrame, WalkEnd};

#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use live::Workload;

const PLACES: &str = include_str!("support/places.py");

/// A program with its threads blocked, and what reads it.
struct Target {
    load: Workload,
    pid: Pid,
    memory: Memory,
    python: Interpreter,
}

impl Target {
    fn start(version: &str, warm: bool) -> Self {
        let arguments = if warm { "import sys; sys.argv.append('--warm')\n" } else { "\n" };
        let load = Workload::inline(version, &format!("{arguments}{PLACES}"));
        let pid = Pid(load.pid());
        let python = interpreter(pid);
        assert_eq!(python.frames.as_ref().err(), None, "{version}");
        for tid in tids(pid).expect("alive") {
            live::until("every thread blocks", || blocked_futex(pid, tid).is_some());
        }
        Self { load, pid, memory: Memory::open(pid).expect("alive"), python }
    }

    /// The thread state of a thread.
    fn state(&self, tid: Tid) -> Address {
        let id = ns_tid(self.pid, tid).expect("alive");
        let states = thread_states(&self.memory, &self.python);
        states.iter().find(|&&(of, _)| of == id).expect("a thread state").1
    }

    fn walk(&self, tid: Tid) -> (Vec<RawFrame>, WalkEnd) {
        walk(&self.memory, &self.python, self.state(tid)).expect("a layout")
    }

    fn resolve(&self, names: &mut CodeNames, frame: &RawFrame) -> Resolved {
        names.resolve(&self.memory, &self.python, frame)
    }

    /// What the threads noted themselves: id, name, frames.
    fn noted(&self) -> Vec<(Tid, String, Vec<Place>)> {
        let threads = self.load.first()["threads"].as_object().expect("threads");
        threads
            .iter()
            .map(|(id, thread)| {
                let frames = thread["frames"].as_array().expect("frames");
                (
                    Tid(id.parse().expect("an id")),
                    thread["name"].as_str().expect("a name").to_owned(),
                    frames.iter().map(place).collect(),
                )
            })
            .collect()
    }
}

fn interpreter(pid: Pid) -> Interpreter {
    match detect(&Process::open(pid).expect("alive")).expect("readable") {
        Detected::Interpreter(python) => *python,
        other => panic!("{other:?}"),
    }
}

fn place(noted: &Value) -> Place {
    let line = noted[2].as_u64().and_then(|line| line.try_into().ok());
    Place {
        function: noted[0].as_str().expect("a name").to_owned(),
        file: noted[1].as_str().expect("a file").to_owned(),
        line,
    }
}

fn stacks_are_right(version: &str) {
    let _alone = live::alone();
    for warm in [false, true] {
        let target = Target::start(version, warm);
        let mut names = CodeNames::new();
        let noted = target.noted();
        assert!(noted.len() >= 39, "{} threads", noted.len());
        let mut shims = 0;
        for (tid, case, expected) in noted {
            let (frames, end) = target.walk(tid);
            let mut found = Vec::new();
            for frame in &frames {
                match target.resolve(&mut names, frame) {
                    Resolved::Place(place) => found.push(place),
                    Resolved::Shim => shims += 1,
                    Resolved::Gone => panic!("{version} {case}: gone: {frame:?}"),
                }
            }
            let kept = expected.get(..MAX_FRAMES).unwrap_or(&expected);
            assert_eq!(found, kept, "{version} warm={warm} {case}");
            let cut = expected.len() > MAX_FRAMES;
            let ends = if cut { WalkEnd::Truncated } else { WalkEnd::Complete };
            assert_eq!(end, ends, "{version} warm={warm} {case}");
            let name = thread_name(&target.memory, &target.python, &mut names, target.state(tid));
            let main = tid.0 == target.pid.0;
            assert_eq!(name, (!main).then_some(case), "{version} warm={warm}");
        }
        // Specialised calls of classes go through `_Py_InitCleanup` since 3.13; free-threaded builds
        // specialise since 3.14.
        let first = if target.python.layout.free_threaded { (3, 14) } else { (3, 13) };
        let specialised = warm && target.python.version.minor() >= first;
        assert_eq!(shims > 0, specialised, "{version} warm={warm}: {shims} shims");
    }
}

macro_rules! on_each {
    ($($name:ident $version:literal;)+) => {$(
        #[test]
        fn $name() {
            stacks_are_right($version);
        }
    )+};
}

on_each! {
    stacks_are_right_on_3_11 "3.11";
    stacks_are_right_on_3_13 "3.13";
    stacks_are_right_on_3_14 "3.14";
    stacks_are_right_on_3_15 "3.15";
    stacks_are_right_on_3_14t "3.14t";
    stacks_are_right_on_3_15t "3.15t";
}

/// 3.12 and 3.13t are not to be had from where the others come from: `cargo xtask test` says so.
#[test]
fn stacks_are_right_on_3_12_and_3_13t_where_there_are() {
    for version in ["3.12", "3.13t"] {
        if live::has_python(version) {
            stacks_are_right(version);
        }
    }
}

#[test]
fn freed_code_is_gone_unless_it_is_remembered() {
    let _alone = live::alone();
    for version in ["3.11", "3.14t"] {
        let mut target = Target::start(version, false);
        let (mut names, mut late) = (CodeNames::new(), CodeNames::new());
        let (frames, _) = target.walk(Tid(target.pid.0));
        let leaf = frames.first().expect("a frame");
        let place = target.resolve(&mut names, leaf);
        assert!(matches!(place, Resolved::Place(_)), "{place:?}");
        // Another code object at the address, and something that is no code object.
        for wrong in [
            RawFrame { check: leaf.check ^ 1, ..*leaf },
            RawFrame { code: target.python.type_type.0, ..*leaf },
            RawFrame { code: leaf.code + 1, ..*leaf },
            RawFrame { code: 8, ..*leaf },
            RawFrame { code: u64::MAX - 7, ..*leaf },
        ] {
            assert_eq!(target.resolve(&mut names, &wrong), Resolved::Gone);
        }
        target.load.child.kill().expect("killed");
        target.load.child.wait().expect("ended");
        assert_eq!(target.resolve(&mut names, leaf), place);
        assert_eq!(target.resolve(&mut late, leaf), Resolved::Gone);
        assert_eq!(target.walk_gone(), WalkEnd::FrameFault);
        names.clear();
        assert_eq!(target.resolve(&mut names, leaf), Resolved::Gone);
    }
}

impl Target {
    /// How a walk ends in a process that is gone.
    fn walk_gone(&self) -> WalkEnd {
        assert_eq!(thread_states(&self.memory, &self.python), []);
        walk(&self.memory, &self.python, Address(0x7f00_0000_0000)).expect("a layout").1
    }
}

#[test]
fn the_kernel_side_gets_what_was_checked() {
    let _alone = live::alone();
    let target = Target::start("3.14t", false);
    let config = target.python.stack_config().expect("a layout");
    assert_eq!((config.valid, config.interpreter_count), (1, 1));
    assert_eq!(config.interpreters[0], target.python.interpreters[0].0);
    assert_eq!(config.code_type, target.python.code_type.0);
    assert_ne!(config.frame.tlbc_index, NO_FRAME_FIELD);
}

/// A wrong layout is found out before a single wrong stack is shown.
#[test]
fn a_wrong_layout_is_refused() {
    let _alone = live::alone();
    let layouts = |version| {
        let target = Target::start(version, false);
        (target.python.frames.clone().expect("a layout"), target)
    };
    let (old, in_old) = layouts("3.11");
    let (new, in_new) = layouts("3.14t");
    let mut ids_elsewhere = new;
    ids_elsewhere.thread.native_id += 8;
    let mut previous_elsewhere = new;
    previous_elsewhere.frame.previous += 8;
    let mut names_elsewhere = new;
    names_elsewhere.strings.state += 8;
    for (target, wrong) in [
        (&in_old, new),
        (&in_new, old),
        (&in_new, ids_elsewhere),
        (&in_new, previous_elsewhere),
        (&in_new, names_elsewhere),
    ] {
        assert!(target.python.frames_checked);
        let python = Interpreter { frames: Ok(wrong), ..target.python.clone() };
        let result = verify(&target.memory, target.pid, &python);
        assert!(matches!(result, Err(LayoutError::NotThere { .. })), "{result:?}: {wrong:?}");
    }
    // A word that happens to be null looks like an interpreter without threads: nothing is known.
    let mut list_elsewhere = new;
    list_elsewhere.interpreter.threads_head += 8;
    let python = Interpreter { frames: Ok(list_elsewhere), ..in_new.python.clone() };
    assert_ne!(verify(&in_new.memory, in_new.pid, &python), Ok(true));
}

/// In a container, `native_thread_id` is another number than the host's; here also after a `fork`.
#[test]
fn a_process_in_its_own_pid_namespace_is_understood() {
    struct Killed(Pid);
    impl Drop for Killed {
        fn drop(&mut self) {
            let pid = i32::try_from(self.0.0).ok().and_then(rustix::process::Pid::from_raw);
            let _ =
                rustix::process::kill_process(pid.expect("a PID"), rustix::process::Signal::KILL);
        }
    }
    let _alone = live::alone();
    let enter = "import os\nos.unshare(os.CLONE_NEWPID)\nif os.fork(): os._exit(os.wait()[1])\n";
    let load = Workload::inline("3.14", &format!("{enter}{PLACES}"));
    let children = format!("/proc/{0}/task/{0}/children", load.pid());
    let children = std::fs::read_to_string(children).expect("alive");
    let pid = Pid(children.trim().parse().expect("one child"));
    let _killed = Killed(pid);
    let python = interpreter(pid);
    assert!(python.frames_checked);
    let target = Target { load, pid, memory: Memory::open(pid).expect("alive"), python };
    let noted = target.noted();
    let (mut names, mut seen) = (CodeNames::new(), 0);
    for tid in tids(pid).expect("alive") {
        let id = ns_tid(pid, tid).expect("alive");
        assert!(id < 100, "{id}");
        let Some((.., expected)) = noted.iter().find(|(noted, ..)| noted.0 == id) else { continue };
        live::until("every thread blocks", || blocked_futex(pid, tid).is_some());
        let (frames, _) = target.walk(tid);
        let leaf = target.resolve(&mut names, frames.first().expect("a frame"));
        assert_eq!(leaf, Resolved::Place(expected.first().expect("a frame").clone()));
        seen += 1;
    }
    assert_eq!(seen, noted.len());
}

/// Frames that come and go while they are read don't make a right layout look wrong.
#[test]
fn a_busy_process_passes_the_check() {
    const BUSY: &str = "
import json

def numbers(n):
    yield from range(n)
    if n:
        yield from numbers(n - 1)

class Tree:
    def __init__(self, depth):
        self.sides = [Tree(depth - 1), Tree(depth - 1)] if depth else []

    def size(self):
        return 1 + sum(side.size() for side in self.sides)

print(json.dumps({}), flush=True)
while True:
    exec('sum(numbers(9)); Tree(5).size(); sorted([3, 1, 2], key=lambda n: -n)')
";
    let _alone = live::alone();
    for version in ["3.11", "3.13", "3.14", "3.15", "3.14t", "3.15t"] {
        let load = Workload::inline(version, BUSY);
        let mut unchecked = 0;
        for _ in 0..100 {
            let python = interpreter(Pid(load.pid()));
            assert_eq!(python.frames.as_ref().err(), None, "{version}");
            unchecked += u32::from(!python.frames_checked);
        }
        eprintln!("{version}: {unchecked} of 100 looks told nothing");
        assert_eq!(unchecked, 0, "{version}");
    }
}

/// However early it is looked at, an interpreter that starts is never taken for a wrong one.
#[test]
fn a_starting_process_is_never_refused() {
    let _alone = live::alone();
    for version in ["3.11", "3.13", "3.14", "3.15", "3.14t", "3.15t"] {
        let mut looks = 0;
        for _ in 0..10 {
            let mut child = Command::new(live::python(version))
                .args(["-c", "import threading, time; time.sleep(9)"])
                .spawn()
                .expect("it starts");
            let pid = Pid(child.id());
            live::until("it is checked", || {
                looks += 1;
                match detect(&Process::open(pid).expect("alive")).expect("readable") {
                    Detected::Interpreter(python) => {
                        assert_eq!(python.frames.as_ref().err(), None, "{version}");
                        python.frames_checked
                    }
                    Detected::UnknownLayout { why, .. } => panic!("{version}: {why}"),
                    Detected::NotYet | Detected::NotCPython => false,
                }
            });
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
        eprintln!("{version}: {looks} looks at 10 starts");
    }
}
