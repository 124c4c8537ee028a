//! The trace file: what is written is read back; what is cut, damaged or hostile is survived.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

#[path = "support/any.rs"]
mod any;
#[path = "support/golden.rs"]
mod golden;
mod support;

use any::{any_frame, any_held, any_lock, any_stack, any_thread, any_wait};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{Content, sample};
use tracer::trace::format::{
    ChunkHeader, ChunkKind, HEADER_LEN, MAX_ITEMS, OLDEST_VERSION, VERSION, file_header,
    file_version, trailer,
};
use tracer::trace::records::{
    FrameRecord, ShortWaits, SideStack, StackRecord, Totals, Wait, YieldRun,
};
use tracer::trace::{
    Chunk, Condition, ReadError, TimeUnit, Trace, TraceReader, TraceWriter, Visited,
};
use tracer::units::{FrameIndex, LockIndex, Monotonic, Ns, StackIndex, ThreadIndex};
use tracer_common::WalkEnd;

fn read(bytes: &[u8]) -> Result<(Trace, Vec<Wait>), ReadError> {
    let mut waits = Vec::new();
    let trace = TraceReader::from_read(bytes)?.read(|wait| waits.push(*wait))?;
    Ok((trace, waits))
}

/// What the reader gave, in the order of the writer's input.
fn content(trace: Trace, waits: Vec<Wait>) -> (Content, Condition) {
    let content = Content {
        meta: trace.meta,
        locks: trace.locks.into_values().collect(),
        threads: trace.threads.into_values().collect(),
        frames: trace.frames.into_values().collect(),
        stacks: trace.stacks.into_values().collect(),
        waits,
        yields: vec![],
        short: vec![],
        held: trace.held,
        totals: trace.totals,
        end: trace.end.unwrap_or_default(),
    };
    (content, trace.condition)
}

fn whole(bytes: &[u8]) -> (Content, Condition) {
    let (trace, waits) = read(bytes).unwrap();
    content(trace, waits)
}

/// In the order in which they are read if they were flushed after every `flush`: in each chunk by
/// their ends, equal ones by their locks.
fn in_order(mut waits: Vec<Wait>, flush: usize) -> Vec<Wait> {
    waits.chunks_mut(flush).for_each(|chunk| chunk.sort_by_key(|wait| (wait.end, wait.lock)));
    waits
}

/// The same of waits whose times are rounded: by their rounded ends, equal ones by their locks, and of
/// one lock in the order that they really had.
fn read_order(mut waits: Vec<Wait>, flush: usize, unit: TimeUnit) -> Vec<Wait> {
    for chunk in waits.chunks_mut(flush) {
        chunk.sort_by_key(|wait| wait.end);
        chunk.iter_mut().for_each(|wait| *wait = unit.wait(wait));
        chunk.sort_by_key(|wait| (wait.end, wait.lock));
    }
    waits
}

#[test]
fn what_is_written_is_read_back() {
    let sample = sample();
    for flush in [1, 64, 1_000] {
        let (content, condition) = whole(&sample.write(flush));
        assert!(content == sample, "flushed after every {flush} waits");
        assert_eq!(condition, Condition { waits_read: 1_000, closed: true, ..condition.clone() });
        assert_eq!((condition.cut, condition.damage), (None, vec![]));
    }
}

#[test]
fn golden_traces_of_all_versions_still_read() {
    for version in OLDEST_VERSION..=VERSION {
        let path = golden::path(&format!("sample-v{version}.lockwatt"));
        // Once there it is never replaced: it stands for all traces of that version ever recorded.
        if golden::bless() && version == VERSION && !path.exists() {
            std::fs::write(&path, recorded_sample().write(100)).unwrap();
        }
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(file_version(bytes.first_chunk().unwrap()), Some(version));
        let (mut content, condition) = whole(&bytes);
        let wanted = if version == 1 { sample() } else { rounded(recorded_sample()) };
        content.yields = yields(&bytes);
        assert!(content == wanted, "the golden trace of version {version} reads as something else");
        assert!(condition.closed && condition.damage.is_empty());
    }
}

