//! Which offsets an interpreter has its threads, frames, code objects and strings at: checked before
//! anything is read by them.
//!
//! 3.13 and later publish them (`_Py_DebugOffsets`); 3.11 and 3.12 are tables from their headers
//! (`Include/internal/pycore_{interp,frame,code}.h`, `Include/cpython/{pystate,code}.h`), which
//! `verify` checks against the live process, because not every patch release was looked at.
//! `scripts/derive_layouts.py` derives them.

use tracer_common::stack::FIRST_SHIM_OWNER;

use super::attributes::AttributeLayout;
use super::debug_offsets::DebugOffsets;
use super::frame_fields::{
    CODE_BYTES, CodeFields, FRAME_BYTES, FrameFields, FrameLayout, InterpreterFields, THREAD_BYTES,
    ThreadFields,
};
use super::text::{StateBits, StringLayout};
use super::{LayoutError, Version};
use crate::target::Memory;
use crate::units::Address;

/// No interpreter state or object of any version is this large (bytes).
const MAX_STRUCT: u64 = 1 << 20;
/// Where the code object's variable-sized end begins, at most (bytes).
const MAX_CODE: u64 = 1 << 12;
/// Where the data of a string begins, at most (bytes).
const MAX_HEADER: u64 = 256;

impl FrameLayout {
    /// The layout of a live interpreter; `runtime` is the address of `_PyRuntime`.
    ///
    /// # Errors
    /// [`LayoutError`] if the version is unknown, its table is not there, or a value in it can't be
    /// true.
    pub fn read(memory: &Memory, runtime: Address, version: Version) -> Result<Self, LayoutError> {
        match version.minor() {
            (3, 11) => Ok(Self::v3_11()),
            (3, 12) => Ok(Self::v3_12()),
            (3, 13..=15) => {
                let table = DebugOffsets::read(memory, runtime, version)
                    .ok_or_else(|| LayoutError::NoDebugOffsets(version.to_string()))?;
                Self::from_debug_offsets(version, |section, field| table.get(section, field))
            }
            _ => Err(LayoutError::UnknownVersion(version.to_string())),
        }
    }

    /// 3.11.2 and 3.11.7, release builds.
    fn v3_11() -> Self {
        Self {
            interpreter: InterpreterFields {
                threads_head: 16,
                code_generation: None,
                tlbc_generation: None,
            },
            thread: ThreadFields {
                next: 8,
                interpreter: 16,
                native_id: 160,
                frame: 56,
                cframe_current: Some(8),
            },
            frame: FrameFields {
                previous: 48,
                executable: 32,
                instruction: 56,
                owner: 69,
                tlbc_index: None,
                locals: 72,
                first_shim_owner: FIRST_SHIM_OWNER,
            },
            code: CodeFields {
                filename: 112,
                name: 120,
                qualname: 128,
                line_table: 136,
                first_line: 72,
                adaptive: 184,
                tlbc: None,
            },
            strings: StringLayout {
                // PyASCIIObject and PyCompactUnicodeObject still have the wchar_t representation.
                ascii_data: 48,
                compact_data: 72,
                ..StringLayout::PLAIN
            },
            ob_type: 8,
            attributes: Some(AttributeLayout::V3_11),
        }
    }

    /// 3.12.1, release build.
    pub(super) fn v3_12() -> Self {
        let before = Self::v3_11();
        Self {
            interpreter: InterpreterFields { threads_head: 72, ..before.interpreter },
            thread: ThreadFields { native_id: 144, cframe_current: Some(0), ..before.thread },
            frame: FrameFields { previous: 8, executable: 0, owner: 70, ..before.frame },
            code: CodeFields { first_line: 68, adaptive: 192, ..before.code },
            strings: StringLayout::PLAIN,
            ob_type: 8,
            attributes: Some(AttributeLayout::V3_12),
        }
    }

