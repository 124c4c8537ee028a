//! How right the recorded waits are, against programs whose waits are known by construction, on
//! every interpreter.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tracer::probe::Hooks;
use tracer::units::Ns;

#[path = "accuracy/mod.rs"]
mod accuracy;

use accuracy::measure::{Outcome, Row, VERSIONS, families, interpreter, measure};
use accuracy::recorder::How;
use accuracy::workloads::{WorkloadRow, divide, workloads};
use accuracy::{docs, table};

#[derive(clap::Parser)]
#[command(about = "Recorded waits against programs whose waits are known")]
struct Args {
    /// Only these families of scripts/truth
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// Only these interpreters
    #[arg(long, value_delimiter = ',')]
    python: Vec<String>,
    /// Instead of truth programs, every program of scripts/workloads, and what of its waiting is
    /// unclassified
    #[arg(long)]
    workloads: bool,
    /// How long each workload is recorded, in milliseconds
    #[arg(long, default_value_t = 1000)]
    length: u64,
    /// Only these of scripts/workloads
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Hooks to trace with
    #[arg(long, value_enum, default_value_t)]
    hooks: Hooks,
    /// Waits shorter than this many microseconds have no record
    #[arg(long, default_value_t = 10)]
    min_wait: u64,
    /// Write the rows into the tables of docs/accuracy.md. Without other options all of both tables, so
    /// it takes a while; with them only what they choose
    #[arg(long)]
    docs: bool,
    /// Waits of 25 ms and fewer of them in each truth program, instead of some hundred of 100 ms
    #[arg(long)]
    short: bool,
    /// So many threads wait in each truth program, instead of what it has by itself
    #[arg(long)]
    waiters: Option<u32>,
    /// Keep the traces in this folder, as FAMILY-PYTHON.lockwatt
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Print what was wrong
    #[arg(short, long)]
    verbose: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn how(&self) -> How {
        How {
            hooks: self.hooks,
            min_wait: Ns(self.min_wait * 1000),
            long: !self.short,
            waiters: self.waiters,
            keep: self.keep.clone(),
        }
    }

    fn interpreters(&self) -> Result<Vec<(&str, PathBuf)>> {
        if let Some(other) = self.python.iter().find(|asked| !VERSIONS.contains(&asked.as_str())) {
            anyhow::bail!("no CPython {other}: there are {}", VERSIONS.join(" "));
        }
        let wanted = VERSIONS
            .into_iter()
            .filter(|version| self.python.is_empty() || self.python.iter().any(|v| v == version));
        let mut found = Vec::new();
        for version in wanted {
            match interpreter(version) {
                Some(path) => found.push((version, path)),
                None => eprintln!("{version} is not measured: there is none on this machine"),
            }
        }
        ensure!(!found.is_empty(), "no interpreter: run `cargo xtask bench accuracy`");
        Ok(found)
    }
}

fn chosen(all: Vec<String>, asked: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = asked.iter().find(|asked| !all.contains(asked)) {
        anyhow::bail!("no {unknown}: there are {}", all.join(" "));
    }
    Ok(all.into_iter().filter(|name| asked.is_empty() || asked.contains(name)).collect())
}

fn measure_truth(args: &Args) -> Result<Vec<Row>> {
    let pythons = args.interpreters()?;
    let mut rows = Vec::new();
    for family in chosen(families()?, &args.family)? {
        for (version, path) in &pythons {
            eprintln!("{family} on {version}");
            let row = measure(path, version, &family, &args.how());
            match &row.outcome {
                Outcome::Measured(score) => {
                    if score.lost > 0 {
                        eprintln!("  {} waits were lost", score.lost);
                    }
                    let shown = score.wrong.iter().filter(|_| args.verbose);
                    shown.for_each(|wrong| eprintln!("  {wrong}"));
                }
                Outcome::NotHere => eprintln!("  nothing to see there"),
                Outcome::Failed(why) => eprintln!("  not measured: {why}"),
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

fn measure_workloads(args: &Args) -> Result<Vec<WorkloadRow>> {
    let pythons = args.interpreters()?;
    let mut rows = Vec::new();
    for name in chosen(workloads()?, &args.workload)? {
        for (version, path) in &pythons {
            eprintln!("{name} on {version}");
            let length = Duration::from_millis(args.length);
            let row = divide(path, version, &name, &args.how(), length);
            if let Err(why) = &row.outcome {
                eprintln!("  not measured: {why}");
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

impl Args {
    /// Puts a table's rows into the document, if that is asked for.
    fn write_docs(&self, name: &str, table: &str, whole: bool) -> Result<()> {
        if !self.docs {
            return Ok(());
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/accuracy.md");
        let document = std::fs::read_to_string(&path).context("docs/accuracy.md")?;
        let document = match whole {
            true => docs::replace(&document, name, table)?,
            false => docs::merge(&document, name, table)?,
        };
        std::fs::write(&path, document).context("docs/accuracy.md")
    }
}

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    if args.workloads || !args.workload.is_empty() {
        let rows = measure_workloads(&args)?;
        let table = table::workloads(&rows);
        println!("{table}");
        args.write_docs("workloads", &table, args.workload.is_empty() && args.python.is_empty())?;
        let failed = rows.iter().filter(|row| row.outcome.is_err()).count();
        ensure!(failed == 0, "{failed} workloads were not measured");
        return Ok(());
    }
    let rows = measure_truth(&args)?;
    let truth = table::truth(&rows);
    println!("{truth}");
    let whole = args.family.is_empty() && args.python.is_empty();
    args.write_docs("truth", &truth, whole)?;
    if args.docs && whole {
        let workloads = table::workloads(&measure_workloads(&args)?);
        println!("{workloads}");
        args.write_docs("workloads", &workloads, true)?;
    }
    let blind: Vec<String> = rows.iter().filter_map(Row::saw_nothing).collect();
    ensure!(blind.is_empty(), "nothing to judge by:\n{}", blind.join("\n"));
    Ok(())
}
