//! An attribute of an object, read from outside without running any of its code: out of the
//! instance's values or its `__dict__`.
//!
//! `Objects/dictobject.c`, `Include/internal/pycore_dict.h`, `Include/internal/pycore_object.h`:
//! instances of classes written in Python keep their attributes in an array of values whose keys
//! all instances share (`ht_cached_keys` of the class), until a dict is made of them.

use super::block::{Block, pointer};
use super::frame_fields::FrameLayout;
use super::{Interpreter, read_str};
use crate::target::Memory;
use crate::units::Address;

/// Between the end of `PyTypeObject` and `ht_cached_keys` in `PyHeapTypeObject`: the method tables
/// (4 + 36 + 3 + 10 + 2 functions) and three names; the same from 3.11 to 3.15.
const TYPE_TO_CACHED_KEYS: u64 = (4 + 36 + 3 + 10 + 2 + 3) * 8;

/// `Py_TPFLAGS_INLINE_VALUES` (3.13 and later), `Py_TPFLAGS_MANAGED_DICT` (`Include/object.h`).
const INLINE_VALUES: u64 = 1 << 2;
const MANAGED_DICT: u64 = 1 << 4;

/// `struct _dictkeysobject`: offsets of `dk_log2_index_bytes` and `dk_kind` (1 byte each),
/// `dk_nentries` and `dk_indices`, behind which the entries are. 3.11 to 3.15, all builds.
const LOG2_INDEX_BYTES: u64 = 9;
const KIND: u64 = 10;
const ENTRY_COUNT: u64 = 24;
const INDICES: u64 = 32;

/// `DictKeysKind`: entries are (hash, key, value); (key, value) of strings; (key, unused) of strings.
const GENERAL: u8 = 0;
const UNICODE: u8 = 1;
const SPLIT: u8 = 2;

/// Entries of a dict that are looked through: more than any sensible object has attributes.
const MAX_ENTRIES: u64 = 4096;

/// Where attributes are. Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeLayout {
    /// `ht_cached_keys` in a `PyHeapTypeObject`.
    pub cached_keys: u64,
    /// `ma_keys` in a `dict`.
    pub dict_keys: u64,
    /// `ma_values` in a `dict`.
    pub dict_values: u64,
    /// `values` in a `PyDictValues`.
    pub first_value: u64,
    /// Where an instance has them.
    pub place: ValuesPlace,
}

/// Where an instance has its values and its dict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValuesPlace {
    /// A pointer 4 words before the object, the dict's 3 before it (3.11,
    /// `_PyObject_ValuesPointer`).
    Pointers,
    /// One pointer 3 words before the object; less one and so odd, it is that of the values (3.12,
    /// `PyDictOrValues`).
    TaggedPointer,
    /// Behind the object, `tp_basicsize` from its beginning, while they are valid; the dict's
    /// pointer is this many words before the object (3.13 and later, `_PyObject_InlineValues`,
    /// `_PyObject_ManagedDictPointer`).
    Inline {
        /// 3; 1 in free-threaded builds, which have no GC header there.
        dict_words_before: u64,
    },
}

impl AttributeLayout {
    pub(super) const V3_11: Self = Self {
        cached_keys: 408 + TYPE_TO_CACHED_KEYS,
        dict_keys: 32,
        dict_values: 40,
        first_value: 0,
        place: ValuesPlace::Pointers,
    };

    pub(super) const V3_12: Self = Self {
        cached_keys: 416 + TYPE_TO_CACHED_KEYS,
        place: ValuesPlace::TaggedPointer,
        ..Self::V3_11
    };

    /// 3.13 and later; `None` if a value can't be true.
    pub(super) fn from_debug_offsets(
        free_threaded: bool,
        get: impl Fn(&str, &str) -> Option<u64>,
    ) -> Option<Self> {
        let sane = |value: u64| (value.is_multiple_of(8) && value < 4096).then_some(value);
        // Since 3.15 in the table; before, counted from the end of PyTypeObject.
        let cached_keys = match get("heap_type_object", "ht_cached_keys") {
            Some(published) => published,
            None => get("type_object", "size")?.checked_add(TYPE_TO_CACHED_KEYS)?,
        };
        Some(Self {
            cached_keys: sane(cached_keys)?,
            dict_keys: sane(get("dict_object", "ma_keys")?)?,
            dict_values: sane(get("dict_object", "ma_values")?)?,
            first_value: 8,
            place: ValuesPlace::Inline { dict_words_before: if free_threaded { 1 } else { 3 } },
        })
    }
}

/// What reads attributes of one process.
pub(super) struct Attributes<'a> {
    memory: &'a Memory,
    python: &'a Interpreter,
    frames: &'a FrameLayout,
    layout: &'a AttributeLayout,
}

