//! Where a trace's bytes are: `cargo xtask trace-size FILE`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tracer::trace::format::{
    ChunkHeader, ChunkKind, HEADER_LEN, file_version, holds_waits, parse_trailer,
};
use tracer::trace::records::End;
use tracer::trace::{Chunk, TimeUnit, TraceReader, TraceWriter};

#[derive(Parser)]
#[command(
    name = "cargo xtask trace-size --",
    about = "Says what the bytes of a trace are spent on"
)]
struct Arguments {
    /// The trace
    file: PathBuf,

    /// What they would be spent on if its times were written in units of so many nanoseconds (and its
    /// chunks by this version)
    #[arg(long, value_name = "NS", value_parser = unit)]
    time_unit: Option<TimeUnit>,

    /// Write that trace to a file, too
    #[arg(short, long, value_name = "FILE", requires = "time_unit")]
    output: Option<PathBuf>,
}

/// A kind of chunk, or a column.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    count: u64,
    raw: u64,
    stored: u64,
}

fn unit(text: &str) -> Result<TimeUnit> {
    Ok(TimeUnit::try_from(text.parse::<u64>()?)?)
}

fn main() -> Result<()> {
    let args = Arguments::parse();
    let mut bytes = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    if let Some(unit) = args.time_unit {
        bytes = rewritten(&bytes, unit)?;
        if let Some(path) = &args.output {
            std::fs::write(path, &bytes).with_context(|| path.display().to_string())?;
        }
    }
    let header = bytes.first_chunk::<HEADER_LEN>().context("no header")?;
    let version = file_version(header).context("not a trace")?;
    let mut at = HEADER_LEN;
    let mut kinds: BTreeMap<String, Share> = BTreeMap::new();
    let mut columns: Vec<(String, Share)> = Vec::new();
    let mut waits = 0;
    while let Some(header) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEADER_LEN>()) {
        if parse_trailer(header).is_some() {
            break;
        }
        let header = ChunkHeader::parse(header);
        ensure!(header.sane(), "no chunk at byte {at}");
        let from = at + HEADER_LEN;
        let Some(stored) = bytes.get(from..from + header.stored_len as usize) else { break };
        let share = kinds.entry(header.kind_name()).or_default();
        share.count += 1;
        share.raw += u64::from(header.raw_len);
        share.stored += (HEADER_LEN + stored.len()) as u64;
        if holds_waits(header.kind) {
            let raw = zstd::bulk::decompress(stored, header.raw_len as usize)?;
            waits += tally(header.kind, &raw, &mut columns)?;
        }
        at = from + stored.len();
    }
    println!("version {version}, {} bytes, {waits} waits", bytes.len());
    let show = |name: &str, share: &Share| {
        let each = share.stored as f64 / waits as f64;
        println!("{name:28} {:>8} {:>12} {:>12} {each:8.3}", share.count, share.raw, share.stored);
    };
    println!("{:28} {:>8} {:>12} {:>12} {:>8}", "", "chunks", "raw", "stored", "per wait");
    kinds.iter().for_each(|(name, share)| show(name, share));
    println!("columns of the waits, each compressed alone:");
    columns.iter().for_each(|(name, share)| show(name, share));
    Ok(())
}

