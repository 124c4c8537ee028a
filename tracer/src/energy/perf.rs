//! The perf `power` PMU: RAPL's counters as system-wide events, one for each CPU in its `cpumask`
//! (one CPU of each package). The kernel keeps 64 bits, so they never wrap.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{FromRawFd, RawFd};
use std::path::{Path, PathBuf};

use super::counter::Raw;
use super::domain::{Domain, Meter, arrange};
use super::source::{Quality, Source, SourceError};
use super::topology::{cpu_list, package_of_cpu};
use crate::units::Monotonic;

/// Where the kernel describes it.
pub const PMU: &str = "/sys/bus/event_source/devices/power";
const NAME: &str = "perf";

/// One open event.
#[derive(Debug)]
struct Event {
    file: File,
    /// µJ in one count.
    scale: f64,
}

/// The PMU's events.
#[derive(Debug)]
pub struct Perf {
    domains: Vec<Domain>,
    events: Vec<Event>,
}

/// What sysfs says of an event.
#[derive(Clone, Debug, PartialEq)]
struct Described {
    name: String,
    config: u64,
    /// µJ in one count.
    scale: f64,
}

/// The beginning of `struct perf_event_attr` (`PERF_ATTR_SIZE_VER0`, `include/uapi/linux/perf_event.h`).
#[derive(Default)]
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}

const _: () = assert!(size_of::<Attributes>() == 64);

impl Perf {
    /// Opens every event that there is.
    ///
    /// # Errors
    /// If there is none, or none can be opened.
    pub fn open() -> Result<Self, SourceError> {
        let pmu = Path::new(PMU);
        let absent = |reason: String| SourceError::absent(NAME, reason);
        let text = |name: &str| fs::read_to_string(pmu.join(name)).ok();
        let kind = text("type")
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| absent(format!("no {PMU}")))?;
        let cpus = text("cpumask").map(|text| cpu_list(&text)).unwrap_or_default();
        let described = events(&pmu.join("events"));
        let (mut domains, mut opened) = (Vec::new(), Vec::new());
        let mut refused = format!("{PMU} has no energy event");
        for &cpu in &cpus {
            for event in &described {
                if event.name == "psys" && cpu != cpus[0] {
                    continue; // one for the whole machine
                }
                match open(kind, event.config, cpu) {
                    Ok(file) => {
                        domains.push(domain(event, package_of_cpu(cpu)));
                        opened.push(Event { file, scale: event.scale });
                    }
                    Err(error) => refused = format!("event energy-{}: {error}", event.name),
                }
            }
        }
        if opened.is_empty() {
            return Err(absent(refused));
        }
        arrange(&mut domains);
        Ok(Self { domains, events: opened })
    }
}

/// `energy-pkg` of CPU 0's package is what powercap calls `package-0`.
fn domain(event: &Described, package: Option<u32>) -> Domain {
    let outer = package.map(|package| format!("package-{package}"));
    let mut domain = match (event.name.as_str(), &outer) {
        ("pkg", Some(outer)) => Domain::of_zone(outer, None),
        ("cores", outer) => Domain::of_zone("core", outer.as_deref()),
        ("gpu", outer) => Domain::of_zone("uncore", outer.as_deref()),
        ("ram", outer) => Domain::of_zone("dram", outer.as_deref()),
        (name, _) => Domain::of_zone(name, None),
    };
    domain.meter = Meter::Counter { range_uj: None };
    domain
}

/// The energy events of a PMU's folder.
fn events(dir: &Path) -> Vec<Described> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    names.iter().filter_map(|path| describe(path)).collect()
}

fn describe(path: &Path) -> Option<Described> {
    let file = path.file_name()?.to_str()?;
    let name = file.strip_prefix("energy-").filter(|name| !name.contains('.'))?;
    let text =
        |suffix: &str| fs::read_to_string(path.with_file_name(format!("{file}{suffix}"))).ok();
    let config = text("")?;
    let config = config.trim().strip_prefix("event=0x")?;
    let joules: f64 = text(".scale")?.trim().parse().ok()?;
    if text(".unit")?.trim() != "Joules" {
        return None;
    }
    Some(Described {
        name: name.to_owned(),
        config: u64::from_str_radix(config, 16).ok()?,
        scale: joules * 1e6,
    })
}

fn open(kind: u32, config: u64, cpu: u32) -> std::io::Result<File> {
    /// `PERF_FLAG_FD_CLOEXEC`.
    const CLOEXEC: libc::c_ulong = 8;
    let size = u32::try_from(size_of::<Attributes>()).unwrap_or(0);
    let attributes = Attributes { kind, size, config, ..Attributes::default() };
    let cpu = libc::c_int::try_from(cpu).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    // SAFETY: a well-formed attribute of the size that it says, alive during the call; the other
    // arguments are numbers.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, cpu, -1, CLOEXEC)
    };
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nobody else has.
    Ok(unsafe { File::from_raw_fd(fd) })
}

impl Source for Perf {
    fn describe(&self) -> String {
        "perf power PMU".to_owned()
    }

    fn quality(&self) -> Quality {
        Quality::Measured
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts to µJ; casts from floating point saturate"
    )]
    fn read(&mut self, _at: Monotonic) -> Vec<Raw> {
        let value = |event: &mut Event| {
            let mut bytes = [0; 8];
            match event.file.read(&mut bytes) {
                Ok(8) => Raw::Value((u64::from_ne_bytes(bytes) as f64 * event.scale) as u64),
                _ => Raw::Gone,
            }
        };
        self.events.iter_mut().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_what_sysfs_says() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        for (name, config) in [("energy-pkg", "event=0x02\n"), ("energy-ram", "event=0x03\n")] {
            write(name, config);
            write(&format!("{name}.scale"), "2.3283064365386962890625e-10\n");
            write(&format!("{name}.unit"), "Joules\n");
        }
        write("energy-odd", "event=0x09\n");
        let all = events(dir.path());
        assert_eq!(
            all.iter().map(|e| (e.name.as_str(), e.config)).collect::<Vec<_>>(),
            [("pkg", 2), ("ram", 3)]
        );
        // 2^32 counts are a joule.
        assert!((all[0].scale * 4_294_967_296.0 - 1e6).abs() < 1e-3);
        assert_eq!(domain(&all[0], Some(1)).name, "package-1");
        assert_eq!(domain(&all[1], Some(1)).name, "package-1/dram");
    }
}
