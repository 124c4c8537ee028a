//! Sources without a counter of this machine: a power that is assumed, and readings from a file.

use std::path::{Path, PathBuf};

use super::counter::Raw;
use super::domain::{Domain, Meter, Part, arrange_made};
use super::source::{Quality, Source, SourceError};
use crate::units::Monotonic;

/// `model:WATTS`: so many watts per busy core, whatever it does. An estimate, and called that.
#[derive(Debug)]
pub struct Model {
    watts: f64,
    domains: Vec<Domain>,
}

impl Model {
    /// So many watts per busy core.
    #[must_use]
    pub fn new(watts: f64) -> Self {
        let mut domains = vec![Domain {
            name: "model".to_owned(),
            part: Part::Machine,
            meter: Meter::Model,
            ..Domain::default()
        }];
        arrange_made(&mut domains);
        Self { watts, domains }
    }
}

impl Source for Model {
    fn describe(&self) -> String {
        format!("model, {} W per busy core assumed", self.watts)
    }

    fn quality(&self) -> Quality {
        Quality::Estimated
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    fn read(&mut self, _at: Monotonic) -> Vec<Raw> {
        vec![Raw::Modelled]
    }

    fn assumed_watts(&self) -> Option<f64> {
        Some(self.watts)
    }
}

/// `replay:FILE`: lines of `nanoseconds zone microjoules`, counters as they were read elsewhere, played
/// from the recording's beginning on.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    domains: Vec<Domain>,
    /// By domain: times from the beginning on and values, in order.
    readings: Vec<Vec<(u64, u64)>>,
    start: Option<Monotonic>,
}

impl Replay {
    /// Reads the whole file.
    ///
    /// # Errors
    /// If it can't be read, or a line is none.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let absent =
            |reason: String| SourceError::absent(&format!("replay:{}", path.display()), reason);
        let text = std::fs::read_to_string(path).map_err(|error| absent(error.to_string()))?;
        let (mut names, mut readings): (Vec<String>, Vec<Vec<(u64, u64)>>) = Default::default();
        for (n, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let parsed = (|| {
                let at = words.next()?.parse().ok()?;
                let zone = words.next()?;
                Some((at, zone, words.next()?.parse().ok()?))
            })();
            let Some((at, zone, energy)) = parsed else {
                let reason = format!("line {} is not `nanoseconds zone microjoules`", n + 1);
                return Err(absent(reason));
            };
            let place = names.iter().position(|name| name == zone).unwrap_or_else(|| {
                names.push(zone.to_owned());
                readings.push(Vec::new());
                names.len() - 1
            });
            if readings[place].last().is_some_and(|&(before, _)| before > at) {
                return Err(absent(format!("line {} goes back in time", n + 1)));
            }
            readings[place].push((at, energy));
        }
        if names.is_empty() {
            return Err(absent("it has no readings".to_owned()));
        }
        let zone = |name: &String| match name.split_once('/') {
            Some((outer, inner)) => Domain::of_zone(inner, Some(outer)),
            None => Domain::of_zone(name, None),
        };
        let mut domains: Vec<Domain> = names.iter().map(zone).collect();
        for (domain, readings) in domains.iter_mut().zip(&readings) {
            domain.period_ns = domain.period_ns.max(period(readings));
        }
        arrange_made(&mut domains);
        Ok(Self { path: path.to_owned(), domains, readings, start: None })
    }
}

/// The usual time from one of a zone's lines to the next, in ns.
fn period(readings: &[(u64, u64)]) -> u64 {
    let mut gaps: Vec<u64> = readings.windows(2).map(|two| two[1].0 - two[0].0).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().unwrap_or(0)
}

impl Source for Replay {
    fn describe(&self) -> String {
        format!("replay ({})", self.path.display())
    }

    fn quality(&self) -> Quality {
        Quality::Simulated
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// As a counter would: the last value that there was.
    fn read(&mut self, at: Monotonic) -> Vec<Raw> {
        let time = at.since(*self.start.get_or_insert(at)).0;
        let value = |readings: &Vec<(u64, u64)>| {
            let next = readings.partition_point(|&(at, _)| at <= time);
            let reading = readings.get(next.saturating_sub(1));
            reading.map_or(Raw::Gone, |&(_, energy)| Raw::Value(energy))
        };
        self.readings.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_played_from_the_first_reading_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        std::fs::write(&path, "# made\n0 package-0 10\n5 package-0/core 1\n10 package-0 20\n")
            .unwrap();
        let mut replay = Replay::open(&path).unwrap();
        assert!(replay.domains()[0].split && !replay.domains()[1].split);
        for (at, package) in [(100, 10), (109, 10), (110, 20), (1_000, 20)] {
            assert_eq!(replay.read(Monotonic(at))[0], Raw::Value(package), "{at}");
        }
        // What stands between two lines has not stopped.
        std::fs::write(&path, "0 a 1\n2000000000 a 2\n4000000000 a 3\n4000000001 b 1\n").unwrap();
        let periods: Vec<_> =
            Replay::open(&path).unwrap().domains().iter().map(|one| one.period_ns).collect();
        assert_eq!(periods, [2_000_000_000, 1_000_000]);
        for (text, words) in
            [("x", "line 1"), ("", "no readings"), ("2 a 1\n1 a 1", "back in time")]
        {
            std::fs::write(&path, text).unwrap();
            let error = Replay::open(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
