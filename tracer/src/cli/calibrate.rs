//! `lockwatt calibrate`: what this machine uses when nothing runs.

use std::time::Duration;

use anyhow::{Result, bail};

use super::duration::parse;
use super::energy::SourceArgs;
use super::report::print;
use crate::energy::{Calibration, Quality, Wanted, choose, topology};

#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES
  sudo lockwatt calibrate                        while nothing else runs: 10 s idle, 10 s of one busy
                                                 thread on each package
  sudo lockwatt record --idle calibrated -p 4242

Keeps, for each energy domain, the median power of the windows in which the CPUs were idle, and how
much power a thread that yields uses beside one that computes (the spin weight): on a CPU of each
package, and of all packages together.")]
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
    let found = Calibration::take(&mut *source, &topology::online(), args.duration)?;
    found.save(&args.source.calibration)?;
    let (idle, all) = found.idle_windows;
    let simulated = if found.quality == Quality::Simulated { " (simulated)" } else { "" };
    let mut out = format!("{}{simulated}: idle in {idle} of {all} windows\n", found.source);
    for (name, power) in &found.idle {
        out += &format!("  {name}: {} idle, ±{}\n", power.watts, power.spread);
    }
    let share = |weight: u32| format!("{:.2}", f64::from(weight) / 1e6);
    for one in &found.spin {
        let (name, run, spin) = (&one.domain, one.run, one.spin);
        out += &match one.cpu {
            Some(cpu) => {
                let weight = one.weight.map_or_else(|| "not known".to_owned(), share);
                format!(
                    "  {name}: above idle a thread on CPU {cpu} that computes {run}, one that yields \
                     {spin}: spin weight {weight}\n"
                )
            }
            None => format!("  {name}: no CPU of it can be used, and so no spin weight\n"),
        };
    }
    out += &match found.spin_weight {
        Some(weight) => format!("  spin weight: {}\n", share(weight)),
        None => {
            "  spin weight: not known: a busy thread is too close to idle, or the ratio makes no \
                 sense\n"
                .to_owned()
        }
    };
    out += &format!("kept in {}\n", args.source.calibration.display());
    print(out.as_bytes())
}
