//! The way from one wait to the end of its chains.

use rustc_hash::FxHashMap;

use super::path::{NO_LINK, Path};
use super::{ChainEnd, Link, MAX_LINKS};
use crate::analyze::Source;
use crate::analyze::graph::links::Links;
use crate::analyze::graph::span::Span;
use crate::units::{LockIndex, Monotonic, Ns, ThreadIndex};

/// The way from one wait to the end of its chains.
pub(super) struct Walk<'a> {
    links: &'a Links<'a>,
    path: Path,
    pub(super) steps: u32,
    /// At most as many as there are steps, so that keys made to collide cost little.
    pub(super) found: FxHashMap<Path, Ns>,
}

impl<'a> Walk<'a> {
    /// Of no more than so many steps.
    pub(super) fn new(links: &'a Links<'a>, steps: u32) -> Self {
        Self { links, path: Path::EMPTY, steps, found: FxHashMap::default() }
    }
}

impl Walk<'_> {
    /// From a waiting thread on to who is in its way.
    pub(super) fn wait(&mut self, span: &Span, from: Monotonic, to: Monotonic) {
        let place = self.path.length;
        self.path.length += 1;
        let mut at = from;
        while at < to && self.step() {
            let (until, holder, source) = self.links.holder(span, at, to);
            let (waiter, lock, stack) = (span.thread, span.lock, span.waiter_stack);
            self.path.links[place] = Link { waiter, lock, stack, source };
            match holder {
                Some(holder) if self.path.links().iter().any(|link| link.waiter == holder) => {
                    // A wait that somebody ended was in no cycle: the wakings told wrong.
                    let end = match source {
                        Source::Waker | Source::None => ChainEnd::Unknown,
                        Source::Owner | Source::OwnerUnverified => ChainEnd::Cycle,
                    };
                    let holder = (end == ChainEnd::Cycle).then_some(holder);
                    self.tell(holder, end, at, until);
                }
                Some(holder) => self.behind(lock, holder, at, until),
                None => self.tell(None, ChainEnd::Unknown, at, until),
            }
            at = until;
        }
        self.path.links[place] = NO_LINK;
        self.path.length = place;
    }

    /// From a holder on to what it waits for.
    fn behind(&mut self, lock: LockIndex, holder: ThreadIndex, from: Monotonic, to: Monotonic) {
        let mut at = from;
        while at < to && self.step() {
            let (until, next) = self.links.wait(holder, at, to);
            match next {
                None => self.tell(Some(holder), ChainEnd::Running, at, until),
                Some(next) if next.lock == lock => self.tell(None, ChainEnd::Unknown, at, until),
                Some(_) if self.path.length >= MAX_LINKS => {
                    self.tell(Some(holder), ChainEnd::Longer, at, until);
                }
                Some(next) => self.wait(next, at, until),
            }
            at = until;
        }
    }

    fn tell(&mut self, holder: Option<ThreadIndex>, end: ChainEnd, from: Monotonic, to: Monotonic) {
        if self.path.length > 1 {
            let path = Path { holder, end, ..self.path };
            *self.found.entry(path).or_default() += to.since(from);
        }
    }

    fn step(&mut self) -> bool {
        self.steps = self.steps.saturating_sub(1);
        self.steps > 0
    }
}
