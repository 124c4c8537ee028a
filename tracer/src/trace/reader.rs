//! Reading a trace: a stream of chunks, in bounded memory, that survives a cut or damaged file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::chunk::{Chunk, Decoded, decode};
use super::contents::{Condition, Trace};
use super::energy::{EnergyInterval, EnergySource};
use super::format::{
    ChunkHeader, HEADER_LEN, MAGIC, OLDEST_VERSION, VERSION, file_version, holds_waits,
};
use super::keep::Keeper;
use super::records::{LockRecord, ShortWaits, Wait, YieldRun};
use super::resync::{Here, SUSPICION, Window, likely};

/// Places of damage that are described one by one; further ones are counted.
const MAX_NOTES: usize = 20;

/// A file could not be read as a trace. A cut or partly damaged trace is none of these.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened.
    #[error("cannot open it")]
    Open(#[source] io::Error),
    /// The file could not be read.
    #[error("cannot read it at byte {offset}")]
    Io {
        /// How far it had been read.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is empty.
    #[error("the file is empty: the recorder wrote nothing to it")]
    Empty,
    /// The file ends inside its header.
    #[error("the file ends at byte {len}, inside its header: nothing was recorded")]
    HeaderCut {
        /// Its length in bytes.
        len: usize,
    },
    /// The file is something else.
    #[error("not a lockwatt trace (it does not begin with \"LOCKWATT\")")]
    NotATrace,
    /// A version that this reader doesn't know.
    #[error(
        "a trace of format version {found}, and this lockwatt reads up to version {VERSION}: \
         a newer lockwatt is needed"
    )]
    Version {
        /// The file's version.
        found: u32,
    },
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    /// Waits, not yet decoded.
    Waits(Stored),
    /// Something else.
    Chunk(Chunk),
    /// Something that has to be noted about the file, or the end of it.
    Note,
    /// Nothing.
    End,
}

