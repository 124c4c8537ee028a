//! `lockwatt calibrate`: what the machine uses when nothing runs, and how much of that of a computing
//! thread a spinning one uses.

mod meter;
mod spin;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use self::meter::{Meter, WINDOW};
pub use self::spin::SpinPower;
use super::source::{Quality, Source};
use super::topology::Cpu;
use super::units::Watts;
use crate::trace::energy::{EnergySource, IdlePower};

/// Where it is kept unless it is said otherwise.
pub const DEFAULT: &str = "/var/lib/lockwatt/calibration.json";
/// A window in which the CPUs did this little is an idle one.
const IDLE_SHARE: f64 = 0.95;
/// At least so many of the windows must be.
const IDLE_WINDOWS: f64 = 0.2;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibration {
    /// The source, as it describes itself.
    pub source: String,
    /// What its numbers are.
    pub quality: Quality,
    /// When, RFC 3339.
    pub taken: String,
    /// `uname -n`: of another machine it would be worth nothing.
    pub machine: String,
    /// By domain.
    pub idle: Vec<(String, IdlePower)>,
    /// Power of a thread in `sched_yield` over that of one that computes, both above idle, in
    /// millionths: of all packages together. None: too close to tell.
    pub spin_weight: Option<u32>,
    /// The same by domain.
    pub spin: Vec<SpinPower>,
    /// How many of how many windows were idle.
    pub idle_windows: (u64, u64),
}

impl Calibration {
    /// Measures: for a while nothing, then on a CPU of each package one thread that computes, and one
    /// that yields.
    ///
    /// # Errors
    /// If the machine does not keep still, or a counter stops.
    pub fn take(source: &mut dyn Source, cpus: &[Cpu], time: Duration) -> Result<Self> {
        let names: Vec<String> = source.domains().iter().map(|one| one.name.clone()).collect();
        let (windows, all) = idle_windows(source, time)?;
        let found = windows.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let enough = found >= 3 && found as f64 >= IDLE_WINDOWS * all as f64;
        ensure!(
            enough,
            "the machine is not idle: nothing ran in {found} of {all} windows; stop what runs, and \
             calibrate again"
        );
        let by_domain = |n: usize| -> Vec<f64> { windows.iter().map(|watts| watts[n]).collect() };
        let idle: Vec<IdlePower> = (0..names.len()).map(|n| median(by_domain(n))).collect();
        let busy = time.max(Duration::from_secs(1)) / 2;
        let spin = spin::spin_powers(source, cpus, &idle, busy, &spin::Threads)?;
        Ok(Self {
            source: source.describe(),
            quality: source.quality(),
            taken: jiff::Timestamp::now().to_string(),
            machine: machine(),
            idle: names.into_iter().zip(idle).collect(),
            spin_weight: spin::of_all(&spin),
            spin,
            idle_windows: (found, all),
        })
    }

    /// Writes it, and makes the folder.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads one.
    ///
    /// # Errors
    /// If there is none, or it is of another machine.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: run `lockwatt calibrate` first", path.display()))?;
        let found: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no calibration", path.display()))?;
        if found.machine != machine() {
            let name = crate::render::escape::whole(&found.machine);
            bail!("{} is of another machine ({name}): calibrate here", path.display());
        }
        Ok(found)
    }

    /// Puts it into what a recording says of its source.
    ///
    /// # Errors
    /// If it is of another source.
    pub fn apply(&self, to: &mut EnergySource) -> Result<()> {
        ensure!(
            self.source == to.source,
            "the calibration is of {}, and this is {}: calibrate again",
            self.source,
            to.source
        );
        let of = |name: &str| self.idle.iter().find(|(known, _)| known == name).map(|one| one.1);
        to.idle = to.domains.iter().map(|domain| of(&domain.name)).collect();
        to.spin_weight = self.spin_weight;
        Ok(())
    }
}

fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Power of each domain in the windows in which the CPUs were idle, and how many windows there were.
fn idle_windows(source: &mut dyn Source, time: Duration) -> Result<(Vec<Vec<f64>>, u64)> {
    let begun = Instant::now();
    let (mut found, mut all) = (Vec::new(), 0);
    let mut before = cpu_times()?;
    let mut meter = Meter::new(source);
    while begun.elapsed() < time {
        std::thread::sleep(WINDOW);
        let watts = meter.next(source)?;
        let now = cpu_times()?;
        let share = (now.0 - before.0) / (now.1 - before.1).max(1.0);
        before = now;
        all += 1;
        if share >= IDLE_SHARE {
            found.push(watts);
        }
    }
    Ok((found, all))
}

fn median(mut watts: Vec<f64>) -> IdlePower {
    watts.sort_by(f64::total_cmp);
    let at = |quarters: usize| watts.get(watts.len() * quarters / 4).copied().unwrap_or(0.0);
    IdlePower { watts: Watts(at(2)), spread: Watts((at(3) - at(1)) / 2.0) }
}

/// Idle and all time of all CPUs so far, in ticks.
fn cpu_times() -> Result<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    ensure!(ticks.len() >= 5, "/proc/stat makes no sense");
    // idle and iowait.
    Ok((ticks[3] + ticks[4], ticks.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Domain;

    #[test]
    fn a_calibration_is_of_one_source_and_one_machine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/c.json");
        let idle = median(vec![5.0, 4.0, 6.0, 5.0, 50.0]);
        assert_eq!(idle.watts, Watts(5.0));
        let mut calibration = Calibration {
            source: "powercap (x)".into(),
            machine: machine(),
            idle: vec![("package-0".into(), idle)],
            spin_weight: Some(800_000),
            ..Calibration::default()
        };
        calibration.save(&path).unwrap();
        assert_eq!(Calibration::load(&path).unwrap(), calibration);
        let domains = vec![Domain::of_zone("psys", None), Domain::of_zone("package-0", None)];
        let mut to = EnergySource { source: "powercap (x)".into(), domains, ..Default::default() };
        calibration.apply(&mut to).unwrap();
        assert_eq!((to.idle, to.spin_weight), (vec![None, Some(idle)], Some(800_000)));
        to.source = "perf power PMU".into();
        to.idle = vec![];
        assert!(calibration.apply(&mut to).is_err());
        calibration.machine.push('x');
        calibration.save(&path).unwrap();
        assert!(Calibration::load(&path).is_err());
        assert!(Calibration::load(&dir.path().join("no")).is_err());
    }
}
