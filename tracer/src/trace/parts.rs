//! Reading a trace on all CPUs: its waits are decoded chunk by chunk by several threads, and come
//! together again in the order of the file, with everything else.
//!
//! All is as in [`TraceReader::read_all`]: the same trace, the same condition, the same
//! limits. Memory is bounded by the chunks that are under way.

use std::collections::VecDeque;
use std::io::Read;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use zstd::bulk::Decompressor;

use super::chunk::{Chunk, decompress, waits};
use super::contents::Trace;
use super::format::ChunkKind;
use super::keep::Keeper;
use super::reader::{Next, ReadError, Stored, TraceReader, Visited};
use super::waits::Waits;
use crate::units::Monotonic;

/// More threads than this don't help: one reads, checks and hands out.
const MAX_WORKERS: usize = 8;
/// Chunks under way per worker: one in work, one that waits, and as many others between them.
const UNDER_WAY: usize = 4;

/// What one chunk comes to: its waits, on any thread; or its locks, or its runs of yields.
pub trait Part: Default + Send {
    /// What a thread can use again for the next part.
    type Scratch: Default;

    /// A chunk of waits, and the end of the last one.
    fn waits(waits: &Waits<'_>, scratch: &mut Self::Scratch) -> (Self, Monotonic);
    /// Adds what comes next in a chunk that is shown one by one.
    fn add(&mut self, visited: Visited<'_>);
    /// Such a chunk is over.
    fn done(&mut self);
}

/// A part, its waits and the last moment in it; or why the chunk can't be decoded.
type Decoded<P> = Result<(P, u64, Monotonic), String>;

/// A chunk whose turn has not come.
enum UnderWay<P> {
    /// Waits, and where they come from when they are decoded.
    Waits(Stored, Receiver<Decoded<P>>),
    /// Something else.
    Other(Chunk),
}

/// A chunk and where to send what it comes to.
type Job<P> = (Stored, Sender<Decoded<P>>);

impl<R: Read> TraceReader<R> {
    /// Reads everything; the waits of each chunk become a part on one of several threads, locks and
    /// long runs of yields on this one, and the parts are taken in the order of the file.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn read_parts<P: Part>(self, mut take: impl FnMut(P)) -> Result<Trace, ReadError> {
        let workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        thread::scope(|scope| {
            let (jobs, todo) = bounded::<Job<P>>(workers * UNDER_WAY);
            for _ in 0..workers {
                let todo = todo.clone();
                scope.spawn(move || work(&todo));
            }
            drop(todo);
            let under_way = VecDeque::new();
            let mut parts = Parts { reader: self, keeper: Keeper::default(), jobs, under_way };
            parts.read(workers * UNDER_WAY, &mut take)?;
            Ok(parts.finish())
        })
    }
}

struct Parts<R, P> {
    reader: TraceReader<R>,
    keeper: Keeper,
    jobs: Sender<Job<P>>,
    under_way: VecDeque<UnderWay<P>>,
}

impl<R: Read, P: Part> Parts<R, P> {
    fn read(&mut self, most: usize, take: &mut impl FnMut(P)) -> Result<(), ReadError> {
        loop {
            match self.reader.next_quietly()? {
                Next::Waits(mut stored) => {
                    self.settle(most - 1, take);
                    let (sender, receiver) = bounded(1);
                    let bytes = std::mem::take(&mut stored.bytes);
                    let job = Stored { bytes, ..stored };
                    // Without workers, which can't be, the chunk is told as one without an answer.
                    let _ = self.jobs.send((job, sender));
                    self.under_way.push_back(UnderWay::Waits(stored, receiver));
                }
                Next::Chunk(chunk) => {
                    self.settle(most - 1, take);
                    self.under_way.push_back(UnderWay::Other(chunk));
                }
                Next::Note => {
                    // What is noted says how many waits were read before.
                    self.settle(0, take);
                    if let Some(chunk) = self.reader.note_here()? {
                        self.other(chunk, take);
                    }
                }
                Next::End => break,
            }
        }
        self.settle(0, take);
        Ok(())
    }

    /// Takes parts until no more than `most` chunks are under way.
    fn settle(&mut self, most: usize, take: &mut impl FnMut(P)) {
        while self.under_way.len() > most {
            let (stored, receiver) = match self.under_way.pop_front() {
                Some(UnderWay::Waits(stored, receiver)) => (stored, receiver),
                Some(UnderWay::Other(chunk)) => {
                    self.other(chunk, take);
                    continue;
                }
                None => return,
            };
            let decoded = receiver.recv().unwrap_or_else(|_| Err("it has no answer".to_owned()));
            let waits = decoded.map(|(part, waits, last)| {
                self.keeper.seen(last);
                take(part);
                waits
            });
            self.reader.decoded(&stored.header, stored.at, waits);
        }
    }

    fn other(&mut self, chunk: Chunk, take: &mut impl FnMut(P)) {
        let mut part = None;
        self.keeper.take(chunk, &mut |visited| part.get_or_insert_with(P::default).add(visited));
        if let Some(mut part) = part {
            part.done();
            take(part);
        }
    }

    fn finish(self) -> Trace {
        let (mut trace, left_out) = self.keeper.finish();
        trace.condition = self.reader.into_condition(trace.totals.events);
        trace.condition.left_out = left_out;
        trace
    }
}

fn work<P: Part>(todo: &Receiver<Job<P>>) {
    let mut raw = Vec::new();
    let mut zstd = Decompressor::new();
    let mut scratch = P::Scratch::default();
    for (stored, answer) in todo {
        let decoded = match &mut zstd {
            Ok(zstd) => part(zstd, &stored, &mut raw, &mut scratch),
            Err(error) => Err(error.to_string()),
        };
        // Nobody listens any more: reading has failed.
        let _ = answer.send(decoded);
    }
}

fn part<P: Part>(
    zstd: &mut Decompressor<'_>,
    stored: &Stored,
    raw: &mut Vec<u8>,
    scratch: &mut P::Scratch,
) -> Decoded<P> {
    decompress(zstd, &stored.header, &stored.bytes, raw)?;
    let kind = ChunkKind::from_u32(stored.header.kind).unwrap_or(ChunkKind::Waits);
    let waits = waits(kind, raw)?;
    let (part, last) = P::waits(&waits, scratch);
    Ok((part, waits.count() as u64, last))
}