    /// 3.13 and later; `get` looks a field of a section of `_Py_DebugOffsets` up.
    fn from_debug_offsets(
        version: Version,
        get: impl Fn(&str, &str) -> Option<u64>,
    ) -> Result<Self, LayoutError> {
        // A field of `width` bytes, aligned as C aligns it, that ends before `limit`.
        let field = |section: &str, name: &'static str, width: u64, limit: u64| {
            let value = get(section, name).unwrap_or(u64::MAX);
            let fits = value.checked_add(width).is_some_and(|end| end <= limit);
            if fits && value.is_multiple_of(width) {
                Ok(value)
            } else {
                Err(LayoutError::Insane { version: version.to_string(), what: name, value })
            }
        };
        let interpreter = |name, width| field("interpreter_state", name, width, MAX_STRUCT);
        let thread = |name| field("thread_state", name, 8, THREAD_BYTES);
        let frame = |name, width| field("interpreter_frame", name, width, FRAME_BYTES);
        let code = |name, width| field("code_object", name, width, CODE_BYTES);
        let string = |section, name, width| field(section, name, width, MAX_HEADER);

        let free_threaded = get("", "free_threaded") == Some(1);
        let since_3_14 = version.minor() >= (3, 14);
        let own_bytecode = free_threaded && since_3_14;
        let ascii_data = string("unicode_object", "asciiobject_size", 8)?;
        // PyCompactUnicodeObject is PyASCIIObject, utf8_length and utf8; 3.15 says its size itself.
        let compact_data = match get("unicode_object", "compactunicodeobject_size") {
            Some(_) => string("unicode_object", "compactunicodeobject_size", 8)?,
            None => ascii_data + 16,
        };
        let layout = Self {
            interpreter: InterpreterFields {
                threads_head: interpreter("threads_head", 8)?,
                code_generation: since_3_14
                    .then(|| interpreter("code_object_generation", 8))
                    .transpose()?,
                tlbc_generation: own_bytecode
                    .then(|| interpreter("tlbc_generation", 4))
                    .transpose()?,
            },
            thread: ThreadFields {
                next: thread("next")?,
                interpreter: thread("interp")?,
                native_id: thread("native_thread_id")?,
                frame: thread("current_frame")?,
                cframe_current: None,
            },
            frame: FrameFields {
                previous: frame("previous", 8)?,
                executable: frame("executable", 8)?,
                instruction: frame("instr_ptr", 8)?,
                owner: frame("owner", 1)?,
                tlbc_index: own_bytecode.then(|| frame("tlbc_index", 4)).transpose()?,
                locals: field("interpreter_frame", "localsplus", 8, MAX_HEADER)?,
                first_shim_owner: FIRST_SHIM_OWNER,
            },
            code: CodeFields {
                filename: code("filename", 8)?,
                name: code("name", 8)?,
                qualname: code("qualname", 8)?,
                line_table: code("linetable", 8)?,
                first_line: code("firstlineno", 4)?,
                adaptive: field("code_object", "co_code_adaptive", 2, MAX_CODE)?,
                tlbc: own_bytecode.then(|| code("co_tlbc", 8)).transpose()?,
            },
            strings: StringLayout {
                bytes_length: string("bytes_object", "ob_size", 8)?,
                bytes_data: string("bytes_object", "ob_sval", 1)?,
                length: string("unicode_object", "length", 8)?,
                state: string("unicode_object", "state", 4)?,
                ascii_data,
                compact_data,
                state_bits: if own_bytecode {
                    StateBits::INTERNED_BYTE
                } else {
                    StateBits::INTERNED_BITS
                },
            },
            ob_type: field("pyobject", "ob_type", 8, MAX_HEADER)?,
            attributes: AttributeLayout::from_debug_offsets(free_threaded, &get),
        };
        Ok(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3_14: Version = Version(0x030e_0af0);

    /// What deb3.14 (3.14.10) and ml3.14t (3.14.9t) publish.
    fn published(free_threaded: bool) -> impl Fn(&str, &str) -> Option<u64> {
        move |section: &str, field: &str| {
            let (gil, own) = match (section, field) {
                ("", "free_threaded") => (0, 1),
                ("interpreter_state", "threads_head") => (7344, 7344),
                ("interpreter_state", "code_object_generation") => (225_800, 246_000),
                ("interpreter_state", "tlbc_generation") => (0, 246_012),
                ("thread_state", "next") | ("pyobject", "ob_type") => (8, 24),
                ("thread_state", "interp") => (16, 16),
                ("thread_state", "native_thread_id") => (160, 160),
                ("thread_state", "current_frame") => (72, 72),
                ("interpreter_frame", "previous") => (8, 8),
                ("interpreter_frame", "executable") => (0, 0),
                ("interpreter_frame", "instr_ptr") => (56, 56),
                ("interpreter_frame", "owner") => (74, 78),
                ("interpreter_frame", "tlbc_index") => (0, 72),
                ("interpreter_frame", "localsplus") => (80, 80),
                ("code_object", "filename") => (112, 128),
                ("code_object", "name") => (120, 136),
                ("code_object", "qualname") => (128, 144),
                ("code_object", "linetable") => (136, 152),
                ("code_object", "firstlineno") => (68, 84),
                ("code_object", "co_code_adaptive") => (208, 232),
                ("code_object", "co_tlbc") => (0, 224),
                ("bytes_object", "ob_size") | ("unicode_object", "length") => (16, 32),
                ("bytes_object", "ob_sval") | ("unicode_object", "state") => (32, 48),
                ("unicode_object", "asciiobject_size") => (40, 56),
                _ => return None,
            };
            Some(if free_threaded { own } else { gil })
        }
    }

    #[test]
    fn published_offsets_are_taken() {
        let gil = FrameLayout::from_debug_offsets(V3_14, published(false)).expect("sane");
        assert_eq!((gil.frame.owner, gil.frame.tlbc_index, gil.code.tlbc), (74, None, None));
        assert_eq!(gil.interpreter.code_generation, Some(225_800));
        assert_eq!(gil.strings, StringLayout::PLAIN);
        let own = FrameLayout::from_debug_offsets(V3_14, published(true)).expect("sane");
        assert_eq!((own.frame.tlbc_index, own.code.tlbc), (Some(72), Some(224)));
        assert_eq!((own.strings.compact_data, own.ob_type), (72, 24));
        assert_eq!(own.strings.state_bits, StateBits::INTERNED_BYTE);
    }

    #[test]
    fn one_insane_offset_is_named_and_refused() {
        for (section, field, value) in [
            ("thread_state", "native_thread_id", 252), // ends beyond what is read
            ("thread_state", "next", 12),              // unaligned
            ("interpreter_frame", "owner", 80),
            ("interpreter_frame", "tlbc_index", 77),
            ("code_object", "qualname", u64::MAX),
            ("code_object", "co_tlbc", u64::MAX - 7),
            ("interpreter_state", "threads_head", 1 << 20),
            ("unicode_object", "asciiobject_size", 4096),
        ] {
            let table = published(true);
            let result = FrameLayout::from_debug_offsets(V3_14, |s, f| {
                if (s, f) == (section, field) { Some(value) } else { table(s, f) }
            });
            let Err(LayoutError::Insane { what, value: found, .. }) = result else {
                panic!("{field}: {result:?}")
            };
            assert_eq!((what, found), (field, value));
        }
    }

    #[test]
    fn the_tables_fit_what_is_read_at_once() {
        for layout in [FrameLayout::v3_11(), FrameLayout::v3_12()] {
            let FrameLayout { thread, frame, code, .. } = layout;
            for offset in [thread.next, thread.interpreter, thread.native_id, thread.frame] {
                assert!(offset + 8 <= THREAD_BYTES);
            }
            for offset in [frame.previous, frame.executable, frame.instruction, frame.owner] {
                assert!(offset + 8 <= FRAME_BYTES);
            }
            for offset in [code.filename, code.name, code.qualname, code.line_table] {
                assert!(offset + 8 <= CODE_BYTES);
            }
        }
    }
}
