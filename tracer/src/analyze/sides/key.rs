//! Keys in few bytes, to be found fast.

use super::other::{OtherSide, Source};
use crate::analyze::brief::StackCode;
use crate::analyze::shard::REST;
use crate::trace::records::SideStack;
use crate::units::{StackIndex, ThreadIndex};

/// Stands for all stacks that found no room: no record has this index, so that they count as lost.
pub(in crate::analyze) const REST_STACK: SideStack = SideStack::Stack(StackIndex(REST));

/// A thread and a stack in eight bytes.
pub(super) type Place = u64;

#[inline]
pub(super) fn place(thread: u32, stack: StackCode) -> Place {
    u64::from(thread) << 32 | u64::from(stack.0)
}

pub(super) fn from_place(place: Place) -> (ThreadIndex, SideStack) {
    let [a, b, c, d, stack @ ..] = place.to_be_bytes();
    let thread = ThreadIndex(u32::from_be_bytes([a, b, c, d]));
    (thread, StackCode(u32::from_be_bytes(stack)).into())
}

/// All places that found no room.
pub(super) const REST_PLACE: Place = u64::MAX;

impl OtherSide {
    /// What finds no room.
    const REST: Self =
        Self { thread: Some(ThreadIndex(REST)), stack: REST_STACK, source: Source::None };

    /// In few bytes, to be found fast. That nobody was seen, the source says.
    #[inline]
    pub(super) fn key(self) -> OtherKey {
        let thread = self.thread.unwrap_or_default();
        OtherKey { place: place(thread.0, self.stack.into()), source: self.source }
    }

    /// The same place, whoever it was.
    #[inline]
    pub(super) fn somebody(self) -> Self {
        Self { thread: self.thread.map(|_| ThreadIndex(REST)), ..self }
    }
}

/// An [`OtherSide`] to be found fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OtherKey {
    place: Place,
    source: Source,
}

impl OtherKey {
    pub(super) const REST: Self = Self { place: REST_PLACE, source: Source::None };

    pub(super) fn other(self) -> OtherSide {
        if self == Self::REST {
            return OtherSide::REST;
        }
        let (thread, stack) = from_place(self.place);
        let thread = (self.source != Source::None).then_some(thread);
        OtherSide { thread, stack, source: self.source }
    }
}
