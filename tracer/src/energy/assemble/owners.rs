//! Who had a CPU in a window, and for how long.

use std::collections::BTreeMap;

use tracer_common::energy::{IDLE, KERNEL, OTHER, OnCpu, TRACED, TRACER};

use crate::trace::energy::Shares;
use crate::units::Ns;

/// Who has a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Idle,
    Kernel,
    Other,
    Tracer,
    Thread(u32),
    Lost,
}

impl Owner {
    pub(super) fn of(kind: u32, tid: u32) -> Self {
        match kind {
            IDLE => Self::Idle,
            KERNEL => Self::Kernel,
            OTHER => Self::Other,
            TRACER => Self::Tracer,
            TRACED if tid != 0 => Self::Thread(tid),
            _ => Self::Lost,
        }
    }
}

/// The time of each.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<Owner, Shares>);

impl Owners {
    pub(super) fn add(&mut self, owner: Owner, time: &OnCpu) {
        *self.0.entry(owner).or_default() += shares(time);
    }

    pub(super) fn add_all(&mut self, others: Self) {
        for (owner, shares) in others {
            *self.0.entry(owner).or_default() += shares;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the time as long as the window. A switch at the very moment of a cut may have gone to the
    /// wrong side of it, by a microsecond or so: what is too much is given back, for the next window.
    /// What is missing is lost.
    pub(super) fn balance(&mut self, length: Ns) -> Self {
        let mut next = Self::default();
        let sum: Ns = self.0.values().map(|shares| shares.total()).sum();
        let missing = length.0.saturating_sub(sum.0);
        if missing > 0 {
            self.0.entry(Owner::Lost).or_default().alone += Ns(missing);
        }
        let mut excess = sum.0.saturating_sub(length.0);
        while excess > 0 {
            let largest = self.0.iter_mut().max_by_key(|(_, shares)| shares.total());
            let Some((&owner, shares)) = largest else { break };
            let alone = excess.min(shares.alone.0);
            let shared = (excess - alone).min(shares.shared.0);
            shares.alone.0 -= alone;
            shares.shared.0 -= shared;
            excess -= alone + shared;
            *next.0.entry(owner).or_default() += Shares { alone: Ns(alone), shared: Ns(shared) };
            if alone + shared == 0 {
                break;
            }
        }
        next
    }
}

impl IntoIterator for Owners {
    type Item = (Owner, Shares);
    type IntoIter = std::collections::btree_map::IntoIter<Owner, Shares>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

fn shares(time: &OnCpu) -> Shares {
    let shared = time.shared_ns.min(time.time_ns);
    Shares { alone: Ns(time.time_ns - shared), shared: Ns(shared) }
}
