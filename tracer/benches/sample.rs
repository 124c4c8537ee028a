//! What a sample of the CPU clock costs: nanoseconds per run of `lw_sample` by the kernel's own
//! statistics, of a program that only spins and of one that never does, and of ticks that hit
//! nothing of the target.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::sys::{Stats, enable_stats};
use tracer::cpython::{Detected, Namer, detect};
use tracer::probe::{Hooks, Settings};
use tracer::record::attach;
use tracer::target::Process;
use tracer::units::{Ns, Pid};

#[derive(clap::Parser)]
#[command(about = "Nanoseconds per sample of the CPU clock, by the kernel's statistics")]
struct Args {
    /// Samples per second and CPU
    #[arg(long, default_value_t = 1999)]
    sample_hz: u32,
    /// How long each program is sampled, in milliseconds
    #[arg(long, default_value_t = 3000)]
    stretch: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

struct Load(Child);

impl Load {
    fn start(workload: &str) -> Result<Self> {
        let python = std::env::var("LOCKWATT_PYTHON_3_14T")
            .context("LOCKWATT_PYTHON_3_14T is not set: run `cargo xtask bench sample`")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../scripts/workloads")
            .join(workload)
            .with_extension("py");
        let mut child = Command::new(python).arg(script).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        ensure!(line.contains("pid"), "{workload} did not start");
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self(child))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    let _statistics = enable_stats(Stats::RunTime).context("the kernel's BPF statistics")?;
    println!("{:14}{:>10}{:>10}{:>10}{:>10}", "program", "ticks", "target", "spinning", "ns/tick");
    for workload in ["idle_pool", "gil_spin", "spin_only"] {
        let load = Load::start(workload)?;
        let pid = Pid(load.0.id());
        let Detected::Interpreter(python) = detect(&Process::open(pid)?)? else {
            anyhow::bail!("{workload}: no CPython")
        };
        let mut namer = Namer::new(pid);
        namer.set_interpreter(pid, Some(*python));
        let settings =
            Settings { sample_hz: args.sample_hz, ..Settings::new(pid, Ns(10_000), Hooks::Sched) };
        let attached = attach(&settings, &namer)?;
        std::thread::sleep(Duration::from_millis(args.stretch));
        let (time, runs) = attached.loaded.run_time("lw_sample").context("it is not loaded")?;
        let counted = attached.maps.sampled();
        println!(
            "{workload:14}{:>10}{:>10}{:>10}{:>10}",
            counted.ticks,
            counted.target,
            counted.spinning,
            time.0.checked_div(runs).unwrap_or(0)
        );
    }
    Ok(())
}
