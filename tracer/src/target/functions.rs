//! Where the function at an address begins and ends, in a process whose files may be stripped: the
//! unwinder's own index (`.eh_frame_hdr`) has the beginning of every function.

use std::ops::Range;

use super::elf::Section;
use super::{Process, UnwindTables};
use crate::units::{Address, Pid};

/// `DW_EH_PE_*` of the one form that linkers write (Linux Standard Base, 10.6.2): a relative pointer
/// to the frames, a plain count, and a sorted table of pairs relative to the section.
const ENCODINGS: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// The function around an address of a process; `None` if no file that it maps has it in its index.
#[must_use]
pub fn function_at(pid: Pid, address: Address) -> Option<Range<Address>> {
    let files = Process::open(pid).ok()?.mapped_files(|_| true).ok()?;
    let file = files.iter().filter(|file| file.start <= address.0).max_by_key(|file| file.start)?;
    let tables = UnwindTables::read(file).ok()?;
    let range = function(&tables.eh_frame_hdr?, address.0.wrapping_sub(tables.bias))?;
    let at = |own: u64| Address(own.wrapping_add(tables.bias));
    Some(at(range.start)..at(range.end))
}

/// From the last beginning at or before the address to the next one.
fn function(index: &Section, address: u64) -> Option<Range<u64>> {
    let (head, table) = index.bytes.split_at_checked(12)?;
    if head[..4] != ENCODINGS {
        return None;
    }
    let count = u32::from_le_bytes(*head.last_chunk()?);
    let entries = table.chunks_exact(8).take(usize::try_from(count).ok()?);
    let mut begins = entries.filter_map(|entry| {
        let offset = i32::from_le_bytes(*entry.first_chunk()?);
        Some(index.addresses.start.wrapping_add_signed(offset.into()))
    });
    let mut start = None;
    let end = begins.find(|&begin| {
        if begin <= address {
            start = Some(begin);
        }
        begin > address
    })?;
    Some(start?..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_ends_where_the_next_one_begins() {
        let mut bytes = ENCODINGS.to_vec();
        bytes.extend(0i32.to_le_bytes());
        bytes.extend(3u32.to_le_bytes());
        for begin in [-0x200i32, -0x100, 0x80] {
            bytes.extend(begin.to_le_bytes());
            bytes.extend(0i32.to_le_bytes());
        }
        let index = Section { addresses: 0x1000..0x1024, bytes };
        assert_eq!(function(&index, 0xe00), Some(0xe00..0xf00));
        assert_eq!(function(&index, 0xf7f), Some(0xf00..0x1080));
        assert_eq!(function(&index, 0xdff), None, "before the first");
        assert_eq!(function(&index, 0x1080), None, "nobody knows where the last one ends");
        let other = Section { addresses: 0..4, bytes: vec![1, 0x1b, 3, 0x33] };
        assert_eq!(function(&other, 0), None);
    }
}
