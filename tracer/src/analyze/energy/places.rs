//! Where in the program a lock's energy goes (the call site of ℓ, docs/energy.md).
//!
//! What is attributed to a lock is known by thread and lock: a sample that finds a thread spinning walks
//! no stack. So it is spread over the lock's places, by the yields made at each, or of a lock that nobody
//! yields for by the waits there. That is an estimate within each lock; a lock's places sum to it exactly.

use std::collections::BTreeMap;

use super::apportion::apportion;
use super::summary::Amount;
use crate::analyze::sites::Site;
use crate::analyze::summary::Summary;
use crate::energy::Microjoules;
use crate::trace::records::{Class, SideStack};
use crate::units::LockIndex;

/// What one place has of a lock's energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The lock.
    pub lock: LockIndex,
    /// Where was waited for it; none: nowhere that is known.
    pub stack: Option<SideStack>,
    /// The stack is of yields.
    pub yields: bool,
    /// How much.
    pub energy: Microjoules,
}

/// Every lock's energy by place, in the order of locks; places without any are left out.
#[must_use]
pub fn by_stack(summary: &Summary) -> Vec<Placed> {
    let Some(energy) = &summary.energy else { return Vec::new() };
    let mut yields: BTreeMap<LockIndex, Vec<(SideStack, u128)>> = BTreeMap::new();
    for (&(lock, stack), sums) in summary.yielding.iter().filter(|(_, sums)| sums.spins > 0) {
        yields.entry(lock).or_default().push((stack, sums.spins.into()));
    }
    let mut waits: BTreeMap<LockIndex, BTreeMap<SideStack, u128>> = BTreeMap::new();
    for (&(_, lock, stack), sums) in &summary.waiting {
        if energy.locks.contains_key(&lock) && !yields.contains_key(&lock) {
            *waits.entry(lock).or_default().entry(stack).or_default() += u128::from(sums.waits);
        }
    }
    let mut out = Vec::new();
    for (&lock, amount) in energy.locks.iter().filter(|(_, amount)| amount.energy.0 > 0) {
        let of_yields = yields.contains_key(&lock);
        let places = yields.remove(&lock).unwrap_or_else(|| {
            waits.remove(&lock).into_iter().flatten().filter(|(_, waits)| *waits > 0).collect()
        });
        if places.is_empty() {
            out.push(Placed { lock, stack: None, yields: false, energy: amount.energy });
            continue;
        }
        let (stacks, weights): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        let parts = stacks.into_iter().zip(apportion(amount.energy.0, &weights));
        out.extend(parts.filter(|(_, part)| *part > 0).map(|(stack, part)| Placed {
            lock,
            stack: Some(stack),
            yields: of_yields,
            energy: Microjoules(part),
        }));
    }
    out
}

/// The same by line of the program, lock by lock.
#[must_use]
pub fn by_site(summary: &Summary) -> BTreeMap<(LockIndex, Site), Microjoules> {
    let mut out: BTreeMap<_, Microjoules> = BTreeMap::new();
    for placed in by_stack(summary) {
        *out.entry((placed.lock, placed.site(summary))).or_default() += placed.energy;
    }
    out
}

/// The same over all locks of a class.
///
/// σ of a part `p` of a lock's is taken as `√p` of the lock's: so is that of a part of its samples, and
/// what readings add is less.
#[must_use]
pub fn by_class(summary: &Summary) -> BTreeMap<(Site, Class), Amount> {
    let classes: BTreeMap<LockIndex, Class> =
        summary.locks.iter().map(|lock| (lock.lock.index, lock.lock.class)).collect();
    let mut out: BTreeMap<_, Amount> = BTreeMap::new();
    for ((lock, site), energy) in by_site(summary) {
        let class = classes.get(&lock).copied().unwrap_or(Class::Unclassified);
        let whole = summary.energy.as_ref().and_then(|energy| energy.locks.get(&lock));
        let whole = whole.copied().unwrap_or_default();
        out.entry((site, class)).or_default().add_part(energy, &whole);
    }
    out.values_mut().for_each(Amount::settle);
    out
}

impl Placed {
    /// The line.
    #[must_use]
    pub fn site(&self, summary: &Summary) -> Site {
        match self.stack {
            Some(stack) if self.yields => Site::of_yields(&summary.stacks, stack),
            Some(stack) => summary.stacks.site(stack),
            None => Site::Yields,
        }
    }
}
