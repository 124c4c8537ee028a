//! Stacks and their frames.

use serde::{Deserialize, Serialize};
use tracer_common::NoStack;

use crate::units::{FrameIndex, StackIndex};

/// A place in a program, interned: stacks name it by `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRecord {
    /// Its number in this trace, from 0, in order of appearance.
    pub index: FrameIndex,
    /// `co_qualname`, or `[code gone]` if the code object was freed before it was read. Of a native
    /// frame its symbol, or `+0x…`, the address in its module.
    pub function: String,
    /// `co_filename`, or the path of a native frame's module; empty if it is not known.
    pub file: String,
    /// The line of the current instruction; 0 if it has none.
    pub line: u32,
    /// No Python code. Native frames come before the Python frame that called them.
    pub native: bool,
}

/// A Python stack, interned: waits name it by `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRecord {
    /// Its number in this trace, from 0, in order of appearance.
    pub index: StackIndex,
    /// Its frames, leaf first.
    pub frames: Vec<FrameIndex>,
    /// A [`tracer_common::WalkEnd`] number: whether the outer frames are all there.
    pub end: u32,
}

/// The Python stack of one side of a wait, or why there is none. Serialised as its number
/// ([`SideStack::to_u64`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub enum SideStack {
    /// There is none.
    Missing(NoStack),
    /// There is one.
    Stack(StackIndex),
}

impl Default for SideStack {
    fn default() -> Self {
        Self::Missing(NoStack::NotTaken)
    }
}
