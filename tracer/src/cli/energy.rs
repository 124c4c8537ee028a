//! What `record` and `calibrate` have in common: which counter, and how it is read.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use super::duration::parse_with_unit;
use crate::energy::calibration::{Calibration, DEFAULT};
use crate::energy::source::described;
use crate::energy::{Quality, Source, SourceError, Wanted, settle, topology};
use crate::fault::Fault;
use crate::trace::energy::EnergySource;
use crate::units::Ns;

const WINDOW: Duration = Duration::from_millis(100);
const FINE: Duration = Duration::from_millis(10);
/// A counter that moves once a millisecond says little of less.
const SHORTEST: Duration = Duration::from_millis(5);
/// A counter with 32 bits wraps every five minutes at 200 W: it is read more often than that.
const LONGEST: Duration = Duration::from_secs(60);
/// Of two busy threads of a core each counts so much: 11/20, as HaPPy (ATC'14) and DEEP-mon have it.
const SMT_WEIGHT: u32 = 550_000;

/// Which counter.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SourceArgs {
    /// Where energy is read: auto takes the best counter that counts, and none if there is none;
    /// powercap, perf, hwmon, battery, model:WATTS (an estimate: so many watts per busy core),
    /// replay:FILE (lines of `nanoseconds zone microjoules`), none
    #[arg(long, value_name = "SOURCE", default_value = "auto", value_parser = wanted)]
    pub(super) energy: Wanted,

    /// Read a powercap tree elsewhere than in /sys/class/powercap; its energy is called simulated. Only
    /// with --energy auto or powercap
    #[arg(long, value_name = "DIR")]
    pub(super) powercap_root: Option<PathBuf>,

    /// The calibration's file
    #[arg(long, value_name = "FILE", default_value = DEFAULT)]
    pub(super) calibration: PathBuf,
}

/// How it is read during a recording.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct EnergyArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,

    /// Read the counters every 10 ms instead of every 100 ms: finer, and less sure
    #[arg(long)]
    fine: bool,

    /// Read them so often; not below 5ms, where a counter that moves once a millisecond says little, and
    /// not above 60s
    #[arg(long, value_name = "TIME", value_parser = parse_with_unit, conflicts_with = "fine")]
    energy_window: Option<Duration>,

    /// What is taken off before energy is divided: nothing, or the power of the idle machine as
    /// `lockwatt calibrate` found it
    #[arg(long, value_enum, default_value_t = Idle::None)]
    idle: Idle,

    /// What time spent waiting on the CPU counts where energy is divided: as much as other time, or
    /// what `lockwatt calibrate` found (the range of the model has the other one)
    #[arg(long, value_enum, default_value_t = SpinWeight::None)]
    spin_weight: SpinWeight,
}

/// The baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Idle {
    /// Nothing.
    None,
    /// As calibrated.
    Calibrated,
}

/// The weight of waiting, γ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SpinWeight {
    /// 1.
    None,
    /// As calibrated.
    Calibrated,
}

/// A source, if there is one, and what the trace says of it.
pub(super) struct Ready {
    /// Where `auto` ended.
    pub(super) wanted: Wanted,
    pub(super) source: Option<Box<dyn Source>>,
    pub(super) record: EnergySource,
}

/// A source's name as it is asked for.
fn words(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Auto => "auto".to_owned(),
        Wanted::Powercap => "powercap".to_owned(),
        Wanted::Perf => "perf".to_owned(),
        Wanted::Hwmon => "hwmon".to_owned(),
        Wanted::Battery => "battery".to_owned(),
        Wanted::Model(watts) => format!("model:{watts}"),
        Wanted::Replay(path) => format!("replay:{}", path.display()),
        Wanted::None => "none".to_owned(),
    }
}

/// A value's name as it is given.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn wanted(text: &str) -> Result<Wanted, String> {
    text.parse().map_err(|error: SourceError| error.to_string())
}

impl EnergyArgs {
    /// The options with which another lockwatt reads this source in the same way.
    pub(super) fn again(&self, wanted: &Wanted) -> Vec<OsString> {
        let mut out: Vec<OsString> = vec!["--energy".into(), words(wanted).into()];
        let mut option = |name: &str, value: OsString| out.extend([name.into(), value]);
        if let Some(root) = &self.source.powercap_root {
            option("--powercap-root", root.into());
        }
        option("--calibration", self.source.calibration.clone().into());
        option("--idle", word(&self.idle).into());
        option("--spin-weight", word(&self.spin_weight).into());
        if let Some(window) = self.energy_window {
            option("--energy-window", format!("{}ns", window.as_nanos()).into());
        }
        if self.fine {
            out.push("--fine".into());
        }
        out
    }

