//! Folded stacks: one line per stack, its frames separated by `;`, then a space and a number.
//!
//! By waiter `thread (tid);root frame;…;leaf frame;kind;lock 0xaddress`, by holder the same of who
//! was in the way, and by both `…;lock 0xaddress;[held by];leaf frame;…;root frame;thread (tid)`.
//! With several processes the first frame of a thread's is its process, `python3.14 [pid]`.
//! Some frames stand for what belongs to no thread: `[yields]` (known by lock only),
//! `[below threshold]`, `[record lost]` and, of weight `spin`, `[spinning, sampled]`. With every class included the numbers of weight `wait`
//! sum to `totals.wait_ns` exactly, by any side.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::escape;
use super::paths::{Paths, process_frame};
use crate::analyze::energy::{Amount, places};
use crate::analyze::{Side, Summary, Sums};
use crate::trace::records::{Class, LockRecord, SideStack};
use crate::units::{LockIndex, Ns};

/// What the numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Weight {
    /// Time waited, nanoseconds: blocked, run-queue and yielded.
    #[default]
    Wait,
    /// Time asleep until woken, nanoseconds.
    Blocked,
    /// Time woken but not yet running, nanoseconds.
    Runq,
    /// Time on the CPU while spinning, nanoseconds: sampled, or measured by `record --hooks syscall`.
    Spin,
    /// Number of waits.
    Count,
    /// Energy, microjoules; needs a recording with an energy source.
    Energy,
}

/// A weight that this trace doesn't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingWeight {
    /// There was no sampler, and default hooks can't see it.
    #[error(
        "no spin time in this trace: it was recorded without a sampler; record with --sample-hz or \
         --hooks syscall, or use another --weight"
    )]
    Spin,
    /// No energy was recorded.
    #[error(
        "no energy in this trace: it was recorded without an energy source; use another --weight"
    )]
    Energy,
    /// It is the waiters'.
    #[error(
        "energy is that of waiting on the CPU, which only waiters do: leave out --side, or use another \
         --weight"
    )]
    EnergyOfHolders,
}

/// Stacks with their numbers, in the order of their text.
pub type Stacks = BTreeMap<String, u64>;

/// What is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// What the numbers are.
    pub weight: Weight,
    /// Whose stacks.
    pub side: Side,
    /// Idle waits too.
    pub idle: bool,
}

/// The stacks of a summary, those that come to 0 left out.
///
/// # Errors
/// The trace doesn't have this weight.
pub fn stacks(summary: &Summary, picture: Picture) -> Result<Stacks, MissingWeight> {
    match picture.weight {
        Weight::Energy => return energy_stacks(summary, picture),
        Weight::Spin if summary.spin(&summary.totals).is_none() => {
            return Err(MissingWeight::Spin);
        }
        _ => {}
    }
    let locks = shown_locks(summary, picture);
    let mut out = Folder { stacks: Stacks::new(), weight: picture.weight };
    let mut paths = Paths::new(summary);
    match picture.side {
        Side::Waiter => {
            for ((thread, lock, stack), sums) in out.heaviest_first(&summary.waiting) {
                let Some(lock) = locks.get(lock) else { continue };
                out.add(sums, || {
                    let mut path = paths.rooted(*thread);
                    paths.root_first(&mut path, *stack);
                    path + ";" + lock
                });
            }
        }
        Side::Holder => {
            for ((lock, other), sums) in out.heaviest_first(&summary.holding) {
                let Some(lock) = locks.get(lock) else { continue };
                out.add(sums, || {
                    let mut path = paths.other_rooted(*other);
                    if other.thread.is_some() {
                        paths.root_first(&mut path, other.stack);
                    }
                    path + ";" + lock
                });
            }
        }
        Side::Both => {
            for (((thread, lock, stack), other), sums) in out.heaviest_first(&summary.links) {
                let Some(lock) = locks.get(lock) else { continue };
                out.add(sums, || {
                    let mut path = paths.rooted(*thread);
                    paths.root_first(&mut path, *stack);
                    path = path + ";" + lock + ";[held by]";
                    if other.thread.is_some() {
                        paths.leaf_first(&mut path, other.stack);
                    }
                    path + ";" + &paths.other_thread(*other)
                });
            }
        }
    }
    // Yields and samples are known by lock, and so by the lock's process.
    let root = |lock: LockIndex| {
        let process = summary.homes.of_lock(lock);
        let frame = process.and_then(|process| process_frame(summary, process));
        frame.map_or_else(String::new, |frame| frame + ";")
    };
    for ((index, stack), yields) in out.heaviest_first(&summary.yielding) {
        let Some(lock) = locks.get(index) else { continue };
        out.add(yields, || {
            let mut path = root(*index) + "[yields]";
            if let (SideStack::Stack(_), true) = (stack, picture.side != Side::Holder) {
                paths.root_first(&mut path, *stack);
            }
            path + ";" + lock
        });
    }
    if picture.weight == Weight::Spin && !summary.spin_measured() {
        for lock in &summary.locks {
            let Some(frames) = locks.get(&lock.lock.index) else { continue };
            let time = summary.spin(&lock.sums).map_or(Ns(0), |spin| spin.time);
            // Samples are known by lock alone.
            out.add(&Sums { spin: Some(time), ..Sums::default() }, || {
                format!("{}[spinning, sampled];{frames}", root(lock.lock.index))
            });
        }
    }
    let without_lock = [
        ("[below threshold]", &summary.below),
        ("[beyond the limit]", &summary.limited),
        ("[record lost]", &summary.lost),
    ];
    for (root, sums) in without_lock {
        for ((kind, class), sums) in sums {
            if picture.shows(*class) {
                out.add(sums, || format!("{root};{};[no lock]", kind.name()));
            }
        }
    }
    Ok(out.stacks)
}

