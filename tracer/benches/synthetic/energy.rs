//! The energy of a synthetic program: simulated counters, and where each CPU's time went meanwhile.
//!
//! A thread can run while it does not wait, and wants a CPU for a part of that. Every CPU's time is
//! given out once; two CPUs share a core, and two packages have half of the CPUs each. Power is a
//! sum over what ran, so that the counters say what a machine's would.

use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tracer::energy::domain::arrange;
use tracer::energy::topology::Cpu;
use tracer::energy::{Domain, Known, Microjoules, Part, Quality, Watts};
use tracer::trace::energy::{
    CpuTime, Doing, EnergyInterval, EnergyReading, EnergySamples, EnergySource, EnergyWindow,
    IdlePower, Shares, ThreadTime,
};
use tracer::trace::records::Wait;
use tracer::units::{LockIndex, Monotonic, Ns, ThreadIndex};

use super::{CPUS, Plan, SAMPLE_HZ};

/// Zones of the simulated counters.
const ZONES: [(&str, Option<&str>); 7] = [
    ("psys", None),
    ("package-0", None),
    ("core", Some("package-0")),
    ("dram", Some("package-0")),
    ("package-1", None),
    ("core", Some("package-1")),
    ("dram", Some("package-1")),
];
/// Idle power of a package and of its memory, and power of a busy core, in W; of a core of which both
/// CPUs are busy by the second one's weight more.
const IDLE: f64 = 40.0;
const DRAM: f64 = 5.0;
const BUSY: f64 = 4.0;
/// In millionths.
const SMT_WEIGHT: u32 = 550_000;
const SPIN_WEIGHT: u32 = 900_000;
/// CPUs that a thread runs on in one window.
const PLACES: usize = 2;
/// The last locks of a thread, which its samples hit.
const LAST: usize = 8;

/// The simulated machine.
pub(super) fn source(window: Ns) -> EnergySource {
    let mut domains: Vec<Domain> =
        ZONES.iter().map(|&(name, inside)| Domain::of_zone(name, inside)).collect();
    arrange(&mut domains);
    let idle = |domain: &Domain| match domain.part {
        Part::Package => Some(IdlePower { watts: Watts(IDLE), spread: Watts(0.2) }),
        Part::Dram => Some(IdlePower { watts: Watts(DRAM), spread: Watts(0.1) }),
        _ => None,
    };
    let cpu = |cpu| Cpu { cpu, package: Some(package(cpu)), die: None, sibling: Some(cpu ^ 1) };
    EnergySource {
        source: "synthetic counters (simulated)".to_owned(),
        quality: Quality::Simulated,
        idle: domains.iter().map(idle).collect(),
        domains,
        cpus: (0..CPUS).map(cpu).collect(),
        window,
        smt_weight: Some(SMT_WEIGHT),
        spin_weight: Some(SPIN_WEIGHT),
        ..EnergySource::default()
    }
}

fn package(cpu: u32) -> u32 {
    u32::from(cpu >= CPUS / 2)
}

/// Follows the waits of a program and makes up the windows.
pub(super) struct Meter {
    window: u64,
    random: SmallRng,
    /// When the window under way began, and how long each thread waited in it and in later ones.
    start: u64,
    waited: VecDeque<Vec<u64>>,
    threads: usize,
    last: Vec<Vec<u32>>,
    windows: Vec<EnergyWindow>,
}

impl Meter {
    pub(super) fn new(plan: Plan, window: Ns, start: u64) -> Self {
        let threads = plan.threads as usize;
        Self {
            window: window.0.max(1),
            // Of its own: the waits are the same without energy.
            random: SmallRng::seed_from_u64(!plan.seed),
            start,
            waited: VecDeque::new(),
            threads,
            last: vec![Vec::new(); threads],
            windows: Vec::new(),
        }
    }

    /// A wait that is over; `under_way` are those that have begun and are not, by thread. Waits must
    /// come in the order of their ends.
    pub(super) fn wait(&mut self, wait: &Wait, under_way: impl Fn() -> Vec<(u32, u64)>) {
        let thread = wait.thread.0 as usize;
        self.note(thread, wait.start.0, wait.end.0);
        let last = &mut self.last[thread];
        if last.len() == LAST {
            last.remove(0);
        }
        last.push(wait.lock.0);
        if wait.end.0 < self.start + self.window {
            return;
        }
        let under_way = under_way();
        while wait.end.0 >= self.start + self.window {
            self.close(&under_way);
        }
    }

    fn note(&mut self, thread: usize, from: u64, to: u64) {
        let mut from = from.max(self.start);
        while from < to {
            let place = ((from - self.start) / self.window) as usize;
            while self.waited.len() <= place {
                self.waited.push_back(vec![0; self.threads]);
            }
            let end = to.min(self.start + (place as u64 + 1) * self.window);
            self.waited[place][thread] += end - from;
            from = end;
        }
    }

