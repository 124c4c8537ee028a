//! The simulated program: threads queue for locks, whose holders let the first one in.
//!
//! Every wait has a waker that had the lock until then. Holders that wait for a further lock keep
//! theirs meanwhile, so that there are chains; locks are taken in the order of their numbers, so
//! that there is no deadlock. Holds and run-queue times are log-normal, arrivals are a Poisson
//! process, and locks are chosen by Zipf's law.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, LogNormal, Zipf};
use tracer::trace::records::{SideStack, Wait};
use tracer::units::{LockIndex, Monotonic, Ns, StackIndex, ThreadIndex};
use tracer_common::NoStack;

use super::Plan;
use super::names::Names;

/// Medians, nanoseconds, and the spread of their logarithms.
const HOLD: (f64, f64) = (20_000.0, 1.0);
const RUNQ: (f64, f64) = (4_000.0, 1.0);
/// Threads that use a lock which not all use.
const FEW: u32 = 16;
/// Tries to find a thread that can wait for a lock.
const TRIES: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Runs(u32),
    LetsGo(u32),
    Arrives,
}

#[derive(Clone, Debug, Default)]
struct Thread {
    wait: Option<Wait>,
    has: Vec<u32>,
    /// Locks that it would have let go while it waited for another.
    late: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Lock {
    holder: Option<u32>,
    queue: VecDeque<u32>,
}

/// An iterator over the waits, nearly in the order of their ends.
pub(super) struct Program {
    plan: Plan,
    random: SmallRng,
    pick: Zipf<f64>,
    arrival: Exp<f64>,
    hold: LogNormal<f64>,
    runq: LogNormal<f64>,
    threads: Vec<Thread>,
    locks: Vec<Lock>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    begun: u64,
}

impl Program {
    pub(super) fn new(plan: Plan, start: u64) -> Self {
        let log_normal = |(median, spread): (f64, f64)| {
            LogNormal::new(median.ln(), spread).expect("a finite spread")
        };
        Self {
            plan,
            random: SmallRng::seed_from_u64(plan.seed),
            pick: Zipf::new(f64::from(plan.locks), 1.0).expect("some locks"),
            arrival: Exp::new(f64::from(plan.per_second) / 1e9).expect("a positive rate"),
            hold: log_normal(HOLD),
            runq: log_normal(RUNQ),
            threads: vec![Thread::default(); plan.threads as usize],
            locks: vec![Lock::default(); plan.locks as usize],
            events: [Reverse((start, Event::Arrives))].into(),
            begun: 0,
        }
    }

    /// Waits that have begun and are not over: by whom, and since when.
    pub(super) fn under_way(&self) -> Vec<(u32, u64)> {
        let waits = (0..).zip(&self.threads);
        waits.filter_map(|(n, thread)| Some((n, thread.wait?.start.0))).collect()
    }

    fn arrives(&mut self, at: u64) {
        if self.begun >= self.plan.waits {
            return;
        }
        let gap = time(self.arrival.sample(&mut self.random));
        self.events.push(Reverse((at + gap, Event::Arrives)));
        let lock = (self.pick.sample(&mut self.random) as u32).clamp(1, self.plan.locks) - 1;
        if self.locks[lock as usize].holder.is_none() {
            let Some(holder) = self.someone(lock) else { return };
            self.takes(holder, lock, at);
        }
        let Some(waiter) = self.someone(lock) else { return };
        self.begun += 1;
        self.locks[lock as usize].queue.push_back(waiter);
        let holder = self.locks[lock as usize].holder.filter(|_| Names::has_owner(lock));
        self.threads[waiter as usize].wait = Some(Wait {
            thread: ThreadIndex(waiter),
            lock: LockIndex(lock),
            start: Monotonic(at),
            end: Monotonic(at),
            blocked: Ns(0),
            runq: Ns(0),
            episodes: 1,
            flags: 0,
            waker: None,
            waiter_stack: self.stack(lock),
            waker_stack: SideStack::default(),
            holder: holder.map(ThreadIndex),
            holder_stack: SideStack::Missing(NoStack::NotTaken),
        });
    }

    /// A thread that uses the lock, does not wait, and has only earlier ones.
    fn someone(&mut self, lock: u32) -> Option<u32> {
        for _ in 0..TRIES {
            let thread = if lock < self.plan.shared_locks {
                self.random.random_range(0..self.plan.threads)
            } else {
                let one = self.random.random_range(0..FEW.min(self.plan.threads));
                (lock.wrapping_mul(7) + one * 11) % self.plan.threads
            };
            let state = &self.threads[thread as usize];
            if state.wait.is_none() && state.has.iter().all(|&has| has < lock) {
                return Some(thread);
            }
        }
        None
    }

    fn takes(&mut self, thread: u32, lock: u32, at: u64) {
        self.locks[lock as usize].holder = Some(thread);
        self.threads[thread as usize].has.push(lock);
        let hold = time(self.hold.sample(&mut self.random));
        self.events.push(Reverse((at + hold, Event::LetsGo(lock))));
    }

    fn lets_go(&mut self, lock: u32, at: u64) {
        let Some(holder) = self.locks[lock as usize].holder else { return };
        let state = &mut self.threads[holder as usize];
        if state.wait.is_some() {
            state.late.push(lock);
            return;
        }
        state.has.retain(|&has| has != lock);
        let stack = self.stack(lock);
        let Some(next) = self.locks[lock as usize].queue.pop_front() else {
            self.locks[lock as usize].holder = None;
            return;
        };
        self.locks[lock as usize].holder = Some(next);
        let runq = time(self.runq.sample(&mut self.random));
        if let Some(wait) = &mut self.threads[next as usize].wait {
            wait.blocked = Monotonic(at).since(wait.start);
            wait.runq = Ns(runq);
            wait.end = Monotonic(at + runq);
            wait.waker = Some(ThreadIndex(holder));
            wait.waker_stack = stack;
        }
        self.events.push(Reverse((at + runq, Event::Runs(next))));
    }

    fn runs(&mut self, thread: u32, at: u64) -> Option<Wait> {
        let wait = self.threads[thread as usize].wait.take()?;
        self.takes(thread, wait.lock.0, at);
        for lock in std::mem::take(&mut self.threads[thread as usize].late) {
            let more = time(self.hold.sample(&mut self.random));
            self.events.push(Reverse((at + more, Event::LetsGo(lock))));
        }
        Some(wait)
    }

    /// Half of the time at the first place, a quarter at the second, and so on.
    fn stack(&mut self, lock: u32) -> SideStack {
        let site = self.random.random::<u32>().trailing_ones() % self.plan.sites;
        SideStack::Stack(StackIndex(lock * self.plan.sites + site))
    }
}

impl Iterator for Program {
    type Item = Wait;

    fn next(&mut self) -> Option<Wait> {
        while let Some(Reverse((at, event))) = self.events.pop() {
            match event {
                Event::Arrives => self.arrives(at),
                Event::LetsGo(lock) => self.lets_go(lock, at),
                Event::Runs(thread) => {
                    if let Some(wait) = self.runs(thread, at) {
                        return Some(wait);
                    }
                }
            }
        }
        None
    }
}

/// Nanoseconds, at least one and at most a minute.
fn time(ns: f64) -> u64 {
    ns.clamp(1.0, 6e10) as u64
}