/// Energy of waiting on the CPU. Samples know thread and lock: within each lock it is spread over its
/// places ([`places`]). What is no more than noise has a frame that says so, and no places.
fn energy_stacks(summary: &Summary, picture: Picture) -> Result<Stacks, MissingWeight> {
    let energy = super::energy::present(summary).ok_or(MissingWeight::Energy)?;
    if picture.side != Side::Waiter {
        return Err(MissingWeight::EnergyOfHolders);
    }
    let mut out = Stacks::new();
    let root = format!("[waiting on the CPU, {}]", energy.attributed());
    let mut paths = Paths::new(summary);
    let locks = shown_locks(summary, picture);
    let noise = |amount: &Amount| amount.is_noise().then_some(";[no more than noise: < 2σ]");
    for placed in places::by_stack(summary) {
        let Some(frames) = locks.get(&placed.lock) else { continue };
        let mut path = root.clone();
        if let Some(frame) = energy.locks.get(&placed.lock).and_then(noise) {
            path += frame;
        } else if let Some(stack @ SideStack::Stack(_)) = placed.stack {
            paths.root_first(&mut path, stack);
        }
        *out.entry(path + ";" + frames).or_default() += placed.energy.0;
    }
    let unknown = &energy.waiting_unknown;
    if unknown.energy.0 > 0 {
        let frame = noise(unknown).unwrap_or_default();
        out.insert(format!("{root}{frame};[lock not known]"), unknown.energy.0);
    }
    Ok(out)
}

impl Picture {
    fn shows(self, class: Class) -> bool {
        self.idle || class != Class::Idle
    }
}

/// The locks that are drawn, as frames.
fn shown_locks(summary: &Summary, picture: Picture) -> BTreeMap<LockIndex, String> {
    let locks = summary.locks.iter().filter(|lock| picture.shows(lock.lock.class));
    locks.map(|lock| (lock.lock.index, lock_frames(&lock.lock))).collect()
}

/// Adds stacks up, and makes the text of those only that come to something.
struct Folder {
    stacks: Stacks,
    weight: Weight,
}

impl Folder {
    /// In this order, so that it is the least that [`Paths`] has no room for.
    fn heaviest_first<'a, K>(&self, cells: &'a BTreeMap<K, Sums>) -> Vec<(&'a K, &'a Sums)> {
        let mut cells: Vec<_> = cells.iter().collect();
        cells.sort_by_key(|(_, sums)| Reverse(value(sums, self.weight)));
        cells
    }

    fn add(&mut self, sums: &Sums, stack: impl FnOnce() -> String) {
        let n = value(sums, self.weight);
        if n > 0 {
            let sum = self.stacks.entry(stack()).or_default();
            *sum = n.saturating_add(*sum);
        }
    }
}

/// The stacks as text, one per line.
#[must_use]
pub fn text(stacks: &Stacks) -> String {
    stacks.iter().fold(String::new(), |mut out, (stack, n)| {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{stack} {n}");
        out
    })
}

fn lock_frames(lock: &LockRecord) -> String {
    format!("{};{} {}", lock.kind.name(), escape::frame(&lock.name), lock.address)
}

fn value(sums: &Sums, weight: Weight) -> u64 {
    match weight {
        Weight::Wait => sums.wait().0,
        Weight::Blocked => sums.blocked.0,
        Weight::Runq => sums.runq.0,
        Weight::Spin => sums.spin.unwrap_or(Ns(0)).0,
        Weight::Count => sums.waits,
        Weight::Energy => 0,
    }
}
