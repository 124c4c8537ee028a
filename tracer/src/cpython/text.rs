//! `str` and `bytes` objects of the target (`Include/cpython/{unicodeobject,bytesobject}.h`).

use crate::target::Memory;
use crate::units::Address;

/// Characters of a string that are kept; a longer one ends with `…`.
pub const MAX_TEXT: usize = 1024;

/// A string longer than this is no string (characters): `PY_SSIZE_T_MAX` is, but not in practice.
const MAX_LENGTH: u64 = 1 << 32;

/// Offsets in `PyASCIIObject`, `PyCompactUnicodeObject` and `PyBytesObject`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringLayout {
    /// `ob_size` of `bytes`.
    pub bytes_length: u64,
    /// `ob_sval` of `bytes`.
    pub bytes_data: u64,
    /// `length` of a `str`, in characters.
    pub length: u64,
    /// `state` of a `str`, a 4-byte bit field.
    pub state: u64,
    /// Where the characters of an ASCII `str` are: size of `PyASCIIObject`.
    pub ascii_data: u64,
    /// Where those of any other `str` are: size of `PyCompactUnicodeObject`.
    pub compact_data: u64,
    /// What the bits of `state` mean.
    pub state_bits: StateBits,
}

impl StringLayout {
    /// 3.12 and later with the GIL.
    pub(super) const PLAIN: Self = Self {
        bytes_length: 16,
        bytes_data: 32,
        length: 16,
        state: 32,
        ascii_data: 40,
        compact_data: 56,
        state_bits: StateBits::INTERNED_BITS,
    };
}

/// The bit field `PyASCIIObject.state`: `kind` is three bits from `kind_shift`, followed by one bit
/// `compact` and one bit `ascii`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBits {
    /// Where `kind` begins.
    pub kind_shift: u32,
}

impl StateBits {
    /// `interned` is two bits: every build but those of [`Self::INTERNED_BYTE`].
    pub(super) const INTERNED_BITS: Self = Self { kind_shift: 2 };
    /// `interned` is a byte of its own, to be changed atomically (free-threaded 3.14 and later).
    pub(super) const INTERNED_BYTE: Self = Self { kind_shift: 8 };

    /// (`kind` in bytes per character, is ASCII) of a string whose characters follow its header.
    fn compact(self, state: u32) -> Option<(usize, bool)> {
        let bits = state >> self.kind_shift;
        let kind = match bits & 7 {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return None,
        };
        let (compact, ascii) = (bits & 8 != 0, bits & 16 != 0);
        (compact && (kind == 1 || !ascii)).then_some((kind, ascii))
    }
}

/// The `str` at `address`, whole up to [`MAX_TEXT`] characters, which a `…` follows if there are
/// more. A surrogate without its other half becomes U+FFFD, as Rust has no such characters.
/// `None` if there is no readable `str` at that address.
#[must_use]
pub fn read_str(memory: &Memory, layout: &StringLayout, address: Address) -> Option<String> {
    if address.0 == 0 || !address.0.is_multiple_of(8) {
        return None;
    }
    let length = memory.word(address.field(layout.length)?)?;
    let state = memory.half_word(address.field(layout.state)?)?;
    let (kind, ascii) = layout.state_bits.compact(state)?;
    if length > MAX_LENGTH {
        return None;
    }
    let kept = usize::try_from(length).ok()?.min(MAX_TEXT);
    let data = if ascii { layout.ascii_data } else { layout.compact_data };
    let mut bytes = vec![0; kept * kind];
    memory.read(address.field(data)?, &mut bytes)?;
    if ascii && !bytes.is_ascii() {
        return None;
    }
    let mut text = decode(&bytes, kind)?;
    if length > kept as u64 {
        text.push('…');
    }
    Some(text)
}

/// Characters of one size; `None` if a number is no character.
fn decode(bytes: &[u8], kind: usize) -> Option<String> {
    bytes
        .chunks_exact(kind)
        .map(|unit| {
            let number = unit.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
            match number {
                0xd800..=0xdfff => Some(char::REPLACEMENT_CHARACTER),
                _ => char::from_u32(number),
            }
        })
        .collect()
}

