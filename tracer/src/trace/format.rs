//! Layout of the file, version 2: header, chunk headers, limits, trailer, index.
//!
//! All integers are little-endian. `docs/trace-format.md` says the same for other readers.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// First eight bytes of a trace, and last eight of one that was closed cleanly.
pub const MAGIC: [u8; 8] = *b"LOCKWATT";
/// The version that [`crate::trace::writer`] writes.
pub const VERSION: u32 = 2;
/// The oldest version that is read.
pub const OLDEST_VERSION: u32 = 1;
/// Bytes of the file header, of a chunk header and of the trailer alike.
pub const HEADER_LEN: usize = 16;
/// No chunk's payload is longer than this, in bytes.
pub const MAX_RAW: u32 = 16 << 20;
/// No chunk takes more than this in the file, in bytes without its header.
pub const MAX_STORED: u32 = 17 << 20;
/// No chunk holds more waits, locks, threads, frames, stacks, held locks or processes than this.
pub const MAX_ITEMS: usize = 1 << 16;
/// No stack has more frames than this. (Recorders keep far fewer.)
pub const MAX_STACK_FRAMES: usize = 1 << 10;
/// The index lists no more chunks than this.
pub const MAX_INDEX: usize = 1 << 20;

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ChunkKind {
    /// JSON [`Meta`](super::records::Meta).
    Meta = 1,
    /// postcard list of [`LockRecord`](super::records::LockRecord).
    Locks = 2,
    /// JSON list of [`ThreadRecord`](super::records::ThreadRecord).
    Threads = 3,
    /// postcard [`FlatColumns`](super::waits_v1::FlatColumns), in files of version 1.
    FlatWaits = 4,
    /// JSON [`Totals`](super::records::Totals).
    Totals = 5,
    /// JSON [`End`](super::records::End).
    End = 6,
    /// postcard list of [`IndexEntry`].
    Index = 7,
    /// postcard list of [`FrameRecord`](super::records::FrameRecord).
    Frames = 8,
    /// postcard list of [`StackRecord`](super::records::StackRecord).
    Stacks = 9,
    /// JSON list of [`HeldRecord`](super::records::HeldRecord).
    Held = 10,
    /// postcard list of [`YieldRun`](super::records::YieldRun), in files of version 1.
    FlatYields = 11,
    /// JSON list of [`ProcessRecord`](super::processes::ProcessRecord).
    Processes = 12,
    /// postcard list of [`LockProcess`](super::processes::LockProcess).
    LockProcesses = 13,
    /// JSON [`EnergySource`](super::energy::EnergySource).
    EnergySource = 14,
    /// postcard list of [`EnergyInterval`](super::energy::EnergyInterval).
    Energy = 15,
    /// postcard [`WaitColumns`](super::waits::WaitColumns).
    Waits = 16,
    /// postcard columns of [`YieldRun`](super::records::YieldRun).
    Yields = 17,
    /// postcard list of [`ShortWaits`](super::records::ShortWaits).
    ShortWaits = 18,
}

/// The kind holds waits.
#[must_use]
pub fn holds_waits(kind: u32) -> bool {
    kind == ChunkKind::Waits as u32 || kind == ChunkKind::FlatWaits as u32
}

impl ChunkKind {
    /// The kind with this number, if this version knows it.
    #[must_use]
    pub const fn from_u32(n: u32) -> Option<Self> {
        Some(match n {
            1 => Self::Meta,
            2 => Self::Locks,
            3 => Self::Threads,
            4 => Self::FlatWaits,
            5 => Self::Totals,
            6 => Self::End,
            7 => Self::Index,
            8 => Self::Frames,
            9 => Self::Stacks,
            10 => Self::Held,
            11 => Self::FlatYields,
            12 => Self::Processes,
            13 => Self::LockProcesses,
            14 => Self::EnergySource,
            15 => Self::Energy,
            16 => Self::Waits,
            17 => Self::Yields,
            18 => Self::ShortWaits,
            _ => return None,
        })
    }

    /// What it holds, for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "metadata",
            Self::Locks => "locks",
            Self::Threads => "threads",
            Self::FlatWaits | Self::Waits => "waits",
            Self::Totals => "totals",
            Self::End => "end",
            Self::Index => "index",
            Self::Frames => "frames",
            Self::Stacks => "stacks",
            Self::Held => "held locks",
            Self::FlatYields | Self::Yields => "yields",
            Self::Processes => "processes",
            Self::LockProcesses => "processes of locks",
            Self::EnergySource => "energy source",
            Self::Energy => "energy",
            Self::ShortWaits => "short waits",
        }
    }
}

