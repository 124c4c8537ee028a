//! Processes and their interpreters.

use tracer_common::{InterpreterConfig, ProcessState, StackConfig};

use super::{MapError, Maps, failed};
use crate::units::Pid;

impl Maps {
    /// Tells the kernel side about the interpreter.
    ///
    /// # Errors
    /// If the kernel refuses (it has no reason to).
    pub fn set_interpreter(&mut self, config: &InterpreterConfig) -> Result<(), MapError> {
        // The update is no single store: invalid while it is under way.
        let invalid = InterpreterConfig { valid: 0, ..*config };
        self.interpreter.set(0, invalid, 0).map_err(failed("INTERPRETER"))?;
        self.interpreter.set(0, *config, 0).map_err(failed("INTERPRETER"))
    }

    /// Tells the kernel side where the interpreter keeps its stacks.
    ///
    /// # Errors
    /// If the kernel refuses (it has no reason to).
    pub fn set_stacks(&mut self, config: &StackConfig) -> Result<(), MapError> {
        let invalid = StackConfig { valid: 0, ..*config };
        self.stack_config.set(0, invalid, 0).map_err(failed("STACK_CONFIG"))?;
        self.stack_config.set(0, *config, 0).map_err(failed("STACK_CONFIG"))
    }

    /// Tells the kernel side what is known of one of several processes.
    ///
    /// # Errors
    /// If the table is full.
    pub fn set_process(&mut self, pid: Pid, state: &ProcessState) -> Result<(), MapError> {
        self.processes.insert(pid.0, state, 0).map_err(failed("PROCESSES"))
    }

    /// What the kernel side knows of one of several processes.
    #[must_use]
    pub fn process(&self, pid: Pid) -> Option<ProcessState> {
        self.processes.get(&pid.0, 0).ok()
    }

    /// All of several processes.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        self.processes.keys().flatten().map(Pid).collect()
    }

    /// Forgets a process that has ended.
    pub fn remove_process(&mut self, pid: Pid) {
        // Not there any more is as good.
        let _ = self.processes.remove(&pid.0);
    }

    /// Gives the kernel side a number for the memory of a process to come. False if it has enough.
    pub fn give_number(&mut self, number: u32) -> bool {
        self.numbers.push(number, 0).is_ok()
    }
}