/// As a recorder writes it if nothing else is asked for.
fn recorded_sample() -> Content {
    let mut content = sample_with_yields();
    content.meta.options.time_unit = TimeUnit::RECORDED;
    content
}

/// As it is read.
fn rounded(mut content: Content) -> Content {
    let unit = content.meta.options.time_unit;
    content.yields.sort_by_key(|run| run.end);
    content.waits.iter_mut().for_each(|wait| *wait = unit.wait(wait));
    content.yields.iter_mut().for_each(|run| *run = unit.yield_run(run));
    // Those that end in the same unit are lock by lock.
    content.yields.sort_by_key(|run| (run.end, run.lock));
    content
}

/// The same with some long runs of yields.
fn sample_with_yields() -> Content {
    let run = |n: u32| YieldRun {
        thread: ThreadIndex(n % 4),
        lock: LockIndex(n % 3),
        start: Monotonic(u64::from(n)),
        end: Monotonic(u64::MAX - u64::from(n)),
        yielded: Ns(70_000),
        yields: u64::from(n) * 40,
        stack: SideStack::Stack(StackIndex(n)),
    };
    Content { yields: (0..7).map(run).collect(), ..sample() }
}

fn yields(bytes: &[u8]) -> Vec<YieldRun> {
    let mut runs = Vec::new();
    let reader = TraceReader::from_read(bytes).unwrap();
    let shown = |visited: Visited<'_>| {
        if let Visited::Yields(run) = visited {
            runs.push(*run);
        }
    };
    reader.read_all(shown).unwrap();
    runs
}