    /// What threads ran on which CPUs, without the time beside a busy sibling.
    fn close(&mut self, under_way: &[(u32, u64)]) {
        let (start, end) = (self.start, self.start + self.window);
        let mut waited = self.waited.pop_front().unwrap_or_else(|| vec![0; self.threads]);
        for &(thread, since) in under_way {
            waited[thread as usize] += end.saturating_sub(since.max(start));
        }
        self.start = end;
        let mut wanted: Vec<(u32, usize, u64)> = Vec::new();
        for (thread, waited) in (0u32..).zip(&waited) {
            let can = self.window.saturating_sub(*waited);
            let first = self.random.random_range(0..CPUS);
            for place in 0..PLACES as u32 {
                let part = self.random.random_range(2..25);
                let cpu = (first + place * 17) % CPUS;
                wanted.push((thread, cpu as usize, can * part / 100));
            }
        }
        // Others, the kernel, the tracer, and what was lost.
        let beside: Vec<[u64; 4]> = (0..CPUS)
            .map(|_| [5, 2, 1].map(|most| self.window * self.random.random_range(0..=most) / 100))
            .map(|[other, kernel, tracer]| [other, kernel, tracer, self.window / 100_000])
            .collect();
        let mut sums: Vec<u64> = beside.iter().map(|all| all.iter().sum()).collect();
        wanted.iter().for_each(|&(_, cpu, time)| sums[cpu] += time);
        let window = self.window;
        let given = |cpu: usize, time: u64| {
            if sums[cpu] <= window { time } else { scaled(time, window, sums[cpu]) }
        };
        let busy: Vec<u64> = sums.iter().map(|&sum| sum.min(window)).collect();
        let shares = |cpu: usize, time: u64| {
            let shared = scaled(time, busy[cpu ^ 1], window);
            Shares { alone: Ns(time - shared), shared: Ns(shared) }
        };
        let mut left = vec![window; CPUS as usize];
        let mut take = |cpu: usize, time: u64| {
            let time = given(cpu, time);
            left[cpu] -= time;
            shares(cpu, time)
        };
        let mut threads = Vec::with_capacity(wanted.len());
        for (thread, cpu, time) in wanted {
            let time = take(cpu, time);
            if time.total().0 > 0 {
                threads.push(ThreadTime { thread: ThreadIndex(thread), cpu: cpu as u32, time });
            }
        }
        let mut cpus: Vec<CpuTime> = Vec::with_capacity(beside.len());
        for (cpu, all) in beside.iter().enumerate() {
            let [other, kernel, tracer, lost] = all.map(|time| take(cpu, time));
            let cpu = cpu as u32;
            cpus.push(CpuTime { cpu, idle: Ns(0), kernel, other, tracer, lost });
        }
        for (cpu, left) in cpus.iter_mut().zip(left) {
            cpu.idle = Ns(left);
        }
        let readings = readings(window, &cpus, &threads);
        let (start, end) = (Monotonic(start), Monotonic(end));
        self.windows.push(EnergyWindow { start, end, read: Ns(2_000), readings, cpus, threads });
    }

    /// The windows since the last time, and the samples of their time: none while there are no windows.
    pub(super) fn take(&mut self) -> Option<EnergyInterval> {
        if self.windows.is_empty() {
            return None;
        }
        let windows = std::mem::take(&mut self.windows);
        let mut times = std::collections::BTreeMap::<(u32, u32), u64>::new();
        for one in windows.iter().flat_map(|window| &window.threads) {
            *times.entry((one.thread.0, one.cpu)).or_default() += one.time.total().0;
        }
        let mut samples = Vec::new();
        for ((thread, cpu), time) in times {
            let expected = time as f64 * f64::from(SAMPLE_HZ) / 1e9;
            let all = (expected + self.random.random::<f64>()) as u32;
            if all == 0 {
                continue;
            }
            let index = ThreadIndex(thread);
            let one = EnergySamples { thread: index, cpu, samples: all, ..Default::default() };
            samples.push(one);
            // One in eight spins for one of its last locks, one in sixteen is in a futex call.
            for (doing, part) in [(Doing::Spinning, 8.0), (Doing::Futex, 16.0)] {
                let hit = (f64::from(all) / part + self.random.random::<f64>()) as u32;
                let last = &self.last[thread as usize];
                if hit == 0 || last.is_empty() {
                    continue;
                }
                let lock = LockIndex(last[self.random.random_range(0..last.len())]);
                samples.push(EnergySamples { doing, lock: Some(lock), samples: hit, ..one });
            }
        }
        Some(EnergyInterval { windows, samples })
    }
}

/// `n · part / whole`, rounded down.
fn scaled(n: u64, part: u64, whole: u64) -> u64 {
    (u128::from(n) * u128::from(part) / u128::from(whole.max(1))) as u64
}

/// What the counters say of a window, zone by zone.
fn readings(window: u64, cpus: &[CpuTime], threads: &[ThreadTime]) -> Vec<EnergyReading> {
    let mut busy = [0u64; 2];
    let mut add = |cpu: u32, time: Shares| {
        let shared = scaled(time.shared.0, u64::from(SMT_WEIGHT), 1_000_000);
        busy[package(cpu) as usize] += time.alone.0 + shared;
    };
    threads.iter().for_each(|thread| add(thread.cpu, thread.time));
    for cpu in cpus {
        for time in [cpu.other, cpu.kernel, cpu.tracer, cpu.lost] {
            add(cpu.cpu, time);
        }
    }
    // W × ns = nJ.
    let uj = |watts: f64, ns: u64| (watts * ns as f64 / 1e3) as u64;
    let core = busy.map(|ns| uj(BUSY, ns));
    let package = core.map(|core| core + uj(IDLE, window));
    let dram = core.map(|core| core / 8 + uj(DRAM, window));
    let psys = package.iter().chain(&dram).sum::<u64>() + uj(30.0, window);
    [psys, package[0], core[0], dram[0], package[1], core[1], dram[1]]
        .map(|uj| EnergyReading { energy: Microjoules(uj), known: Known::Measured })
        .to_vec()
}
