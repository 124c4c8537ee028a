//! What a whole file held, and in which condition it was.

use std::collections::BTreeMap;

use super::processes::ProcessRecord;
use super::records::{
    End, FrameRecord, HeldRecord, LockRecord, Meta, StackRecord, ThreadRecord, Totals,
};
use crate::units::{FrameIndex, LockIndex, Monotonic, ProcessIndex, StackIndex, ThreadIndex};

/// A trace without its waits, which are visited one by one while it is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// What was recorded.
    pub meta: Meta,
    /// The locks by index.
    pub locks: BTreeMap<LockIndex, LockRecord>,
    /// The threads by index, each as last written.
    pub threads: BTreeMap<ThreadIndex, ThreadRecord>,
    /// The processes by index, each as last written; empty in a recording of one.
    pub processes: BTreeMap<ProcessIndex, ProcessRecord>,
    /// The process of each lock, none if it is shared; without an entry it is process 0.
    pub lock_processes: BTreeMap<LockIndex, Option<ProcessIndex>>,
    /// The frames by index.
    pub frames: BTreeMap<FrameIndex, FrameRecord>,
    /// The stacks by index.
    pub stacks: BTreeMap<StackIndex, StackRecord>,
    /// Locks that threads seem to have at the end.
    pub held: Vec<HeldRecord>,
    /// The last counters.
    pub totals: Totals,
    /// How the recording ended; none if the trace was cut, or damaged there.
    pub end: Option<End>,
    /// The last moment that any record speaks of.
    pub last_seen: Monotonic,
    /// What the file says about its own condition.
    pub condition: Condition,
}

/// How much of a file could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Waits that were read.
    pub waits_read: u64,
    /// Long runs of yields that were read.
    pub yield_runs_read: u64,
    /// Waits in sums of short ones that were read.
    pub short_waits_read: u64,
    /// Waits that the file once held but that could not be read, as far as that is known.
    pub waits_damaged: u64,
    /// The file was closed cleanly.
    pub closed: bool,
    /// If it was not: where it ends and why that is no proper end.
    pub cut: Option<String>,
    /// What is damaged and where, one sentence each.
    pub damage: Vec<String>,
    /// Chunks of kinds that this version doesn't know, skipped.
    pub unknown_chunks: u64,
    /// Locks, threads, processes, frames, stacks and held locks left out because there are too many.
    pub left_out: u64,
}
