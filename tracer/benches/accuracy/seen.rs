//! What a trace says of each wait, joined with its lock and threads.

use std::collections::BTreeMap;
use std::fs::File;

use anyhow::Result;
use tracer::analyze::{Fold, OtherSide, Summary};
use tracer::trace::records::{LockRecord, SideStack, Wait, YieldRun};
use tracer::trace::{TraceReader, Visited};
use tracer::units::{Ns, ThreadIndex};

/// One recorded wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Who waited.
    pub(crate) tid: u32,
    /// For what.
    pub(crate) lock: LockRecord,
    /// Times and parts. Those of a long run of yields have no blocked time, and no episode.
    pub(crate) wait: Wait,
    /// Who was in the way, if anybody was seen.
    pub(crate) holder_tid: Option<u32>,
}

impl Seen {
    /// It is a long run of yields.
    pub(crate) fn is_yields(&self) -> bool {
        self.wait.episodes == 0
    }

    /// Time between its sleeps; what a run of yields ran is spinning.
    pub(crate) fn awake_ns(&self) -> u64 {
        if self.is_yields() { 0 } else { self.wait.awake().0 }
    }
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
    let trace = TraceReader::from_read(file)?.read_all(|visited| {
        match visited {
            Visited::Wait(wait) => waits.push(*wait),
            Visited::Yields(run) => waits.push(as_wait(run)),
            Visited::Lock(_)
            | Visited::ShortWaits(_)
            | Visited::EnergySource(_)
            | Visited::Energy(_) => {}
        }
        fold.visit(visited);
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

/// Off the CPU, and able to run.
fn as_wait(run: &YieldRun) -> Wait {
    Wait {
        thread: run.thread,
        lock: run.lock,
        start: run.start,
        end: run.end,
        blocked: Ns(0),
        runq: run.yielded,
        episodes: 0,
        flags: 0,
        waker: None,
        waiter_stack: run.stack,
        waker_stack: SideStack::default(),
        holder: None,
        holder_stack: SideStack::default(),
    }
}
