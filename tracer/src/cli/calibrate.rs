//! `lockwatt calibrate`: what this machine uses when nothing runs.

use std::time::Duration;

use anyhow::{Result, bail};

use super::duration::parse;
use super::energy::SourceArgs;
use super::report::print;
use crate::energy::{Calibration, Quality, Wanted, choose};

#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES
  sudo lockwatt calibrate                        while nothing else runs: 10 s idle, 10 s of one busy thread
  sudo lockwatt record --idle calibrated -p 4242

Keeps, for each energy domain, the median power of the windows in which the CPUs were idle, and how
much power a thread that yields uses beside one that computes (the spin weight).")]
pub(super) struct Args {
    #[command(flatten)]
    source: SourceArgs,

    /// How long to look at the idle machine
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse)]
    duration: Duration,
}

/// Runs the command.
///
/// # Errors
/// There is no counter that counts, the machine is busy, or the result can't be written.
pub(super) fn run(args: &Args) -> Result<()> {
    if matches!(args.source.energy, Wanted::Model(_) | Wanted::None) {
        bail!("only a counter can be calibrated");
    }
    let mut source = match choose(&args.source.energy, args.source.powercap_root.as_deref())? {
        Ok(source) => source,
        Err(reason) => bail!("no live energy counter: {reason}"),
    };
    let found = Calibration::take(&mut *source, args.duration)?;
    found.save(&args.source.calibration)?;
    let (idle, all) = found.idle_windows;
    let simulated = if found.quality == Quality::Simulated { " (simulated)" } else { "" };
    let mut out = format!("{}{simulated}: idle in {idle} of {all} windows\n", found.source);
    for (name, power) in &found.idle {
        out += &format!("  {name}: {} idle, ±{}\n", power.watts, power.spread);
    }
    out += &match found.spin_weight {
        Some(weight) => format!("  spin weight: {:.2}\n", f64::from(weight) / 1e6),
        None => "  spin weight: not known, one busy thread is too close to idle\n".to_owned(),
    };
    out += &format!("kept in {}\n", args.source.calibration.display());
    print(out.as_bytes())
}
