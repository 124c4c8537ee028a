//! What `record` and `calibrate` have in common: which counter, and how it is read.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::duration::parse_with_unit;
use crate::energy::calibration::{Calibration, DEFAULT};
use crate::energy::source::described;
use crate::energy::{Quality, Source, SourceError, Wanted, choose, topology};
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
}

/// The baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Idle {
    /// Nothing.
    None,
    /// As calibrated.
    Calibrated,
}

/// A source, if there is one, and what the trace says of it.
pub(super) struct Ready {
    pub(super) source: Option<Box<dyn Source>>,
    pub(super) record: EnergySource,
}

fn wanted(text: &str) -> Result<Wanted, String> {
    text.parse().map_err(|error: SourceError| error.to_string())
}

impl EnergyArgs {
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
    /// A source that was asked for by name is absent or does not count; or the baseline is not known.
    pub(super) fn prepare(&self) -> Result<Ready> {
        let window = self.window();
        let mut record = EnergySource {
            window: Ns(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX)),
            cpus: topology::online(),
            ..EnergySource::default()
        };
        let chosen = choose(&self.source.energy, self.source.powercap_root.as_deref())?;
        let source = match chosen {
            Ok(source) => source,
            Err(reason) => {
                anyhow::ensure!(
                    self.idle == Idle::None,
                    "--idle calibrated: no live energy counter: {reason}"
                );
                record.none_because = Some(reason);
                return Ok(Ready { source: None, record });
            }
        };
        record.source = source.describe();
        record.quality = source.quality();
        record.domains = source.domains().to_vec();
        record.assumed_watts = source.assumed_watts();
        let pairs = record.cpus.iter().any(|cpu| cpu.sibling.is_some());
        record.smt_weight = pairs.then_some(SMT_WEIGHT);
        if self.idle == Idle::Calibrated {
            anyhow::ensure!(
                record.quality != Quality::Estimated,
                "--idle calibrated: an assumed power per busy core has no idle power in it"
            );
            Calibration::load(&self.source.calibration)?.apply(&mut record)?;
        }
        // Only now: a calibration is of the source as such.
        record.source = described(&*source);
        Ok(Ready { source: Some(source), record })
    }
}
