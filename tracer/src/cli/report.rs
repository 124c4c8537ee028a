//! `lockwatt report`: what a trace says, as text or JSON. Also how the other commands over stored
//! traces open one.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

use crate::analyze::{Side, Summary, Want, summarize_as, summarize_small};
use crate::fault::Fault;
use crate::render::answer::answer;
use crate::render::deadlocks::deadlocks;
use crate::render::energy::Carbon;
use crate::render::text::{By, View, plural};
use crate::render::{json, text};
use crate::trace::{ReadError, TraceReader};

const EXAMPLES: &str = "\
EXAMPLES
  lockwatt report t.lockwatt                   the answer, then every view, at most 20 rows each
  lockwatt report t.lockwatt --by site         at which functions and lines was waited
  lockwatt report t.lockwatt --by site --side holder   at which the locks were held, or let go
  lockwatt report t.lockwatt --by lock --side both     both, for every lock
  lockwatt report t.lockwatt --by pair         who waited for whom
  lockwatt report t.lockwatt --by graph        chains of waits, queues, how long locks were held
  lockwatt report t.lockwatt --format json     everything, for programs
  ssh HOST cat t.lockwatt | lockwatt report -  from standard input

The trace is read without privileges, on any machine, also if its recorder was killed.";

/// Arguments of `lockwatt report`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The trace to read; `-` is standard input
    file: PathBuf,
    /// Show one view, with all of its rows (text only: JSON always holds every view)
    #[arg(long, value_enum, value_name = "VIEW")]
    by: Option<By>,
    /// Whose lines to list: where was waited, where the lock was held, or both [default: waiter
    /// with --by site, else both; text only]
    #[arg(long, value_enum)]
    side: Option<Side>,
    /// Take the lock's owner as its holder also where it moved on while it was looked at: more
    /// owners and fewer wakers, some of them wrong
    #[arg(long)]
    unverified: bool,
    /// Show at most N locks, threads, pairs, sites, chains, convoys and deadlocks each
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Show grams of CO2e beside joules, at so many per kilowatt-hour
    #[arg(long, value_name = "G_PER_KWH", value_parser = carbon)]
    carbon: Option<Carbon>,
    /// Show as well what energy of idle CPUs coincides with waits (needs --idle calibrated when
    /// recording): a "what if", in no sum
    #[arg(long)]
    counterfactual: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: schema 1.
    Json,
}

fn carbon(text: &str) -> Result<Carbon, String> {
    match text.parse::<f64>() {
        Ok(grams) if grams.is_finite() && grams >= 0.0 => Ok(Carbon(grams)),
        _ => Err("give grams of CO2e per kilowatt-hour, such as 400".to_owned()),
    }
}

/// Runs `lockwatt report`.
///
/// # Errors
/// The file can't be read as a trace, or standard output can't be written.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if let (Some(by @ (By::Thread | By::Pair | By::Kind | By::Graph)), Some(_)) =
        (args.by, args.side)
    {
        let by = by.to_possible_value().map(|by| by.get_name().to_owned()).unwrap_or_default();
        let words = format!("--by {by} lists no lines: --side goes with --by site and --by lock");
        return Err(Fault::Usage(words).into());
    }
    let want = Want {
        // Nothing else of the report lists both sides of one wait.
        links: args.by == Some(By::Site) && args.side == Some(Side::Both),
        threads: false,
        counterfactual: args.counterfactual,
        unverified: args.unverified,
        ..Want::default()
    };
    let summary = load(&args.file, want)?;
    let view = View {
        by: args.by,
        side: args.side,
        top: args.top,
        width: terminal_width(),
        carbon: args.carbon,
    };
    match args.format {
        Format::Text => print(text::report(&summary, view).as_bytes()),
        Format::Json => {
            let mut out = BufWriter::new(io::stdout().lock());
            json::write(&mut out, &summary, args.top, args.carbon)
                .and_then(|()| out.flush())
                .context("cannot write to standard output")
        }
    }
}

/// Deadlocks and the answer, and nothing else: what `record` says when it is done.
///
/// # Errors
/// The file can't be read as a trace.
pub(super) fn short_summary(path: &Path) -> anyhow::Result<String> {
    let want = Want { pairs: false, links: false, threads: false, ..Want::default() };
    let summary = load_with(path, |reader| summarize_small(reader, want))?;
    Ok(deadlocks(&summary, None) + &answer(&summary))
}

/// Reads a trace and adds up what is wanted. What is cut or damaged is said on standard error.
///
/// # Errors
/// The file can't be read as a trace.
pub(super) fn load(path: &Path, want: Want) -> anyhow::Result<Summary> {
    load_with(path, |reader| summarize_as(reader, want))
}

fn load_with(
    path: &Path,
    summarize: impl FnOnce(TraceReader<Box<dyn io::Read>>) -> Result<Summary, ReadError>,
) -> anyhow::Result<Summary> {
    let shown = path.display();
    let summary = TraceReader::open(path).and_then(summarize).with_context(|| shown.to_string())?;
    let file = &summary.completeness.file;
    for what in file.damage.iter().chain(&file.cut) {
        eprintln!("lockwatt: {shown}: {what}");
    }
    if file.waits_damaged > 0 {
        let waits = plural(file.waits_damaged, "wait");
        eprintln!("lockwatt: {shown}: {waits} lost by the damage");
    }
    // The metadata comes first: cut before its end, a trace has nothing.
    let nothing = file.cut.is_some()
        && summary.meta == crate::trace::records::Meta::default()
        && summary.totals.waits == 0;
    anyhow::ensure!(!nothing, "{shown}: nothing of the recording is left to read: record again");
    Ok(summary)
}

/// Writes to standard output.
///
/// # Errors
/// The system's, as an [`io::Error`]: a broken pipe is told apart by the caller.
pub(super) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Columns of the terminal that standard output is, if it is one.
fn terminal_width() -> Option<u16> {
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col).filter(|&n| n > 0)
}
