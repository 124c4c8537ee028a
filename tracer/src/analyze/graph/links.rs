//! Who had a lock at a moment, and what a thread waited for then: look-ups in the waits of a window.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use super::span::Span;
use crate::analyze::Source;
use crate::units::{LockIndex, Monotonic, ThreadIndex};

/// One thread in a queue, no two at the same time.
#[derive(Clone, Copy, Debug)]
struct Visit {
    from: Monotonic,
    to: Monotonic,
    span: usize,
}

/// A waking: until then its sender had the lock.
#[derive(Clone, Copy, Debug)]
struct Release {
    at: Monotonic,
    waker: ThreadIndex,
}

/// All waits of a window, by thread and by lock.
#[derive(Debug)]
pub(super) struct Links<'a> {
    spans: &'a [Span],
    visits: Grouped<ThreadIndex, Visit>,
    releases: Grouped<LockIndex, Release>,
}

impl<'a> Links<'a> {
    pub(super) fn new(spans: &'a [Span]) -> Self {
        let visits = spans.iter().enumerate().filter(|(_, span)| span.from < span.to);
        let visits =
            visits.map(|(n, span)| (span.thread, Visit { from: span.from, to: span.to, span: n }));
        let mut visits = Grouped::new(visits, |visit| (visit.to, visit.from));
        // A thread is in one place at a time; what says otherwise is cut.
        for range in visits.groups.values() {
            let mut before = Monotonic(0);
            for visit in visits.items.get_mut(range.clone()).unwrap_or_default() {
                visit.1.from = visit.1.from.max(before);
                before = visit.1.to;
            }
        }
        let releases = spans
            .iter()
            .filter_map(|span| Some((span.lock, Release { at: span.to, waker: span.waker? })));
        let releases = Grouped::new(releases, |release| (release.at, release.waker));
        Self { spans, visits, releases }
    }

    /// Who is in the way of a wait at `at`, how that is known, and until when (at most `to`) it
    /// stays so: the owner if the runtime said so during the wait, else who lets go next.
    pub(super) fn holder(
        &self,
        span: &Span,
        at: Monotonic,
        to: Monotonic,
    ) -> (Monotonic, Option<ThreadIndex>, Source) {
        if let Some((owner, source)) = span.owner {
            return (to, Some(owner), source);
        }
        let releases = self.releases.of(span.lock);
        match releases.get(releases.partition_point(|(_, release)| release.at <= at)) {
            Some((_, next)) => (next.at.min(to), Some(next.waker), Source::Waker),
            None => (to, None, Source::None),
        }
    }

    /// What a thread waits for at `at`, and until when (at most `to`) it stays so.
    pub(super) fn wait(
        &self,
        thread: ThreadIndex,
        at: Monotonic,
        to: Monotonic,
    ) -> (Monotonic, Option<&'a Span>) {
        let visits = self.visits.of(thread);
        match visits.get(visits.partition_point(|(_, visit)| visit.to <= at)) {
            Some((_, visit)) if visit.from <= at => (visit.to.min(to), self.spans.get(visit.span)),
            Some((_, visit)) => (visit.from.min(to), None),
            None => (to, None),
        }
    }
}

/// Items sorted by a key, and where those of each key are.
#[derive(Debug)]
struct Grouped<K, V> {
    items: Vec<(K, V)>,
    groups: HashMap<K, Range<usize>>,
}

impl<K: Copy + Ord + Hash, V> Grouped<K, V> {
    fn new<O: Ord>(items: impl Iterator<Item = (K, V)>, order: impl Fn(&V) -> O) -> Self {
        let mut items: Vec<_> = items.collect();
        items.sort_by_key(|(key, value)| (*key, order(value)));
        let mut groups = HashMap::new();
        let mut start = 0;
        for part in items.chunk_by(|a, b| a.0 == b.0) {
            if let Some((key, _)) = part.first() {
                groups.insert(*key, start..start + part.len());
            }
            start += part.len();
        }
        Self { items, groups }
    }

    fn of(&self, key: K) -> &[(K, V)] {
        self.groups.get(&key).and_then(|range| self.items.get(range.clone())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::tests::span;
    use super::*;

    #[test]
    fn the_holder_is_who_lets_go_next() {
        let spans = [
            span(1, 0, (0, 100, 110), Some(3)),
            span(2, 0, (10, 60, 60), Some(1)),
            span(4, 0, (10, 200, 200), None),
        ];
        let links = Links::new(&spans);
        let holder = |at, to| links.holder(&spans[0], Monotonic(at), Monotonic(to));
        assert_eq!(holder(0, 100), (Monotonic(60), Some(ThreadIndex(1)), Source::Waker));
        assert_eq!(holder(0, 30).0, Monotonic(30));
        assert_eq!(holder(60, 100), (Monotonic(100), Some(ThreadIndex(3)), Source::Waker));
        assert_eq!(holder(100, 200), (Monotonic(200), None, Source::None));
    }

    #[test]
    fn a_thread_waits_for_one_thing_at_a_time() {
        let spans = [
            span(1, 0, (50, 100, 100), None),
            span(1, 1, (10, 60, 60), None),
            span(1, 2, (200, 200, 200), None),
        ];
        let links = Links::new(&spans);
        let wait = |at| {
            let (until, span) = links.wait(ThreadIndex(1), Monotonic(at), Monotonic(500));
            (until.0, span.map(|span| span.lock.0))
        };
        assert_eq!(wait(0), (10, None));
        assert_eq!(wait(10), (60, Some(1)));
        assert_eq!(wait(60), (100, Some(0)));
        assert_eq!(wait(100), (500, None));
        assert_eq!(links.wait(ThreadIndex(7), Monotonic(3), Monotonic(5)).0, Monotonic(5));
    }
}
