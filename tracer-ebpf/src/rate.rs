//! No more records of waits than so many a second (`--max-events-per-sec`).

use crate::globals::{rate_cost, rate_depth};
use crate::maps::RATE;

/// Whether one more wait, which ended at `end_ns`, may have a record. Not exact: CPUs write the limit's
/// two words without waiting for each other. Two that ask at the same moment may both pass at the price of
/// one, and what one of them wrote is lost; nothing else comes of it.
#[inline(always)]
pub(crate) fn allows(end_ns: u64) -> bool {
    let cost = rate_cost();
    if cost == 0 {
        return true;
    }
    let Some(rate) = RATE.get_ptr_mut(0) else { return true };
    // SAFETY: a live map value, whose words are read and written as a whole.
    unsafe { &mut *rate }.allows(cost, rate_depth(), end_ns)
}
