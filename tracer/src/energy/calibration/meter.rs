//! Power from one look at the counters to the next.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::energy::counter::{Known, Tracker};
use crate::energy::source::Source;
use crate::kernel::monotonic_now;
use crate::units::{Monotonic, Ns};

/// A look takes so long.
pub(super) const WINDOW: Duration = Duration::from_millis(100);

/// Power from one look to the next.
pub(super) struct Meter {
    trackers: Vec<Tracker>,
    at: Monotonic,
}

impl Meter {
    pub(super) fn new(source: &mut dyn Source) -> Self {
        let trackers = source.domains().iter().map(Tracker::new).collect();
        let mut meter = Self { trackers, at: monotonic_now() };
        // The first look has nothing before it.
        let _ = meter.next(source);
        meter
    }

    pub(super) fn next(&mut self, source: &mut dyn Source) -> Result<Vec<f64>> {
        let at = monotonic_now();
        let raw = source.read(at);
        let time: Ns = at.since(self.at);
        self.at = at;
        let mut watts = Vec::new();
        for (tracker, raw) in self.trackers.iter_mut().zip(raw) {
            let (energy, known) = tracker.advance(at, raw);
            if !matches!(known, Known::Measured) {
                bail!("a counter was {known:?} meanwhile: calibrate again");
            }
            watts.push(energy.power(time).0);
        }
        Ok(watts)
    }
}
