//! A counter that stands still is known to have stopped only after a while. Until then its windows are
//! kept back, so that none of that while counts as a time in which nothing was used.

use std::collections::VecDeque;

use super::assemble::RawWindow;
use super::counter::Known;
use super::domain::{Domain, Meter};

/// Windows that may turn out to be of a counter that stopped.
#[derive(Debug)]
pub struct Settle {
    /// Of each domain: it is a counter.
    counters: Vec<bool>,
    kept: VecDeque<RawWindow>,
}

impl Settle {
    /// For these domains.
    #[must_use]
    pub fn new(domains: &[Domain]) -> Self {
        let counters = domains.iter().map(|one| matches!(one.meter, Meter::Counter { .. }));
        Self { counters: counters.collect(), kept: VecDeque::new() }
    }

    /// The next window.
    pub fn push(&mut self, window: RawWindow) {
        for (place, reading) in window.readings.iter().enumerate() {
            if reading.known != Known::Frozen {
                continue;
            }
            for before in self.kept.iter_mut().rev() {
                let Some(before) = before.readings.get_mut(place) else { break };
                if before.known != Known::Measured || before.energy.0 != 0 {
                    break;
                }
                before.known = Known::Frozen;
            }
        }
        self.kept.push_back(window);
    }

    /// The next window that is settled; `end`: as much as it ever will be.
    pub fn pop(&mut self, end: bool) -> Option<RawWindow> {
        let settled = end || (0..self.counters.len()).all(|place| self.is_settled(place));
        if settled { self.kept.pop_front() } else { None }
    }

    /// The first window's reading is not one of a counter that has stood still up to now.
    fn is_settled(&self, place: usize) -> bool {
        let stands = |window: &RawWindow| {
            window
                .readings
                .get(place)
                .is_some_and(|one| one.known == Known::Measured && one.energy.0 == 0)
        };
        !self.counters[place] || !self.kept.iter().all(stands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Microjoules;
    use crate::trace::energy::EnergyReading;

    fn window(readings: &[(u64, Known)]) -> RawWindow {
        let reading =
            |&(uj, known): &(u64, Known)| EnergyReading { energy: Microjoules(uj), known };
        RawWindow { readings: readings.iter().map(reading).collect(), ..RawWindow::default() }
    }

    fn settle(domains: &[Meter]) -> Settle {
        let domain = |&meter: &Meter| Domain { meter, ..Domain::default() };
        Settle::new(&domains.iter().map(domain).collect::<Vec<_>>())
    }

    fn all(settle: &mut Settle, end: bool) -> Vec<Vec<(u64, Known)>> {
        let windows = std::iter::from_fn(|| settle.pop(end));
        let readings = windows.map(|window| window.readings);
        readings.map(|all| all.iter().map(|one| (one.energy.0, one.known)).collect()).collect()
    }

    const COUNTER: Meter = Meter::Counter { range_uj: None };
    const STANDS: (u64, Known) = (0, Known::Measured);
    const STOPPED: (u64, Known) = (0, Known::Frozen);
    const MOVED: (u64, Known) = (7, Known::Measured);

    #[test]
    fn the_first_second_of_a_stop_is_not_known_either() {
        let mut settle = settle(&[COUNTER, COUNTER]);
        settle.push(window(&[MOVED, MOVED]));
        assert_eq!(all(&mut settle, false), [[MOVED, MOVED]]);
        for readings in [[STANDS, MOVED], [STANDS, MOVED], [STANDS, STANDS]] {
            settle.push(window(&readings));
            assert!(settle.pop(false).is_none());
        }
        settle.push(window(&[STOPPED, MOVED]));
        assert_eq!(
            all(&mut settle, false),
            [[STOPPED, MOVED], [STOPPED, MOVED], [STOPPED, STANDS], [STOPPED, MOVED]]
        );
    }

    #[test]
    fn one_that_moves_on_has_not_stopped() {
        let mut settle = settle(&[COUNTER, Meter::Power, Meter::Model]);
        // A power may be 0.
        let (power, model) = (STANDS, (0, Known::Modelled));
        settle.push(window(&[STANDS, power, model]));
        assert!(settle.pop(false).is_none());
        settle.push(window(&[MOVED, power, model]));
        settle.push(window(&[STANDS, power, model]));
        assert_eq!(all(&mut settle, false), [[STANDS, power, model], [MOVED, power, model]]);
        // At the end nothing more will be known.
        assert_eq!(all(&mut settle, true), [[STANDS, power, model]]);
    }
}
