//! From the kernel side's sums, its slices of two windows and the moments of the readings to windows in
//! which all time of every CPU is somewhere (T1).

mod owners;

use std::collections::BTreeMap;

use tracer_common::energy::{CpuClock, CpuSums, OnCpu, Straddle};

use self::owners::{Owner, Owners};
use crate::trace::energy::{CpuTime, EnergyReading, Shares};
use crate::units::{Monotonic, Ns, Tid};

/// A window, its threads by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawWindow {
    /// The earlier reading.
    pub start: Monotonic,
    /// The later one.
    pub end: Monotonic,
    /// How long that took.
    pub read: Ns,
    /// What was read.
    pub readings: Vec<EnergyReading>,
    /// For each CPU.
    pub cpus: Vec<CpuTime>,
    /// The target's threads, by CPU.
    pub threads: Vec<(Tid, u32, Shares)>,
}

/// The moment that a window begins, and what was read then.
#[derive(Clone, Debug)]
struct Cut {
    at: Monotonic,
    read: Ns,
    readings: Vec<EnergyReading>,
}

/// Puts windows together. They are numbered by the kernel side's generations.
#[derive(Debug)]
pub struct Assembler {
    cpus: Vec<u32>,
    /// The cuts that are still needed, the first one of this generation.
    first: u64,
    cuts: Vec<Cut>,
    /// Time by window, CPU and owner, of windows that are not finished.
    time: BTreeMap<(u64, u32), Owners>,
    /// The last window of which everything was told.
    told: u64,
    /// Up to when slices of two windows were dealt with, by CPU.
    done: BTreeMap<u32, u64>,
}

impl Assembler {
    /// For these CPUs; the first cut will be of generation 1.
    #[must_use]
    pub fn new(cpus: Vec<u32>) -> Self {
        Self {
            cpus,
            first: 1,
            cuts: Vec::new(),
            time: BTreeMap::new(),
            told: 0,
            done: BTreeMap::new(),
        }
    }

    /// A window ended and the next one began. What was read is of the one that ended.
    pub fn cut(&mut self, at: Monotonic, read: Ns, readings: Vec<EnergyReading>) {
        self.cuts.push(Cut { at, read, readings });
    }

    /// The sums of a window: by CPU, and by thread and CPU.
    pub fn sums(&mut self, generation: u64, sums: &[CpuSums], threads: &[(u32, Vec<OnCpu>)]) {
        if generation < self.first {
            return;
        }
        for cpu in self.cpus.clone() {
            let place = cpu as usize;
            let slot = self.time.entry((generation, cpu)).or_default();
            let mut add = |owner, time: &OnCpu| {
                if time.time_ns != 0 {
                    slot.add(owner, time);
                }
            };
            for (kind, time) in (0..).zip(sums.get(place).iter().flat_map(|sums| &sums.kinds)) {
                add(Owner::of(kind, 0), time);
            }
            for (tid, values) in threads {
                if let Some(time) = values.get(place) {
                    add(Owner::Thread(*tid), time);
                }
            }
        }
    }

    /// A slice that lies in two windows or more.
    pub fn straddle(&mut self, slice: &Straddle) {
        let time = slice.until_ns.saturating_sub(slice.since_ns);
        let share = (slice.shared_ns.min(time), time);
        self.slice(
            slice.cpu,
            slice.since_ns,
            slice.until_ns,
            Owner::of(slice.kind, slice.tid),
            share,
        );
    }

    /// What a CPU has been doing since before a cut, and still is: what is before the cut is known.
    /// `sibling_busy` is the sibling's time so far, at `now`.
    pub fn still(
        &mut self,
        cpu: u32,
        clock: &CpuClock,
        generation: u64,
        now: u64,
        sibling_busy: u64,
    ) {
        let Some(end) = self.cut_of(generation + 1) else { return };
        if clock.generation > generation || clock.since_ns == 0 || clock.since_ns >= end.0 {
            return;
        }
        let time = now.saturating_sub(clock.since_ns);
        let shared = sibling_busy.saturating_sub(clock.sibling_busy_ns).min(time);
        let owner = Owner::of(clock.kind, clock.tid);
        self.slice(cpu, clock.since_ns, end.0, owner, (shared, time));
    }

