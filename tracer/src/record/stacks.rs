//! Interning of Python stacks: the kernel side's ids, and stacks walked from outside, become
//! frames and stacks of the trace. Names are read as soon as a stack is first seen.

use std::rc::Rc;

use rustc_hash::FxHashMap;
use tracer_common::stack::MAX_FRAMES;
use tracer_common::{NoStack, RawFrame, SUBJECTS, StackEvent, WalkEnd};
use zerocopy::FromBytes;

use super::contents::{Content, Contents};
use super::intake::Sink;
use super::recent::Recent;
use crate::cpython::{CodeNames, Frame, LockType, Namer, Place, Resolved, Told, situation};
use crate::native::NativeFrame;
use crate::trace::records::{FrameRecord, SideStack, StackRecord};
use crate::trace::writer::WriteError;
use crate::units::{FrameIndex, StackIndex};

/// Of more frames in one memory, all are looked up anew.
const MAX_FRAMES_KEPT: usize = 1 << 17;
/// What a frame is called whose code object was freed before its name was read.
const GONE: &str = "[code gone]";

/// Where frames are resolved: the memory that they are of, by its number, then those that it was
/// copied from, which had the same code objects at the same addresses.
pub(super) type Memories<'a> = Vec<(u32, &'a Namer)>;

/// The kernel side sends a stack again when it has forgotten that it did (`STACKS_SENT`, of 32,768
/// stacks): twice as many are remembered at least.
const REMEMBERED: usize = 1 << 16;

/// What was seen in one memory.
#[derive(Debug)]
struct Memory {
    names: CodeNames,
    /// `None`: a shim, which nobody shows.
    frames: FxHashMap<RawFrame, Option<FrameIndex>>,
    by_id: Recent<u64, SideStack>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            names: CodeNames::default(),
            frames: FxHashMap::default(),
            by_id: Recent::new(REMEMBERED),
        }
    }
}

/// Stacks and frames by what was seen of them, and by what they turned out to be.
#[derive(Debug)]
pub(super) struct Stacks {
    memories: FxHashMap<u32, Memory>,
    places: FxHashMap<Place, FrameIndex>,
    natives: FxHashMap<NativeFrame, FrameIndex>,
    pub(super) contents: Contents,
    /// Functions and files by frame; `None`: native.
    texts: Vec<Option<(Rc<str>, Rc<str>)>>,
    told: Recent<(StackIndex, LockType), Told>,
    /// Frames whose code object was gone.
    pub(super) gone: u64,
    /// Stacks beyond the number that indices have room for.
    pub(super) left_out: u64,
}

impl Default for Stacks {
    fn default() -> Self {
        Self {
            memories: FxHashMap::default(),
            places: FxHashMap::default(),
            natives: FxHashMap::default(),
            contents: Contents::default(),
            texts: Vec::new(),
            told: Recent::new(REMEMBERED),
            gone: 0,
            left_out: 0,
        }
    }
}

