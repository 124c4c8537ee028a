//! A chain with all that tells it from others.

use super::{ChainEnd, Link, MAX_LINKS};
use crate::analyze::Source;
use crate::trace::records::SideStack;
use crate::units::{LockIndex, ThreadIndex};

pub(super) const NO_LINK: Link = Link {
    waiter: ThreadIndex(0),
    lock: LockIndex(0),
    stack: SideStack::Missing(tracer_common::NoStack::NotTaken),
    source: Source::None,
};

/// A chain with all that tells it from others. Links beyond its length are [`NO_LINK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Path {
    pub(super) links: [Link; MAX_LINKS],
    pub(super) length: usize,
    pub(super) holder: Option<ThreadIndex>,
    pub(super) end: ChainEnd,
}

impl Path {
    pub(super) const EMPTY: Self =
        Self { links: [NO_LINK; MAX_LINKS], length: 0, holder: None, end: ChainEnd::Unknown };

    pub(super) fn links(&self) -> &[Link] {
        &self.links[..self.length.min(MAX_LINKS)]
    }

    pub(super) fn locks(&self) -> [Option<LockIndex>; MAX_LINKS] {
        let mut locks = [None; MAX_LINKS];
        for (lock, link) in locks.iter_mut().zip(self.links()) {
            *lock = Some(link.lock);
        }
        locks
    }
}
