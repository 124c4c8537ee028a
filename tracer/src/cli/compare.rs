//! `lockwatt compare`: two commands in turns, and what differs.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Access, access};

use super::energy::{EnergyArgs, Ready};
use super::report::{load, print};
use crate::analyze::Want;
use crate::analyze::compare::{Comparison, Run};
use crate::energy::Wanted;
use crate::fault::Fault;
use crate::kernel::Privileges;
use crate::probe::Hooks;
use crate::render::compare::{self, About};
use crate::render::{escape, json};

const EXAMPLES: &str = "\
EXAMPLES
  sudo lockwatt compare -- python3.14 app.py --- python3.14t app.py      the GIL against none
  sudo lockwatt compare -n 10 -- python3 before.py --- python3 after.py
  sudo lockwatt compare --format json -- ./a --- ./b

Both commands are traced, with their children. The order is A B B A A B …, so that a machine that
warms up is no difference. All runs read the same energy counter, which is chosen before the first
one; a run that lost something, or of whose energy a part is not known, is told. docs/recipes has the
experiment of arXiv 2603.04782 as an example.

What the commands print on standard output goes into DIR/a-1.out, DIR/b-1.out … with --keep DIR, and
nowhere without it. Standard error is left alone.

EXIT CODES
  0  every run went well, and the comparison is printed
  1  a run failed: the command's own exit code was not 0, or it could not be recorded
  2  usage, or one of the commands is not there or not executable: nothing was run
  3  not permitted";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How often each command runs; with one pair there are no intervals
    #[arg(short = 'n', long, value_name = "RUNS", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,

    /// What to hook in each run: with `syscall` waiting on the CPU is timed instead of sampled
    #[arg(long, value_enum, default_value_t)]
    hooks: Hooks,

    #[command(flatten)]
    energy: EnergyArgs,

    /// Show at most N kinds and N locks
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,

    /// Keep the traces there, and what the commands print on standard output
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// The two commands, `---` between them
    #[arg(last = true, required = true, value_name = "CMD_A --- CMD_B")]
    commands: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Runs the command.
///
/// # Errors
/// A command can't be run or recorded.
pub(super) fn run(args: &Args) -> Result<()> {
    let middle = args.commands.iter().position(|word| word == "---");
    let commands = middle.map(|at| (&args.commands[..at], &args.commands[at + 1..]));
    let Some((a, b)) = commands.filter(|(a, b)| !a.is_empty() && !b.is_empty()) else {
        let words = "compare wants two commands: `-- CMD_A --- CMD_B`";
        return Err(Fault::Usage(words.to_owned()).into());
    };
    args.energy.check()?;
    // Not after the first one has run for an hour.
    for command in [a, b] {
        check(command)?;
    }
    Privileges::read()?.check()?;
    // Not anew for each run: all are read from one counter, or none is.
    let Ready { wanted, record: source, .. } = args.energy.prepare()?;
    let own = Scratch::new(args.keep.as_deref())?;
    let mut runs = [Vec::new(), Vec::new()];
    for n in 0..args.runs {
        let order = if n % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let command = [a, b][which];
            let name = format!("{}-{}.lockwatt", ["a", "b"][which], n + 1);
            let trace = own.dir.join(&name);
            eprintln!("lockwatt: run {} of {}: {}", n + 1, args.runs, ["A", "B"][which]);
            record(args, &wanted, command, &trace)?;
            let summary = load(&trace, Want { graph: false, ..Want::default() })?;
            runs[which].push(Run::of(&summary, &source));
        }
    }
    let comparison = Comparison::of(&runs[0], &runs[1]);
    let commands = [a, b].map(|words| words.join(" ".as_ref()).to_string_lossy().into_owned());
    let about = About { commands, source };
    let text = match args.format {
        Format::Text => compare::text(&comparison, &about, args.top),
        Format::Json => json::text(&compare::json(&comparison, &about)),
    };
    print(text.as_bytes())
}

/// A command is there and can be executed, as far as that can be said without running it.
fn check(command: &[OsString]) -> Result<()> {
    let Some(program) = command.first() else { return Ok(()) };
    let shown = escape::whole(&program.to_string_lossy());
    let file = |path: &Path| path.metadata().is_ok_and(|found| found.is_file());
    let executable = |path: &Path| file(path) && access(path, Access::EXEC_OK).is_ok();
    if program.as_encoded_bytes().contains(&b'/') {
        return match Path::new(program) {
            path if executable(path) => Ok(()),
            path if path.exists() => Err(Fault::Usage(format!("{shown} is not executable")).into()),
            _ => Err(Fault::Usage(format!("no such command: {shown}")).into()),
        };
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).any(|folder| executable(&folder.join(program)));
    if found { Ok(()) } else { Err(Fault::Usage(format!("no such command: {shown}")).into()) }
}

/// Where the traces are; removed at the end unless they are to be kept.
struct Scratch {
    dir: PathBuf,
    remove: bool,
}

impl Scratch {
    fn new(keep: Option<&Path>) -> Result<Self> {
        let name = format!("lockwatt-compare-{}", std::process::id());
        let dir = keep.map_or_else(|| std::env::temp_dir().join(name), Path::to_path_buf);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir, remove: keep.is_none() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.remove {
            // What can't be removed is in the folder for what is.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Records one run, in a lockwatt of its own: its programs are gone before the next one begins.
fn record(args: &Args, source: &Wanted, command: &[OsString], trace: &Path) -> Result<()> {
    let mut lockwatt = Command::new("/proc/self/exe");
    lockwatt.args(["record", "--quiet", "--force", "--follow", "--hooks", args.hooks.name()]);
    lockwatt.args(args.energy.again(source));
    lockwatt.arg("-o").arg(trace).arg("--").args(command);
    // What the command prints is not the comparison.
    let printed = match args.keep {
        Some(_) => {
            let path = trace.with_extension("out");
            let file = File::create(&path);
            file.with_context(|| format!("cannot write {}", path.display()))?.into()
        }
        None => Stdio::null(),
    };
    let status = lockwatt.stdout(printed).status().context("cannot start a recording")?;
    ensure!(status.success(), "{}: {status}", command.join(" ".as_ref()).display());
    Ok(())
}
