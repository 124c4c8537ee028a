//! powercap's sysfs tree: `intel-rapl:N/{name,energy_uj,max_energy_range_uj}`, on AMD too, with zones
//! inside zones (`intel-rapl:N:M`). TPMI registers the same way.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::counter::Raw;
use super::domain::{Domain, Meter, arrange};
use super::source::{Quality, Source, SourceError};
use crate::units::Monotonic;

/// Where the kernel has it.
pub const ROOT: &str = "/sys/class/powercap";
const NAME: &str = "powercap";
/// RAPL counters have 32 bits: their step is their range over this.
const STEPS: f64 = 4_294_967_295.0;

/// The zones of a tree.
#[derive(Debug)]
pub struct Powercap {
    root: PathBuf,
    simulated: bool,
    domains: Vec<Domain>,
    files: Vec<File>,
    left_out: Vec<String>,
}

struct Zone {
    dir: PathBuf,
    domain: Domain,
    file: File,
    mmio: bool,
}

impl Powercap {
    /// Opens every zone that has a counter. A tree elsewhere than the kernel's is somebody's making:
    /// what it gives is simulated.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub fn open(root: Option<&Path>) -> Result<Self, SourceError> {
        let simulated = root.is_some();
        let root = root.unwrap_or(Path::new(ROOT));
        let shown = root.display();
        let entries = fs::read_dir(root)
            .map_err(|error| SourceError::absent(NAME, format!("{shown}: {error}")))?;
        let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        dirs.sort();
        let mut zones: Vec<Zone> = Vec::new();
        let mut refused = None;
        for dir in dirs {
            match zone(&dir) {
                Ok(Some(zone)) => zones.push(zone),
                Ok(None) => {}
                Err(why) => refused = Some(why),
            }
        }
        if zones.is_empty() {
            let why = refused.unwrap_or_else(|| format!("{shown} has no zone with a counter"));
            return Err(SourceError::absent(NAME, why));
        }
        // Many laptops have each package twice, through the MSR and through MMIO.
        let msr: Vec<Domain> =
            zones.iter().filter(|zone| !zone.mmio).map(|zone| zone.domain.clone()).collect();
        zones.retain(|zone| !zone.mmio || !msr.iter().any(|other| other.same_as(&zone.domain)));
        // The same zone may be found inside its package and at the top.
        let mut seen: Vec<PathBuf> = Vec::new();
        zones.retain(|zone| {
            let real = fs::canonicalize(&zone.dir).unwrap_or_else(|_| zone.dir.clone());
            let new = !seen.contains(&real);
            seen.push(real);
            new
        });
        let (mut domains, files): (Vec<_>, Vec<_>) =
            zones.into_iter().map(|zone| (zone.domain, zone.file)).unzip();
        arrange(&mut domains);
        Ok(Self { root: root.to_owned(), simulated, domains, files, left_out: Vec::new() })
    }
}

/// A zone, if the folder is one with a counter.
fn zone(dir: &Path) -> Result<Option<Zone>, String> {
    let control = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((kind, number)) = control.split_once(':') else { return Ok(None) };
    let Ok(name) = fs::read_to_string(dir.join("name")) else { return Ok(None) };
    let counter = dir.join("energy_uj");
    let file = match File::open(&counter) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", counter.display())),
    };
    // `intel-rapl:1:0` lies in `intel-rapl:1`.
    let outer =
        number.split_once(':').map(|(outer, _)| dir.with_file_name(format!("{kind}:{outer}")));
    let inside = outer.and_then(|outer| fs::read_to_string(outer.join("name")).ok());
    let mut domain = Domain::of_zone(name.trim(), inside.as_deref().map(str::trim));
    let range_uj = fs::read_to_string(dir.join("max_energy_range_uj"))
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .filter(|&range| range > 0);
    domain.meter = Meter::Counter { range_uj };
    if let Some(range) = range_uj {
        #[expect(clippy::cast_precision_loss, reason = "its step, in µJ")]
        let step = (range as f64 / STEPS).max(1.0);
        domain.quantum_uj = step;
    }
    Ok(Some(Zone { dir: dir.to_owned(), domain, file, mmio: kind.ends_with("-mmio") }))
}

impl Source for Powercap {
    fn describe(&self) -> String {
        format!("powercap ({})", self.root.display())
    }

    fn quality(&self) -> Quality {
        if self.simulated { Quality::Simulated } else { Quality::Measured }
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

/// The number in a sysfs file that stays open.
pub(super) fn number(file: &mut File) -> Option<u64> {
    let mut buffer = [0; 32];
    file.seek(SeekFrom::Start(0)).ok()?;
    let n = file.read(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..n]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(root: &Path, dir: &str, name: &str, energy: u64, range: Option<u64>) {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("name"), format!("{name}\n")).unwrap();
        fs::write(dir.join("energy_uj"), format!("{energy}\n")).unwrap();
        if let Some(range) = range {
            fs::write(dir.join("max_energy_range_uj"), format!("{range}\n")).unwrap();
        }
    }

    fn names(source: &Powercap) -> Vec<&str> {
        source.domains().iter().map(|domain| domain.name.as_str()).collect()
    }

    #[test]
    fn all_packages_and_what_is_inside_whatever_their_numbers() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        fs::create_dir(root.join("intel-rapl")).unwrap();
        add(root, "intel-rapl:0", "psys", 1, Some(262_143_328_850));
        add(root, "intel-rapl:1", "package-1", 2, Some(262_143_328_850));
        add(root, "intel-rapl:1:0", "core", 3, Some(262_143_328_850));
        add(root, "intel-rapl:1:1", "dram", 4, Some(65_712_999_613));
        add(root, "intel-rapl:2", "package-0", 5, Some(262_143_328_850));
        add(root, "intel-rapl-mmio:0", "package-0", 6, Some(262_143_328_850));
        let mut source = Powercap::open(Some(root)).unwrap();
        assert_eq!(
            names(&source),
            ["psys", "package-1", "package-1/core", "package-1/dram", "package-0"]
        );
        assert_eq!(source.quality(), Quality::Simulated);
        let values = source.read(Monotonic(0));
        assert_eq!(values, [1, 2, 3, 4, 5].map(Raw::Value));
        // AMD's have the same names, and one zone each.
        let step = source.domains()[1].quantum_uj;
        assert!((step - 61.035).abs() < 0.001, "{step}");
        assert!((source.domains()[3].quantum_uj - 15.3).abs() < 0.01);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let tree = tempfile::tempdir().unwrap();
        let words = Powercap::open(Some(tree.path())).unwrap_err().to_string();
        assert!(words.contains("no zone with a counter"), "{words}");
        let words = Powercap::open(Some(&tree.path().join("nowhere"))).unwrap_err().to_string();
        assert!(words.contains("nowhere"), "{words}");
    }

    #[test]
    fn a_zone_that_can_t_be_read_is_gone() {
        let tree = tempfile::tempdir().unwrap();
        add(tree.path(), "intel-rapl:0", "package-0", 7, None);
        let mut source = Powercap::open(Some(tree.path())).unwrap();
        assert_eq!(source.read(Monotonic(0)), [Raw::Value(7)]);
        fs::write(tree.path().join("intel-rapl:0/energy_uj"), "").unwrap();
        assert_eq!(source.read(Monotonic(0)), [Raw::Gone]);
    }
}
