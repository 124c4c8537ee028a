//! A window over a stream, and the search in it for the next intact chunk after damage.

use std::io::{self, Read};

use super::format::{ChunkHeader, ChunkKind, HEADER_LEN, MAGIC, parse_trailer};

/// How much is read ahead while searching, in bytes.
const READ_AHEAD: usize = 64 << 10;
/// How many bytes may be checksummed on suspicion while searching through one file: a hostile file
/// could otherwise make every byte look like the header of a long chunk.
pub(super) const SUSPICION: u64 = 256 << 20;

/// The part of a stream between what was consumed and what was looked at. Holds at most the
/// longest chunk and [`READ_AHEAD`].
#[derive(Debug)]
pub(super) struct Window<R> {
    source: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are consumed.
    consumed: usize,
    /// File offset of the first byte that is not consumed.
    offset: u64,
}

/// What stands at the window's beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Here {
    /// Nothing: the stream ended.
    EndOfFile,
    /// Too few bytes for any header.
    Scrap,
    /// The trailer of a trace that was closed cleanly.
    Trailer,
    /// Sixteen bytes that could be a chunk header, or not.
    Header(ChunkHeader),
}

impl<R: Read> Window<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), consumed: 0, offset: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Up to `n` bytes from here on, fewer only where the stream ends. Memory grows with the bytes
    /// that are there, never with `n` alone.
    pub(super) fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        let have = self.buffer.len() - self.consumed;
        if have < n {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            let missing = (n - have) as u64;
            (&mut self.source).take(missing).read_to_end(&mut self.buffer)?;
        }
        let end = self.buffer.len().min(self.consumed + n);
        Ok(&self.buffer[self.consumed..end])
    }

    /// Consumes `n` bytes that were peeked at, or all that there are.
    pub(super) fn skip(&mut self, n: usize) {
        let n = n.min(self.buffer.len() - self.consumed);
        self.consumed += n;
        self.offset += n as u64;
    }

    /// What stands `ahead` bytes from here.
    pub(super) fn look(&mut self, ahead: usize) -> io::Result<Here> {
        let bytes = self.peek(ahead + HEADER_LEN)?;
        let bytes = bytes.get(ahead..).unwrap_or_default();
        Ok(match bytes.first_chunk::<HEADER_LEN>() {
            Some(bytes) if parse_trailer(bytes).is_some() => Here::Trailer,
            Some(bytes) => Here::Header(ChunkHeader::parse(bytes)),
            None if bytes.is_empty() => Here::EndOfFile,
            None => Here::Scrap,
        })
    }

    /// Moves forward, by at least one byte, to the next chunk whose checksum is right, or to the
    /// trailer. False if there is none, or if `suspicion` ran out: then everything is consumed or
    /// given up.
    pub(super) fn find_chunk(&mut self, suspicion: &mut u64) -> io::Result<bool> {
        loop {
            self.skip(1);
            if self.buffer.len() - self.consumed < HEADER_LEN
                && self.peek(READ_AHEAD)?.len() < HEADER_LEN
            {
                self.skip(HEADER_LEN);
                return Ok(false);
            }
            let rest = &self.buffer[self.consumed..];
            let Some(next) = rest.windows(HEADER_LEN).position(promising) else {
                // The last bytes may begin a header whose end is not read yet.
                self.skip(rest.len() - HEADER_LEN);
                continue;
            };
            self.skip(next);
            let Here::Header(header) = self.look(0)? else { return Ok(true) };
            if !likely(&header) {
                continue;
            }
            let cost = u64::from(header.stored_len) + HEADER_LEN as u64;
            let Some(rest) = suspicion.checked_sub(cost) else { return Ok(false) };
            *suspicion = rest;
            if self.is_intact(&header)? {
                return Ok(true);
            }
        }
    }

    /// The whole chunk is here and its checksum is right.
    pub(super) fn is_intact(&mut self, header: &ChunkHeader) -> io::Result<bool> {
        let len = HEADER_LEN + header.stored_len as usize;
        let bytes = self.peek(len)?;
        Ok(bytes.len() == len && header.checksum(&bytes[HEADER_LEN..]) == header.crc)
    }
}

/// The cheap part of the question whether these sixteen bytes are a header or a trailer.
fn promising(bytes: &[u8]) -> bool {
    (bytes[1..4] == [0; 3] && bytes[0] != 0) || bytes[8..] == MAGIC
}

/// A header as this version writes them.
pub(super) fn likely(header: &ChunkHeader) -> bool {
    header.sane() && ChunkKind::from_u32(header.kind).is_some()
}
