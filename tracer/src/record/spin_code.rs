//! Tells the sampler which functions spin: those around the places that are known to, once their
//! register is learned.

use std::ops::Range;

use tracer_common::SpinCode;
use tracer_common::sample::SPIN_CODE_SLOTS;

use crate::probe::Maps;
use crate::target::function_at;
use crate::units::{Address, Pid};

/// Around a place whose function's ends are not known: `_PyMutex_LockTimed` (`Python/lock.c`) is
/// twice as long in the builds seen.
const WINDOW: u64 = 256;

/// The functions that the sampler knows of.
#[derive(Debug)]
pub(super) struct SpinCodes {
    pid: Pid,
    /// Return addresses that were dealt with.
    seen: Vec<Address>,
    told: Vec<Range<Address>>,
    /// Functions whose ends were guessed, or that found no slot.
    pub(super) inexact: u64,
}

impl SpinCodes {
    /// For a process; nothing is known yet.
    pub(super) fn new(pid: Pid) -> Self {
        Self { pid, seen: Vec::new(), told: Vec::new(), inexact: 0 }
    }

    /// Looks for places that were learned since.
    pub(super) fn refresh(&mut self, maps: &mut Maps) {
        for (ret, register) in maps.spin_sites() {
            if self.seen.contains(&ret) {
                continue;
            }
            self.seen.push(ret);
            let exact = function_at(self.pid, ret);
            self.inexact += u64::from(exact.is_none());
            let range = exact.unwrap_or_else(|| around(ret));
            // Two places in one function have the lock in the same register, or the first one counts.
            if self.told.iter().any(|told| told.contains(&ret)) {
                continue;
            }
            let slot = u32::try_from(self.told.len()).unwrap_or(SPIN_CODE_SLOTS);
            let code = SpinCode { start: range.start.0, end: range.end.0, register };
            if slot < SPIN_CODE_SLOTS && maps.set_spin_code(slot, code) {
                self.told.push(range);
            } else {
                self.inexact += 1;
            }
        }
    }

    /// Forgets what was where: the target has replaced its memory.
    pub(super) fn forget(&mut self, maps: &mut Maps) {
        for slot in 0..SPIN_CODE_SLOTS {
            maps.set_spin_code(slot, SpinCode::default());
        }
        self.seen.clear();
        self.told.clear();
    }
}

fn around(ret: Address) -> Range<Address> {
    Address(ret.0.saturating_sub(WINDOW))..Address(ret.0.saturating_add(WINDOW))
}
