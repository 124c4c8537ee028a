//! The interpreters of the traced processes: looked for, checked again, forgotten at an exec.

use anyhow::Result;
use tokio::time::Instant;
use tracer_common::{InterpreterConfig, ProcessState, StackConfig};

use super::Session;
use crate::cpython::{Detected, detect, interpreters, verify};
use crate::probe::Groups;
use crate::record::attach::{introduce, process_state};
use crate::record::description::describe;
use crate::record::lookout::Lookout;
use crate::record::spin_code::spin_code_writer;
use crate::target::Process;
use crate::trace::records::Target;

impl Session {
    pub(super) fn forget_interpreter(&mut self, place: usize) -> Result<()> {
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
    pub(super) fn next_look(&mut self) -> Option<Instant> {
        let processes = &self.intake.processes;
        let lookout = |place: &usize| processes.get(*place).and_then(|traced| traced.lookout);
        self.searching.retain(|place| lookout(place).is_some());
        self.searching.iter().filter_map(|place| Some(lookout(place)?.next)).min()
    }

    pub(super) fn look_where_due(&mut self) -> Result<()> {
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
        describe(&mut target, &detected);
        match detected {
            Detected::Interpreter(python) => {
                traced.namer.set_interpreter(pid, Some(*python));
                traced.lookout = None;
                traced.record.recorded = true;
                self.introduce(place)?;
                self.intake.refresh_threads_of(place, &mut self.maps);
                self.attach_uprobes(&process);
            }
            Detected::UnknownLayout { .. } => {
                traced.lookout = None;
                traced.record.recorded = true;
                if several {
                    self.introduce(place)?;
                }
                self.attach_uprobes(&process);
            }
            Detected::NotYet | Detected::NotCPython => {}
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

    /// What may have changed since the interpreter was found: subinterpreters have come or gone,
    /// or a layout that nothing spoke against then turns out to be another.
    pub(super) fn recheck_interpreter(&mut self, place: usize) -> Result<()> {
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

    /// What was lost of births and ends is found out.
    pub(super) fn reconcile(&mut self) -> Result<()> {
        for place in self.intake.reconcile(&self.maps) {
            if let Some(traced) = self.intake.processes.get_mut(place) {
                traced.lookout = Some(Lookout::begin());
            }
            self.searching.push(place);
        }
        Ok(())
    }

    pub(super) fn refresh_spin_codes(&mut self) {
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
}
