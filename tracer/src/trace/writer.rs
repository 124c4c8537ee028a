//! Writing a trace: records are buffered, cut into chunks and written a whole chunk at a time.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use tracer_common::WalkEnd;

use super::energy::{EnergyInterval, EnergySource};
use super::format::{
    ChunkHeader, ChunkKind, HEADER_LEN, IndexEntry, MAX_INDEX, MAX_ITEMS, MAX_RAW,
    MAX_STACK_FRAMES, MAX_STORED, file_header, trailer,
};
use super::planes::Payload;
use super::processes::{LockProcess, ProcessRecord};
use super::records::{
    End, FrameRecord, HeldRecord, LockRecord, Meta, ShortWaits, StackRecord, ThreadRecord, Totals,
    Wait, YieldRun,
};
use super::time_unit::TimeUnit;
use super::waits::WaitBlock;
use super::yields;
use crate::units::ThreadIndex;

/// Fast enough to be no cost beside the recording, and within 2 % of the levels above it.
const ZSTD_LEVEL: i32 = 3;
/// Locks, threads, frames or stacks per chunk: with names of any sane length far below [`MAX_RAW`].
const NAMED_PER_CHUNK: usize = 16 << 10;

/// A trace could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The sink refused: disk full, pipe closed.
    #[error("cannot write the trace at byte {offset}")]
    Io {
        /// Length of the file up to its last complete chunk.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A payload is longer than a chunk may be.
    #[error("{kind} record of {len} bytes at byte {offset} is longer than a chunk may be")]
    TooLong {
        /// What it holds.
        kind: &'static str,
        /// Its length in bytes.
        len: usize,
        /// Where it would have gone.
        offset: u64,
    },
    /// A record could not be encoded.
    #[error("cannot encode {kind} record: {reason}")]
    Encode {
        /// What it holds.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// An earlier write failed, so that the file may end in half a chunk: cut it back first.
    #[error("the trace ends in half a chunk at byte {offset}, after an earlier failed write")]
    HalfWritten {
        /// Length of the file up to its last complete chunk.
        offset: u64,
    },
}

/// Writes a `.lockwatt` trace to anything that takes bytes; never seeks.
///
/// Each chunk goes out in one `write_all`, so that the sink needs no buffer of its own.
#[derive(Debug)]
pub struct TraceWriter<W> {
    pub(super) sink: W,
    pub(super) committed: u64,
    pub(super) half_written: bool,
    unit: TimeUnit,
    index: Vec<IndexEntry>,
    pub(super) locks: Vec<LockRecord>,
    lock_processes: Vec<LockProcess>,
    threads: BTreeMap<ThreadIndex, ThreadRecord>,
    pub(super) frames: Vec<FrameRecord>,
    pub(super) stacks: Vec<StackRecord>,
    pub(super) waits: Vec<Wait>,
    pub(super) yields: Vec<YieldRun>,
    pub(super) short_waits: Vec<ShortWaits>,
}

impl<W: Write> TraceWriter<W> {
    /// Begins a trace: writes the file header.
    ///
    /// # Errors
    /// The sink's.
    pub fn new(sink: W) -> Result<Self, WriteError> {
        let mut writer = Self {
            sink,
            committed: 0,
            half_written: false,
            unit: TimeUnit::EXACT,
            index: Vec::new(),
            locks: Vec::new(),
            lock_processes: Vec::new(),
            threads: BTreeMap::new(),
            frames: Vec::new(),
            stacks: Vec::new(),
            waits: Vec::new(),
            yields: Vec::new(),
            short_waits: Vec::new(),
        };
        writer.put(&file_header())?;
        Ok(writer)
    }

    /// Has the times of waits and of runs of yields that follow written in this unit; else they are
    /// exact.
    #[must_use]
    pub fn with_time_unit(mut self, unit: TimeUnit) -> Self {
        self.unit = unit;
        self
    }

    /// Writes the metadata, at once. A later one replaces an earlier one.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        self.chunk(ChunkKind::Meta, 1, &json(ChunkKind::Meta, meta)?)
    }

    /// Adds a lock. Waits that name it may follow at once.
    ///
    /// # Errors
    /// [`WriteError`], if a chunk had become full.
    pub fn lock(&mut self, lock: LockRecord) -> Result<(), WriteError> {
        self.locks.push(lock);
        if self.locks.len() >= NAMED_PER_CHUNK { self.cut_locks() } else { Ok(()) }
    }

    /// Says which process a lock is of. To be called before a wait that names the lock.
    ///
    /// # Errors
    /// [`WriteError`], if a chunk had become full.
    pub fn lock_process(&mut self, of: LockProcess) -> Result<(), WriteError> {
        self.lock_processes.push(of);
        if self.lock_processes.len() >= NAMED_PER_CHUNK {
            self.cut_lock_processes()
        } else {
            Ok(())
        }
    }

    /// Writes processes, at once. A later record of an index replaces an earlier one.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn processes(&mut self, processes: &[ProcessRecord]) -> Result<(), WriteError> {
        self.chunk_split(ChunkKind::Processes, processes, |part| json(ChunkKind::Processes, part))
    }

    /// Adds or replaces threads. To be called before the [`Self::flush`] after the first wait that
    /// names one of them, so that their names precede their waits in the file.
    ///
    /// # Errors
    /// [`WriteError`], if a chunk had become full.
    pub fn threads(&mut self, threads: &[ThreadRecord]) -> Result<(), WriteError> {
        self.threads.extend(threads.iter().map(|thread| (thread.index, thread.clone())));
        if self.threads.len() >= NAMED_PER_CHUNK { self.cut_threads() } else { Ok(()) }
    }

    /// Adds a frame. Stacks that name it may follow at once.
    ///
    /// # Errors
    /// [`WriteError`], if a chunk had become full.
    pub fn frame(&mut self, frame: FrameRecord) -> Result<(), WriteError> {
        self.frames.push(frame);
        if self.frames.len() >= NAMED_PER_CHUNK { self.cut_frames() } else { Ok(()) }
    }

    /// Adds a stack. Its frames must have been added; waits that name it may follow at once. Of
    /// more than [`MAX_STACK_FRAMES`] frames the outer ones are left out.
    ///
    /// # Errors
    /// [`WriteError`], if a chunk had become full.
    pub fn stack(&mut self, mut stack: StackRecord) -> Result<(), WriteError> {
        if stack.frames.len() > MAX_STACK_FRAMES {
            stack.frames.truncate(MAX_STACK_FRAMES);
            stack.end = WalkEnd::Truncated as u32;
        }
        self.stacks.push(stack);
        if self.stacks.len() >= NAMED_PER_CHUNK { self.cut_stacks() } else { Ok(()) }
    }

    /// Adds a wait. Its lock and its stacks must have been added.
    ///
    /// # Errors
    /// [`WriteError`], if a chunk had become full.
    pub fn wait(&mut self, wait: Wait) -> Result<(), WriteError> {
        self.waits.push(wait);
        if self.waits.len() >= MAX_ITEMS { self.cut() } else { Ok(()) }
    }

    /// Adds a long run of yields. Its lock and its stack must have been added.
    ///
    /// # Errors
    /// [`WriteError`], if a chunk had become full.
    pub fn yields(&mut self, run: YieldRun) -> Result<(), WriteError> {
        self.yields.push(run);
        if self.yields.len() >= MAX_ITEMS { self.cut() } else { Ok(()) }
    }

    /// Adds waits below the threshold. Their lock and their stacks must have been added.
    ///
    /// # Errors
    /// [`WriteError`], if a chunk had become full.
    pub fn short_waits(&mut self, waits: ShortWaits) -> Result<(), WriteError> {
        self.short_waits.push(waits);
        if self.short_waits.len() >= MAX_ITEMS { self.cut() } else { Ok(()) }
    }

    /// Writes locks that threads seem to have at the end, after everything buffered before them.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn held(&mut self, held: &[HeldRecord]) -> Result<(), WriteError> {
        self.cut()?;
        self.chunk_split(ChunkKind::Held, held, |part| json(ChunkKind::Held, part))
    }

    /// Says where energy comes from. To be called before the first [`Self::energy`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn energy_source(&mut self, source: &EnergySource) -> Result<(), WriteError> {
        self.chunk(ChunkKind::EnergySource, 1, &json(ChunkKind::EnergySource, source)?)
    }

    /// Writes energy windows, after everything buffered before them: what they name precedes them.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn energy(&mut self, intervals: &[EnergyInterval]) -> Result<(), WriteError> {
        self.cut()?;
        let kind = ChunkKind::Energy;
        self.chunk_split(kind, intervals, |part| postcard_bytes(kind, part))
    }

    /// Writes counters, after everything buffered before them. A later one replaces an earlier one.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn totals(&mut self, totals: &Totals) -> Result<(), WriteError> {
        self.cut()?;
        self.chunk(ChunkKind::Totals, 1, &json(ChunkKind::Totals, totals)?)
    }

    /// Writes out what is buffered and flushes the sink: what was added before survives a killed
    /// recorder.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.cut()?;
        self.sink.flush().map_err(|source| WriteError::Io { offset: self.committed, source })
    }

    /// Closes the trace cleanly: what is buffered, the end, the index and the trailer.
    ///
    /// # Errors
    /// [`WriteError`]; whatever reached the sink stays readable as a cut trace.
    pub fn finish(mut self, end: &End) -> Result<W, WriteError> {
        self.close(end)?;
        Ok(self.sink)
    }

    /// As [`Self::finish`], but keeps the writer, so that after a full disk what is left can still
    /// be rescued. Nothing may be written after it.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn close(&mut self, end: &End) -> Result<(), WriteError> {
        self.cut()?;
        self.chunk(ChunkKind::End, 1, &json(ChunkKind::End, end)?)?;
        let index_offset = self.committed;
        let index = std::mem::take(&mut self.index);
        // An index too long for a chunk (days of recording) is left empty: it is an accelerator.
        let mut raw = postcard_bytes(ChunkKind::Index, &index)?;
        if raw.len() > MAX_RAW as usize || index.len() > MAX_INDEX {
            raw = postcard_bytes(ChunkKind::Index, &Vec::<IndexEntry>::new())?;
        }
        self.chunk(ChunkKind::Index, index.len() as u64, &raw)?;
        self.put(&trailer(index_offset))?;
        self.sink.flush().map_err(|source| WriteError::Io { offset: self.committed, source })
    }

    /// Length of the file up to its last complete chunk, in bytes.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.committed
    }

    /// Gives the sink back without closing the trace.
    #[must_use]
    pub fn into_inner(self) -> W {
        self.sink
    }

    fn cut(&mut self) -> Result<(), WriteError> {
        self.cut_locks()?;
        self.cut_lock_processes()?;
        self.cut_threads()?;
        self.cut_frames()?;
        self.cut_stacks()?;
        self.cut_yields()?;
        self.cut_short_waits()?;
        if self.waits.is_empty() {
            return Ok(());
        }
        let waits = std::mem::take(&mut self.waits);
        let written = self.wait_chunk(&waits);
        self.waits = waits;
        if written.is_ok() {
            self.waits.clear();
        }
        written
    }

    /// Writes the long runs of yields; their locks, threads and stacks must have been written.
    pub(super) fn cut_yields(&mut self) -> Result<(), WriteError> {
        if self.yields.is_empty() {
            return Ok(());
        }
        let yields = std::mem::take(&mut self.yields);
        let Payload { raw, cuts } = yields::payload(&yields, self.unit);
        let written = self.chunk_in_parts(ChunkKind::Yields, yields.len() as u64, &raw, &cuts);
        if written.is_err() {
            self.yields = yields;
        }
        written
    }

    /// Writes the sums of short waits; their locks, threads and stacks must have been written.
    pub(super) fn cut_short_waits(&mut self) -> Result<(), WriteError> {
        let all = std::mem::take(&mut self.short_waits);
        let kind = ChunkKind::ShortWaits;
        let written = self.chunk_split(kind, &all, |part| postcard_bytes(kind, part));
        if written.is_err() {
            self.short_waits = all;
        }
        written
    }

    pub(super) fn wait_chunk(&mut self, waits: &[Wait]) -> Result<(), WriteError> {
        let Payload { raw, cuts } = WaitBlock::new(waits, self.unit).payload();
        self.chunk_in_parts(ChunkKind::Waits, waits.len() as u64, &raw, &cuts)
    }

    pub(super) fn cut_locks(&mut self) -> Result<(), WriteError> {
        let locks = std::mem::take(&mut self.locks);
        let written = self
            .chunk_split(ChunkKind::Locks, &locks, |part| postcard_bytes(ChunkKind::Locks, part));
        if written.is_err() {
            self.locks = locks;
        }
        written
    }

    pub(super) fn cut_lock_processes(&mut self) -> Result<(), WriteError> {
        let all = std::mem::take(&mut self.lock_processes);
        let kind = ChunkKind::LockProcesses;
        let written = self.chunk_split(kind, &all, |part| postcard_bytes(kind, part));
        if written.is_err() {
            self.lock_processes = all;
        }
        written
    }

    pub(super) fn cut_threads(&mut self) -> Result<(), WriteError> {
        let threads: Vec<_> = std::mem::take(&mut self.threads).into_values().collect();
        let written =
            self.chunk_split(ChunkKind::Threads, &threads, |part| json(ChunkKind::Threads, part));
        if written.is_err() {
            self.threads = threads.into_iter().map(|thread| (thread.index, thread)).collect();
        }
        written
    }

    pub(super) fn cut_frames(&mut self) -> Result<(), WriteError> {
        let frames = std::mem::take(&mut self.frames);
        let written = self.chunk_split(ChunkKind::Frames, &frames, |part| {
            postcard_bytes(ChunkKind::Frames, part)
        });
        if written.is_err() {
            self.frames = frames;
        }
        written
    }

    /// Writes the stacks, and before them the frames that they name.
    pub(super) fn cut_stacks(&mut self) -> Result<(), WriteError> {
        self.cut_frames()?;
        let stacks = std::mem::take(&mut self.stacks);
        let written = self.chunk_split(ChunkKind::Stacks, &stacks, |part| {
            postcard_bytes(ChunkKind::Stacks, part)
        });
        if written.is_err() {
            self.stacks = stacks;
        }
        written
    }

    /// Writes `items` as one chunk, or as several if long names make it too long for one.
    fn chunk_split<T>(
        &mut self,
        kind: ChunkKind,
        items: &[T],
        encode: impl Fn(&[T]) -> Result<Vec<u8>, WriteError> + Copy,
    ) -> Result<(), WriteError> {
        if items.is_empty() {
            return Ok(());
        }
        let raw = encode(items)?;
        if items.len() > 1 && (raw.len() > MAX_RAW as usize || items.len() > MAX_ITEMS) {
            let (left, right) = items.split_at(items.len() / 2);
            self.chunk_split(kind, left, encode)?;
            return self.chunk_split(kind, right, encode);
        }
        self.chunk(kind, items.len() as u64, &raw)
    }

    fn chunk(&mut self, kind: ChunkKind, items: u64, raw: &[u8]) -> Result<(), WriteError> {
        self.chunk_in_parts(kind, items, raw, &[])
    }

    /// As [`Self::chunk`]; what begins at each of `cuts` is compressed apart from what is before it.
    fn chunk_in_parts(
        &mut self,
        kind: ChunkKind,
        items: u64,
        raw: &[u8],
        cuts: &[usize],
    ) -> Result<(), WriteError> {
        let offset = self.committed;
        let too_long = || WriteError::TooLong { kind: kind.name(), len: raw.len(), offset };
        let raw_len = u32::try_from(raw.len()).map_err(|_| too_long())?;
        if raw_len > MAX_RAW {
            return Err(too_long());
        }
        let stored = compress(raw, cuts)
            .map_err(|e| WriteError::Encode { kind: kind.name(), reason: e.to_string() })?;
        let stored_len = u32::try_from(stored.len()).map_err(|_| too_long())?;
        debug_assert!(stored_len <= MAX_STORED, "zstd grows incompressible data by under 1 %");
        let header = ChunkHeader::new(kind as u32, raw_len, stored_len, &stored);
        let mut bytes = Vec::with_capacity(HEADER_LEN + stored.len());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(&stored);
        self.put(&bytes)?;
        self.index.push(IndexEntry { kind: kind as u32, offset, items });
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.half_written {
            return Err(WriteError::HalfWritten { offset: self.committed });
        }
        self.sink.write_all(bytes).map_err(|source| {
            self.half_written = true;
            WriteError::Io { offset: self.committed, source }
        })?;
        self.committed += bytes.len() as u64;
        Ok(())
    }
}

