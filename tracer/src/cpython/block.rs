//! A piece of the target's memory, read at once, and words at offsets in it.

use crate::target::Memory;
use crate::units::Address;

/// Most bytes of a block.
const MAX_BLOCK: usize = 256;

/// User addresses are below this (x86_64 with four page-table levels, where every heap, stack and
/// mapping is unless a program asks for more).
const USER_END: u64 = 1 << 47;

/// The beginning of a struct, read at one moment.
pub(super) struct Block {
    bytes: [u8; MAX_BLOCK],
    length: usize,
}

impl Block {
    /// Reads `length` bytes, at most 256; `None` if they are not all there.
    pub(super) fn read(memory: &Memory, address: Address, length: u64) -> Option<Self> {
        let length = usize::try_from(length).ok()?;
        let mut bytes = [0; MAX_BLOCK];
        memory.read(address, bytes.get_mut(..length)?)?;
        Some(Self { bytes, length })
    }

    /// The 8-byte word at an offset; `None` if it is not in the block.
    pub(super) fn word(&self, offset: u64) -> Option<u64> {
        self.field(offset).map(u64::from_le_bytes)
    }

    /// The 4-byte word at an offset.
    pub(super) fn half_word(&self, offset: u64) -> Option<u32> {
        self.field(offset).map(u32::from_le_bytes)
    }

    /// The byte at an offset.
    pub(super) fn byte(&self, offset: u64) -> Option<u8> {
        self.field(offset).map(|[byte]| byte)
    }

    fn field<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let begin = usize::try_from(offset).ok()?;
        let end = begin.checked_add(N).filter(|&end| end <= self.length)?;
        self.bytes.get(begin..end)?.try_into().ok()
    }
}

/// A word as a pointer to a struct with pointers in it; `None` if it can't be one: null or in the
/// first page, unaligned, or no user address.
pub(super) fn pointer(word: u64) -> Option<Address> {
    (word.is_multiple_of(8) && (4096..USER_END).contains(&word)).then_some(Address(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Pid;

    #[test]
    fn fields_stay_inside_the_block() {
        let memory = Memory::open(Pid(std::process::id())).expect("own memory");
        let words = [0x1122_3344_5566_7788_u64, 0x99];
        let address = Address(words.as_ptr() as u64);
        let block = Block::read(&memory, address, 12).expect("readable");
        assert_eq!(block.word(0), Some(words[0]));
        assert_eq!(block.word(8), None);
        assert_eq!((block.half_word(8), block.byte(7)), (Some(0x99), Some(0x11)));
        assert_eq!((block.byte(12), block.word(u64::MAX)), (None, None));
        assert!(Block::read(&memory, address, 257).is_none());
        assert!(Block::read(&memory, Address(0), 8).is_none());
    }

    #[test]
    fn impossible_pointers_are_refused() {
        assert_eq!(pointer(0x7f00_0000_1000), Some(Address(0x7f00_0000_1000)));
        for word in [0, 8, 4095, 0x7f00_0000_1001, 1 << 47, u64::MAX - 7] {
            assert_eq!(pointer(word), None, "{word:#x}");
        }
    }
}