    /// The option that wants a calibration.
    fn calibrated(&self) -> Option<&'static str> {
        if self.idle == Idle::Calibrated {
            Some("--idle calibrated")
        } else {
            (self.spin_weight == SpinWeight::Calibrated).then_some("--spin-weight calibrated")
        }
    }

    /// What can be said of the options before anything is looked at.
    ///
    /// # Errors
    /// They contradict each other, or make no sense.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let usage = |words: &str| Err(Fault::Usage(words.to_owned()));
        let window = self.window();
        if window < SHORTEST {
            return usage(
                "--energy-window: not below 5ms: counters move once a millisecond, so that a window \
                 would be mostly error",
            );
        }
        if window > LONGEST {
            return usage(
                "--energy-window: not above 60s: a counter wraps every few minutes, and must not do so \
                 unseen",
            );
        }
        let reads_tree = matches!(self.source.energy, Wanted::Auto | Wanted::Powercap);
        if self.source.powercap_root.is_some() && !reads_tree {
            return usage(&SourceError::NoTree.to_string());
        }
        Ok(())
    }

    fn window(&self) -> Duration {
        self.energy_window.unwrap_or(if self.fine { FINE } else { WINDOW })
    }

    /// Finds the source and says how it will be read.
    ///
    /// # Errors
    /// A source that was asked for by name is absent or does not count; or what was calibrated is not
    /// known.
    pub(super) fn prepare(&self) -> Result<Ready> {
        let window = self.window();
        let mut record = EnergySource {
            window: Ns(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX)),
            cpus: topology::online(),
            ..EnergySource::default()
        };
        let chosen = settle(&self.source.energy, self.source.powercap_root.as_deref())?;
        let (wanted, source) = match chosen {
            Ok(chosen) => chosen,
            Err(reason) => {
                if let Some(option) = self.calibrated() {
                    bail!("{option}: no live energy counter: {reason}");
                }
                record.none_because = Some(reason);
                return Ok(Ready { wanted: Wanted::None, source: None, record });
            }
        };
        record.source = source.describe();
        record.quality = source.quality();
        record.domains = source.domains().to_vec();
        record.assumed_watts = source.assumed_watts();
        let pairs = record.cpus.iter().any(|cpu| cpu.sibling.is_some());
        record.smt_weight = pairs.then_some(SMT_WEIGHT);
        if let Some(option) = self.calibrated() {
            ensure!(
                record.quality != Quality::Estimated,
                "{option}: an assumed power per busy core has no idle power in it, and is the same \
                 whatever runs"
            );
            let found =
                Calibration::load(&self.source.calibration).with_context(|| option.to_owned())?;
            found.apply(&mut record)?;
        }
        if self.idle == Idle::None {
            record.idle.clear();
        }
        record.spin_weighted = self.spin_weight == SpinWeight::Calibrated;
        ensure!(
            !record.spin_weighted || record.spin_weight.is_some(),
            "--spin-weight calibrated: the calibration has none: a busy thread was too close to idle; \
             `lockwatt calibrate` again, for longer (-d 60s)"
        );
        // Only now: a calibration is of the source as such.
        record.source = described(&*source);
        Ok(Ready { wanted, source: Some(source), record })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        energy: EnergyArgs,
    }

    fn args<S: Into<OsString> + Clone>(words: impl IntoIterator<Item = S>) -> EnergyArgs {
        let words = words.into_iter().map(Into::into);
        let all = std::iter::once(OsString::from("lockwatt")).chain(words);
        Alone::try_parse_from(all).unwrap().energy
    }

    /// What `compare` was told is what each of its runs is told, but for the source, which is chosen.
    #[test]
    fn options_are_passed_on() {
        for words in [
            &["--powercap-root", "/t", "--idle", "calibrated", "--calibration", "/c"][..],
            &["--spin-weight", "calibrated", "--energy-window", "20ms"],
            &["--fine", "--energy", "model:3.5"],
        ] {
            let given = args(words);
            let mut again = args(given.again(&Wanted::Perf));
            assert_eq!(again.source.energy, Wanted::Perf);
            again.source.energy = given.source.energy.clone();
            assert_eq!(format!("{again:?}"), format!("{given:?}"));
        }
        let replay = Wanted::Replay("/a b".into());
        assert_eq!(args(args([""; 0]).again(&replay)).source.energy, replay);
    }

    #[test]
    fn what_is_to_be_calibrated_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let readings = dir.path().join("readings");
        std::fs::write(&readings, "0 package-0 0\n1000 package-0 1\n").unwrap();
        let source = format!("replay:{}", readings.display());
        let missing = dir.path().join("no").display().to_string();
        let common = ["--energy", &source, "--calibration", &missing];
        for option in [["--idle", "calibrated"], ["--spin-weight", "calibrated"]] {
            let error = args([&common[..], &option[..]].concat()).prepare().err().unwrap();
            let words = format!("{error:#}");
            assert!(words.starts_with(&option.join(" ")), "{words}");
            assert!(words.contains("run `lockwatt calibrate` first"), "{words}");
        }
        let ready = args(common).prepare().unwrap();
        assert!(!ready.record.spin_weighted && ready.record.idle.is_empty());
        let none =
            args(["--energy", "none", "--spin-weight", "calibrated"]).prepare().err().unwrap();
        assert!(none.to_string().contains("no live energy counter"), "{none}");
        let model =
            args(["--energy", "model:3", "--spin-weight", "calibrated"]).prepare().err().unwrap();
        assert!(model.to_string().contains("an assumed power"), "{model}");
    }
}
