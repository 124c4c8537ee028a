//! How much power a thread that yields uses beside one that computes, package by package. Each runs on a
//! CPU of the package whose counter is read: anywhere else another counter would have it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::meter::{Meter, WINDOW};
use crate::energy::topology::Cpu;
use crate::energy::{Domain, Part, Source, Watts};
use crate::trace::energy::{IdlePower, ONE};

/// Ratios outside of these are no spinning thread's: something else was at work, or the thread was not
/// where the counter counts.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.1..=10.0;

/// What one domain's threads use, above its idle power.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpinPower {
    /// The domain.
    pub domain: String,
    /// The CPU that they ran on; none: no CPU of it can be used.
    pub cpu: Option<u32>,
    /// A thread that computes.
    pub run: Watts,
    /// One that yields.
    pub spin: Watts,
    /// Their ratio in millionths; none: too close to idle, or implausible.
    pub weight: Option<u32>,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Compute,
    /// As a `PyMutex` spins.
    Yield,
}

/// Puts a load on a CPU.
pub(super) trait Load: Sync {
    /// Moves the calling thread there.
    ///
    /// # Errors
    /// It may not run there.
    fn pin(&self, cpu: u32) -> io::Result<()>;

    /// Works there until it is to stop.
    fn work(&self, cpu: u32, work: Work, stop: &AtomicBool);
}

/// This machine's CPUs.
pub(super) struct Threads;

impl Load for Threads {
    fn pin(&self, cpu: u32) -> io::Result<()> {
        let mut set = CpuSet::new();
        let place = usize::try_from(cpu).ok().filter(|&place| place < CpuSet::MAX_CPU);
        set.set(place.ok_or(io::ErrorKind::Unsupported)?);
        Ok(sched_setaffinity(None, &set)?)
    }

    fn work(&self, _cpu: u32, work: Work, stop: &AtomicBool) {
        let mut x = 1u64;
        while !stop.load(Ordering::Relaxed) {
            match work {
                Work::Yield => rustix::thread::sched_yield(),
                Work::Compute => {
                    for _ in 0..10_000 {
                        let next = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        x = std::hint::black_box(next);
                    }
                }
            }
        }
    }
}

/// Both powers of each domain that is divided over threads; memory's is in no thread's number.
///
/// # Errors
/// A counter stops meanwhile.
pub(super) fn spin_powers(
    source: &mut dyn Source,
    cpus: &[Cpu],
    idle: &[IdlePower],
    time: Duration,
    load: &dyn Load,
) -> Result<Vec<SpinPower>> {
    let domains = source.domains().to_vec();
    let mut out = Vec::new();
    for (place, domain) in domains.iter().enumerate() {
        if !domain.split || domain.part == Part::Dram {
            continue;
        }
        let base = idle.get(place).copied().unwrap_or_default();
        let mut found = SpinPower { domain: domain.name.clone(), ..SpinPower::default() };
        // The first CPUs of a machine have most of its interrupts.
        for cpu in inside(domain, cpus).into_iter().rev() {
            let Some(run) = watts(source, place, cpu, Work::Compute, time, load)? else { continue };
            let Some(spin) = watts(source, place, cpu, Work::Yield, time, load)? else { continue };
            found.cpu = Some(cpu);
            (found.run, found.spin) = (Watts(run - base.watts.0), Watts(spin - base.watts.0));
            found.weight = weight(found.run.0, found.spin.0, base.spread.0);
            break;
        }
        out.push(found);
    }
    Ok(out)
}

/// One weight for the machine: that of all packages' threads together.
pub(super) fn of_all(found: &[SpinPower]) -> Option<u32> {
    let told = found.iter().filter(|one| one.weight.is_some());
    let (run, spin) = told.fold((0.0, 0.0), |sum, one| (sum.0 + one.run.0, sum.1 + one.spin.0));
    weight(run, spin, 0.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floating point saturate"
)]
fn weight(run: f64, spin: f64, spread: f64) -> Option<u32> {
    let told = run > 3.0 * spread.max(0.01) && PLAUSIBLE.contains(&(spin / run));
    told.then(|| (spin / run * f64::from(ONE)) as u32)
}

/// The CPUs of a domain. As where energy is divided: all, unless each CPU's package is known.
fn inside(domain: &Domain, cpus: &[Cpu]) -> Vec<u32> {
    let whole = domain.package.is_none() || cpus.iter().any(|cpu| cpu.package.is_none());
    let inside = |cpu: &&Cpu| {
        whole || cpu.package == domain.package && (domain.die.is_none() || cpu.die == domain.die)
    };
    cpus.iter().filter(inside).map(|cpu| cpu.cpu).collect()
}