    /// Cuts a slice at the cuts. `share`: how much of it, and of what, was beside a busy sibling.
    fn slice(&mut self, cpu: u32, since: u64, until: u64, owner: Owner, share: (u64, u64)) {
        let done = self.done.entry(cpu).or_default();
        let since = since.max(*done);
        *done = until.max(*done);
        let ends = self.cuts.iter().skip(1).map(|cut| cut.at.0).chain([u64::MAX]);
        let bounds = self.cuts.iter().map(|cut| cut.at.0).zip(ends);
        for (generation, (start, end)) in (self.first..).zip(bounds) {
            let (from, to) = (since.max(start), until.min(end));
            if from < to {
                let part = to - from;
                let shared = u128::from(share.0) * u128::from(part) / u128::from(share.1.max(1));
                let shared = u64::try_from(shared).unwrap_or(part).min(part);
                let time = if owner == Owner::Idle { (part, 0) } else { (part, shared) };
                let time = OnCpu { time_ns: time.0, shared_ns: time.1 };
                self.time.entry((generation, cpu)).or_default().add(owner, &time);
            }
        }
    }

    /// The first window of which not everything was told.
    #[must_use]
    pub fn next_generation(&self) -> u64 {
        self.told + 1
    }

    /// Everything of a window was told.
    pub fn told(&mut self, generation: u64) {
        self.told = generation;
    }

    fn cut_of(&self, generation: u64) -> Option<Monotonic> {
        let place = usize::try_from(generation.checked_sub(self.first)?).ok()?;
        self.cuts.get(place).map(|cut| cut.at)
    }