#[test]
fn every_truncation_reads_as_a_prefix() {
    let mut sample = sample();
    sample.waits.truncate(60);
    sample.totals.events = 60;
    let bytes = sample.write(10);
    for len in 0..bytes.len() {
        match read(&bytes[..len]) {
            Err(error) => assert!(len < HEADER_LEN, "{len}: {error}"),
            Ok((trace, waits)) => {
                assert!(len >= HEADER_LEN);
                assert_eq!(waits, sample.waits[..waits.len()], "{len}");
                let condition = trace.condition;
                assert!(!condition.closed && condition.damage.is_empty(), "{len}: {condition:?}");
                assert!(condition.cut.is_some_and(|cut| cut.contains("byte")), "{len}");
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_noticed_and_costs_one_chunk() {
    let mut sample = sample();
    sample.waits.truncate(60);
    sample.totals.events = 60;
    let bytes = sample.write(10);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let (trace, waits) = match read(&bytes) {
                Ok(read) => read,
                Err(error) => {
                    assert!(at < 12, "byte {at}: {error}");
                    continue;
                }
            };
            // Reserved bytes of the header, and the index offset in the trailer, mean nothing here.
            if (12..16).contains(&at) || (bytes.len() - 16..bytes.len() - 8).contains(&at) {
                assert_eq!(waits, sample.waits);
                continue;
            }
            let condition = &trace.condition;
            assert!(!condition.damage.is_empty(), "byte {at} ^ {flip:#x}: {condition:?}");
            // At most one chunk of waits is gone, and what is there is right.
            assert!(waits.len() >= 50, "byte {at} ^ {flip:#x}: {} waits", waits.len());
            assert!(waits.iter().all(|wait| sample.waits.contains(wait)));
            assert!(trace.meta == sample.meta || trace.meta == Default::default());
            assert!(trace.totals == sample.totals || trace.totals == Default::default());
            assert!(trace.locks.values().all(|lock| sample.locks.contains(lock)));
            assert!(trace.threads.values().all(|thread| sample.threads.contains(thread)));
            assert!(trace.frames.values().all(|frame| sample.frames.contains(frame)));
            assert!(trace.stacks.values().all(|stack| sample.stacks.contains(stack)));
            let lost = 60 - waits.len() as u64;
            assert_eq!(condition.waits_damaged, lost, "byte {at} ^ {flip:#x}");
        }
    }
}

/// A file of one chunk with a right checksum and any header and bytes.
fn forged(kind: u32, raw_len: u32, stored: &[u8]) -> Vec<u8> {
    let stored_len = u32::try_from(stored.len()).unwrap();
    let mut bytes = file_header().to_vec();
    bytes.extend(ChunkHeader::new(kind, raw_len, stored_len, stored).to_bytes());
    bytes.extend(stored);
    bytes.extend(trailer(0));
    bytes
}

fn packed(kind: ChunkKind, raw: &[u8]) -> Vec<u8> {
    let stored = zstd::bulk::compress(raw, 3).unwrap();
    forged(kind as u32, u32::try_from(raw.len()).unwrap(), &stored)
}

#[test]
fn hostile_lengths_and_payloads_are_refused() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    let threads = format!("[{}]", vec!["{}"; 70_000].join(","));
    for (bytes, why) in [
        (forged(4, u32::MAX, &[]), "no readable chunk"),
        (forged(1, 1 << 20, &bomb), "cannot be decompressed"),
        (forged(1, 5, &zstd::bulk::compress(b"{}", 3).unwrap()), "should hold 5"),
        (packed(ChunkKind::Meta, b"{\"cpus\": -1}"), "cannot be decoded"),
        (packed(ChunkKind::Meta, "[".repeat(100_000).as_bytes()), "cannot be decoded"),
        (packed(ChunkKind::Threads, threads.as_bytes()), "more than 65536 items"),
        (packed(ChunkKind::Held, threads.as_bytes()), "more than 65536 items"),
        (packed(ChunkKind::Held, b"[{\"depth\": -1}]"), "cannot be decoded"),
        (packed(ChunkKind::Locks, &[0xff, 0xff, 0xff, 0xff, 0x0f]), "cannot be decoded"),
        (packed(ChunkKind::FlatWaits, &[0xff; 8]), "cannot be decoded"),
        (packed(ChunkKind::Waits, &[0xff; 8]), "cannot be decoded"),
        // base 0, count 3, one column of one byte, the others empty.
        (packed(ChunkKind::FlatWaits, &[&[0, 3, 1, 7][..], &[0; 12]].concat()), "columns"),
        // The same, for two locks.
        (packed(ChunkKind::Waits, &[&[0, 0, 3, 2, 1, 7][..], &[0; 17]].concat()), "columns"),
        // Three waits for no lock.
        (packed(ChunkKind::Waits, &[&[0, 0, 3][..], &[0; 19]].concat()), "columns"),
        // A wait for the first lock, handed on by nobody.
        (
            packed(ChunkKind::Waits, &[&[0, 0, 1, 1, 0, 1, 1, 1, 1][..], &[0; 15]].concat()),
            "columns",
        ),
        (packed(ChunkKind::Yields, &[&[0, 0, 3, 1, 7][..], &[0; 6]].concat()), "columns"),
        // No wait and no run of yields, in units of 2 ms and of more than there is time.
        (packed(ChunkKind::Waits, &[&[21][..], &[0; 21]].concat()), "unit of time"),
        (packed(ChunkKind::Waits, &[&[255][..], &[0; 21]].concat()), "unit of time"),
        (packed(ChunkKind::Yields, &[&[21][..], &[0; 9]].concat()), "unit of time"),
        (packed(ChunkKind::Meta, b"{\"options\": {\"time_unit_ns\": 33}}"), "unit of time"),
        // One wait whose waker's stack has an index beyond 32 bits.
        (
            packed(
                ChunkKind::FlatWaits,
                &[&[0, 1][..], &[0; 10], &[5, 0, 0, 0, 0, 9], &[0; 2]].concat(),
            ),
            "columns",
        ),
        (packed(ChunkKind::Frames, &[0xff, 0xff, 0xff, 0xff, 0x0f]), "cannot be decoded"),
        // One stack of 2^32 - 1 frames, none of which is there; then one of 1,025.
        (packed(ChunkKind::Stacks, &[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]), "cannot be decoded"),
        (
            packed(ChunkKind::Stacks, &[&[1, 0, 0x81, 0x08][..], &[0; 1_026]].concat()),
            "1024 frames",
        ),
    ] {
        let (trace, waits) = read(&bytes).unwrap();
        let damage = trace.condition.damage.join("\n");
        assert!(waits.is_empty() && damage.contains(why), "{why}: {damage}");
        assert!(damage.contains("byte 16"), "{damage}");
    }
    // A header that promises 16 MiB that are not there.
    let mut short = file_header().to_vec();
    short.extend(ChunkHeader { kind: 4, raw_len: 1 << 24, stored_len: 1 << 24, crc: 0 }.to_bytes());
    let (trace, _) = read(&short).unwrap();
    assert!(trace.condition.cut.is_some_and(|cut| cut.contains("byte 16")));
}

#[test]
fn chunks_of_later_versions_are_skipped() {
    let mut bytes = file_header().to_vec();
    bytes.extend(ChunkHeader::new(4711, 100, 5, b"later").to_bytes());
    bytes.extend(b"later");
    let rest = sample().write(100);
    bytes.extend(&rest[HEADER_LEN..]);
    let (content, condition) = whole(&bytes);
    assert!(content == sample(), "the golden trace reads as something else");
    assert_eq!((condition.unknown_chunks, condition.closed), (1, true));
}

#[test]
fn what_is_no_trace_is_said_to_be_none() {
    let error = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(error(b"").contains("empty"));
    assert!(error(b"LOCK").contains("inside its header"));
    assert!(error(b"hello, I am a text file").contains("not a lockwatt trace"));
    assert!(error(b"hi").contains("not a lockwatt trace"));
    let mut newer = file_header();
    newer[8] = 9;
    assert!(error(&newer).contains("version 9"));
}

#[test]
fn locks_and_threads_precede_their_waits_and_nothing_waits_for_the_end() {
    let sample = sample();
    let bytes = sample.write(10);
    let mut reader = TraceReader::from_read(bytes.as_slice()).unwrap();
    let mut order = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        order.push(match chunk {
            Chunk::Locks(locks) => ("locks", locks.len()),
            Chunk::Threads(threads) => ("threads", threads.len()),
            Chunk::Frames(frames) => ("frames", frames.len()),
            Chunk::Stacks(stacks) => ("stacks", stacks.len()),
            Chunk::Waits(waits) => ("waits", waits.len()),
            _ => continue,
        });
    }
    assert_eq!(order[..4], [("locks", 7), ("threads", 4), ("frames", 13), ("stacks", 9)]);
    assert_eq!(order[4..], [("waits", 10); 100]);
}

