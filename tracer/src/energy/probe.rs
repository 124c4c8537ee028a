//! Does a counter count? In virtual machines there are counters that exist, can be read, and stay 0
//! while a CPU is 100 % busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::counter::{Known, MOST_WATTS, Raw, Tracker};
use super::domain::Meter;
use super::source::Source;
use super::units::Microjoules;
use crate::kernel::monotonic_now;

/// A counter that counts changes some 300 times in this time.
const LOOK: Duration = Duration::from_millis(300);
/// One with a step of a joule may change once in this time.
const LOOK_LONGER: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(15);
const ENOUGH_CHANGES: u32 = 3;
/// Less than this is no package that is at work, in watts.
const LEAST_WATTS: f64 = 0.1;

/// Looks at a source while one CPU is busy. The domains that are split must count.
///
/// # Errors
/// In words, what was seen instead.
pub fn probe(source: &mut dyn Source) -> Result<(), String> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let outcome = watch(source);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

struct Seen {
    tracker: Tracker,
    changes: u32,
    first: Option<u64>,
    last: Option<u64>,
    energy: Microjoules,
}

fn watch(source: &mut dyn Source) -> Result<(), String> {
    let domains = source.domains().to_vec();
    let mut seen: Vec<Seen> = domains
        .iter()
        .map(|domain| Seen {
            tracker: Tracker::new(domain),
            changes: 0,
            first: None,
            last: None,
            energy: Microjoules(0),
        })
        .collect();
    let begun = Instant::now();
    loop {
        let at = monotonic_now();
        for (one, raw) in seen.iter_mut().zip(source.read(at)) {
            let (energy, known) = one.tracker.advance(at, raw);
            if known == Known::Measured {
                one.energy += energy;
            }
            if let Raw::Value(value) = raw {
                one.changes += u32::from(one.last.is_some_and(|last| last != value));
                one.first.get_or_insert(value);
                one.last = Some(value);
            }
        }
        let counters = || domains.iter().zip(&seen).filter(|(domain, _)| domain.split);
        let enough = counters().all(|(domain, one)| match domain.meter {
            Meter::Counter { .. } => one.changes >= ENOUGH_CHANGES,
            Meter::Power => one.last.is_some(),
            Meter::Model => true,
        });
        let time = begun.elapsed();
        if (time >= LOOK && enough) || time >= LOOK_LONGER {
            let time = crate::units::Ns(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            for (domain, one) in counters() {
                let name = &domain.name;
                match (domain.meter, one.last) {
                    (Meter::Model, _) => continue,
                    (_, None) => return Err(format!("{name} can't be read")),
                    (Meter::Counter { .. }, Some(last)) if one.changes == 0 => {
                        return Err(format!(
                            "{name} stayed at {last} µJ for {time} while a CPU was busy"
                        ));
                    }
                    (Meter::Power, Some(0)) => return Err(format!("{name} says 0 W")),
                    _ => {}
                }
                let watts = one.energy.power(time).0;
                if !(LEAST_WATTS..=MOST_WATTS).contains(&watts) {
                    return Err(format!("{name} came to {watts:.3} W, which no machine uses"));
                }
            }
            return Ok(());
        }
        std::thread::sleep(EVERY);
    }
}
