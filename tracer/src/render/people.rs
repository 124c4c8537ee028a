//! Threads and locks by index, in words.

use std::collections::BTreeMap;

use super::answer::label;
use super::escape;
use crate::analyze::{LockSummary, Summary, ThreadSummary};
use crate::units::{LockIndex, ThreadIndex};

/// The threads and locks of a summary.
pub(super) struct People<'a> {
    summary: &'a Summary,
    threads: BTreeMap<ThreadIndex, &'a ThreadSummary>,
    locks: BTreeMap<LockIndex, &'a LockSummary>,
}

impl<'a> People<'a> {
    pub(super) fn new(summary: &'a Summary) -> Self {
        Self {
            summary,
            threads: summary.threads.iter().map(|thread| (thread.index, thread)).collect(),
            locks: summary.locks.iter().map(|lock| (lock.lock.index, lock)).collect(),
        }
    }

    pub(super) fn thread(&self, index: ThreadIndex) -> Option<&'a ThreadSummary> {
        self.threads.get(&index).copied()
    }

    pub(super) fn lock(&self, index: LockIndex) -> Option<&'a LockSummary> {
        self.locks.get(&index).copied()
    }

    /// `worker-1 (4243)`.
    pub(super) fn name(&self, index: ThreadIndex) -> String {
        self.thread(index).map_or_else(
            || "[thread lost]".to_owned(),
            |thread| format!("{} ({})", escape::name(&thread.name), thread.tid.0),
        )
    }

    /// `dict 0x7f…`.
    pub(super) fn lock_name(&self, index: LockIndex) -> String {
        self.lock(index)
            .map_or_else(|| "[lock lost]".to_owned(), |lock| label(self.summary, &lock.lock))
    }
}
