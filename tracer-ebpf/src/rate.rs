//! At most so many records of waits in a time (`--max-events-per-sec`).

use crate::globals::{rate_records, rate_window_ns};
use crate::maps::RATE;

/// What was sent in the window that is under way.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Rate {
    window: u64,
    sent: u64,
}

/// Whether one more wait, which ended at `end_ns`, may have a record. Not exact: CPUs count together
/// without waiting for each other.
#[inline(always)]
pub(crate) fn allows(end_ns: u64) -> bool {
    let most = rate_records();
    if most == 0 {
        return true;
    }
    let Some(rate) = RATE.get_ptr_mut(0) else { return true };
    // SAFETY: a live map value, whose words are read and written as a whole.
    let rate = unsafe { &mut *rate };
    let window = end_ns.checked_div(rate_window_ns()).unwrap_or(0);
    if window > rate.window {
        rate.window = window;
        rate.sent = 0;
    }
    let room = rate.sent < most;
    if room {
        rate.sent += 1;
    }
    room
}
