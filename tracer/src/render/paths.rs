//! Threads and Python stacks as parts of folded stacks.

use std::collections::BTreeMap;

use tracer_common::WalkEnd;

use super::escape;
use super::place;
use crate::analyze::{OtherSide, StackTable, Summary};
use crate::trace::records::SideStack;
use crate::units::{FrameIndex, ProcessIndex, ThreadIndex};

/// Bytes of Python frames in one picture. Where a trace has more (it is hostile, or has millions of
/// different stacks), the frames of further stacks are left out, and their numbers are not.
const MAX_TEXT: usize = 256 << 20;

/// Makes parts of folded stacks.
pub(super) struct Paths<'a> {
    stacks: &'a StackTable,
    threads: BTreeMap<ThreadIndex, String>,
    /// By thread, if there are several processes: the frame that stands for its process.
    roots: BTreeMap<ThreadIndex, String>,
    frames: BTreeMap<FrameIndex, String>,
    /// There are stacks at all: else nothing is said of those that are missing.
    taken: bool,
    room: usize,
}

impl<'a> Paths<'a> {
    pub(super) fn new(summary: &'a Summary) -> Self {
        let threads = summary.threads.iter();
        let threads =
            threads.map(|t| (t.index, format!("{} ({})", escape::frame(&t.name), t.tid.0)));
        let roots = summary.threads.iter();
        let roots = roots.filter_map(|t| Some((t.index, process_frame(summary, t.process)?)));
        Self {
            stacks: &summary.stacks,
            threads: threads.collect(),
            roots: roots.collect(),
            frames: BTreeMap::new(),
            taken: summary.completeness.stacks_taken(),
            room: MAX_TEXT,
        }
    }

    /// `name (tid)`, after its process if there are several: `python3.14 [pid];name (tid)`.
    pub(super) fn rooted(&self, thread: ThreadIndex) -> String {
        let name = self.thread(thread);
        self.roots.get(&thread).map_or(name.clone(), |root| format!("{root};{name}"))
    }

    /// As [`Self::rooted`], of who was in the way.
    pub(super) fn other_rooted(&self, other: OtherSide) -> String {
        other.thread.map_or_else(|| "[nobody seen]".to_owned(), |thread| self.rooted(thread))
    }

    /// `name (tid)`.
    pub(super) fn thread(&self, thread: ThreadIndex) -> String {
        self.threads.get(&thread).cloned().unwrap_or_else(|| "[thread lost]".to_owned())
    }

    /// Who was in the way.
    pub(super) fn other_thread(&self, other: OtherSide) -> String {
        other.thread.map_or_else(|| "[nobody seen]".to_owned(), |thread| self.thread(thread))
    }

    /// Appends a stack from its root to its leaf.
    pub(super) fn root_first(&mut self, path: &mut String, side: SideStack) {
        self.append(path, side, true);
    }

    /// Appends a stack from its leaf to its root.
    pub(super) fn leaf_first(&mut self, path: &mut String, side: SideStack) {
        self.append(path, side, false);
    }

    fn append(&mut self, path: &mut String, side: SideStack, root_first: bool) {
        let before = path.len();
        let table = self.stacks;
        match table.stack(side) {
            Err(_) if !self.taken => {}
            Err(reason) => *path += &format!(";[no stack: {}]", reason.name()),
            Ok(_) if self.room == 0 => *path += ";[too many stacks]",
            Ok(stack) => {
                let truncated = stack.end != WalkEnd::Complete as u32;
                if truncated && root_first {
                    *path += ";[truncated]";
                }
                if root_first {
                    stack.frames.iter().rev().for_each(|&frame| self.frame(path, frame));
                } else {
                    stack.frames.iter().for_each(|&frame| self.frame(path, frame));
                }
                if truncated && !root_first {
                    *path += ";[truncated]";
                }
            }
        }
        self.room = self.room.saturating_sub(path.len() - before);
    }

    fn frame(&mut self, path: &mut String, index: FrameIndex) {
        let text = self.frames.entry(index).or_insert_with(|| {
            self.stacks.frame(index).map_or_else(|| "[frame lost]".to_owned(), place::folded)
        });
        path.push(';');
        path.push_str(text);
    }
}

/// The frame that stands for a process, if there are several.
pub(super) fn process_frame(summary: &Summary, process: ProcessIndex) -> Option<String> {
    if !summary.several() {
        return None;
    }
    let (Some(program), Some(pid)) = (summary.homes.program(process), summary.homes.pid(process))
    else {
        return Some("[process lost]".to_owned());
    };
    Some(format!("{} [{}]", escape::frame(program), pid.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::Source;
    use crate::trace::records::{FrameRecord, StackRecord};
    use crate::units::StackIndex;

    #[test]
    fn frames_end_where_the_room_does() {
        let frame = FrameRecord { function: "f".to_owned(), ..FrameRecord::default() };
        let frames = vec![FrameIndex(0), FrameIndex(0), FrameIndex(1)];
        let stack = StackRecord { frames, ..StackRecord::default() };
        let mut summary = Summary {
            stacks: StackTable::new(
                [(FrameIndex(0), frame)].into(),
                [(StackIndex(0), stack)].into(),
            ),
            ..Summary::default()
        };
        summary.completeness.events = 1;
        let mut paths = Paths::new(&summary);
        paths.room = 5;
        let mut text = |side, root_first| {
            let mut path = paths.thread(ThreadIndex(9));
            paths.append(&mut path, side, root_first);
            path
        };
        let side = SideStack::Stack(StackIndex(0));
        assert_eq!(text(SideStack::default(), true), "[thread lost];[no stack: not_taken]");
        assert_eq!(text(side, true), "[thread lost];[too many stacks]");
        paths.room = 5;
        let mut path = String::new();
        paths.leaf_first(&mut path, side);
        assert_eq!(path, ";f;f;[frame lost]");
        let nobody = OtherSide { thread: None, stack: side, source: Source::None };
        assert_eq!(paths.other_thread(nobody), "[nobody seen]");
    }
}
