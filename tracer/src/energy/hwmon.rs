//! hwmon's `energyN_input` (µJ) and `powerN_input` or `powerN_average` (µW), and batteries: sources of
//! the whole machine, or of a part of it that is not known.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::counter::Raw;
use super::domain::{Domain, Meter, Part, arrange};
use super::powercap::number;
use super::source::{Quality, Source, SourceError};
use crate::units::Monotonic;

/// Where the kernel has hwmon.
pub const HWMON: &str = "/sys/class/hwmon";
/// Where it has batteries.
pub const SUPPLIES: &str = "/sys/class/power_supply";

/// A set of files that each hold one number.
#[derive(Debug)]
pub struct Files {
    what: String,
    domains: Vec<Domain>,
    files: Vec<File>,
}

impl Files {
    /// The energy inputs of hwmon, or where there are none its power inputs.
    ///
    /// # Errors
    /// If there is neither.
    pub fn hwmon(root: &Path) -> Result<Self, SourceError> {
        let mut energy = (Vec::new(), Vec::new());
        let mut power = (Vec::new(), Vec::new());
        for chip in sorted(root) {
            let chip_name = text(&chip.join("name")).unwrap_or_else(|| "hwmon".to_owned());
            for path in sorted(&chip) {
                let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
                let (meter, into) = if file.starts_with("energy") && file.ends_with("_input") {
                    (Meter::Counter { range_uj: None }, &mut energy)
                } else if file.starts_with("power")
                    && (file.ends_with("_input") || file.ends_with("_average"))
                {
                    (Meter::Power, &mut power)
                } else {
                    continue;
                };
                let Ok(opened) = File::open(&path) else { continue };
                let stem = file.split('_').next().unwrap_or(file);
                let label =
                    text(&chip.join(format!("{stem}_label"))).unwrap_or_else(|| stem.to_owned());
                into.0.push(machine(&format!("{chip_name}/{label}"), meter));
                into.1.push(opened);
            }
        }
        let (domains, files) = if energy.0.is_empty() { power } else { energy };
        let what = format!("hwmon ({})", root.display());
        Self::new(
            what,
            "hwmon",
            domains,
            files,
            format!("{} has no energy or power", root.display()),
        )
    }

    /// Batteries that are discharging: on mains what they say is not what the machine uses.
    ///
    /// # Errors
    /// If there is none.
    pub fn battery(root: &Path) -> Result<Self, SourceError> {
        let (mut domains, mut files) = (Vec::new(), Vec::new());
        let mut why = format!("{} has no battery", root.display());
        for supply in sorted(root) {
            if text(&supply.join("type")).as_deref() != Some("Battery") {
                continue;
            }
            let name = supply.file_name().and_then(|name| name.to_str()).unwrap_or("battery");
            if text(&supply.join("status")).as_deref() != Some("Discharging") {
                why = format!("{name} is not discharging");
                continue;
            }
            match File::open(supply.join("power_now")) {
                Ok(file) => {
                    domains.push(machine(name, Meter::Power));
                    files.push(file);
                }
                Err(error) => why = format!("{name}/power_now: {error}"),
            }
        }
        Self::new("battery".to_owned(), "battery", domains, files, why)
    }

    fn new(
        what: String,
        name: &str,
        mut domains: Vec<Domain>,
        files: Vec<File>,
        why: String,
    ) -> Result<Self, SourceError> {
        if domains.is_empty() {
            return Err(SourceError::absent(name, why));
        }
        arrange(&mut domains);
        Ok(Self { what, domains, files })
    }
}

/// How often these change is the driver's affair: a second is a cautious guess.
fn machine(name: &str, meter: Meter) -> Domain {
    Domain {
        name: name.to_owned(),
        part: Part::Machine,
        meter,
        quantum_uj: 1_000.0,
        period_ns: 1_000_000_000,
        ..Domain::default()
    }
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    all.sort();
    all
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

impl Source for Files {
    fn describe(&self) -> String {
        self.what.clone()
    }

    fn quality(&self) -> Quality {
        Quality::Measured
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    fn read(&mut self, _at: Monotonic) -> Vec<Raw> {
        self.files.iter_mut().map(|file| number(file).map_or(Raw::Gone, Raw::Value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn energy_is_better_than_power() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "hwmon0/name", "acpi\n");
        write(root, "hwmon0/power1_average", "25000000\n");
        let mut power = Files::hwmon(root).unwrap();
        assert_eq!(power.domains()[0].meter, Meter::Power);
        assert_eq!(power.read(Monotonic(0)), [Raw::Value(25_000_000)]);
        write(root, "hwmon1/name", "amd_energy\n");
        write(root, "hwmon1/energy1_input", "77\n");
        write(root, "hwmon1/energy1_label", "Esocket0\n");
        let mut energy = Files::hwmon(root).unwrap();
        assert_eq!(energy.domains()[0].name, "amd_energy/Esocket0");
        assert!(energy.domains()[0].split && energy.domains().len() == 1);
        assert_eq!(energy.read(Monotonic(0)), [Raw::Value(77)]);
    }

    #[test]
    fn a_battery_counts_only_while_it_discharges() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let words = Files::battery(root).unwrap_err().to_string();
        assert!(words.contains("no battery"), "{words}");
        write(root, "BAT0/type", "Battery\n");
        write(root, "BAT0/power_now", "9000000\n");
        write(root, "BAT0/status", "Charging\n");
        let words = Files::battery(root).unwrap_err().to_string();
        assert!(words.contains("BAT0 is not discharging"), "{words}");
        write(root, "BAT0/status", "Discharging\n");
        assert_eq!(Files::battery(root).unwrap().read(Monotonic(0)), [Raw::Value(9_000_000)]);
    }
}
