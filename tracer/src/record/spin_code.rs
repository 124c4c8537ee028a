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

    /// A place whose register is known; nothing happens if it was dealt with.
    pub(super) fn learn(
        &mut self,
        ret: Address,
        register: u64,
        set: &mut impl FnMut(u32, SpinCode) -> bool,
    ) {
        if self.seen.contains(&ret) {
            return;
        }
        self.seen.push(ret);
        let exact = function_at(self.pid, ret);
        self.inexact += u64::from(exact.is_none());
        let range = exact.unwrap_or_else(|| around(ret));
        // Two places in one function have the lock in the same register, or the first one counts.
        if self.told.iter().any(|told| told.contains(&ret)) {
            return;
        }
        let slot = u32::try_from(self.told.len()).unwrap_or(SPIN_CODE_SLOTS);
        let code = SpinCode { start: range.start.0, end: range.end.0, register };
        if slot < SPIN_CODE_SLOTS && set(slot, code) {
            self.told.push(range);
        } else {
            self.inexact += 1;
        }
    }

    /// Forgets what was where: the target has replaced its memory.
    pub(super) fn forget(&mut self, set: &mut impl FnMut(u32, SpinCode) -> bool) {
        for slot in 0..SPIN_CODE_SLOTS {
            set(slot, SpinCode::default());
        }
        self.seen.clear();
        self.told.clear();
    }
}

/// Tells the sampler of a function that spins: in the only process, or in one of several.
pub(super) fn spin_code_writer(
    maps: &mut Maps,
    pid: Option<Pid>,
) -> impl FnMut(u32, SpinCode) -> bool {
    move |slot, code| match pid {
        None => maps.set_spin_code(slot, code),
        Some(pid) => {
            let Some(mut state) = maps.process(pid) else { return false };
            let Some(place) = state.spin_code.get_mut(slot as usize) else { return false };
            *place = code;
            maps.set_process(pid, &state).is_ok()
        }
    }
}

fn around(ret: Address) -> Range<Address> {
    Address(ret.0.saturating_sub(WINDOW))..Address(ret.0.saturating_add(WINDOW))
}
