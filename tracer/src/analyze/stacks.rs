//! The Python stacks of a trace: from what a wait names to functions, files and lines.

use std::collections::{BTreeMap, HashMap};

use tracer_common::{NoStack, WalkEnd};

use super::sites::Site;
use crate::trace::records::{FrameRecord, SideStack, StackRecord};
use crate::units::{FrameIndex, StackIndex};

/// All stacks that waits may name, and their frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackTable {
    frames: BTreeMap<FrameIndex, FrameRecord>,
    stacks: BTreeMap<StackIndex, StackRecord>,
    /// Where each stack was.
    sites: HashMap<StackIndex, Site>,
}

impl StackTable {
    /// The table of these frames and stacks, as a trace holds them.
    #[must_use]
    pub fn new(
        frames: BTreeMap<FrameIndex, FrameRecord>,
        stacks: BTreeMap<StackIndex, StackRecord>,
    ) -> Self {
        let mut places = HashMap::new();
        // Frames that are the same place as an earlier one.
        let mut same = HashMap::new();
        for (&index, frame) in &frames {
            let place = (frame.function.as_str(), frame.file.as_str(), frame.line);
            let first = *places.entry(place).or_insert(index);
            if first != index {
                same.insert(index, first);
            }
        }
        let site = |stack: &StackRecord| {
            let is_python = |at: &&FrameIndex| frames.get(at).is_none_or(|f| !f.native);
            let python = stack.frames.iter().find(is_python);
            let leaf = python.or(stack.frames.first()).copied().unwrap_or_default();
            // Without the record of its leaf a stack says nothing about where it was.
            if !frames.contains_key(&leaf) {
                return Site::StackLost;
            }
            Site::Frame(same.get(&leaf).copied().unwrap_or(leaf))
        };
        let sites = stacks.iter().map(|(&index, stack)| (index, site(stack))).collect();
        drop(places);
        Self { frames, stacks, sites }
    }

    /// A frame; none if its record can't be read.
    #[must_use]
    pub fn frame(&self, index: FrameIndex) -> Option<&FrameRecord> {
        self.frames.get(&index)
    }

    /// A stack, or why there is none. It has at least one frame; that of a stack whose record
    /// can't be read is lost.
    ///
    /// # Errors
    /// The reason.
    pub fn stack(&self, side: SideStack) -> Result<&StackRecord, NoStack> {
        match side {
            SideStack::Missing(reason) => Err(reason),
            SideStack::Stack(index) => match self.stacks.get(&index) {
                None => Err(NoStack::Lost),
                Some(stack) if stack.frames.is_empty() => Err(NoStack::NoFrames),
                Some(stack) => Ok(stack),
            },
        }
    }

    /// Where a side of a wait was: its innermost Python frame, or a native one if it has no other.
    #[must_use]
    pub fn site(&self, side: SideStack) -> Site {
        let known = match side {
            SideStack::Stack(index) => self.sites.get(&index),
            SideStack::Missing(_) => None,
        };
        match self.stack(side) {
            Ok(_) => known.copied().unwrap_or(Site::StackLost),
            Err(reason) if is_loss(reason) => Site::StackLost,
            Err(reason) => Site::NoStack(reason),
        }
    }

    /// A stack whose outer frames are missing.
    #[must_use]
    pub fn truncated(&self, side: SideStack) -> bool {
        self.stack(side).is_ok_and(|stack| stack.end != WalkEnd::Complete as u32)
    }
}

/// The stack could have been there, and was lost on the way; else there was none to be had.
#[must_use]
pub fn is_loss(reason: NoStack) -> bool {
    matches!(reason, NoStack::RingFull | NoStack::Lost | NoStack::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_a_place_or_a_reason() {
        let frame = |line| FrameRecord { function: "f".to_owned(), line, ..FrameRecord::default() };
        let frames = [1, 2, 1].map(frame).into_iter().enumerate();
        let frames = frames.map(|(n, frame)| (FrameIndex(u32::try_from(n).unwrap()), frame));
        let stack = |leaf: &[u32], end: WalkEnd| StackRecord {
            frames: leaf.iter().copied().map(FrameIndex).collect(),
            end: end as u32,
            ..StackRecord::default()
        };
        let stacks = [
            (StackIndex(0), stack(&[2, 1], WalkEnd::Complete)),
            (StackIndex(1), stack(&[1], WalkEnd::NotCode)),
            (StackIndex(2), stack(&[], WalkEnd::Complete)),
            (StackIndex(3), stack(&[9], WalkEnd::Complete)),
        ];
        let table = StackTable::new(frames.collect(), stacks.into());
        let site = |n| table.site(SideStack::Stack(StackIndex(n)));
        assert_eq!(site(0), Site::Frame(FrameIndex(0)), "the same place as the first frame");
        assert_eq!(site(1), Site::Frame(FrameIndex(1)));
        assert_eq!(site(2), Site::NoStack(NoStack::NoFrames));
        assert_eq!(site(3), Site::StackLost, "no record of the leaf");
        assert_eq!(site(4), Site::StackLost, "no record of the stack");
        assert_eq!(table.site(SideStack::Missing(NoStack::RingFull)), Site::StackLost);
        let limited = SideStack::Missing(NoStack::Limited);
        assert_eq!(table.site(limited), Site::NoStack(NoStack::Limited));
        let truncated = |n| table.truncated(SideStack::Stack(StackIndex(n)));
        assert_eq!([0, 1, 4].map(truncated), [false, true, false]);
    }
}
