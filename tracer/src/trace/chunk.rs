//! From the stored bytes of one chunk to its records.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use zstd::bulk::Decompressor;

use super::energy::{EnergyInterval, EnergySource};
use super::format::{Capped, ChunkHeader, ChunkKind, IndexEntry, MAX_INDEX, MAX_STACK_FRAMES};
use super::processes::{LockProcess, ProcessRecord};
use super::records::{
    End, FrameRecord, HeldRecord, LockRecord, Meta, ShortWaits, StackRecord, ThreadRecord, Totals,
    Wait, YieldRun,
};
use super::waits::{WaitColumns, Waits};
use super::waits_v1::FlatColumns;
use super::yields::YieldColumns;

/// The content of one intact chunk.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// Replaces earlier metadata.
    Meta(Box<Meta>),
    /// Locks that later waits name.
    Locks(Vec<LockRecord>),
    /// Threads that later waits name; replace earlier ones of the same index.
    Threads(Vec<ThreadRecord>),
    /// Frames that later stacks name.
    Frames(Vec<FrameRecord>),
    /// Stacks that later waits name.
    Stacks(Vec<StackRecord>),
    /// Waits.
    Waits(Vec<Wait>),
    /// Long runs of yields.
    Yields(Vec<YieldRun>),
    /// Waits below the threshold, added up.
    ShortWaits(Vec<ShortWaits>),
    /// Locks that threads seem to have at the end.
    Held(Vec<HeldRecord>),
    /// Processes that threads and locks name; replace earlier ones of the same index.
    Processes(Vec<ProcessRecord>),
    /// Processes of locks.
    LockProcesses(Vec<LockProcess>),
    /// Where energy comes from.
    EnergySource(Box<EnergySource>),
    /// Energy windows.
    Energy(Vec<EnergyInterval>),
    /// Replaces earlier totals.
    Totals(Box<Totals>),
    /// The recording was ended in order.
    End(End),
}

/// What a chunk decodes to.
pub(super) enum Decoded {
    Chunk(Chunk),
    Index(Vec<IndexEntry>),
    Unknown,
}

/// Decodes stored bytes whose checksum is right; the error says why they can't be.
pub(super) fn decode(header: &ChunkHeader, stored: &[u8]) -> Result<Decoded, String> {
    let Some(kind) = ChunkKind::from_u32(header.kind) else { return Ok(Decoded::Unknown) };
    let mut raw = Vec::new();
    decompress(&mut Decompressor::new().map_err(|e| e.to_string())?, header, stored, &mut raw)?;
    Ok(Decoded::Chunk(match kind {
        ChunkKind::Meta => Chunk::Meta(json(&raw)?),
        ChunkKind::Locks => Chunk::Locks(postcard_value::<Capped<_>>(&raw)?.0),
        ChunkKind::Threads => Chunk::Threads(json::<Capped<_>>(&raw)?.0),
        ChunkKind::Frames => Chunk::Frames(postcard_value::<Capped<_>>(&raw)?.0),
        ChunkKind::Stacks => {
            let stacks = postcard_value::<Capped<StackRecord>>(&raw)?.0;
            if stacks.iter().any(|stack| stack.frames.len() > MAX_STACK_FRAMES) {
                return Err(format!("holds a stack of more than {MAX_STACK_FRAMES} frames"));
            }
            Chunk::Stacks(stacks)
        }
        ChunkKind::FlatWaits | ChunkKind::Waits => Chunk::Waits(waits(kind, &raw)?.in_order()),
        ChunkKind::FlatYields => Chunk::Yields(postcard_value::<Capped<_>>(&raw)?.0),
        ChunkKind::Yields => {
            let columns: YieldColumns<'_> = postcard_value(&raw)?;
            columns.unit().map_err(|e| e.to_string())?;
            Chunk::Yields(columns.runs().ok_or("its columns don't fit together")?)
        }
        ChunkKind::ShortWaits => Chunk::ShortWaits(postcard_value::<Capped<_>>(&raw)?.0),
        ChunkKind::Held => Chunk::Held(json::<Capped<_>>(&raw)?.0),
        ChunkKind::Processes => Chunk::Processes(json::<Capped<_>>(&raw)?.0),
        ChunkKind::LockProcesses => Chunk::LockProcesses(postcard_value::<Capped<_>>(&raw)?.0),
        ChunkKind::EnergySource => Chunk::EnergySource(json(&raw)?),
        ChunkKind::Energy => Chunk::Energy(postcard_value::<Capped<_>>(&raw)?.0),
        ChunkKind::Totals => Chunk::Totals(json(&raw)?),
        ChunkKind::End => Chunk::End(json(&raw)?),
        ChunkKind::Index => {
            return Ok(Decoded::Index(postcard_value::<Capped<_, MAX_INDEX>>(&raw)?.0));
        }
    }))
}

/// Puts the payload into `raw`, and takes no more room for it than the header says.
pub(super) fn decompress(
    zstd: &mut Decompressor<'_>,
    header: &ChunkHeader,
    stored: &[u8],
    raw: &mut Vec<u8>,
) -> Result<(), String> {
    raw.clear();
    raw.reserve_exact(header.raw_len as usize);
    // The buffer may be larger than this chunk's share of it, from an earlier chunk.
    let says = header.raw_len as usize;
    let failed = |e: String| format!("cannot be decompressed to {says} bytes ({e})");
    zstd.decompress_to_buffer(stored, raw).map_err(|e| failed(e.to_string()))?;
    if raw.len() > says {
        return Err(failed("it is longer".to_owned()));
    }
    if raw.len() != says {
        return Err(format!("holds {} bytes and should hold {says}", raw.len()));
    }
    Ok(())
}

/// The columns of a chunk of waits, if they fit together.
pub(super) fn waits(kind: ChunkKind, raw: &[u8]) -> Result<Waits<'_>, String> {
    let (waits, fit) = if kind == ChunkKind::FlatWaits {
        let columns: FlatColumns<'_> = postcard_value(raw)?;
        (Waits::Flat(columns), columns.fit())
    } else {
        let columns: WaitColumns<'_> = postcard_value(raw)?;
        columns.unit().map_err(|e| e.to_string())?;
        (Waits::ByLock(columns), columns.fit())
    };
    if !fit {
        return Err("its columns don't fit together".to_owned());
    }
    Ok(waits)
}

fn json<T: DeserializeOwned>(raw: &[u8]) -> Result<T, String> {
    serde_json::from_slice(raw).map_err(|e| format!("cannot be decoded ({e})"))
}

fn postcard_value<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Result<T, String> {
    postcard::from_bytes(raw).map_err(|e| format!("cannot be decoded ({e})"))
}
