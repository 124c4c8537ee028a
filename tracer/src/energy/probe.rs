//! Does a counter count? In virtual machines there are counters that exist, can be read, and stay 0
//! while a CPU is 100 % busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::counter::{Known, MOST_WATTS, Raw, Tracker};
use super::domain::{Domain, Meter, Part, divides};
use super::source::Source;
use super::units::Microjoules;
use crate::kernel::monotonic_now;
use crate::units::Ns;

/// A counter that counts changes some 300 times in this time.
const LOOK: Duration = Duration::from_millis(300);
/// One that does not gets this time.
const LOOK_LONGER: Duration = Duration::from_secs(1);
/// One with a step of a joule, or that is brought up to date once a second, may need this.
const LOOK_AT_SLOW: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_millis(15);
const ENOUGH_CHANGES: u32 = 3;
/// Of slow ones.
const ENOUGH_CHANGES_OF_SLOW: u32 = 1;
/// A step of a tenth of a joule, or a tenth of a second, is slow.
const SLOW_STEP_UJ: f64 = 100_000.0;
const SLOW_PERIOD_NS: u64 = 100_000_000;
/// Less than this is no package that is at work, in watts.
const LEAST_WATTS: f64 = 0.1;

/// Looks at a source while one CPU is busy. Packages must count. Others that don't are left out of the
/// source: memory that does not count, and what stays at 0 or can't be read. Of a source without packages
/// one domain must count.
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
        let seen = watch(source);
        stop.store(true, Ordering::Relaxed);
        judge(source, &seen)
    })
}

/// What was seen of one domain.
struct Seen {
    tracker: Tracker,
    changes: u32,
    last: Option<u64>,
    energy: Microjoules,
    time: Ns,
}

fn watch(source: &mut dyn Source) -> Vec<Seen> {
    let domains = source.domains().to_vec();
    let new = |domain: &Domain| Seen {
        tracker: Tracker::new(domain),
        changes: 0,
        last: None,
        energy: Microjoules(0),
        time: Ns(0),
    };
    let mut seen: Vec<Seen> = domains.iter().map(new).collect();
    // Where nothing is divided, whatever counts will do.
    let all = !divides(&domains);
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
                one.last = Some(value);
            }
        }
        let time = begun.elapsed();
        let judged = || domains.iter().zip(&seen).filter(|(domain, _)| all || domain.split);
        let waits = |(domain, one): (&Domain, &Seen)| {
            // One that is at 0 has not counted since the machine began to run.
            let slow = is_slow(domain) && one.last.is_some_and(|value| value > 0);
            let longest = if slow { LOOK_AT_SLOW } else { LOOK_LONGER };
            time < LOOK || time < longest && !one.is_enough(domain)
        };
        if !judged().any(waits) {
            let time = Ns(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            seen.iter_mut().for_each(|one| one.time = time);
            return seen;
        }
        std::thread::sleep(EVERY);
    }
}

fn is_slow(domain: &Domain) -> bool {
    domain.quantum_uj >= SLOW_STEP_UJ || domain.period_ns >= SLOW_PERIOD_NS
}

impl Seen {
    fn is_enough(&self, domain: &Domain) -> bool {
        let least = if is_slow(domain) { ENOUGH_CHANGES_OF_SLOW } else { ENOUGH_CHANGES };
        match domain.meter {
            Meter::Counter { .. } => self.changes >= least,
            Meter::Power => self.last.is_some(),
            Meter::Model => true,
        }
    }

    /// Why it does not count, if it does not.
    fn fault(&self, domain: &Domain) -> Option<String> {
        let name = &domain.name;
        let time = self.time;
        match (domain.meter, self.last) {
            (Meter::Model, _) => return None,
            (_, None) => return Some(format!("{name} can't be read")),
            (Meter::Counter { .. }, Some(last)) if self.changes == 0 => {
                return Some(format!("{name} stayed at {last} µJ for {time} while a CPU was busy"));
            }
            (Meter::Counter { .. }, Some(_)) if !self.is_enough(domain) => {
                let times = if self.changes == 1 { "once" } else { "twice" };
                return Some(format!("{name} changed only {times} in {time} while a CPU was busy"));
            }
            (Meter::Power, Some(0)) => return Some(format!("{name} says 0 W")),
            _ => {}
        }
        let watts = self.energy.power(time).0;
        let least = if domain.part == Part::Package { LEAST_WATTS } else { 0.0 };
        let sane = (least..=MOST_WATTS).contains(&watts);
        (!sane).then(|| format!("{name} came to {watts:.3} W, which no machine uses"))
    }

    /// It is at 0, or nothing can be read.
    fn is_nothing(&self) -> bool {
        self.last.is_none() || self.last == Some(0) && self.changes == 0
    }
}