/// An intact chunk as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) header: ChunkHeader,
    /// Where its header begins, in bytes from the start of the file.
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// What is shown while a trace is read: locks, and what is not kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Visited<'a> {
    /// A lock that later waits name.
    Lock(&'a LockRecord),
    /// A wait.
    Wait(&'a Wait),
    /// A long run of yields.
    Yields(&'a YieldRun),
    /// Waits below the threshold, added up.
    ShortWaits(&'a ShortWaits),
    /// Where energy comes from.
    EnergySource(&'a EnergySource),
    /// Energy windows.
    Energy(&'a EnergyInterval),
}

/// Reads a trace chunk by chunk.
#[derive(Debug)]
pub struct TraceReader<R> {
    window: Window<R>,
    condition: Condition,
    more_damage: u64,
    suspicion: u64,
    indexed_waits: Option<u64>,
    done: bool,
}

impl TraceReader<Box<dyn Read>> {
    /// Opens a file, or standard input if the path is `-`.
    ///
    /// # Errors
    /// [`ReadError`]; the path is not in its message.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        if path == Path::new("-") {
            return Self::from_read(Box::new(io::stdin().lock()));
        }
        Self::from_read(Box::new(File::open(path).map_err(ReadError::Open)?))
    }
}

impl<R: Read> TraceReader<R> {
    /// Begins to read a trace: its header.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn from_read(source: R) -> Result<Self, ReadError> {
        let mut window = Window::new(source);
        let header =
            window.peek(HEADER_LEN).map_err(|source| ReadError::Io { offset: 0, source })?;
        let Some(header) = header.first_chunk::<HEADER_LEN>() else {
            return Err(match header.len() {
                0 => ReadError::Empty,
                len if header[..len.min(8)] == MAGIC[..len.min(8)] => ReadError::HeaderCut { len },
                _ => ReadError::NotATrace,
            });
        };
        match file_version(header) {
            None => Err(ReadError::NotATrace),
            Some(OLDEST_VERSION..=VERSION) => {
                window.skip(HEADER_LEN);
                Ok(Self {
                    window,
                    condition: Condition::default(),
                    more_damage: 0,
                    suspicion: SUSPICION,
                    indexed_waits: None,
                    done: false,
                })
            }
            Some(found) => Err(ReadError::Version { found }),
        }
    }

    /// Reads everything; every wait is shown to `visit` once, in the order of the file, and not
    /// kept.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn read(self, mut visit: impl FnMut(&Wait)) -> Result<Trace, ReadError> {
        self.read_all(|visited| {
            if let Visited::Wait(wait) = visited {
                visit(wait);
            }
        })
    }

    /// As [`Self::read`], but shows long runs of yields as well, and each lock before its waits.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn read_all(mut self, mut visit: impl FnMut(Visited<'_>)) -> Result<Trace, ReadError> {
        let mut keeper = Keeper::default();
        while let Some(chunk) = self.next_chunk()? {
            keeper.take(chunk, &mut visit);
        }
        let (mut trace, left_out) = keeper.finish();
        trace.condition = self.into_condition(trace.totals.events);
        trace.condition.left_out = left_out;
        Ok(trace)
    }

    /// The next intact chunk; none at the end. What was passed over is in [`Self::condition`].
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, ReadError> {
        while !self.done {
            let step = self.step();
            let offset = self.window.offset();
            if let Some(chunk) = step.map_err(|source| ReadError::Io { offset, source })? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// As [`Self::next_chunk`], but leaves waits as they are stored, and stops before what has to be
    /// noted about the file.
    pub(super) fn next_quietly(&mut self) -> Result<Next, ReadError> {
        while !self.done {
            let at = self.window.offset();
            let failed = |source| ReadError::Io { offset: at, source };
            let Here::Header(header) = self.window.look(0).map_err(failed)? else {
                return Ok(Next::Note);
            };
            if !header.sane() || !self.window.is_intact(&header).map_err(failed)? {
                return Ok(Next::Note);
            }
            let len = HEADER_LEN + header.stored_len as usize;
            let stored = &self.window.peek(len).map_err(failed)?[HEADER_LEN..];
            if holds_waits(header.kind) {
                let bytes = stored.to_vec();
                self.window.skip(len);
                return Ok(Next::Waits(Stored { header, at, bytes }));
            }
            let decoded = decode(&header, stored);
            if decoded.is_err() {
                return Ok(Next::Note);
            }
            self.window.skip(len);
            if let Some(chunk) = self.take(&header, at, decoded) {
                return Ok(Next::Chunk(chunk));
            }
        }
        Ok(Next::End)
    }

    /// Notes what [`Self::next_quietly`] has stopped at, and goes on behind it.
    pub(super) fn note_here(&mut self) -> Result<Option<Chunk>, ReadError> {
        let step = self.step();
        let offset = self.window.offset();
        step.map_err(|source| ReadError::Io { offset, source })
    }

    /// What became of a chunk of waits.
    pub(super) fn decoded(&mut self, header: &ChunkHeader, at: u64, waits: Result<u64, String>) {
        match waits {
            Ok(waits) => self.condition.waits_read += waits,
            Err(reason) => self.not_decoded(header, at, &reason),
        }
    }

    /// What was found so far about the file itself.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    pub(super) fn into_condition(mut self, events: u64) -> Condition {
        let known = events.max(self.indexed_waits.unwrap_or(0));
        if !self.condition.damage.is_empty() {
            self.condition.waits_damaged = known.saturating_sub(self.condition.waits_read);
        }
        if self.more_damage > 0 {
            self.condition.damage.push(format!("and {} more damaged places", self.more_damage));
        }
        self.condition
    }

    /// Deals with what stands at the window's beginning.
    fn step(&mut self) -> io::Result<Option<Chunk>> {
        let at = self.window.offset();
        let header = match self.window.look(0)? {
            Here::EndOfFile => {
                self.cut(format!(
                    "the file ends at byte {at} without its closing part: the recorder was killed, \
                     or is still recording"
                ));
                return Ok(None);
            }
            Here::Scrap => {
                self.cut(format!("the file ends inside the chunk that begins at byte {at}"));
                return Ok(None);
            }
            Here::Trailer => {
                self.window.skip(HEADER_LEN);
                self.condition.closed = true;
                self.done = true;
                if !self.window.peek(1)?.is_empty() {
                    self.note(format!(
                        "something follows the trace from byte {} on, and was not read",
                        self.window.offset()
                    ));
                }
                return Ok(None);
            }
            Here::Header(header) => header,
        };
        if header.sane() && self.window.is_intact(&header)? {
            let stored = HEADER_LEN + header.stored_len as usize;
            let decoded = decode(&header, &self.window.peek(stored)?[HEADER_LEN..]);
            self.window.skip(stored);
            return Ok(self.take(&header, at, decoded));
        }
        self.pass_over(&header, at)?;
        Ok(None)
    }

    /// Counts a decoded chunk, or notes why it could not be decoded.
    fn take(
        &mut self,
        header: &ChunkHeader,
        at: u64,
        decoded: Result<Decoded, String>,
    ) -> Option<Chunk> {
        match decoded {
            Ok(Decoded::Chunk(chunk)) => {
                match &chunk {
                    Chunk::Waits(waits) => self.condition.waits_read += waits.len() as u64,
                    Chunk::Yields(runs) => self.condition.yield_runs_read += runs.len() as u64,
                    Chunk::ShortWaits(all) => {
                        let read = &mut self.condition.short_waits_read;
                        *read = all.iter().fold(*read, |n, one| n.saturating_add(one.waits));
                    }
                    _ => {}
                }
                return Some(chunk);
            }
            Ok(Decoded::Index(index)) => {
                let waits = index.iter().filter(|entry| holds_waits(entry.kind));
                let sum = waits.fold(0u64, |sum, entry| sum.saturating_add(entry.items));
                self.indexed_waits = Some(sum);
            }
            Ok(Decoded::Unknown) => self.condition.unknown_chunks += 1,
            Err(reason) => self.not_decoded(header, at, &reason),
        }
        None
    }

    fn not_decoded(&mut self, header: &ChunkHeader, at: u64, reason: &str) {
        self.note(format!(
            "chunk at byte {at} ({}): {reason}: it was written wrongly or forged",
            header.kind_name()
        ));
    }

    /// Goes on behind a chunk that is not intact: at the next one by its length if that makes
    /// sense, else at the next one that can be found.
    fn pass_over(&mut self, header: &ChunkHeader, at: u64) -> io::Result<()> {
        let len = HEADER_LEN + header.stored_len as usize;
        let mut complete = false;
        if header.sane() {
            complete = self.window.peek(len)?.len() == len;
            let next_fits = complete
                && match self.window.look(len)? {
                    Here::EndOfFile | Here::Trailer => true,
                    Here::Header(next) => likely(&next),
                    Here::Scrap => false,
                };
            if next_fits {
                self.window.skip(len);
                self.damaged(at, &format!("({}): checksum does not match", header.kind_name()));
                return Ok(());
            }
        }
        if self.window.find_chunk(&mut self.suspicion)? {
            self.damaged(at, &format!("up to byte {}: no readable chunk", self.window.offset()));
        } else if header.sane() && !complete {
            self.cut(format!(
                "the file ends inside the chunk ({}) that begins at byte {at}",
                header.kind_name()
            ));
        } else {
            self.damaged(at, "and to the end of the file: no readable chunk");
            self.cut(format!("nothing is readable from byte {at} on"));
        }
        Ok(())
    }

    fn damaged(&mut self, at: u64, what: &str) {
        let waits = self.condition.waits_read;
        self.note(format!(
            "chunk at byte {at} {what}: the file is damaged there; {waits} waits before it are \
             readable"
        ));
    }

    fn note(&mut self, note: String) {
        if self.condition.damage.len() < MAX_NOTES {
            self.condition.damage.push(note);
        } else {
            self.more_damage += 1;
        }
    }

    fn cut(&mut self, why: String) {
        self.done = true;
        self.condition.cut = Some(why);
    }
}