/// One frame, in which a block begins at each of `cuts`: each block has its own table of how likely
/// bytes are.
fn compress(raw: &[u8], cuts: &[usize]) -> io::Result<Vec<u8>> {
    if cuts.is_empty() {
        return zstd::bulk::compress(raw, ZSTD_LEVEL);
    }
    let mut encoder = zstd::Encoder::new(Vec::with_capacity(raw.len() / 2), ZSTD_LEVEL)?;
    encoder.set_pledged_src_size(Some(raw.len() as u64))?;
    let mut rest = raw;
    for &cut in cuts {
        let here = raw.len() - rest.len();
        let (part, after) = rest.split_at(cut.saturating_sub(here).min(rest.len()));
        encoder.write_all(part)?;
        encoder.flush()?;
        rest = after;
    }
    encoder.write_all(rest)?;
    encoder.finish()
}

fn json<T: Serialize + ?Sized>(kind: ChunkKind, value: &T) -> Result<Vec<u8>, WriteError> {
    serde_json::to_vec(value)
        .map_err(|e| WriteError::Encode { kind: kind.name(), reason: e.to_string() })
}

fn postcard_bytes<T: Serialize + ?Sized>(
    kind: ChunkKind,
    value: &T,
) -> Result<Vec<u8>, WriteError> {
    postcard::to_stdvec(value)
        .map_err(|e| WriteError::Encode { kind: kind.name(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, then is full.
    struct Full {
        room: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.room);
            self.room -= n;
            if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_sink_is_an_error_and_the_last_complete_chunk_is_known() {
        let mut writer = TraceWriter::new(Full { room: HEADER_LEN + 4 }).unwrap();
        let error = writer.meta(&Meta::default()).unwrap_err();
        assert!(matches!(error, WriteError::Io { offset: 16, .. }), "{error}");
        assert_eq!(writer.bytes_written(), 16);
        // Nothing is appended to half a chunk.
        let error = writer.totals(&Totals::default()).unwrap_err();
        assert!(matches!(error, WriteError::HalfWritten { offset: 16 }), "{error}");
    }
}
