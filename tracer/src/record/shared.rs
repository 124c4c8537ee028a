//! Memory that processes share: there a lock is one lock, whatever its address in each of them.

use procfs::process::{MMPermissions, MMapPath, MemoryMap};
use rustc_hash::FxHashMap;

use crate::units::{Address, Pid};

/// What a word in shared memory is known by in every process: the file (also one that has no name,
/// as behind an anonymous shared mapping) and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SharedWord {
    device: (i32, i32),
    inode: u64,
    offset: u64,
}

/// The shared mappings of one process, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct SharedMemory {
    /// `None`: not shared.
    known: FxHashMap<Address, Option<SharedWord>>,
}

/// Addresses that are remembered.
const MAX_KNOWN: usize = 1 << 16;

impl SharedMemory {
    /// The word at an address, if it is in memory that can be shared.
    pub(super) fn word(&mut self, pid: Pid, address: Address) -> Option<SharedWord> {
        if let Some(&known) = self.known.get(&address) {
            return known;
        }
        // A process that is gone by now says nothing: then the lock is taken for its own.
        let word = mapping_of(pid, address).map(|map| SharedWord {
            device: map.dev,
            inode: map.inode,
            offset: map.offset + (address.0 - map.address.0),
        });
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(address, word);
        word
    }
}

fn mapping_of(pid: Pid, address: Address) -> Option<MemoryMap> {
    let maps = procfs::process::Process::new(i32::try_from(pid.0).ok()?).ok()?.maps().ok()?;
    maps.into_iter().find(|map| {
        (map.address.0..map.address.1).contains(&address.0)
            && map.perms.contains(MMPermissions::SHARED)
            && !matches!(map.pathname, MMapPath::Vdso | MMapPath::Vvar)
    })
}
