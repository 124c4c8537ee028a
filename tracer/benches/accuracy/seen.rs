//! What a trace says of each wait, joined with its lock and threads.

use std::collections::BTreeMap;
use std::fs::File;

use anyhow::Result;
use tracer::analyze::{Fold, OtherSide, Summary};
use tracer::trace::TraceReader;
use tracer::trace::records::{LockRecord, Wait};
use tracer::units::ThreadIndex;

/// One recorded wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Who waited.
    pub(crate) tid: u32,
    /// For what.
    pub(crate) lock: LockRecord,
    /// Times and parts.
    pub(crate) wait: Wait,
    /// Who was in the way, if anybody was seen.
    pub(crate) holder_tid: Option<u32>,
}

/// A whole recording.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// Its waits by thread, each thread's in the order of their beginnings.
    pub(crate) waits: BTreeMap<u32, Vec<Seen>>,
    /// What a report would say.
    pub(crate) summary: Summary,
}

/// Reads a trace.
///
/// # Errors
/// If it can't be read.
pub(crate) fn read(file: File) -> Result<Recording> {
    let (mut waits, mut fold) = (Vec::new(), Fold::default());
    let trace = TraceReader::from_read(file)?.read(|wait| {
        waits.push(*wait);
        fold.add(wait);
    })?;
    let tid = |index: ThreadIndex| trace.threads.get(&index).map(|thread| thread.tid.0);
    let seen = waits.into_iter().filter_map(|wait| {
        Some(Seen {
            tid: tid(wait.thread)?,
            lock: trace.locks.get(&wait.lock)?.clone(),
            wait,
            holder_tid: OtherSide::of(&wait, false).thread.and_then(tid),
        })
    });
    let mut by_thread: BTreeMap<u32, Vec<Seen>> = BTreeMap::new();
    for one in seen {
        by_thread.entry(one.tid).or_default().push(one);
    }
    for waits in by_thread.values_mut() {
        waits.sort_by_key(|seen| seen.wait.start);
    }
    Ok(Recording { waits: by_thread, summary: fold.finish(trace) })
}
