//! Writes a large synthetic trace: `cargo xtask gen-trace -- --help`.

use std::fs::File;
use std::path::PathBuf;

use clap::Parser;

#[path = "../benches/synthetic/mod.rs"]
mod synthetic;

use synthetic::Plan;
use tracer::trace::TimeUnit;
use tracer::units::Ns;

#[derive(Parser)]
#[command(
    name = "cargo xtask gen-trace --",
    about = "Writes a synthetic trace of a program with many threads, locks and stacks",
    after_help = "EXAMPLES
  cargo xtask gen-trace -- --waits 100M -o big.lockwatt
  cargo xtask gen-trace -- --waits 5M --shared-locks 5000 -o spread.lockwatt   every thread uses
                                                                               every lock
  cargo xtask gen-trace -- --waits 5M --energy -o joules.lockwatt              with simulated energy"
)]
struct Arguments {
    /// Waits with a record: 1000000, 100k, 1M
    #[arg(long, default_value = "1M", value_parser = count)]
    waits: u64,
    /// Threads
    #[arg(long, default_value_t = Plan::default().threads)]
    threads: u32,
    /// Locks
    #[arg(long, default_value_t = Plan::default().locks)]
    locks: u32,
    /// Places at which each lock is used, a stack each
    #[arg(long, default_value_t = Plan::default().sites)]
    sites: u32,
    /// Locks that all threads use, of each other one 16 do
    #[arg(long, default_value_t = Plan::default().shared_locks)]
    shared_locks: u32,
    /// Waits that begin per second
    #[arg(long, default_value_t = Plan::default().per_second)]
    per_second: u32,
    /// For the random numbers: the same one gives the same file
    #[arg(long, default_value_t = Plan::default().seed)]
    seed: u64,
    /// Nanoseconds that times are written in units of; 1 is exact
    #[arg(long, value_name = "NS", default_value = "32", value_parser = unit)]
    time_unit: TimeUnit,
    /// Write energy too: an energy source, labelled simulated, and its windows
    #[arg(long)]
    energy: bool,
    /// Milliseconds of an energy window
    #[arg(long, value_name = "MS", default_value_t = 100, requires = "energy")]
    energy_window: u32,
    /// The file to write; overwritten if it exists
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

fn count(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let n = digits.parse::<u64>().map_err(|error| error.to_string())?;
    n.checked_mul(unit).ok_or_else(|| "too many".to_owned())
}

fn unit(text: &str) -> anyhow::Result<TimeUnit> {
    Ok(TimeUnit::try_from(text.parse::<u64>()?)?)
}

fn main() -> anyhow::Result<()> {
    let args = Arguments::parse();
    let plan = Plan {
        waits: args.waits,
        threads: args.threads.max(1),
        locks: args.locks.max(1),
        sites: args.sites.max(1),
        shared_locks: args.shared_locks,
        per_second: args.per_second.max(1),
        seed: args.seed,
        time_unit: args.time_unit,
        energy: args.energy.then(|| Ns(u64::from(args.energy_window.max(1)) * 1_000_000)),
    };
    let file = synthetic::write(plan, File::create(&args.output)?)?;
    let bytes = file.metadata()?.len();
    println!("{}: {} waits, {bytes} bytes", args.output.display(), args.waits);
    Ok(())
}
