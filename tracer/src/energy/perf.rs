//! The perf `power` PMU: RAPL's counters as system-wide events, one for each CPU in its `cpumask`
//! (one CPU of each package, or of each die). The kernel keeps 64 bits, so they never wrap.
//!
//! An event is read from any CPU: the kernel asks the one that it is of (`perf_event_read`,
//! `kernel/events/core.c`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{FromRawFd, RawFd};
use std::path::{Path, PathBuf};

use super::counter::Raw;
use super::domain::{Domain, Meter, Part, arrange};
use super::source::{Quality, Source, SourceError};
use super::topology::{Cpu, cpu_list, online};
use crate::units::Monotonic;

/// Where the kernel describes it.
pub const PMU: &str = "/sys/bus/event_source/devices/power";
const NAME: &str = "perf";

/// The coarsest step of psys: a joule on Sapphire Rapids (`rapl_check_hw_unit`).
const PSYS_QUANTUM_UJ: f64 = 1e6;
/// After so many changes it is sure what the step is: that all of them are even by chance is one in 65,536.
const SURE: u32 = 16;

/// One open event.
struct Event {
    file: Box<dyn Read + Send>,
    /// µJ in one count.
    scale: f64,
    last: u64,
    changes: u32,
    /// All bits that were ever set.
    bits: u64,
}

impl Event {
    fn new(file: Box<dyn Read + Send>, scale: f64) -> Self {
        Self { file, scale, last: 0, changes: 0, bits: 0 }
    }

    /// Its count, of 2^-32 J each; none if it can't be read.
    fn count(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        let 8 = self.file.read(&mut bytes).ok()? else { return None };
        let count = u64::from_ne_bytes(bytes);
        self.bits |= count;
        if count != self.last {
            self.last = count;
            self.changes = self.changes.saturating_add(1);
        }
        Some(count)
    }

    /// The counter's step in µJ, once it is sure. sysfs has the scale of a count and not the step of the
    /// counter, which is 2^-14 or 2^-16 J, for the memory of servers always the latter, for psys 1 J on
    /// some. But counts are the counter's value shifted by as many bits as a step is larger
    /// (`rapl_scale`, `arch/x86/events/rapl.c`), so that they end in as many zeros.
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    fn step(&self) -> Option<f64> {
        let step = 1u64.checked_shl(self.bits.trailing_zeros())?;
        (self.changes >= SURE).then_some(step as f64 * self.scale)
    }
}

/// The PMU's events.
pub struct Perf {
    domains: Vec<Domain>,
    events: Vec<Event>,
    left_out: Vec<String>,
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
        let open = |kind, config, cpu| open(kind, config, cpu).map(|file| Box::new(file) as _);
        Self::open_in(Path::new(PMU), &online(), open)
    }

    /// The same for a PMU described elsewhere, on other CPUs.
    fn open_in(
        pmu: &Path,
        topology: &[Cpu],
        open: impl Fn(u32, u64, u32) -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<Self, SourceError> {
        let absent = |reason: String| SourceError::absent(NAME, reason);
        let text = |name: &str| fs::read_to_string(pmu.join(name)).ok();
        let kind = text("type")
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| absent(format!("no {}", pmu.display())))?;
        let cpus = text("cpumask").map(|text| cpu_list(&text)).unwrap_or_default();
        let described = events(&pmu.join("events"));
        let (mut domains, mut opened) = (Vec::new(), Vec::new());
        let mut refused = format!("{} has no energy event", pmu.display());
        for (&cpu, outer) in cpus.iter().zip(names(&cpus, topology)) {
            for event in &described {
                if event.name == "psys" && cpu != cpus[0] {
                    continue; // one for the whole machine
                }
                match open(kind, event.config, cpu) {
                    Ok(file) => {
                        domains.push(domain(event, &outer));
                        opened.push(Event::new(file, event.scale));
                    }
                    Err(error) => refused = format!("event energy-{}: {error}", event.name),
                }
            }
        }
        if opened.is_empty() {
            return Err(absent(refused));
        }
        arrange(&mut domains);
        Ok(Self { domains, events: opened, left_out: Vec::new() })
    }
}