impl Stacks {
    /// Takes in a stack that the kernel side sent; false if it is malformed.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        memories: &Memories<'_>,
        writer: &mut Sink,
    ) -> Result<bool, WriteError> {
        let Ok((event, rest)) = StackEvent::read_from_prefix(bytes) else { return Ok(false) };
        let size = size_of::<RawFrame>();
        let count = event.frames as usize;
        if count > MAX_FRAMES || rest.len() < count * size {
            return Ok(false);
        }
        let frames = rest.chunks_exact(size).take(count);
        let frames: Vec<RawFrame> =
            frames.filter_map(|bytes| RawFrame::read_from_bytes(bytes).ok()).collect();
        let stack = self.intern(&frames, event.end, memories, writer)?;
        let own = memories.first().map_or(0, |&(number, _)| number);
        self.memories.entry(own).or_default().by_id.insert(event.id, stack);
        Ok(true)
    }

    /// The stack behind an id of the kernel side, of the memory with that number, or why there is none.
    pub(super) fn side(&mut self, id: u64, memory: u32) -> SideStack {
        if let Some(why) = u32::try_from(id).ok().and_then(NoStack::from_u32) {
            return SideStack::Missing(why);
        }
        let known = self.memories.get_mut(&memory).and_then(|memory| memory.by_id.get(&id));
        known.unwrap_or(SideStack::Missing(NoStack::Lost))
    }

    /// What a waiter's frames say about its wait for such a lock.
    pub(super) fn told(&mut self, side: SideStack, lock: LockType) -> Told {
        let SideStack::Stack(index) = side else { return Told::Nothing };
        if let Some(known) = self.told.get(&(index, lock)) {
            return known;
        }
        let Some(content) = self.contents.get(index) else { return Told::Nothing };
        let python =
            content.0.iter().filter_map(|frame| self.texts.get(frame.0 as usize)?.as_ref());
        let frames: Vec<Frame<'_>> =
            python.take(SUBJECTS).map(|(function, file)| (&**function, &**file)).collect();
        let told = match situation(&frames, lock) {
            Some(situation) => Told::As(situation),
            None if frames.is_empty() => Told::Nothing,
            None => Told::Itself,
        };
        self.told.insert((index, lock), told);
        told
    }

    /// Interns a stack, leaf first; `end` is a [`WalkEnd`] number.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn intern(
        &mut self,
        frames: &[RawFrame],
        end: u32,
        memories: &Memories<'_>,
        writer: &mut Sink,
    ) -> Result<SideStack, WriteError> {
        let mut indices = Vec::with_capacity(frames.len());
        for frame in frames {
            indices.extend(self.frame(*frame, memories, writer)?);
        }
        if indices.is_empty() {
            let whole = end == WalkEnd::Complete as u32;
            let why = if whole { NoStack::NoFrames } else { NoStack::Unreadable };
            return Ok(SideStack::Missing(why));
        }
        self.stack((indices, end), writer)
    }

    /// A waiter's stack with the native frames on top that its Python code had called.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn with_native(
        &mut self,
        side: SideStack,
        native: Vec<NativeFrame>,
        writer: &mut Sink,
    ) -> Result<SideStack, WriteError> {
        let below = match side {
            SideStack::Stack(index) => match self.contents.get(index) {
                None => return Ok(side), // forgotten: rather without the native frames alone
                below => below,
            },
            SideStack::Missing(NoStack::NoFrames | NoStack::NoThreadState) => None,
            // A reason that says more than half a stack would.
            SideStack::Missing(_) => return Ok(side),
        };
        if native.is_empty() {
            return Ok(side);
        }
        let mut frames = Vec::with_capacity(native.len());
        for frame in native {
            frames.push(self.native(frame, writer)?);
        }
        let end = below.as_ref().map_or(WalkEnd::Complete as u32, |below| below.1);
        frames.extend(below.iter().flat_map(|below| &below.0));
        self.stack((frames, end), writer)
    }

    fn stack(&mut self, content: Content, writer: &mut Sink) -> Result<SideStack, WriteError> {
        if let Some(index) = self.contents.find(&content) {
            return Ok(SideStack::Stack(index));
        }
        let Some((index, content)) = self.contents.add(content) else {
            self.left_out += 1;
            return Ok(SideStack::Missing(NoStack::Lost));
        };
        writer.stack(StackRecord { index, frames: content.0.clone(), end: content.1 })?;
        Ok(SideStack::Stack(index))
    }

    fn native(&mut self, frame: NativeFrame, writer: &mut Sink) -> Result<FrameIndex, WriteError> {
        if let Some(&index) = self.natives.get(&frame) {
            return Ok(index);
        }
        let index = self.next_frame();
        writer.frame(FrameRecord {
            index,
            function: frame.function.clone(),
            file: frame.module.clone(),
            line: 0,
            native: true,
        })?;
        self.texts.push(None);
        self.natives.insert(frame, index);
        Ok(index)
    }

    fn next_frame(&self) -> FrameIndex {
        FrameIndex(next(self.places.len() + self.natives.len()))
    }

    /// The process is another program now: addresses mean other code.
    pub(super) fn forget(&mut self) {
        for memory in self.memories.values_mut() {
            memory.names.clear();
            memory.frames.clear();
        }
    }

    /// A memory is gone, and no more records of it can come.
    pub(super) fn forget_memory(&mut self, number: u32) {
        self.memories.remove(&number);
    }

    fn frame(
        &mut self,
        frame: RawFrame,
        memories: &Memories<'_>,
        writer: &mut Sink,
    ) -> Result<Option<FrameIndex>, WriteError> {
        // What a copy was copied from may have been asked before: `RawFrame::check` tells a code object
        // from another one that took its place since.
        let known = memories.iter().find_map(|(n, _)| self.memories.get(n)?.frames.get(&frame));
        if let Some(&known) = known {
            return Ok(known);
        }
        let mut resolved = Resolved::Gone;
        for &(number, namer) in memories {
            if let (Some(memory), Some(python)) = (namer.memory(), namer.interpreter()) {
                let names = &mut self.memories.entry(number).or_default().names;
                resolved = names.resolve(memory, python, &frame);
            }
            if resolved != Resolved::Gone {
                break;
            }
        }
        let known = match resolved {
            Resolved::Place(place) => Some(self.place(place, writer)?),
            Resolved::Shim => None,
            Resolved::Gone => {
                self.gone += 1;
                let place = Place { function: GONE.to_owned(), file: String::new(), line: None };
                return self.place(place, writer).map(Some); // it may be there the next time
            }
        };
        let own = memories.first().map_or(0, |&(number, _)| number);
        let frames = &mut self.memories.entry(own).or_default().frames;
        if frames.len() >= MAX_FRAMES_KEPT {
            frames.clear();
        }
        frames.insert(frame, known);
        Ok(known)
    }

    fn place(&mut self, place: Place, writer: &mut Sink) -> Result<FrameIndex, WriteError> {
        if let Some(&index) = self.places.get(&place) {
            return Ok(index);
        }
        let index = self.next_frame();
        writer.frame(FrameRecord {
            index,
            function: place.function.clone(),
            file: place.file.clone(),
            line: place.line.unwrap_or(0),
            native: false,
        })?;
        self.texts.push(Some((place.function.as_str().into(), place.file.as_str().into())));
        self.places.insert(place, index);
        Ok(index)
    }
}

fn next(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