#[test]
fn waits_without_stacks_take_no_bytes_for_them() {
    let with = sample();
    let mut without = with.clone();
    for wait in &mut without.waits {
        wait.waiter_stack = SideStack::default();
        wait.waker_stack = SideStack::default();
        wait.holder_stack = SideStack::default();
        wait.holder = None;
    }
    assert!(without.write(100).len() + 1_000 < with.write(100).len());
}

#[test]
fn frames_precede_stacks_however_many_there_are() {
    let mut writer = TraceWriter::new(Vec::new()).unwrap();
    let stacks = 40_000;
    for n in 0..stacks {
        let frame = FrameRecord { index: FrameIndex(n), ..FrameRecord::default() };
        writer.frame(frame).unwrap();
        let frames = vec![FrameIndex(n); 2];
        writer.stack(StackRecord { index: StackIndex(n), frames, end: 0 }).unwrap();
    }
    let frames = vec![FrameIndex(0); 2_000];
    writer.stack(StackRecord { index: StackIndex(stacks), frames, end: 0 }).unwrap();
    let bytes = writer.finish(&Default::default()).unwrap();
    let mut reader = TraceReader::from_read(bytes.as_slice()).unwrap();
    let mut known = 0;
    while let Some(chunk) = reader.next_chunk().unwrap() {
        match chunk {
            Chunk::Frames(frames) => known += frames.len(),
            Chunk::Stacks(stacks) => {
                let named = stacks.iter().flat_map(|stack| &stack.frames);
                assert!(named.max().is_some_and(|frame| (frame.0 as usize) < known));
            }
            _ => {}
        }
    }
    let (trace, _) = read(&bytes).unwrap();
    assert_eq!((trace.frames.len(), trace.stacks.len()), (40_000, 40_001));
    // What no reader would take is cut by the writer, and marked.
    let long = &trace.stacks[&StackIndex(stacks)];
    assert_eq!((long.frames.len(), long.end), (1_024, WalkEnd::Truncated as u32));
}

