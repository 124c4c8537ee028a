//! hwmon's `energyN_input` (µJ) and `powerN_input` or `powerN_average` (µW), and batteries.
//!
//! What a sensor is of, only its driver knows: a graphics card, a fan, the whole machine (ACPI's
//! `power_meter`). So the only ones that are divided over tasks are packages by `amd_energy`'s labels;
//! all others, batteries too, are shown as they are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::counter::Raw;
use super::domain::{Domain, Meter, Part, RAPL_PERIOD_NS, RAPL_QUANTUM_UJ, arrange};
use super::powercap::number;
use super::source::{Quality, Source, SourceError};
use super::topology::Cpu;
use crate::units::Monotonic;

/// Drivers that label RAPL's counters `Esocket0` and `Ecore000` (`drivers/hwmon/amd_energy.c` of Linux
/// 5.8 to 5.12, and what has taken its place outside of the kernel).
const AMD: [&str; 3] = ["amd_energy", "zenergy", "zenpower"];
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
    left_out: Vec<String>,
}

impl Files {
    /// The packages' counters among hwmon's; where there are none its energy inputs, and where there
    /// are none either its power inputs.
    ///
    /// # Errors
    /// If there is nothing.
    pub fn hwmon(root: &Path, topology: &[Cpu]) -> Result<Self, SourceError> {
        let (mut packages, mut energy, mut power) =
            (Found::default(), Found::default(), Found::default());
        for chip in sorted(root) {
            let chip_name = text(&chip.join("name")).unwrap_or_else(|| "hwmon".to_owned());
            let amd = AMD.contains(&chip_name.as_str());
            for path in sorted(&chip) {
                let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
                let stem = file.split('_').next().unwrap_or(file);
                let label =
                    text(&chip.join(format!("{stem}_label"))).unwrap_or_else(|| stem.to_owned());
                let name = format!("{chip_name}/{label}");
                let socket = label.strip_prefix("Esocket").and_then(|n| n.parse().ok());
                let (domain, into) = if file.starts_with("energy") && file.ends_with("_input") {
                    match socket.filter(|_| amd) {
                        Some(socket) => (package(&name, socket), &mut packages),
                        // One core, inside a package.
                        None if amd && label.starts_with("Ecore") => continue,
                        None => {
                            let meter = Meter::Counter { range_uj: None };
                            (machine(&name, meter), &mut energy)
                        }
                    }
                } else if file.starts_with("power")
                    && (file.ends_with("_input") || file.ends_with("_average"))
                {
                    (machine(&name, Meter::Power), &mut power)
                } else {
                    continue;
                };
                let Ok(opened) = File::open(&path) else { continue };
                into.domains.push(domain);
                into.files.push(opened);
            }
        }
        if !packages.domains.is_empty() && !are_packages(&packages.domains, topology) {
            for domain in &mut packages.domains {
                (domain.part, domain.package) = (Part::Machine, None);
            }
        }
        let found = [packages, energy, power].into_iter().find(|one| !one.domains.is_empty());
        let what = format!("hwmon ({})", root.display());
        let why = format!("{} has no energy or power", root.display());
        Self::new(what, "hwmon", found.unwrap_or_default(), why)
    }

    /// Batteries that are discharging: on mains what they say is not what the machine uses.
    ///
    /// # Errors
    /// If there is none.
    pub fn battery(root: &Path) -> Result<Self, SourceError> {
        let mut found = Found::default();
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
                    found.domains.push(machine(name, Meter::Power));
                    found.files.push(file);
                }
                Err(error) => why = format!("{name}/power_now: {error}"),
            }
        }
        Self::new("battery".to_owned(), "battery", found, why)
    }

    fn new(what: String, name: &str, found: Found, why: String) -> Result<Self, SourceError> {
        let Found { mut domains, files } = found;
        if domains.is_empty() {
            return Err(SourceError::absent(name, why));
        }
        arrange(&mut domains);
        Ok(Self { what, domains, files, left_out: Vec::new() })
    }
}

/// Domains, and the file of each.
#[derive(Default)]
struct Found {
    domains: Vec<Domain>,
    files: Vec<File>,
}

/// `Esocket<n>` is the counter of the package that has NUMA node n, and there is one for each node
/// (`amd_energy_read` and `amd_create_sensor`). A package with several nodes is there several times, and
/// by another number: then none of them can be told from the others.
fn are_packages(sockets: &[Domain], topology: &[Cpu]) -> bool {
    let packages: Option<BTreeSet<u32>> = topology.iter().map(|cpu| cpu.package).collect();
    let numbers: BTreeSet<u32> = sockets.iter().filter_map(|one| one.package).collect();
    match packages.filter(|packages| !packages.is_empty()) {
        Some(packages) => numbers == packages && sockets.len() == packages.len(),
        // Which CPU is where is not known: a single one is of all of them.
        None => sockets.len() == 1,
    }
}

