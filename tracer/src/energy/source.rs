//! Where energy readings come from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::counter::Raw;
use super::domain::Domain;
use crate::units::Monotonic;

/// What its numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// A counter of this machine was read.
    Measured,
    /// A power was assumed.
    Estimated,
    /// A tree or a file that somebody made.
    Simulated,
    /// There is none.
    #[default]
    #[serde(other)]
    None,
}

impl Quality {
    /// The name in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Estimated => "estimated",
            Self::Simulated => "simulated",
            Self::None => "none",
        }
    }

    /// The word for every number that is attributed.
    #[must_use]
    pub fn attributed(self) -> &'static str {
        match self {
            Self::Measured => "attributed",
            Self::Simulated => "attributed, simulated",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

/// Why a source can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such thing here.
    #[error("energy source {name}: {reason}")]
    Absent {
        /// As it was asked for.
        name: String,
        /// What is missing.
        reason: String,
    },
    /// It is there, and it does not count.
    #[error("energy source {name} is present but does not count: {reason}")]
    Dead {
        /// As it was asked for.
        name: String,
        /// What was seen.
        reason: String,
    },
    /// It counts, and only what can't be divided.
    #[error("energy source {name} has nothing that can be divided over tasks: {reason}")]
    Undivided {
        /// As it was asked for.
        name: String,
        /// What it has.
        reason: String,
    },
    /// A tree was named for a source that reads none.
    #[error("--powercap-root is for --energy powercap or auto: this source reads no such tree")]
    NoTree,
    /// The words make no sense.
    #[error(
        "--energy {text}: give auto, powercap, perf, hwmon, battery, model:WATTS, replay:FILE or none"
    )]
    Unknown {
        /// What was given.
        text: String,
    },
}

impl SourceError {
    /// Something is missing.
    #[must_use]
    pub fn absent(name: &str, reason: impl Into<String>) -> Self {
        Self::Absent { name: name.to_owned(), reason: reason.into() }
    }
}

/// Something that gives energy readings.
pub trait Source: Send {
    /// What it is and where, for people and traces.
    fn describe(&self) -> String;

    /// What its numbers are.
    fn quality(&self) -> Quality;

    /// Its domains, arranged ([`super::domain::arrange`]).
    fn domains(&self) -> &[Domain];

    /// Reads all of them now; one for each domain.
    fn read(&mut self, at: Monotonic) -> Vec<Raw>;

    /// From now on it does not have this domain, which is no use; `why` is for people. Not for those that
    /// nobody looks at first ([`super::probe::probe`]).
    fn leave_out(&mut self, place: usize, why: &str) {
        let _ = (place, why);
    }

    /// What was left out, and why.
    fn left_out(&self) -> &[String] {
        &[]
    }

    /// Watts per busy core, if that is assumed instead of read.
    fn assumed_watts(&self) -> Option<f64> {
        None
    }
}

/// What a source is, and what it had and is not used.
#[must_use]
pub fn described(source: &dyn Source) -> String {
    let mut words = source.describe();
    for left_out in source.left_out() {
        words += "; left out: ";
        words += left_out;
    }
    words
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Wanted {
    /// The best that counts, or none.
    #[default]
    Auto,
    /// powercap's zones.
    Powercap,
    /// The perf `power` PMU.
    Perf,
    /// Energy and power inputs of hwmon.
    Hwmon,
    /// Batteries that discharge.
    Battery,
    /// So many watts per busy core.
    Model(f64),
    /// Readings from a file.
    Replay(PathBuf),
    /// Time only.
    None,
}

impl std::str::FromStr for Wanted {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let unknown = || SourceError::Unknown { text: text.to_owned() };
        Ok(match text {
            "auto" => Self::Auto,
            "powercap" => Self::Powercap,
            "perf" => Self::Perf,
            "hwmon" => Self::Hwmon,
            "battery" => Self::Battery,
            "none" => Self::None,
            _ => match text.split_once(':') {
                Some(("model", watts)) => {
                    let watts = watts.parse().ok().filter(|w: &f64| w.is_finite() && *w > 0.0);
                    Self::Model(watts.ok_or_else(unknown)?)
                }
                Some(("replay", file)) if !file.is_empty() => Self::Replay(file.into()),
                _ => return Err(unknown()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_asked_for_by_name() {
        assert_eq!("model:3.5".parse::<Wanted>().unwrap(), Wanted::Model(3.5));
        assert_eq!("replay:a:b".parse::<Wanted>().unwrap(), Wanted::Replay("a:b".into()));
        for wrong in ["", "rapl", "model:", "model:-1", "model:nan", "replay:"] {
            assert!(wrong.parse::<Wanted>().is_err(), "{wrong}");
        }
    }
}