/// What precedes every chunk's stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// A [`ChunkKind`] number, or one of a later version.
    pub kind: u32,
    /// Bytes of the payload once decompressed.
    pub raw_len: u32,
    /// Bytes in the file after this header.
    pub stored_len: u32,
    /// CRC-32 (IEEE) of the other three fields and the stored bytes.
    pub crc: u32,
}

impl ChunkHeader {
    /// A header for these stored bytes, its checksum computed.
    #[must_use]
    pub fn new(kind: u32, raw_len: u32, stored_len: u32, stored: &[u8]) -> Self {
        let mut header = Self { kind, raw_len, stored_len, crc: 0 };
        header.crc = header.checksum(stored);
        header
    }

    /// The header in these bytes.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let [a, b, c, d] = words(bytes);
        Self { kind: a, raw_len: b, stored_len: c, crc: d }
    }

    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let fields = [self.kind, self.raw_len, self.stored_len, self.crc];
        for (to, field) in out.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        out
    }

    /// The lengths are within the limits, so that the chunk can be read at all.
    #[must_use]
    pub fn sane(&self) -> bool {
        self.kind != 0 && self.raw_len <= MAX_RAW && self.stored_len <= MAX_STORED
    }

    /// What [`Self::crc`] should be if `stored` follows.
    #[must_use]
    pub fn checksum(&self, stored: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.to_bytes()[..12]);
        crc.update(stored);
        crc.finalize()
    }

    /// What the chunk holds, for messages.
    #[must_use]
    pub fn kind_name(&self) -> String {
        ChunkKind::from_u32(self.kind)
            .map_or_else(|| format!("unknown kind {}", self.kind), |kind| kind.name().to_owned())
    }
}

/// The first 16 bytes of a trace of this version.
#[must_use]
pub fn file_header() -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out
}

/// The version in a file header, or none if these bytes don't begin a trace.
#[must_use]
pub fn file_version(header: &[u8; HEADER_LEN]) -> Option<u32> {
    header.starts_with(&MAGIC).then(|| words(header)[2])
}

/// The last 16 bytes of a trace that was closed cleanly: where its index chunk begins.
#[must_use]
pub fn trailer(index_offset: u64) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..8].copy_from_slice(&index_offset.to_le_bytes());
    out[8..].copy_from_slice(&MAGIC);
    out
}

/// The offset in a trailer, or none if these bytes are not one. No chunk header is taken for a
/// trailer: the magic's first half would be a `stored_len` far beyond [`MAX_STORED`].
#[must_use]
pub fn parse_trailer(bytes: &[u8; HEADER_LEN]) -> Option<u64> {
    let [low, high, ..] = words(bytes);
    bytes.ends_with(&MAGIC).then(|| u64::from(low) | u64::from(high) << 32)
}

fn words(bytes: &[u8; HEADER_LEN]) -> [u32; 4] {
    let mut out = [0; 4];
    for (to, from) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *to = u32::from_le_bytes(*from);
    }
    out
}

/// One chunk in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct IndexEntry {
    /// A [`ChunkKind`] number.
    pub kind: u32,
    /// Where its header begins, in bytes from the start of the file.
    pub offset: u64,
    /// Records in it.
    pub items: u64,
}

/// A list with at most `N` items: a longer one is refused while it is decoded, so that a small
/// hostile chunk can't become a large allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Capped<T, const N: usize = MAX_ITEMS>(pub Vec<T>);

impl<T: Serialize, const N: usize> Serialize for Capped<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Capped<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const N: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Items<T, N> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {N} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                // The length that the data claims is a hint for small lists, never a promise.
                let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1024));
                while let Some(item) = seq.next_element()? {
                    if items.len() == N {
                        return Err(A::Error::custom(format_args!("more than {N} items")));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }

        deserializer.deserialize_seq(Items::<T, N>(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_header_survives_its_bytes() {
        let header = ChunkHeader::new(4, 100, 50, b"stored");
        assert_eq!(ChunkHeader::parse(&header.to_bytes()), header);
        assert_eq!(header.checksum(b"stored"), header.crc);
        assert_ne!(header.checksum(b"storee"), header.crc);
    }

    #[test]
    fn a_trailer_is_no_sane_chunk_header() {
        for offset in [0, 16, u64::from(u32::MAX), u64::MAX] {
            let bytes = trailer(offset);
            assert_eq!(parse_trailer(&bytes), Some(offset));
            assert!(!ChunkHeader::parse(&bytes).sane());
        }
    }

    #[test]
    fn a_list_beyond_its_cap_is_refused() {
        let ok: Result<Capped<u8, 3>, _> = serde_json::from_str("[1,2,3]");
        assert_eq!(ok.unwrap().0, [1, 2, 3]);
        let long: Result<Capped<u8, 3>, _> = serde_json::from_str("[1,2,3,4]");
        assert!(long.unwrap_err().to_string().contains("more than 3 items"));
    }
}