/// The contents of the `bytes` at `address`; `None` if there is none, or it is longer than `limit`.
#[must_use]
pub fn read_bytes(
    memory: &Memory,
    layout: &StringLayout,
    address: Address,
    limit: usize,
) -> Option<Vec<u8>> {
    if address.0 == 0 || !address.0.is_multiple_of(8) {
        return None;
    }
    let length = usize::try_from(memory.word(address.field(layout.bytes_length)?)?).ok()?;
    if length > limit {
        return None;
    }
    let mut bytes = vec![0; length];
    memory.read(address.field(layout.bytes_data)?, &mut bytes)?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Pid;

    /// A `str` as `PyUnicode_New` lays it out, in this process.
    fn object(layout: &StringLayout, length: u64, kind: u32, ascii: bool, data: &[u8]) -> Vec<u64> {
        let state = (kind | 8 | u32::from(ascii) << 4) << layout.state_bits.kind_shift | 1;
        let mut bytes = vec![0; 64 + data.len() + 16];
        let mut put = |at: u64, value: &[u8]| {
            let at = usize::try_from(at).expect("small");
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(layout.length, &length.to_le_bytes());
        put(layout.state, &state.to_le_bytes());
        put(if ascii { layout.ascii_data } else { layout.compact_data }, data);
        bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight")))
            .collect()
    }

    fn read(layout: &StringLayout, words: &[u64]) -> Option<String> {
        let memory = Memory::open(Pid(std::process::id())).expect("own memory");
        read_str(&memory, layout, Address(words.as_ptr() as u64))
    }

    #[test]
    fn every_kind_is_read_without_loss() {
        let byte = StringLayout { state_bits: StateBits::INTERNED_BYTE, ..StringLayout::PLAIN };
        for layout in [StringLayout::PLAIN, byte] {
            let words = object(&layout, 5, 1, true, b"plain");
            assert_eq!(read(&layout, &words).as_deref(), Some("plain"));
            let words = object(&layout, 4, 1, false, b"caf\xe9");
            assert_eq!(read(&layout, &words).as_deref(), Some("café"));
            let utf16: Vec<u8> =
                [0x3b1, 0x4e2d, 0xd800].iter().flat_map(|c: &u16| c.to_le_bytes()).collect();
            let words = object(&layout, 3, 2, false, &utf16);
            assert_eq!(read(&layout, &words).as_deref(), Some("α中\u{fffd}"));
            let utf32: Vec<u8> =
                [0x1f512, 0x61].iter().flat_map(|c: &u32| c.to_le_bytes()).collect();
            let words = object(&layout, 2, 4, false, &utf32);
            assert_eq!(read(&layout, &words).as_deref(), Some("🔒a"));
            assert_eq!(read(&layout, &object(&layout, 0, 1, true, b"")).as_deref(), Some(""));
        }
    }

    #[test]
    fn long_strings_are_cut_and_garbage_is_refused() {
        let layout = StringLayout::PLAIN;
        let words = object(&layout, 5000, 1, true, &[b'x'; 5000]);
        let text = read(&layout, &words).expect("text");
        assert_eq!(text.chars().count(), MAX_TEXT + 1);
        assert!(text.ends_with("x…"));
        assert_eq!(read(&layout, &object(&layout, u64::MAX, 1, true, b"x")), None);
        assert_eq!(read(&layout, &object(&layout, 1, 3, false, b"x")), None, "no such kind");
        assert_eq!(read(&layout, &object(&layout, 1, 2, true, b"xx")), None, "ASCII is 1 byte");
        assert_eq!(read(&layout, &object(&layout, 1, 1, true, b"\xff")), None, "not ASCII");
        assert_eq!(read(&layout, &object(&layout, 1, 4, false, b"\xff\xff\xff\xff")), None);
        let memory = Memory::open(Pid(std::process::id())).expect("own memory");
        for address in [0, 8, 4097, u64::MAX - 7] {
            assert_eq!(read_str(&memory, &layout, Address(address)), None);
            assert_eq!(read_bytes(&memory, &layout, Address(address), 10), None);
        }
    }

    #[test]
    fn bytes_are_read_up_to_a_limit() {
        let memory = Memory::open(Pid(std::process::id())).expect("own memory");
        let words = [0, 0, 3, 0, u64::from_le_bytes(*b"abc\0\0\0\0\0")];
        let read = |limit| {
            read_bytes(&memory, &StringLayout::PLAIN, Address(words.as_ptr() as u64), limit)
        };
        assert_eq!(read(3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(read(2), None);
    }
}
