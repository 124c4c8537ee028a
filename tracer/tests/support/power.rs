//! A power simulator: drives a tree shaped like powercap's from a known power model over what the CPUs
//! really do, so that what lockwatt attributes can be held against the truth. The truth is the
//! workload's own (`scripts/workloads/phases.py`), never lockwatt's.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tracer::kernel::monotonic_now;

/// The machine that is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Of a package when nothing runs.
    pub(crate) idle_watts: f64,
    /// Of each busy CPU, above that.
    pub(crate) busy_watts: f64,
    /// Of time spent spinning, above that of a busy CPU.
    pub(crate) spin_watts: f64,
    /// The counter moves so often on average, …
    pub(crate) period: Duration,
    /// … and by so much earlier or later.
    pub(crate) jitter: Duration,
    /// The counter's step.
    pub(crate) quantum_uj: u64,
    /// Its highest value.
    pub(crate) range_uj: u64,
    /// What the workload says of itself: pairs of waiting and all CPU time, in ns.
    pub(crate) share: Option<PathBuf>,
    /// A second package, without CPUs, of 5 W.
    pub(crate) second: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            idle_watts: 4.0,
            busy_watts: 10.0,
            spin_watts: 0.0,
            period: Duration::from_millis(1),
            jitter: Duration::from_micros(200),
            quantum_uj: 61,
            range_uj: 262_143_328_850,
            share: None,
            second: false,
        }
    }
}

/// The truth at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tick {
    pub(crate) at: u64,
    /// All that the package has used, µJ, as its counter would say if it never wrapped.
    pub(crate) energy: u64,
    /// CPU time that the workload has spent waiting, ns.
    pub(crate) waiting: u64,
    /// CPU time of the workload, ns.
    pub(crate) cpu: u64,
}

/// The tree, and the thread that drives it.
pub(crate) struct Simulator {
    dir: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    frozen: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<Tick>>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    pub(crate) fn start(model: Model) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let mut files = vec![zone(dir.path(), "intel-rapl:0", "package-0", model.range_uj)];
        if model.second {
            files.push(zone(dir.path(), "intel-rapl:1", "package-1", model.range_uj));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let frozen = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (until, still, ticks) = (Arc::clone(&stop), Arc::clone(&frozen), Arc::clone(&log));
        let thread = std::thread::spawn(move || drive(&model, &files, &until, &still, &ticks));
        Self { dir, stop, frozen, log, thread: Some(thread) }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The counters stand still from now on.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }

    /// They go on, from where they would be.
    pub(crate) fn thaw(&self) {
        self.frozen.store(false, Ordering::Relaxed);
    }

    /// The truth at a moment: that of the last tick before.
    pub(crate) fn at(&self, ns: u64) -> Tick {
        let log = self.log.lock().expect("no panic");
        let next = log.partition_point(|tick| tick.at <= ns);
        log[next.saturating_sub(1)]
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn zone(root: &Path, dir: &str, name: &str, range: u64) -> File {
    let dir = root.join(dir);
    fs::create_dir(&dir).expect("a folder");
    fs::write(dir.join("name"), format!("{name}\n")).expect("a file");
    fs::write(dir.join("max_energy_range_uj"), format!("{range}\n")).expect("a file");
    let file = File::create(dir.join("energy_uj")).expect("a file");
    put(&file, 0);
    file
}

/// At once, so that no reader sees half of it.
fn put(file: &File, value: u64) {
    file.write_at(format!("{value:020}\n").as_bytes(), 0).expect("written");
}

fn drive(
    model: &Model,
    files: &[File],
    stop: &AtomicBool,
    frozen: &AtomicBool,
    log: &Mutex<Vec<Tick>>,
) {
    let begun = monotonic_now().0;
    let idle_before = idle_ns();
    let cpus = std::thread::available_parallelism().expect("CPUs").get() as u64;
    let share = model.share.as_ref().map(|path| File::open(path).expect("the workload's file"));
    let mut busy_before = 0;
    let mut random = 88_172_645_463_325_252u64;
    while !stop.load(Ordering::Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let jitter = random % (2 * model.jitter.as_nanos() as u64).max(1);
        std::thread::sleep(model.period - model.jitter + Duration::from_nanos(jitter));
        let (waiting, cpu) = share.as_ref().map_or((0, 0), slots);
        let idle = idle_ns() - idle_before;
        let at = monotonic_now().0;
        let wall = at - begun;
        let busy = (cpus * wall).saturating_sub(idle).max(busy_before);
        busy_before = busy;
        // W × ns = nJ.
        let nj = model.idle_watts * wall as f64
            + model.busy_watts * busy as f64
            + model.spin_watts * waiting as f64;
        let energy = (nj / 1e3) as u64 / model.quantum_uj * model.quantum_uj;
        if !frozen.load(Ordering::Relaxed) {
            put(&files[0], energy % (model.range_uj + 1));
            if let Some(second) = files.get(1) {
                put(second, wall / 200);
            }
        }
        log.lock().expect("no panic").push(Tick { at, energy, waiting, cpu });
    }
}

/// Waiting and all CPU time of the workload's threads.
fn slots(file: &File) -> (u64, u64) {
    let mut bytes = [0; 256];
    file.read_exact_at(&mut bytes, 0).expect("a page");
    let word = |n: usize| u64::from_ne_bytes(bytes[8 * n..8 * n + 8].try_into().expect("eight"));
    (0..16).fold((0, 0), |sum, n| (sum.0 + word(2 * n), sum.1 + word(2 * n + 1)))
}

/// Time that the CPUs were idle, in ns, to 10 ms. With `NO_HZ` it is summed up from when to when each
/// was (`get_cpu_idle_time_us`); the busy times beside it are counted in ticks, which a program can
/// keep step with.
fn idle_ns() -> u64 {
    let text = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let words = text.lines().next().expect("a line").split_whitespace().skip(1);
    let ticks: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
    (ticks[3] + ticks[4]) * 10_000_000
}