impl<'a> Attributes<'a> {
    /// `None` if it is not known where attributes are.
    pub(super) fn new(memory: &'a Memory, python: &'a Interpreter) -> Option<Self> {
        let frames = python.frames.as_ref().ok()?;
        Some(Self { memory, python, frames, layout: frames.attributes.as_ref()? })
    }

    /// The object that is the instance's attribute of this name; properties and the class's own
    /// attributes are none.
    pub(super) fn get(&self, object: Address, name: &str) -> Option<Address> {
        let class = self.pointer_at(object, self.frames.ob_type)?;
        let flags = self.word_at(class, self.python.layout.tp_flags)?;
        if flags & MANAGED_DICT == 0 {
            return None;
        }
        let before = |words: u64| {
            let at = object.0.checked_sub(8 * words)?;
            self.memory.word(Address(at))
        };
        let (values, dict) = match self.layout.place {
            ValuesPlace::Pointers => (before(4).and_then(pointer), before(3).and_then(pointer)),
            ValuesPlace::TaggedPointer => {
                let word = before(3)?;
                if word & 1 == 1 {
                    (word.checked_add(1).and_then(pointer), None)
                } else {
                    (None, pointer(word))
                }
            }
            ValuesPlace::Inline { dict_words_before } => {
                let values =
                    if flags & INLINE_VALUES == 0 { None } else { self.inline(object, class) };
                (values, before(dict_words_before).and_then(pointer))
            }
        };
        match values {
            Some(values) => self.of_values(values, class, name),
            None => self.of_dict(dict?, name),
        }
    }

    /// The values behind the object, while they are valid. `PyDictValues` begins with four bytes:
    /// capacity, size, embedded, valid.
    fn inline(&self, object: Address, class: Address) -> Option<Address> {
        // tp_basicsize follows tp_name.
        let size = self.word_at(class, self.python.layout.tp_name.checked_add(8)?)?;
        let values = object.field(size).and_then(|at| pointer(at.0))?;
        let valid = Block::read(self.memory, values, 4)?.byte(3)?;
        (valid == 1).then_some(values)
    }

    fn of_values(&self, values: Address, class: Address, name: &str) -> Option<Address> {
        let keys = self.pointer_at(class, self.layout.cached_keys)?;
        let (index, _) = self.find(keys, name)?;
        self.pointer_at(values, self.layout.first_value.checked_add(8 * index)?)
    }

    fn of_dict(&self, dict: Address, name: &str) -> Option<Address> {
        let keys = self.pointer_at(dict, self.layout.dict_keys)?;
        let (index, value) = self.find(keys, name)?;
        match self.pointer_at(dict, self.layout.dict_values) {
            Some(values) => {
                self.pointer_at(values, self.layout.first_value.checked_add(8 * index)?)
            }
            None => pointer(value),
        }
    }

    /// Number of the entry with this key, and the value in it.
    fn find(&self, keys: Address, name: &str) -> Option<(u64, u64)> {
        let head = Block::read(self.memory, keys, INDICES)?;
        let log2_index_bytes = head.byte(LOG2_INDEX_BYTES).filter(|&log2| log2 < 32)?;
        let (entry_size, key_at) = match head.byte(KIND)? {
            GENERAL => (24, 8),
            UNICODE | SPLIT => (16, 0),
            _ => return None,
        };
        let count = head.word(ENTRY_COUNT)?.min(MAX_ENTRIES);
        let entries = keys.field(INDICES + (1 << log2_index_bytes))?;
        for index in 0..count {
            let entry = Block::read(self.memory, entries.field(index * entry_size)?, entry_size)?;
            let key = Address(entry.word(key_at)?);
            // Null: the entry was deleted.
            if read_str(self.memory, &self.frames.strings, key).as_deref() == Some(name) {
                return Some((index, entry.word(key_at + 8)?));
            }
        }
        None
    }

    fn word_at(&self, base: Address, offset: u64) -> Option<u64> {
        self.memory.word(base.field(offset)?)
    }

    fn pointer_at(&self, base: Address, offset: u64) -> Option<Address> {
        self.word_at(base, offset).and_then(pointer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_to_the_shared_keys_is_that_of_the_headers() {
        // offsetof(PyHeapTypeObject, ht_cached_keys) as gcc has it for 3.11.7 and 3.12.1.
        assert_eq!(AttributeLayout::V3_11.cached_keys, 872);
        assert_eq!(AttributeLayout::V3_12.cached_keys, 880);
    }

    #[test]
    fn insane_offsets_are_refused() {
        let table = |keys| {
            AttributeLayout::from_debug_offsets(true, move |section, field| {
                match (section, field) {
                    ("type_object", "size") => Some(432),
                    ("dict_object", "ma_keys") => Some(keys),
                    ("dict_object", "ma_values") => Some(56),
                    _ => None,
                }
            })
        };
        assert_eq!(table(48).map(|layout| layout.cached_keys), Some(896));
        assert_eq!(table(49), None);
        assert_eq!(table(u64::MAX - 7), None);
    }
}