    /// The next window of which everything was told.
    pub fn finish(&mut self) -> Option<RawWindow> {
        let (start, end) = (self.cuts.first()?.at, self.cuts.get(1)?.clone());
        let length = end.at.since(start);
        let generation = self.first;
        if generation > self.told {
            return None;
        }
        let mut out = RawWindow {
            start,
            end: end.at,
            read: end.read,
            readings: end.readings,
            ..RawWindow::default()
        };
        for cpu in self.cpus.clone() {
            let mut time = self.time.remove(&(generation, cpu)).unwrap_or_default();
            let excess = time.balance(length);
            if !excess.is_empty() {
                self.time.entry((generation + 1, cpu)).or_default().add_all(excess);
            }
            let mut sums = CpuTime { cpu, ..CpuTime::default() };
            for (owner, time) in time {
                match owner {
                    Owner::Idle => sums.idle += time.total(),
                    Owner::Kernel => sums.kernel += time,
                    Owner::Other => sums.other += time,
                    Owner::Tracer => sums.tracer += time,
                    Owner::Lost => sums.lost += time,
                    Owner::Thread(tid) => out.threads.push((Tid(tid), cpu, time)),
                }
            }
            out.cpus.push(sums);
        }
        self.cuts.remove(0);
        self.first += 1;
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracer_common::energy::{IDLE, OTHER, TRACED};

    use super::*;

    fn whole(window: &RawWindow, cpu: u32) -> u64 {
        let time = window.cpus.iter().find(|time| time.cpu == cpu).unwrap();
        let threads = window.threads.iter().filter(|(_, on, _)| *on == cpu);
        let all = [time.kernel, time.other, time.tracer, time.lost].into_iter();
        let sum: u64 = all.chain(threads.map(|one| one.2)).map(|time| time.total().0).sum();
        sum + time.idle.0
    }

    #[test]
    fn a_slice_of_many_windows_is_cut_at_each() {
        let mut assembler = Assembler::new(vec![0]);
        for at in [1_000, 2_000, 3_000, 4_000] {
            assembler.cut(Monotonic(at), Ns(0), vec![]);
        }
        let slice = Straddle {
            kind: TRACED,
            tid: 7,
            since_ns: 1_500,
            until_ns: 3_500,
            shared_ns: 1_000,
            ..Straddle::default()
        };
        assembler.straddle(&slice);
        assembler.told(3);
        let windows: Vec<_> = std::iter::from_fn(|| assembler.finish()).collect();
        let times: Vec<_> = windows.iter().map(|window| window.threads[0].2).collect();
        let half = |ns| Shares { alone: Ns(ns), shared: Ns(ns) };
        assert_eq!(times, [half(250), half(500), half(250)]);
        assert_eq!(windows[0].cpus[0].lost.total(), Ns(500));
    }

    #[test]
    fn what_still_runs_is_counted_once() {
        let mut assembler = Assembler::new(vec![0]);
        for at in [1_000, 2_000, 3_000] {
            assembler.cut(Monotonic(at), Ns(0), vec![]);
        }
        let clock = CpuClock { since_ns: 900, kind: OTHER, ..CpuClock::default() };
        assembler.still(0, &clock, 1, 2_500, 0);
        assembler.told(2);
        let first = assembler.finish().unwrap();
        assert_eq!(first.cpus[0].other.total(), Ns(1_000));
        let slice = Straddle { kind: OTHER, since_ns: 900, until_ns: 2_700, ..Straddle::default() };
        assembler.straddle(&slice);
        let clock = CpuClock { since_ns: 2_700, kind: IDLE, generation: 2, ..CpuClock::default() };
        assembler.still(0, &clock, 2, 3_100, 0);
        let second = assembler.finish().unwrap();
        assert_eq!((second.cpus[0].other.total(), second.cpus[0].idle), (Ns(700), Ns(300)));
    }

    proptest! {
        /// T1 and T2: a schedule of one CPU comes back whole, each owner with what it had, however it
        /// is cut, and also if the kernel side took a cut some nanoseconds early or late.
        #[test]
        fn all_time_is_somewhere(
            slices in prop::collection::vec((0u32..7, 1u64..2_000), 1..60),
            cuts in prop::collection::vec(300u64..3_000, 2..12),
            late in 0u64..20,
        ) {
            let mut assembler = Assembler::new(vec![0]);
            let mut at = 500;
            let cuts: Vec<u64> = cuts.iter().map(|gap| { at += gap; at }).collect();
            for &cut in &cuts {
                assembler.cut(Monotonic(cut), Ns(0), vec![]);
            }
            // The kernel side sees each cut a little later.
            let generation = |time: u64| cuts.iter().filter(|&&cut| cut + late <= time).count() as u64;
            let (mut since, mut truth) = (0, BTreeMap::<Owner, u64>::new());
            let (first, last) = (cuts[0], *cuts.last().unwrap());
            let rest = (IDLE, last + 1_000);
            for (who, length) in slices.into_iter().chain([rest]) {
                let (kind, tid) = if who < TRACED { (who, 0) } else { (TRACED, who) };
                let until = since + length;
                let inside = until.min(last).saturating_sub(since.max(first));
                *truth.entry(Owner::of(kind, tid)).or_default() += inside;
                let slice = Straddle { kind, tid, since_ns: since, until_ns: until, ..Straddle::default() };
                if generation(since) == generation(until) {
                    let time = OnCpu { time_ns: length, shared_ns: 0 };
                    let mut sums = CpuSums::default();
                    let threads = if tid == 0 {
                        sums.kinds[kind as usize] = time;
                        vec![]
                    } else {
                        vec![(tid, vec![time])]
                    };
                    assembler.sums(generation(since), &[sums], &threads);
                } else {
                    assembler.straddle(&slice);
                }
                since = until;
            }
            assembler.told(cuts.len() as u64);
            let mut found = BTreeMap::<Owner, u64>::new();
            let mut windows = 0;
            while let Some(window) = assembler.finish() {
                prop_assert_eq!(whole(&window, 0), window.end.since(window.start).0);
                windows += 1;
                for (tid, _, time) in &window.threads {
                    *found.entry(Owner::Thread(tid.0)).or_default() += time.total().0;
                }
                let time = window.cpus[0];
                for (owner, ns) in [
                    (Owner::Idle, time.idle.0),
                    (Owner::Kernel, time.kernel.total().0),
                    (Owner::Other, time.other.total().0),
                    (Owner::Tracer, time.tracer.total().0),
                    (Owner::Lost, time.lost.total().0),
                ] {
                    *found.entry(owner).or_default() += ns;
                }
            }
            prop_assert_eq!(windows, cuts.len() - 1);
            for (owner, ns) in found {
                let off = ns.abs_diff(truth.get(&owner).copied().unwrap_or(0));
                prop_assert!(off <= 2 * late * cuts.len() as u64, "{owner:?} is {off} ns off");
            }
        }
    }
}
