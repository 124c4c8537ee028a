//! The energy reader: a thread that reads the counters, says so to the kernel side at that moment, and
//! puts the windows together.
//!
//! The counters are read in user space: a RAPL event can be read on one CPU of its package only, and a
//! window of 100 ms needs no more. What has to be exact is the time, and the kernel side sums that up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::visit::visit;
use crate::energy::assemble::{Assembler, RawWindow};
use crate::energy::hotplug::Hotplug;
use crate::energy::settle::Settle;
use crate::energy::topology::Cpu;
use crate::energy::{Raw, Source, Tracker};
use crate::kernel::monotonic_now;
use crate::probe::energy::EnergyMaps;
use crate::trace::energy::EnergyReading;
use crate::units::{Monotonic, Ns};

/// A reading that took longer is made again, …
const SLOW: Ns = Ns(1_000_000);
/// … so many times.
const TRIES: u32 = 3;
/// A counter must not wrap unseen: it is read at least once a minute.
const LONGEST: u64 = 60_000_000_000;
/// How long a program may still be at work for the window before.
const GRACE: Duration = Duration::from_millis(5);

/// The thread, and what it has found.
#[derive(Debug)]
pub(super) struct Meter {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Vec<RawWindow>>>,
    /// Windows of other CPUs than the recording knows.
    unaccounted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Meter {
    /// Begins to read, in windows of about this length.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(
        source: Box<dyn Source>,
        maps: EnergyMaps,
        cpus: &[Cpu],
        window: Ns,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new(Mutex::new(Vec::new()));
        let trackers = source.domains().iter().map(Tracker::new).collect();
        let settle = Settle::new(source.domains());
        let numbers: Vec<u32> = cpus.iter().map(|cpu| cpu.cpu).collect();
        let unaccounted = Arc::new(AtomicU64::new(0));
        let mut reader = Reader {
            source,
            maps,
            cpus: cpus.to_vec(),
            trackers,
            assembler: Assembler::new(numbers.clone()),
            settle,
            hotplug: Hotplug::new(&numbers, monotonic_now()),
            unaccounted: Arc::clone(&unaccounted),
            generation: 0,
        };
        let (until, windows) = (Arc::clone(&stop), Arc::clone(&found));
        let thread = std::thread::Builder::new().name("lw-energy".to_owned()).spawn(move || {
            let mut dice = monotonic_now().0 | 1;
            visit(numbers);
            reader.cut();
            while !until.load(Ordering::Relaxed) {
                // The length varies by a tenth, so that it keeps step with nothing: not with the 5 ms
                // of the GIL, nor with the millisecond of a fair hand-off. (Marsaglia's xorshift.)
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                let tenth = window.0 / 10;
                let length = (window.0 - tenth + dice % (2 * tenth).max(1)).min(LONGEST);
                std::thread::park_timeout(Duration::from_nanos(length));
                reader.cut();
                reader.take(1);
                push(&windows, &mut reader, false);
            }
            std::thread::sleep(GRACE);
            reader.take(0);
            push(&windows, &mut reader, true);
        })?;
        Ok(Self { stop, found, unaccounted, thread: Some(thread) })
    }

    /// The windows that are complete.
    pub(super) fn windows(&self) -> Vec<RawWindow> {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Windows so far in which nothing is accounted for, because CPUs have come or gone.
    pub(super) fn unaccounted(&self) -> u64 {
        self.unaccounted.load(Ordering::Relaxed)
    }

    /// Reads a last time. The programs must still be attached.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A reader that has panicked has no more windows.
            let _ = thread.join();
        }
    }
}

fn push(windows: &Mutex<Vec<RawWindow>>, reader: &mut Reader, end: bool) {
    while let Some(mut window) = reader.assembler.finish() {
        if reader.hotplug.mark(&mut window) {
            reader.unaccounted.fetch_add(1, Ordering::Relaxed);
        }
        reader.settle.push(window);
    }
    let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
    windows.extend(std::iter::from_fn(|| reader.settle.pop(end)));
}

struct Reader {
    source: Box<dyn Source>,
    maps: EnergyMaps,
    cpus: Vec<Cpu>,
    trackers: Vec<Tracker>,
    assembler: Assembler,
    settle: Settle,
    hotplug: Hotplug,
    unaccounted: Arc<AtomicU64>,
    /// That of the window that is open.
    generation: u64,
}

impl Reader {
    /// Reads the counters, and ends the window at that moment.
    fn cut(&mut self) {
        let (mut raw, mut read) = (Vec::new(), Ns(u64::MAX));
        for _ in 0..TRIES {
            let before = monotonic_now();
            let values: Vec<Raw> = self.source.read(before);
            let took = monotonic_now().since(before);
            (raw, read) = (values, took);
            if read <= SLOW {
                break;
            }
        }
        let at: Monotonic = monotonic_now();
        if let Some(online) = self.hotplug.look(at) {
            eprintln!(
                "lockwatt: CPUs have come or gone (online now: {online}): from here on no energy is \
                 accounted for; record again"
            );
        }
        if self.maps.begin(self.generation + 1).is_err() {
            return; // the window goes on
        }
        self.generation += 1;
        let advance = |(tracker, raw): (&mut Tracker, Raw)| {
            let (energy, known) = tracker.advance(at, raw);
            EnergyReading { energy, known }
        };
        let readings = self.trackers.iter_mut().zip(raw).map(advance).collect();
        self.assembler.cut(at, read, readings);
    }

    /// Takes what the kernel side has of windows that ended `ago` windows ago.
    fn take(&mut self, ago: u64) {
        let Some(last) = self.generation.checked_sub(1 + ago) else { return };
        if last == 0 {
            let _ = self.maps.take(0); // before the first reading
            return;
        }
        // At the end there are two.
        for generation in self.assembler.next_generation()..=last {
            let (sums, threads) = self.maps.take(generation);
            self.assembler.sums(generation, &sums, &threads);
            // First what each CPU is doing, then what it has done: what it does no more by then is
            // among the slices.
            let now = monotonic_now().0;
            let clocks: Vec<_> =
                self.cpus.iter().map(|cpu| (*cpu, self.maps.clock(cpu.cpu))).collect();
            for slice in self.maps.straddles() {
                self.assembler.straddle(&slice);
            }
            for (cpu, clock) in &clocks {
                let Some(clock) = clock else { continue };
                let sibling = clocks.iter().find(|(other, _)| Some(other.cpu) == cpu.sibling);
                let busy = sibling.and_then(|(_, clock)| *clock).map_or(0, |clock| {
                    let runs = clock.kind != tracer_common::energy::IDLE && clock.since_ns != 0;
                    clock.busy_ns + if runs { now.saturating_sub(clock.since_ns) } else { 0 }
                });
                self.assembler.still(cpu.cpu, clock, generation, now, busy);
            }
            self.assembler.told(generation);
        }
    }
}
