//! How long records are taken in before signals, timers and the display have their turn.

use std::time::{Duration, Instant};

/// A storm can fill the ring as fast as it is emptied: there is an end all the same.
const LONGEST: Duration = Duration::from_millis(50);
/// The clock is read after so many records.
const LOOK_EVERY: u32 = 64;
/// Records of a turn, whatever the clock says.
const MOST: u32 = 1 << 16;

/// One turn of taking records in.
#[derive(Debug)]
pub(super) struct Turn {
    begun: Instant,
    taken: u32,
}

impl Turn {
    pub(super) fn begin() -> Self {
        Self { begun: Instant::now(), taken: 0 }
    }

    /// Asked before each record.
    pub(super) fn is_over(&mut self) -> bool {
        let over = self.taken >= MOST
            || (self.taken != 0
                && self.taken.is_multiple_of(LOOK_EVERY)
                && self.begun.elapsed() >= LONGEST);
        self.taken += 1;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_source_is_left_after_a_while() {
        let mut turn = Turn::begin();
        let taken = (0u32..).take_while(|_| !turn.is_over()).count();
        assert!(taken >= LOOK_EVERY as usize && taken <= MOST as usize, "{taken}");
    }

    #[test]
    fn slow_records_end_a_turn_by_the_clock() {
        let mut turn = Turn { begun: Instant::now(), taken: 0 };
        assert!(!turn.is_over(), "each turn takes one in, or there would be no progress");
        turn.begun = turn.begun.checked_sub(LONGEST).expect("the clock is not that new");
        let taken = (0u32..).take_while(|_| !turn.is_over()).count();
        assert_eq!(taken, LOOK_EVERY as usize - 1);
    }
}
