//! Which stacks have been written, by what is in them, and the other way round: as many as there is
//! room for.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::units::{FrameIndex, StackIndex};

/// Frames, leaf first, and a [`WalkEnd`](tracer_common::WalkEnd) number.
pub(super) type Content = (Vec<FrameIndex>, u32);

/// Bytes for all of them together.
const ROOM: usize = 32 << 20;
/// What a stack takes beside its frames: the vector and its counts, and two entries of tables that are
/// half empty.
const EACH: usize = 128;

/// Stacks in two generations, as [`Recent`](super::recent::Recent) has them, but counted by bytes: deep
/// ones take more. A stack that was forgotten is written again, under another index, when it comes
/// back; its old index stays good in the trace.
#[derive(Debug)]
pub(super) struct Contents {
    young: Generation,
    old: Generation,
    /// Bytes of a generation.
    room: usize,
    next: u32,
    /// Times that somebody wanted to know what is in a stack that was forgotten.
    pub(super) missed: u64,
}

#[derive(Debug, Default)]
struct Generation {
    by_content: FxHashMap<Rc<Content>, StackIndex>,
    by_index: FxHashMap<StackIndex, Rc<Content>>,
    bytes: usize,
}

impl Default for Contents {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl Contents {
    fn with_room(bytes: usize) -> Self {
        let (young, old) = (Generation::default(), Generation::default());
        Self { young, old, room: bytes / 2, next: 0, missed: 0 }
    }

    /// The index of a stack that is known.
    pub(super) fn find(&mut self, content: &Content) -> Option<StackIndex> {
        if let Some(&index) = self.young.by_content.get(content) {
            return Some(index);
        }
        let &index = self.old.by_content.get(content)?;
        self.renew(index);
        Some(index)
    }

    /// What is in a stack, if that is still known.
    pub(super) fn get(&mut self, index: StackIndex) -> Option<Rc<Content>> {
        if let Some(content) = self.young.by_index.get(&index) {
            return Some(Rc::clone(content));
        }
        let content = self.renew(index);
        self.missed += u64::from(content.is_none());
        content
    }

    /// Takes in a stack that is not known; none if there is no index left.
    pub(super) fn add(&mut self, content: Content) -> Option<(StackIndex, Rc<Content>)> {
        let index = StackIndex(self.next);
        self.next = self.next.checked_add(1)?;
        let content = Rc::new(content);
        self.insert(index, Rc::clone(&content));
        Some((index, content))
    }

    /// Brings one of the older generation into the younger.
    fn renew(&mut self, index: StackIndex) -> Option<Rc<Content>> {
        let content = self.old.by_index.remove(&index)?;
        self.old.by_content.remove(&content);
        self.insert(index, Rc::clone(&content));
        Some(content)
    }

    fn insert(&mut self, index: StackIndex, content: Rc<Content>) {
        let bytes = size_of::<FrameIndex>() * content.0.len() + EACH;
        if self.young.bytes + bytes > self.room {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes;
        self.young.by_content.insert(Rc::clone(&content), index);
        self.young.by_index.insert(index, content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(n: u32, depth: u32) -> Content {
        ((n..n + depth).map(FrameIndex).collect(), 0)
    }

    fn bytes(contents: &Contents) -> usize {
        let all = contents.young.by_index.values().chain(contents.old.by_index.values());
        all.map(|content| size_of::<FrameIndex>() * content.0.len() + EACH).sum()
    }

    #[test]
    fn deep_stacks_without_end_stay_within_the_room() {
        let mut contents = Contents::with_room(1 << 20);
        let hot = contents.add(stack(0, 3)).expect("room").0;
        for n in 1..20_000 {
            let (index, _) = contents.add(stack(n, 128)).expect("room");
            assert_eq!(index, StackIndex(n), "no index is given twice");
            assert_eq!(contents.find(&stack(0, 3)), Some(hot), "what is in use stays");
            assert!(bytes(&contents) <= 1 << 20);
        }
        let (young, old) = (&contents.young, &contents.old);
        assert_eq!(
            young.by_content.len() + old.by_content.len(),
            young.by_index.len() + old.by_index.len()
        );
        assert_eq!(contents.missed, 0);
        assert_eq!(contents.find(&stack(1, 128)), None, "it is written again");
        assert_eq!(contents.get(StackIndex(1)), None);
        assert_eq!(contents.missed, 1, "and who wants it is counted");
        assert_eq!(contents.get(hot).as_deref(), Some(&stack(0, 3)));
    }
}
