//! `lockwatt flamegraph`: a trace as a picture, or as folded stacks for other tools.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;

use super::report::{load, print};
use crate::analyze::{Side, Want};
use crate::fault::Fault;
use crate::render::flamegraph::svg;
use crate::render::folded::{self, Picture, Weight};

const EXAMPLES: &str = "\
EXAMPLES
  lockwatt flamegraph t.lockwatt                     draws t.svg (open it in a browser)
  lockwatt flamegraph t.lockwatt -o wait.svg --idle  idle waits too
  lockwatt flamegraph t.lockwatt --weight count -o count.svg
  lockwatt flamegraph t.lockwatt --side holder -o held.svg   who was in the way, and where
  lockwatt flamegraph t.lockwatt --side both -o both.svg     who waited, above it who held
  lockwatt flamegraph t.lockwatt -o -                folded stacks on standard output

Stacks are thread, Python functions, kind of lock, lock. Times are nanoseconds in folded stacks, µs
in pictures. --side both goes on with [held by] and the holder's functions from the innermost out.";

/// Arguments of `lockwatt flamegraph`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The trace to draw; `-` is standard input
    file: PathBuf,
    /// Where to: OUT.svg, OUT.folded, or `-` for standard output [default: FILE with .svg, which
    /// is not overwritten without --force]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// What to write [default: what the output's extension says; folded on standard output]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What the widths stand for
    #[arg(long, value_enum, default_value_t = Weight::Wait)]
    weight: Weight,
    /// Whose stacks: the waiters', those of who held the lock or let it go, or both in one
    #[arg(long, value_enum, default_value_t = Side::Waiter)]
    side: Side,
    /// Take the lock's owner as its holder also where it moved on while it was looked at
    #[arg(long)]
    unverified: bool,
    /// Include idle waits (queues, events, joins)
    #[arg(long)]
    idle: bool,
    /// Overwrite a file that exists, also if --output doesn't name it
    #[arg(long)]
    force: bool,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A picture.
    Svg,
    /// One stack per line.
    Folded,
}

/// Where the output goes.
#[derive(Debug, PartialEq, Eq)]
enum Sink {
    Stdout,
    /// Named by the user: replaced.
    Named(PathBuf),
    /// Derived from the trace's name: created, never replaced without `--force`.
    Derived(PathBuf),
}

/// Runs `lockwatt flamegraph`.
///
/// # Errors
/// The trace can't be read, doesn't have the weight asked for, or the output can't be written.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (sink, format) = destination(args)?;
    if let Sink::Derived(path) = &sink
        && !args.force
        && path.exists()
    {
        return Err(exists(path));
    }
    let want = Want {
        pairs: false,
        links: args.side == Side::Both,
        threads: true,
        graph: false,
        counterfactual: false,
        unverified: args.unverified,
    };
    let summary = load(&args.file, want)?;
    let picture = Picture { weight: args.weight, side: args.side, idle: args.idle };
    let stacks =
        folded::stacks(&summary, picture).with_context(|| args.file.display().to_string())?;
    let bytes = match format {
        Format::Folded => folded::text(&stacks).into_bytes(),
        Format::Svg => svg(&stacks, &summary, picture).context("cannot draw the flame graph")?,
    };
    if stacks.is_empty() {
        let idle = if args.idle { "" } else { " (idle waits are left out without --idle)" };
        eprintln!("lockwatt: {}: no waits to draw{idle}", args.file.display());
    }
    match sink {
        Sink::Stdout => print(&bytes),
        Sink::Named(path) => write(&path, &args.file, &bytes, true),
        Sink::Derived(path) => write(&path, &args.file, &bytes, args.force),
    }
}

fn destination(args: &Args) -> Result<(Sink, Format), Fault> {
    let Some(output) = &args.output else {
        if args.file == Path::new("-") {
            return Err(Fault::Usage(
                "a trace from standard input has no name: say with -o where to write".to_owned(),
            ));
        }
        let format = args.format.unwrap_or(Format::Svg);
        return Ok((Sink::Derived(args.file.with_extension(extension(format))), format));
    };
    if output == Path::new("-") {
        return Ok((Sink::Stdout, args.format.unwrap_or(Format::Folded)));
    }
    let by_name = output.extension().and_then(|name| match name.to_str()? {
        "svg" => Some(Format::Svg),
        "folded" => Some(Format::Folded),
        _ => None,
    });
    let format = args.format.or(by_name).ok_or_else(|| {
        Fault::Usage(format!(
            "{}: name it .svg or .folded, or say with --format which it is to be",
            output.display()
        ))
    })?;
    Ok((Sink::Named(output.clone()), format))
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Svg => "svg",
        Format::Folded => "folded",
    }
}

fn write(path: &Path, trace: &Path, bytes: &[u8], replace: bool) -> anyhow::Result<()> {
    if let (Ok(path), Ok(trace)) = (fs::canonicalize(path), fs::canonicalize(trace))
        && path == trace
    {
        bail!("{}: that is the trace itself, and it is kept", path.display());
    }
    let file = if replace { File::create(path) } else { File::create_new(path) };
    let mut file = match file {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(path)),
        file => file.with_context(|| format!("cannot create {}", path.display()))?,
    };
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("lockwatt: wrote {}", path.display());
    Ok(())
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow!("{} exists: --force overwrites it, -o writes somewhere else", path.display())
}
