//! Memory that processes share: there a lock is one lock, whatever its address in each of them.

use std::ops::Range;

use procfs::process::{MMPermissions, MMapPath};
use rustc_hash::FxHashSet;

use crate::units::{Address, Pid};

/// What a word in shared memory is known by in every process: the file (also one that has no name,
/// as behind an anonymous shared mapping) and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SharedWord {
    device: (i32, i32),
    inode: u64,
    offset: u64,
}

/// The shared mappings of one process, as they were when an address was last asked for that was in
/// none. A child begins with its parent's.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedMemory {
    mappings: Vec<(Range<u64>, SharedWord)>,
    /// In none of them.
    others: FxHashSet<Address>,
}

/// Addresses that are remembered.
const MAX_OTHERS: usize = 1 << 16;

impl SharedMemory {
    /// The word at an address, if it is in memory that can be shared.
    pub(super) fn word(&mut self, pid: Pid, address: Address) -> Option<SharedWord> {
        if let Some(word) = self.known(address) {
            return Some(word);
        }
        if self.others.contains(&address) {
            return None;
        }
        // A process that is gone by now says nothing: what it mapped since its birth is not known.
        if let Some(mappings) = read(pid) {
            self.mappings = mappings;
        }
        let word = self.known(address);
        if word.is_none() {
            if self.others.len() >= MAX_OTHERS {
                self.others.clear();
            }
            self.others.insert(address);
        }
        word
    }

    fn known(&self, address: Address) -> Option<SharedWord> {
        let (range, begin) = self.mappings.iter().find(|(range, _)| range.contains(&address.0))?;
        Some(SharedWord { offset: begin.offset + (address.0 - range.start), ..*begin })
    }
}

fn read(pid: Pid) -> Option<Vec<(Range<u64>, SharedWord)>> {
    let maps = procfs::process::Process::new(i32::try_from(pid.0).ok()?).ok()?.maps().ok()?;
    let shared = maps.into_iter().filter(|map| {
        map.perms.contains(MMPermissions::SHARED)
            && !matches!(map.pathname, MMapPath::Vdso | MMapPath::Vvar)
    });
    let entry = |map: procfs::process::MemoryMap| {
        let begin = SharedWord { device: map.dev, inode: map.inode, offset: map.offset };
        (map.address.0..map.address.1, begin)
    };
    let all: Vec<_> = shared.map(entry).collect();
    // The maps of a process that is ending are empty.
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_known_by_its_file_and_place() {
        let word = |inode, offset| SharedWord { device: (0, 1), inode, offset };
        let memory = |start: u64| SharedMemory {
            mappings: vec![(start..start + 0x1000, word(7, 0x2000))],
            ..SharedMemory::default()
        };
        let gone = Pid(u32::MAX);
        let (mut here, mut there) = (memory(0x5000), memory(0x9000));
        let at = |memory: &mut SharedMemory, address| memory.word(gone, Address(address));
        assert_eq!(at(&mut here, 0x5010), Some(word(7, 0x2010)));
        assert_eq!(at(&mut here, 0x5010), at(&mut there, 0x9010));
        assert_eq!(at(&mut here, 0x9010), None);
    }
}