/// A RAPL counter, that the driver made longer.
fn package(name: &str, number: u32) -> Domain {
    Domain {
        name: name.to_owned(),
        part: Part::Package,
        package: Some(number),
        meter: Meter::Counter { range_uj: None },
        quantum_uj: RAPL_QUANTUM_UJ,
        period_ns: RAPL_PERIOD_NS,
        ..Domain::default()
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

    fn leave_out(&mut self, place: usize, why: &str) {
        self.domains.remove(place);
        self.files.remove(place);
        arrange(&mut self.domains);
        self.left_out.push(why.to_owned());
    }

    fn left_out(&self) -> &[String] {
        &self.left_out
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

    fn cpus(packages: &[u32]) -> Vec<Cpu> {
        let cpu = |(cpu, &package)| Cpu { cpu, package: Some(package), ..Cpu::default() };
        (0..).zip(packages).map(cpu).collect()
    }

    fn names(files: &Files) -> Vec<(&str, bool)> {
        files.domains().iter().map(|domain| (domain.name.as_str(), domain.split)).collect()
    }

    /// `amd_energy`'s cores come first, and a graphics card has the first number.
    fn amd(root: &Path, sockets: u32) {
        write(root, "hwmon0/name", "amdgpu\n");
        write(root, "hwmon0/power1_average", "25000000\n");
        write(root, "hwmon1/name", "amd_energy\n");
        for core in 1..=2 {
            write(root, &format!("hwmon1/energy{core}_input"), "7\n");
            write(root, &format!("hwmon1/energy{core}_label"), &format!("Ecore{:03}\n", core - 1));
        }
        for socket in 0..sockets {
            let n = 3 + socket;
            write(root, &format!("hwmon1/energy{n}_input"), &format!("{}\n", 100 + socket));
            write(root, &format!("hwmon1/energy{n}_label"), &format!("Esocket{socket}\n"));
        }
    }

    #[test]
    fn only_packages_are_divided() {
        let dir = tempfile::tempdir().unwrap();
        amd(dir.path(), 2);
        let mut files = Files::hwmon(dir.path(), &cpus(&[0, 0, 1, 1])).unwrap();
        assert_eq!(names(&files), [("amd_energy/Esocket0", true), ("amd_energy/Esocket1", true)]);
        let packages: Vec<_> = files.domains().iter().map(|one| (one.part, one.package)).collect();
        assert_eq!(packages, [(Part::Package, Some(0)), (Part::Package, Some(1))]);
        assert_eq!(files.read(Monotonic(0)), [Raw::Value(100), Raw::Value(101)]);
    }

    /// One package with two NUMA nodes has its counter twice.
    #[test]
    fn a_counter_of_a_node_is_not_taken_for_a_packages() {
        let dir = tempfile::tempdir().unwrap();
        amd(dir.path(), 2);
        for topology in [cpus(&[0, 0, 0, 0]), cpus(&[0, 1, 2]), vec![Cpu::default()]] {
            let files = Files::hwmon(dir.path(), &topology).unwrap();
            assert_eq!(
                names(&files),
                [("amd_energy/Esocket0", false), ("amd_energy/Esocket1", false)]
            );
        }
        let one = tempfile::tempdir().unwrap();
        amd(one.path(), 1);
        let files = Files::hwmon(one.path(), &[Cpu::default()]).unwrap();
        assert_eq!(names(&files), [("amd_energy/Esocket0", true)]);
    }

    #[test]
    fn what_a_sensor_is_of_is_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "hwmon0/name", "amdgpu\n");
        write(root, "hwmon0/power1_average", "25000000\n");
        write(root, "hwmon1/name", "power_meter\n");
        write(root, "hwmon1/power1_average", "99000000\n");
        let mut power = Files::hwmon(root, &cpus(&[0])).unwrap();
        assert_eq!(names(&power), [("amdgpu/power1", false), ("power_meter/power1", false)]);
        assert_eq!(power.read(Monotonic(0)), [Raw::Value(25_000_000), Raw::Value(99_000_000)]);
        // A label alone is nobody's word for a package.
        write(root, "hwmon2/name", "other\n");
        write(root, "hwmon2/energy1_input", "77\n");
        write(root, "hwmon2/energy1_label", "Esocket0\n");
        let energy = Files::hwmon(root, &cpus(&[0])).unwrap();
        assert_eq!(names(&energy), [("other/Esocket0", false)]);
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
        // Two of them supply the machine together, and none of it is a package's.
        for (file, text) in [("type", "Battery\n"), ("power_now", "4000000\n")] {
            write(root, &format!("BAT1/{file}"), text);
        }
        write(root, "BAT1/status", "Discharging\n");
        let mut both = Files::battery(root).unwrap();
        assert_eq!(names(&both), [("BAT0", false), ("BAT1", false)]);
        assert_eq!(both.read(Monotonic(0)), [Raw::Value(9_000_000), Raw::Value(4_000_000)]);
    }
}