/// Packages must count; leaves out what does not.
fn judge(source: &mut dyn Source, seen: &[Seen]) -> Result<(), String> {
    let domains = source.domains().to_vec();
    let divided = divides(&domains);
    let mut without = Vec::new();
    for (place, (domain, one)) in domains.iter().zip(seen).enumerate() {
        let fault = one.fault(domain);
        match (fault, domain.split && domain.part != Part::Dram) {
            (Some(fault), true) => return Err(fault),
            // What is shown only and stands may have nothing to count: graphics that nobody uses.
            (Some(fault), false) if !divided || domain.split || one.is_nothing() => {
                without.push((place, fault));
            }
            _ => {}
        }
    }
    if without.len() == domains.len() {
        return Err(without.swap_remove(0).1);
    }
    // From behind, so that places stay what they are.
    for (place, fault) in without.into_iter().rev() {
        source.leave_out(place, &fault);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Quality;
    use crate::energy::domain::arrange;
    use crate::energy::source::described;
    use crate::units::Monotonic;

    /// Domains that each change so many times, with each reading, and then stand.
    struct Made {
        domains: Vec<Domain>,
        changes: Vec<u64>,
        left_out: Vec<String>,
        reads: u64,
    }

    impl Made {
        fn new(zones: &[(&str, u64)]) -> Self {
            let zone = |(name, _): &(&str, u64)| match name.split_once('/') {
                Some((outer, inner)) => Domain::of_zone(inner, Some(outer)),
                None => Domain::of_zone(name, None),
            };
            let mut domains: Vec<Domain> = zones.iter().map(zone).collect();
            arrange(&mut domains);
            let changes = zones.iter().map(|(_, changes)| *changes).collect();
            Self { domains, changes, left_out: Vec::new(), reads: 0 }
        }
    }

    impl Source for Made {
        fn describe(&self) -> String {
            "made".to_owned()
        }

        fn quality(&self) -> Quality {
            Quality::Simulated
        }

        fn domains(&self) -> &[Domain] {
            &self.domains
        }

        fn read(&mut self, _at: Monotonic) -> Vec<Raw> {
            self.reads += 1;
            let value = |most: &u64| Raw::Value(self.reads.min(*most) * 200_000);
            self.changes.iter().map(value).collect()
        }

        fn leave_out(&mut self, place: usize, why: &str) {
            self.domains.remove(place);
            self.changes.remove(place);
            arrange(&mut self.domains);
            self.left_out.push(why.to_owned());
        }

        fn left_out(&self) -> &[String] {
            &self.left_out
        }
    }

    /// The first reading is no change.
    const ALWAYS: u64 = u64::MAX >> 20;
    const ONCE: u64 = 2;
    const TWICE: u64 = 3;

    #[test]
    fn a_counter_has_to_change_three_times() {
        for (changes, words) in [(0, "stayed at 0"), (ONCE, "only once"), (TWICE, "only twice")] {
            let why = probe(&mut Made::new(&[("package-0", changes)])).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        probe(&mut Made::new(&[("package-0", TWICE + 1)])).unwrap();
        // One with a step of a joule may have to be believed sooner.
        let mut coarse = Made::new(&[("package-0", ONCE)]);
        coarse.domains[0].quantum_uj = 1e6;
        probe(&mut coarse).unwrap();
    }

    #[test]
    fn memory_that_stands_still_does_not_end_its_package() {
        let zones = [
            ("psys", ALWAYS),
            ("package-0/dram", 0),
            ("package-0/core", 0),
            ("package-0", ALWAYS),
            ("package-1", ALWAYS),
            ("package-1/dram", TWICE),
            ("package-1/uncore", ONCE),
        ];
        let mut made = Made::new(&zones);
        probe(&mut made).unwrap();
        let left: Vec<_> =
            made.domains.iter().map(|one| (one.name.as_str(), one.parent, one.split)).collect();
        assert_eq!(
            left,
            [
                ("psys", None, false),
                ("package-0", Some(0), true),
                ("package-1", Some(0), true),
                ("package-1/uncore", Some(2), false),
            ]
        );
        let words = described(&made);
        for part in [
            "made; left out: package-1/dram changed only twice",
            "; left out: package-0/core stayed at 0 µJ",
            "; left out: package-0/dram stayed at 0 µJ",
        ] {
            assert!(words.contains(part), "no {part:?} in {words}");
        }
        // A package is another matter.
        let why = probe(&mut Made::new(&[("package-0", ALWAYS), ("package-1", 0)])).unwrap_err();
        assert!(why.contains("package-1 stayed at 0"), "{why}");
    }

    #[test]
    fn where_nothing_is_divided_one_has_to_count() {
        let mut made = Made::new(&[("psys", ALWAYS), ("other", 0)]);
        probe(&mut made).unwrap();
        assert_eq!(made.domains.len(), 1);
        assert!(probe(&mut Made::new(&[("psys", 0)])).unwrap_err().contains("psys stayed at 0"));
    }
}