/// What powercap calls the package, or the die, of each CPU in the mask: `package-1`,
/// `package-1-die-0`. A machine that does not say what is where has them by number; then every
/// package is divided over what ran anywhere.
fn names(cpus: &[u32], topology: &[Cpu]) -> Vec<String> {
    let of = |cpu: u32| topology.iter().find(|one| one.cpu == cpu);
    let packages: Option<Vec<u32>> = cpus.iter().map(|&cpu| of(cpu)?.package).collect();
    let Some(packages) = packages else {
        return (0..cpus.len()).map(|n| format!("package-{n}")).collect();
    };
    let name = |(&cpu, package): (&u32, &u32)| {
        let alone = packages.iter().filter(|other| *other == package).count() == 1;
        match of(cpu).and_then(|one| one.die).filter(|_| !alone) {
            Some(die) => format!("package-{package}-die-{die}"),
            None => format!("package-{package}"),
        }
    };
    cpus.iter().zip(&packages).map(name).collect()
}

/// `energy-pkg` of CPU 0's package is what powercap calls `package-0`.
fn domain(event: &Described, outer: &str) -> Domain {
    let mut domain = match event.name.as_str() {
        "pkg" => Domain::of_zone(outer, None),
        "cores" => Domain::of_zone("core", Some(outer)),
        "gpu" => Domain::of_zone("uncore", Some(outer)),
        "ram" => Domain::of_zone("dram", Some(outer)),
        name => Domain::of_zone(name, None),
    };
    domain.meter = Meter::Counter { range_uj: None };
    if domain.part == Part::Psys {
        domain.quantum_uj = PSYS_QUANTUM_UJ;
    }
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

fn open(kind: u32, config: u64, cpu: u32) -> io::Result<File> {
    /// `PERF_FLAG_FD_CLOEXEC`.
    const CLOEXEC: libc::c_ulong = 8;
    let size = u32::try_from(size_of::<Attributes>()).unwrap_or(0);
    let attributes = Attributes { kind, size, config, ..Attributes::default() };
    let cpu = libc::c_int::try_from(cpu).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a well-formed attribute of the size that it says, alive during the call; the other
    // arguments are numbers.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, cpu, -1, CLOEXEC)
    };
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
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

    fn leave_out(&mut self, place: usize, why: &str) {
        self.domains.remove(place);
        self.events.remove(place);
        arrange(&mut self.domains);
        self.left_out.push(why.to_owned());
    }

    fn left_out(&self) -> &[String] {
        &self.left_out
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts to µJ; casts from floating point saturate"
    )]
    fn read(&mut self, _at: Monotonic) -> Vec<Raw> {
        let value = |(event, domain): (&mut Event, &mut Domain)| {
            let Some(count) = event.count() else { return Raw::Gone };
            domain.quantum_uj = event.step().unwrap_or(domain.quantum_uj);
            Raw::Value((count as f64 * event.scale) as u64)
        };
        self.events.iter_mut().zip(&mut self.domains).map(value).collect()
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
        assert_eq!(domain(&all[0], "package-1").name, "package-1");
        assert_eq!(domain(&all[1], "package-1").name, "package-1/dram");
    }

    /// Counts up by the CPU's number and the event's with each read, from there on.
    struct Fake {
        value: u64,
        step: u64,
    }

    impl Read for Fake {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.value += self.step;
            out.copy_from_slice(&self.value.to_ne_bytes());
            Ok(8)
        }
    }

    /// A tree as the kernel makes it, with so many CPUs in its mask.
    fn pmu(cpumask: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("events")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("type", "23\n");
        write("cpumask", cpumask);
        for (name, config) in [("cores", 1), ("pkg", 2), ("ram", 3), ("gpu", 4), ("psys", 5)] {
            write(&format!("events/energy-{name}"), &format!("event=0x0{config}\n"));
            write(&format!("events/energy-{name}.scale"), "1e-6\n");
            write(&format!("events/energy-{name}.unit"), "Joules\n");
        }
        dir
    }

    fn opened(cpumask: &str, topology: &[Cpu]) -> Perf {
        let fake = |kind, config, cpu: u32| {
            assert_eq!(kind, 23);
            if config == 4 {
                return Err(io::ErrorKind::NotFound.into()); // no graphics in this package
            }
            let step = u64::from(cpu) * 1_000 + config;
            Ok(Box::new(Fake { value: 0, step }) as Box<dyn Read + Send>)
        };
        Perf::open_in(pmu(cpumask).path(), topology, fake).unwrap()
    }

    fn cpus(places: &[(u32, u32, Option<u32>)]) -> Vec<Cpu> {
        let one = |&(cpu, package, die)| Cpu { cpu, package: Some(package), die, sibling: None };
        places.iter().map(one).collect()
    }

    fn split(perf: &Perf) -> Vec<&str> {
        let split = perf.domains.iter().filter(|domain| domain.split);
        split.map(|domain| domain.name.as_str()).collect()
    }

    #[test]
    fn each_package_has_a_reader_and_no_energy_is_split_twice() {
        let topology = cpus(&[(0, 0, None), (1, 0, None), (8, 1, None), (9, 1, None)]);
        let mut perf = opened("0,8\n", &topology);
        let names: Vec<_> = perf.domains.iter().map(|domain| domain.name.as_str()).collect();
        let [inner, outer] = ["package-0/core", "package-1/core"].map(str::to_owned);
        assert_eq!(
            names,
            [
                inner.as_str(),
                "package-0",
                "psys",
                "package-0/dram",
                outer.as_str(),
                "package-1",
                "package-1/dram",
            ]
        );
        // psys is one, and it and the cores are shown only.
        assert_eq!(split(&perf), ["package-0", "package-0/dram", "package-1", "package-1/dram"]);
        let parents: Vec<_> = perf.domains.iter().map(|domain| domain.parent).collect();
        assert_eq!(parents, [Some(1), Some(2), None, None, Some(5), Some(2), None]);
        assert!(perf.domains.iter().all(|one| one.meter == Meter::Counter { range_uj: None }));
        // Each from the CPU that it is of, in µJ.
        let values = [1, 2, 5, 3, 8_001, 8_002, 8_003];
        assert_eq!(perf.read(Monotonic(0)), values.map(Raw::Value));
        assert_eq!(perf.read(Monotonic(1)), values.map(|value| Raw::Value(2 * value)));
    }

    /// As on a server: 2^-14 J, of memory 2^-16 J, of psys 1 J.
    #[test]
    fn the_step_is_that_of_the_counter() {
        let dir = pmu("0\n");
        for name in ["cores", "pkg", "ram", "gpu", "psys"] {
            let scale = dir.path().join(format!("events/energy-{name}.scale"));
            fs::write(scale, "2.3283064365386962890625e-10\n").unwrap();
        }
        let fake = |_, config, _| {
            let bits = [18, 18, 16, 18, 32][config as usize - 1];
            Ok(Box::new(Fake { value: 0, step: 3 << bits }) as Box<dyn Read + Send>)
        };
        let mut perf = Perf::open_in(dir.path(), &cpus(&[(0, 0, None)]), fake).unwrap();
        let steps = |perf: &Perf| -> Vec<(String, f64)> {
            let of = |one: &Domain| (one.name.clone(), one.quantum_uj.round());
            perf.domains.iter().map(of).collect()
        };
        let of = |core, memory: f64| {
            let [core, pkg, gpu] = ["core", "", "uncore"].map(|name| (name, core));
            [core, gpu, pkg, ("psys", 1e6), ("dram", memory)]
                .map(|(name, step)| match name {
                    "" => ("package-0".to_owned(), step),
                    "psys" => ("psys".to_owned(), step),
                    name => (format!("package-0/{name}"), step),
                })
                .to_vec()
        };
        assert_eq!(steps(&perf), of(61.0, 61.0));
        for n in 0..SURE {
            perf.read(Monotonic(n.into()));
        }
        assert_eq!(steps(&perf), of(61.0, 15.0));
    }

    #[test]
    fn dies_of_one_package_are_told_apart() {
        let topology = cpus(&[(0, 0, Some(0)), (4, 0, Some(1))]);
        let perf = opened("0,4\n", &topology);
        let dies = ["package-0-die-0", "package-0-die-0/dram", "package-0-die-1"];
        assert_eq!(split(&perf)[..3], dies);
        let die = |name: &str| perf.domains.iter().find(|one| one.name == name).unwrap().clone();
        assert_eq!((die(dies[0]).die, die(dies[2]).die), (Some(0), Some(1)));
        let core = die("package-0-die-1/core");
        assert_eq!(perf.domains[core.parent.unwrap() as usize].name, "package-0-die-1");
    }

    /// Where nothing says what is where, each package is still counted once.
    #[test]
    fn packages_without_a_topology_have_numbers() {
        let perf = opened("0,8\n", &[]);
        assert_eq!(split(&perf), ["package-0", "package-0/dram", "package-1", "package-1/dram"]);
    }
}