#[test]
fn yields_and_short_waits_survive_and_are_shown_apart() {
    let mut written = sample_with_yields();
    written.short = (0..3u32)
        .map(|n| ShortWaits {
            thread: ThreadIndex(n),
            lock: LockIndex(n),
            start: Monotonic(u64::from(n)),
            end: Monotonic(u64::MAX - u64::from(n)),
            waits: 1_000_000 + u64::from(n),
            blocked: Ns(9_000_000_000),
            runq: Ns(u64::from(n)),
            max: Ns(9_999),
            waker: (n > 0).then_some(ThreadIndex(n)),
            waiter_stack: SideStack::Stack(StackIndex(n)),
            waker_stack: SideStack::default(),
        })
        .collect();
    let bytes = written.write(100);
    let (mut waits, mut runs, mut short, mut locks) = (0, Vec::new(), Vec::new(), 0);
    let reader = TraceReader::from_read(bytes.as_slice()).unwrap();
    let trace = reader
        .read_all(|visited| match visited {
            Visited::Lock(_) if waits == 0 => locks += 1,
            Visited::Lock(_) => panic!("a lock after waits"),
            Visited::Wait(_) => waits += 1,
            Visited::Yields(run) => runs.push(*run),
            Visited::ShortWaits(waits) => short.push(*waits),
            Visited::EnergySource(_) | Visited::Energy(_) => {}
        })
        .unwrap();
    assert_eq!((waits, locks), (written.waits.len(), written.locks.len()));
    written.yields.sort_by_key(|run| run.end);
    assert_eq!((runs, short), (written.yields, written.short));
    assert_eq!((trace.condition.yield_runs_read, trace.condition.short_waits_read), (7, 3_000_003));
    // Who asks for waits gets waits.
    assert_eq!(read(&bytes).unwrap().1.len(), waits);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_content_survives(
        waits in vec(any_wait(), 0..200),
        locks in vec(any_lock(), 0..20),
        threads in vec(any_thread(), 0..20),
        frames in vec(any_frame(), 0..20),
        stacks in vec(any_stack(), 0..20),
        held in vec(any_held(), 0..20),
        events: u64,
        flush in 1usize..50,
        shift in 0u8..=20,
    ) {
        let mut written = Content {
            waits,
            locks,
            threads,
            frames,
            stacks,
            held,
            totals: Totals { events, ..Totals::default() },
            ..Content::default()
        };
        written.meta.options.time_unit = TimeUnit::from_shift(shift).unwrap();
        written.locks.sort_by_key(|lock| lock.index);
        written.locks.dedup_by_key(|lock| lock.index);
        written.threads.sort_by_key(|thread| thread.index);
        written.threads.dedup_by_key(|thread| thread.index);
        written.frames.sort_by_key(|frame| frame.index);
        written.frames.dedup_by_key(|frame| frame.index);
        written.stacks.sort_by_key(|stack| stack.index);
        written.stacks.dedup_by_key(|stack| stack.index);
        let (content, condition) = whole(&written.write(flush));
        written.waits = read_order(written.waits, flush, written.meta.options.time_unit);
        prop_assert_eq!(content, written);
        prop_assert!(condition.closed && condition.damage.is_empty());
    }

    #[test]
    fn any_bytes_after_a_header_are_survived(bytes in vec(any::<u8>(), 0..2_000), cut in 0usize..2_000) {
        let mut file = file_header().to_vec();
        file.extend(&bytes);
        let _ = read(&file).unwrap();
        // The same inside a real trace.
        let mut file = sample().write(100);
        let at = HEADER_LEN + cut;
        let end = (at + bytes.len()).min(file.len());
        file.splice(at..end, bytes);
        let (_, waits) = read(&file).unwrap();
        let known = sample().waits;
        prop_assert!(waits.iter().all(|wait| known.contains(wait)));
    }
}

#[test]
fn more_waits_than_a_chunk_holds_are_split() {
    let mut big = sample();
    let one = big.waits.clone();
    while big.waits.len() < 150_000 {
        big.waits.extend(&one);
    }
    let (content, _) = whole(&big.write(usize::MAX));
    assert_eq!(content.waits, in_order(big.waits, MAX_ITEMS));
}