/// The same trace, chunk by chunk, with times in another unit.
fn rewritten(bytes: &[u8], unit: TimeUnit) -> Result<Vec<u8>> {
    let mut reader = TraceReader::from_read(bytes)?;
    let mut writer = TraceWriter::new(Vec::new())?.with_time_unit(unit);
    let mut end = End::default();
    while let Some(chunk) = reader.next_chunk()? {
        match chunk {
            Chunk::Meta(mut meta) => {
                meta.options.time_unit = unit;
                writer.meta(&meta)?;
            }
            Chunk::Locks(locks) => locks.into_iter().try_for_each(|one| writer.lock(one))?,
            Chunk::Threads(threads) => writer.threads(&threads)?,
            Chunk::Frames(frames) => frames.into_iter().try_for_each(|one| writer.frame(one))?,
            Chunk::Stacks(stacks) => stacks.into_iter().try_for_each(|one| writer.stack(one))?,
            Chunk::Waits(waits) => {
                waits.into_iter().try_for_each(|one| writer.wait(one))?;
                writer.flush()?;
            }
            Chunk::Yields(runs) => runs.into_iter().try_for_each(|one| writer.yields(one))?,
            Chunk::ShortWaits(all) => {
                all.into_iter().try_for_each(|one| writer.short_waits(one))?;
            }
            Chunk::Held(held) => writer.held(&held)?,
            Chunk::Processes(all) => writer.processes(&all)?,
            Chunk::LockProcesses(all) => {
                all.into_iter().try_for_each(|one| writer.lock_process(one))?;
            }
            Chunk::EnergySource(source) => writer.energy_source(&source)?,
            Chunk::Energy(intervals) => writer.energy(&intervals)?,
            Chunk::Totals(totals) => writer.totals(&totals)?,
            Chunk::End(last) => end = last,
        }
    }
    ensure!(reader.condition().damage.is_empty(), "the trace is damaged");
    Ok(writer.finish(&end)?)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

/// The columns of version 1, and what their values are of.
const FLAT: [(&str, Of); 13] = [
    ("thread", Of::Waits),
    ("lock", Of::Waits),
    ("end", Of::Waits),
    ("blocked", Of::Waits),
    ("run queue", Of::Waits),
    ("gap", Of::Waits),
    ("episodes", Of::Waits),
    ("flags", Of::Waits),
    ("waker", Of::Waits),
    ("waiter stack", Of::Waits),
    ("waker stack", Of::Waits),
    ("holder", Of::Waits),
    ("holder stack", Of::Waits),
];

/// Those of version 2, after the number of locks.
const BY_LOCK: [(&str, Of); 18] = [
    ("lock", Of::Locks),
    ("waits of a lock", Of::Locks),
    ("handed on", Of::Bits),
    ("thread", Of::Waits),
    ("hold (handed on)", Of::Handed),
    ("end", Of::Others),
    ("blocked (handed on)", Of::Handed),
    ("blocked", Of::Others),
    ("run queue", Of::Waits),
    ("gap", Of::Waits),
    ("episodes", Of::Waits),
    ("flags", Of::Waits),
    ("waker", Of::Others),
    ("waiter stack", Of::Waits),
    ("waker stack (handed on)", Of::Handed),
    ("waker stack", Of::Others),
    ("holder", Of::Waits),
    ("holder stack", Of::Waits),
];

#[derive(Clone, Copy)]
enum Of {
    Waits,
    Locks,
    Bits,
    Handed,
    Others,
}

/// Adds the planes of each column; says how many waits there are.
fn tally(kind: u32, raw: &[u8], columns: &mut Vec<(String, Share)>) -> Result<u64> {
    let flat = kind == ChunkKind::FlatWaits as u32;
    let mut rest = raw;
    if !flat {
        let (_shift, after) = rest.split_first().context("a number is missing")?;
        rest = after;
    }
    let mut number = || varint(&mut rest).context("a number is missing");
    let (_base, count) = (number()?, number()?);
    let locks = if flat { 0 } else { number()? };
    let mut handed = 0;
    for (name, of) in if flat { &FLAT[..] } else { &BY_LOCK[..] } {
        let len = usize::try_from(varint(&mut rest).context("a length is missing")?)?;
        let (column, after) = rest.split_at_checked(len).context("a column is missing")?;
        rest = after;
        let values = match of {
            Of::Waits => count,
            Of::Locks => locks,
            Of::Bits => {
                handed = column.iter().map(|byte| u64::from(byte.count_ones())).sum();
                count.div_ceil(8)
            }
            Of::Handed => handed,
            Of::Others => count - handed,
        };
        for (plane, bytes) in column.chunks(usize::try_from(values)?.max(1)).enumerate() {
            let name = format!("{name}, byte {plane}");
            let at = columns.iter().position(|(other, _)| *other == name);
            let at = at.unwrap_or_else(|| {
                columns.push((name, Share::default()));
                columns.len() - 1
            });
            let share = &mut columns[at].1;
            share.count += 1;
            share.raw += bytes.len() as u64;
            share.stored += zstd::bulk::compress(bytes, 3)?.len() as u64;
        }
    }
    Ok(count)
}