/// Average power of a domain while a thread works on a CPU; none: nothing may run there.
fn watts(
    source: &mut dyn Source,
    domain: usize,
    cpu: u32,
    work: Work,
    time: Duration,
    load: &dyn Load,
) -> Result<Option<f64>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let stop = &stop;
        scope.spawn(move || {
            let pinned = load.pin(cpu).is_ok();
            if tell.send(pinned).is_ok() && pinned {
                load.work(cpu, work, stop);
            }
        });
        if !told.recv().unwrap_or(false) {
            return Ok(None);
        }
        std::thread::sleep(WINDOW); // until it runs, and nothing of before is in the counter
        let mut meter = Meter::new(source);
        std::thread::sleep(time);
        let watts = meter.next(source);
        stop.store(true, Ordering::Relaxed);
        Ok(watts?.get(domain).copied())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::energy::domain::arrange;
    use crate::energy::{Quality, Raw};
    use crate::units::Monotonic;

    /// Watts of each package's load.
    type Power = Arc<[AtomicU64; 3]>;

    /// Two packages with memory, and a third one without CPUs. Their counters have what the load says.
    struct Machine {
        domains: Vec<Domain>,
        power: Power,
        nj: Vec<u64>,
        at: Option<Monotonic>,
    }

    const IDLE: [u64; 3] = [5, 6, 7];

    impl Machine {
        fn new(power: &Power) -> Self {
            let zone = |(name, inside): &(&str, Option<&str>)| Domain::of_zone(name, *inside);
            let mut domains: Vec<Domain> = [
                ("package-1", None),
                ("dram", Some("package-1")),
                ("package-0", None),
                ("package-2", None),
            ]
            .iter()
            .map(zone)
            .collect();
            arrange(&mut domains);
            Self { nj: vec![0; domains.len()], domains, power: Arc::clone(power), at: None }
        }
    }

    impl Source for Machine {
        fn describe(&self) -> String {
            "made up".to_owned()
        }

        fn quality(&self) -> Quality {
            Quality::Simulated
        }

        fn domains(&self) -> &[Domain] {
            &self.domains
        }

        fn read(&mut self, at: Monotonic) -> Vec<Raw> {
            let time = at.since(self.at.replace(at).unwrap_or(at));
            for (domain, nj) in self.domains.iter().zip(&mut self.nj) {
                let package = domain.package.unwrap() as usize;
                *nj += (IDLE[package] + self.power[package].load(Ordering::Relaxed)) * time.0;
            }
            self.nj.iter().map(|nj| Raw::Value(nj / 1_000)).collect()
        }
    }

    /// Two CPUs for each of two packages; nothing may run on CPU 1.
    struct Made(Power);

    impl Load for Made {
        fn pin(&self, cpu: u32) -> io::Result<()> {
            if cpu == 1 { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
        }

        fn work(&self, cpu: u32, work: Work, stop: &AtomicBool) {
            let watts = match (cpu / 2, work) {
                (0, Work::Compute) => 10,
                (0, Work::Yield) => 8,
                (_, Work::Compute) => 20,
                (_, Work::Yield) => 25,
            };
            let own = &self.0[cpu as usize / 2];
            own.store(watts, Ordering::Relaxed);
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            own.store(0, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_package_is_measured_with_a_thread_of_its_own() {
        let power = Power::default();
        let mut machine = Machine::new(&power);
        let cpu = |cpu| Cpu { cpu, package: Some(cpu / 2), ..Cpu::default() };
        let cpus: Vec<Cpu> = (0..4).map(cpu).collect();
        let idle = |watts| IdlePower { watts: Watts(watts), spread: Watts(0.1) };
        let idle = [6.0, 6.0, 5.0, 7.0].map(idle);
        let time = Duration::from_millis(200);
        let found = spin_powers(&mut machine, &cpus, &idle, time, &Made(power)).unwrap();
        let told: Vec<_> = found.iter().map(|one| (one.domain.as_str(), one.cpu)).collect();
        assert_eq!(told, [("package-1", Some(3)), ("package-0", Some(0)), ("package-2", None)]);
        let [one, zero, two] = &found[..] else { panic!("{found:?}") };
        let near = |weight: Option<u32>, ratio: f64| {
            (f64::from(weight.unwrap()) / f64::from(ONE) - ratio).abs() < 0.01
        };
        // A counter is read to a microjoule, in 200 ms of 25 W.
        assert!((one.run.0 - 20.0).abs() < 0.1 && (one.spin.0 - 25.0).abs() < 0.1, "{one:?}");
        assert!(near(one.weight, 1.25) && near(zero.weight, 0.8), "{found:?}");
        assert_eq!(two.weight, None);
        // 33 W of threads that yield over 30 W of threads that compute.
        assert!(near(of_all(&found), 1.1), "{found:?}");
        assert_eq!(of_all(&found[2..]), None);
    }

    #[test]
    fn what_makes_no_sense_is_no_weight() {
        assert_eq!(weight(10.0, 8.0, 0.1), Some(800_000));
        assert_eq!(weight(0.1, 0.1, 0.1), None);
        // As if the thread had run elsewhere.
        assert_eq!(weight(10.0, 0.2, 0.1), None);
        assert_eq!(weight(0.2, 10.0, 0.01), None);
        assert_eq!(weight(10.0, -1.0, 0.1), None);
    }

    #[test]
    fn a_thread_is_where_it_was_pinned() {
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        for cpu in cpus {
            std::thread::spawn(move || {
                Threads.pin(u32::try_from(cpu).unwrap()).unwrap();
                assert_eq!(rustix::thread::sched_getcpu(), cpu);
            })
            .join()
            .unwrap();
        }
        assert!(Threads.pin(u32::MAX).is_err());
    }
}
