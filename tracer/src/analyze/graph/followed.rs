//! Of which waits the chains are followed: of all in a trace of up to half a million, and of a longer one
//! in stretches all over it. Following costs more than everything else together, and what chains
//! there are shows in a part of them. How many waits are left out is counted.
//!
//! The stretches lie so that it need not be known how long the trace will be: four in each part that
//! is as long as everything before it. The second half of a stretch only tells how the waits in the
//! first one go on.

use std::ops::Range;

use super::chains::{Chain, Chains};
use super::span::Span;
use super::window::Window;
use super::{MAX_PATHS, WINDOW};
use crate::analyze::OtherSide;
use crate::analyze::brief::Brief;
use crate::trace::records::Wait;
use crate::units::Ns;

/// The first waits, of which all are followed.
const ALL: u64 = 1 << 19;
/// Waits in a stretch behind them.
const STRETCH: u64 = 1 << 16;
/// Stretches from each power of two to the next one.
const STRETCHES: u64 = 4;

/// Sees the waits that are to be followed, and finds their chains.
#[derive(Debug)]
pub(in crate::analyze) struct ChainGraph {
    window: Window,
    chains: Chains,
    /// Where the stretch begins that the window is in.
    stretch: u64,
    seen: u64,
    /// Waits that were seen, but of which it is not known how they go on.
    dropped: u64,
}

/// The chains that were found.
#[derive(Debug, Default)]
pub(in crate::analyze) struct FollowedChains {
    pub(super) chains: Vec<Chain>,
    /// Time of those that found no room.
    pub(super) left_out: Ns,
    /// Waits that were not followed at every moment.
    pub(super) unfollowed: u64,
    /// Waits that were not followed at all.
    pub(super) not_followed: u64,
}

impl Default for ChainGraph {
    fn default() -> Self {
        Self::with_window(WINDOW)
    }
}

impl ChainGraph {
    pub(super) fn with_window(capacity: usize) -> Self {
        Self {
            window: Window::new(capacity),
            chains: Chains::new(MAX_PATHS),
            stretch: 0,
            seen: 0,
            dropped: 0,
        }
    }

    /// Whether the wait with this number, from 0 on, is to be followed.
    fn follows(n: u64) -> bool {
        stretch(n).is_some()
    }

    /// Whether any of these waits is.
    pub(in crate::analyze) fn follows_any(waits: Range<u64>) -> bool {
        // No gap is shorter than a stretch, and chunks are: both ends tell.
        !waits.is_empty() && (Self::follows(waits.start) || Self::follows(waits.end - 1))
    }

    /// Adds the wait with this number, if it is to be followed.
    pub(super) fn add(&mut self, n: u64, wait: &Wait, other: OtherSide) {
        let Some(stretch) = stretch(n) else { return };
        if stretch != self.stretch {
            self.leave();
            self.stretch = stretch;
            self.window.begin(wait.end);
        }
        self.seen += 1;
        if self.window.add(Span::of(wait, other)) {
            self.chains.pass(self.window.spans(), self.window.done(), self.window.middle());
            self.window.pass(self.window.middle());
        }
    }

    /// Adds those of these waits that are to be followed; `from` is the first one's number.
    pub(in crate::analyze) fn add_all<'a>(
        &mut self,
        from: u64,
        waits: impl Iterator<Item = &'a Brief>,
        unverified: bool,
    ) {
        for (n, wait) in (from..).zip(waits).filter(|&(n, _)| Self::follows(n)) {
            self.add(n, &wait.wait(), wait.other(unverified));
        }
    }

    /// The trace goes on behind the stretch.
    fn leave(&mut self) {
        let cut = self.window.middle();
        self.chains.pass(self.window.spans(), self.window.done(), cut);
        self.window.pass(cut);
        self.dropped += self.window.spans().len() as u64;
    }

    /// The chains of a trace with so many waits.
    pub(in crate::analyze) fn finish(mut self, waits: u64) -> FollowedChains {
        if waits.checked_sub(1).is_none_or(|last| stretch(last) == Some(self.stretch)) {
            let cut = self.window.last();
            self.chains.pass(self.window.spans(), self.window.done(), cut);
        } else {
            self.leave();
        }
        let unfollowed = self.chains.unfollowed();
        let (chains, left_out) = self.chains.finish();
        let not_followed = waits.saturating_sub(self.seen) + self.dropped;
        FollowedChains { chains, left_out, unfollowed, not_followed }
    }
}

/// Where the stretch begins that a wait is in; none if it is in none.
fn stretch(n: u64) -> Option<u64> {
    if n < ALL {
        return Some(0);
    }
    let power = 1 << n.ilog2();
    let start = n - (n - power) % (power / STRETCHES);
    (n - start < STRETCH).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_all_over_a_trace() {
        let mut starts: Vec<_> = (0..10_000_000).filter_map(stretch).collect();
        let waits = starts.len() as u64;
        starts.dedup();
        let quarter = ALL / STRETCHES;
        let beyond = [ALL, ALL + quarter, ALL + 2 * quarter, ALL + 3 * quarter, 2 * ALL];
        assert_eq!(starts[..6], [&[0][..], &beyond].concat());
        assert_eq!(starts.len(), 1 + 4 * 4 + 1);
        assert_eq!(waits, ALL + 17 * STRETCH);
        assert!(ChainGraph::follows_any(ALL - 1..ALL + 1));
        assert!(!ChainGraph::follows_any(ALL + STRETCH..ALL + STRETCH + 1_000));
        assert!(!ChainGraph::follows_any(5..5));
    }
}
