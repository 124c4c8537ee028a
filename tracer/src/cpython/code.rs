//! Which function, file and line a walked frame is at.

use rustc_hash::FxHashMap;
use tracer_common::RawFrame;
use tracer_common::stack::code_check;

use super::block::{Block, pointer};
use super::frame_fields::FrameLayout;
use super::text::{read_bytes, read_str};
use super::{Interpreter, line};
use crate::target::Memory;
use crate::units::Address;

/// A line table longer than this is not read (bytes): lines are then unknown.
const MAX_LINE_TABLE: usize = 1 << 20;

/// The cache is emptied when it holds this many code objects,
const MAX_CODES: usize = 32_768;
/// or this many bytes of line tables and names.
const MAX_CACHED: usize = 64 << 20;

/// A place in a Python program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// `co_qualname`, at most 1,024 characters and a `…`.
    pub function: String,
    /// `co_filename`, likewise; empty if it can't be read.
    pub file: String,
    /// The line; `None` if the instruction has none.
    pub line: Option<u32>,
}

/// What a frame turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Python code.
    Place(Place),
    /// The interpreter's own code around `__init__` (3.13 and later): tracebacks don't show it
    /// (`_PyFrame_IsIncomplete`), and neither should anybody else.
    Shim,
    /// The code object is not there any more, or is another one now, or nothing is known of this
    /// interpreter's frames.
    Gone,
}

/// Resolves frames by reading the target's memory, which is not stopped. Remembers code objects,
/// also when they are gone later: one instance per process, to be [cleared](Self::clear) if that
/// executes another program.
#[derive(Debug, Default)]
pub struct CodeNames {
    codes: FxHashMap<(u64, u32), Code>,
    /// Bytes of what is in there.
    cached: usize,
}

#[derive(Debug)]
struct Code {
    header: Header,
    function: String,
    file: String,
    line_table: Vec<u8>,
}

/// What tells this code object from others that were or will be at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    qualname: u64,
    filename: u64,
    line_table: u64,
    first_line: u32,
}

impl CodeNames {
    /// Nothing known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything: the process is another program now.
    pub fn clear(&mut self) {
        self.codes.clear();
        self.cached = 0;
    }

    /// What a frame is. Soon after it was walked, please: code objects are freed, and their
    /// memory used again. `frame.check` is compared before and after the names are read, so that
    /// another code object at the address is [`Resolved::Gone`] and not a wrong name, unless its
    /// first line and the very string object of its name are the same too.
    pub fn resolve(&mut self, memory: &Memory, python: &Interpreter, frame: &RawFrame) -> Resolved {
        let Ok(layout) = &python.frames else { return Resolved::Gone };
        let read = || Header::read(memory, layout, python.code_type, frame);
        let key = (frame.code, frame.check);
        let now = read();
        // Known, and the same as before or gone meanwhile.
        if let Some(code) = self.codes.get(&key)
            && now.is_none_or(|now| now == code.header)
        {
            return code.place(frame.lasti);
        }
        let Some(header) = now else { return Resolved::Gone };
        let strings = &layout.strings;
        let Some(function) = read_str(memory, strings, Address(header.qualname)) else {
            return Resolved::Gone;
        };
        let file = read_str(memory, strings, Address(header.filename)).unwrap_or_default();
        let line_table = read_bytes(memory, strings, Address(header.line_table), MAX_LINE_TABLE);
        if read() != Some(header) {
            return Resolved::Gone;
        }
        let code = Code { header, function, file, line_table: line_table.unwrap_or_default() };
        let place = code.place(frame.lasti);
        self.keep(key, code);
        place
    }

    fn keep(&mut self, key: (u64, u32), code: Code) {
        let size = code.size();
        if self.codes.len() >= MAX_CODES || self.cached.saturating_add(size) > MAX_CACHED {
            self.clear();
        }
        self.cached += size;
        if let Some(before) = self.codes.insert(key, code) {
            self.cached = self.cached.saturating_sub(before.size());
        }
    }
}

impl Header {
    /// Reads it; `None` unless it is a code object and the one that was walked.
    fn read(
        memory: &Memory,
        layout: &FrameLayout,
        code_type: Address,
        frame: &RawFrame,
    ) -> Option<Self> {
        let fields = &layout.code;
        let needed = [
            layout.ob_type,
            fields.qualname,
            fields.filename,
            fields.line_table,
            fields.first_line,
        ];
        let length = needed.into_iter().max().unwrap_or(0) + 8;
        let block = Block::read(memory, pointer(frame.code)?, length)?;
        let header = Self {
            qualname: block.word(fields.qualname)?,
            filename: block.word(fields.filename)?,
            line_table: block.word(fields.line_table)?,
            first_line: block.half_word(fields.first_line)?,
        };
        let is_code = block.word(layout.ob_type)? == code_type.0;
        let is_it = code_check(header.qualname, header.first_line) == frame.check;
        (is_code && is_it).then_some(header)
    }
}

impl Code {
    fn size(&self) -> usize {
        self.function.len() + self.file.len() + self.line_table.len()
    }

    fn place(&self, lasti: u32) -> Resolved {
        let line = line(&self.line_table, self.header.first_line, lasti);
        // `_Py_InitCleanup` (Python/specialize.c) has the one string object `__init__` for all its
        // names, and no lines.
        if self.header.filename == self.header.qualname
            && self.function == "__init__"
            && line.is_none()
        {
            return Resolved::Shim;
        }
        Resolved::Place(Place { function: self.function.clone(), file: self.file.clone(), line })
    }
}
