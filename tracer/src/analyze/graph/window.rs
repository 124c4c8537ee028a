//! The waits that are looked at together: a bounded number, so that memory doesn't grow with the
//! trace.
//!
//! A wait is known when it ends, and what others did meanwhile was known before: nearly, because
//! waits are not written in the exact order of their ends. So they are collected until the window
//! is full, and then the time up to the middle one's end is dealt with for good. A wait that is
//! still under way then goes on in the next part. One that arrives later and began earlier (it was
//! longer than half a window of other waits) loses its beginning.

use super::span::Span;
use crate::units::Monotonic;

/// Spans kept until it is time; and the moment up to which all is done.
#[derive(Debug)]
pub(super) struct Window {
    spans: Vec<Span>,
    capacity: usize,
    done: Monotonic,
}

impl Window {
    /// Room for `capacity` spans, at least 1.
    pub(super) fn new(capacity: usize) -> Self {
        Self { spans: Vec::new(), capacity: capacity.max(1), done: Monotonic(0) }
    }

    /// Forgets everything, and begins anew at `done`.
    pub(super) fn begin(&mut self, done: Monotonic) {
        self.spans.clear();
        self.done = done;
    }

    /// Takes one more; true if the window is full.
    pub(super) fn add(&mut self, mut span: Span) -> bool {
        if span.end > self.done {
            span.from = span.from.max(self.done.min(span.to));
            self.spans.push(span);
        }
        self.spans.len() >= self.capacity
    }

    /// What is in it.
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// All before this is done.
    pub(super) fn done(&self) -> Monotonic {
        self.done
    }

    /// The end of the middle one: at least half of all end until then.
    pub(super) fn middle(&self) -> Monotonic {
        let mut ends: Vec<_> = self.spans.iter().map(|span| span.end).collect();
        if ends.is_empty() {
            return self.done;
        }
        let middle = ends.len() / 2;
        *ends.select_nth_unstable(middle).1
    }

    /// The last moment that any of them speaks of.
    pub(super) fn last(&self) -> Monotonic {
        self.spans.iter().map(|span| span.end).max().unwrap_or(self.done)
    }

    /// All before `cut` was dealt with: what is under way goes on from there.
    pub(super) fn pass(&mut self, cut: Monotonic) {
        self.spans.retain_mut(|span| {
            if span.from < cut {
                span.from = cut.min(span.to);
                span.carried = true;
            }
            span.end > cut
        });
        self.done = self.done.max(cut);
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::tests::span;
    use super::*;

    #[test]
    fn a_full_window_passes_half_and_keeps_what_is_under_way() {
        let mut window = Window::new(4);
        assert!(!window.add(span(1, 0, (0, 10, 11), None)));
        assert!(!window.add(span(2, 0, (0, 20, 21), None)));
        assert!(!window.add(span(3, 0, (5, 90, 91), None)));
        assert!(window.add(span(4, 0, (40, 50, 51), None)));
        let cut = window.middle();
        assert_eq!(cut, Monotonic(51));
        window.pass(cut);
        let [kept] = window.spans() else { panic!("{:?}", window.spans()) };
        assert_eq!((kept.from, kept.to, kept.carried), (Monotonic(51), Monotonic(90), true));
        // Older than what is done: its beginning is lost, or all of it.
        window.add(span(5, 0, (20, 60, 61), None));
        window.add(span(6, 0, (20, 30, 31), None));
        window.add(span(7, 0, (70, 80, 81), None));
        assert_eq!(window.spans().len(), 3);
        assert_eq!(window.spans()[1].from, Monotonic(51));
    }

    #[test]
    fn the_same_end_for_all_leaves_nothing() {
        let mut window = Window::new(3);
        for thread in 0..3 {
            window.add(span(thread, 0, (0, 7, 7), None));
        }
        window.pass(window.middle());
        assert!(window.spans().is_empty());
        assert_eq!(Window::new(0).middle(), Monotonic(0));
    }
}
