//! What an interval says of its threads' waiting on the CPU: samples, and with `--hooks syscall` the
//! time spent spinning and in futex calls as it was measured at each.

use std::collections::BTreeMap;

use super::covers::Covers;
use crate::trace::energy::{Doing, EnergyInterval, EnergySamples, EnergySource, ONE};
use crate::units::ThreadIndex;

/// With so many samples in an interval a thread's own share of waiting is used, else that of all
/// threads with fewer.
const OWN_SHARE: u64 = 20;

/// An interval on the CPUs of one domain.
pub(super) struct Waiting<'a> {
    /// What counts: no samples of what was timed, which say the same less exactly.
    samples: Vec<&'a EnergySamples>,
    timed: bool,
    /// Which part of their time threads spent waiting, by samples, in millionths.
    own: BTreeMap<ThreadIndex, u32>,
    others: u32,
    /// Of each thread time on the CPU, and of that what was timed, in ns.
    times: BTreeMap<ThreadIndex, (u64, u64)>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(
        interval: &'a EnergyInterval,
        covers: &Covers,
        source: &EnergySource,
    ) -> Self {
        let timed = source.spin_timed;
        let inside = interval.samples.iter().filter(|one| covers.cpu(one.cpu));
        let samples: Vec<_> = inside.filter(|one| counts(one.doing, source)).collect();
        let mut times: BTreeMap<ThreadIndex, (u64, u64)> = BTreeMap::new();
        if timed {
            let threads = interval.windows.iter().flat_map(|window| &window.threads);
            for thread in threads.filter(|thread| covers.cpu(thread.cpu)) {
                let (all, _) = times.entry(thread.thread).or_default();
                *all = all.saturating_add(thread.time.total().0);
            }
        }
        let mut threads: BTreeMap<ThreadIndex, (u64, u64)> = BTreeMap::new();
        for one in &samples {
            let n = u64::from(one.samples);
            let (all, waiting) = threads.entry(one.thread).or_default();
            match one.doing {
                Doing::Anything => *all += n,
                Doing::Spinning | Doing::Futex => *waiting += n,
                Doing::Timed => times.entry(one.thread).or_default().1 += n,
            }
        }
        let few = threads.values().filter(|(all, _)| *all < OWN_SHARE);
        let others = few.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let own = threads.iter().filter(|(_, (all, _))| *all >= OWN_SHARE);
        let own =
            own.map(|(&thread, &(all, waiting))| (thread, millionths(waiting, all))).collect();
        Self { samples, timed, own, others: millionths(others.1, others.0), times }
    }

    /// The samples, and what was timed.
    pub(super) fn samples(&self) -> impl Iterator<Item = &EnergySamples> {
        self.samples.iter().copied()
    }

    /// Yields were timed.
    pub(super) fn timed(&self) -> bool {
        self.timed
    }

    /// Which part of a thread's time was spent waiting, in millionths.
    pub(super) fn of(&self, thread: ThreadIndex) -> u32 {
        let sampled = self.own.get(&thread).copied().unwrap_or(self.others);
        let (all, timed) = self.times(thread);
        sampled.saturating_add(millionths(timed, all)).min(ONE)
    }

    /// Time on the CPU, and of that what was timed, in ns. Nothing unless yields are timed.
    pub(super) fn times(&self, thread: ThreadIndex) -> (u64, u64) {
        self.times.get(&thread).copied().unwrap_or_default()
    }

    /// Time of all threads on the CPU, in ns. Nothing unless yields are timed.
    pub(super) fn all_times(&self) -> u64 {
        self.times.values().fold(0, |sum, (all, _)| sum.saturating_add(*all))
    }
}

/// Samples of what was timed do not count: they say the same less exactly.
pub(super) fn counts(doing: Doing, source: &EnergySource) -> bool {
    match doing {
        Doing::Anything => true,
        Doing::Futex => !source.futex_timed,
        Doing::Spinning => !source.spin_timed,
        Doing::Timed => source.spin_timed,
    }
}

fn millionths(part: u64, whole: u64) -> u32 {
    let share = u128::from(part.min(whole)) * u128::from(ONE) / u128::from(whole.max(1));
    u32::try_from(share).unwrap_or(ONE)
}
