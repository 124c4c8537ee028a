//! Locks that are part of the runtime or an interpreter.

use tracer_common::FutexIdentity;

use super::{LockName, Namer, OB_MUTEX};
use crate::cpython::runtime_fields::{self, RuntimeLock};
use crate::trace::records::{Class, Kind};
use crate::units::Address;

impl Namer {
    pub(super) fn gil(&self, id: &FutexIdentity, kind: Kind) -> LockName {
        let gils = self.interpreter.as_ref().map_or(&[][..], |python| &python.gils);
        let number = gils.iter().position(|gil| gil.0 == id.lock).unwrap_or(0);
        let base = if kind == Kind::Gil { "GIL" } else { "GIL hand-off" };
        let name =
            if number == 0 { base.to_owned() } else { format!("{base} of interpreter {number}") };
        let address = Address(id.lock);
        LockName { kind, class: Class::Contention, address, lock: address, name }
    }

    pub(super) fn runtime_field(&self, lock: Address) -> Option<RuntimeLock> {
        let python = self.interpreter.as_ref()?;
        let layout = &python.layout;
        let object = layout.free_threaded && lock.0 & 15 == OB_MUTEX;
        let size = layout.interpreter_size;
        let found = python.interpreters.iter().find_map(|&base| {
            runtime_fields::in_interpreter(
                python.version,
                layout.free_threaded,
                size,
                inside(lock, base, size)?,
            )
        });
        // The main interpreter and immortal objects are in `_PyRuntime` too.
        found.or_else(|| {
            let at = inside(lock, python.runtime, layout.runtime_size).filter(|_| !object)?;
            runtime_fields::in_runtime(python.version, layout.runtime_size, at)
        })
    }

    /// Where in the runtime a lock is that has no name.
    pub(super) fn inside_runtime(&self, lock: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let (layout, runtime) = (&python.layout, python.runtime);
        let in_interpreter = python
            .interpreters
            .iter()
            .find_map(|&base| inside(lock, base, layout.interpreter_size));
        match in_interpreter {
            Some(offset) => Some(format!("interpreter+{offset:#x}")),
            None => {
                inside(lock, runtime, layout.runtime_size).map(|at| format!("_PyRuntime+{at:#x}"))
            }
        }
    }
}

/// How far a lock is into a struct, if it is in it.
fn inside(lock: Address, base: Address, size: u64) -> Option<u64> {
    Some(lock.0.wrapping_sub(base.0)).filter(|&offset| offset < size)
}
