//! Where an interpreter keeps what a lock wait is recognised by: offsets, checked for sanity.

use super::Version;
use super::debug_offsets::DebugOffsets;
use crate::target::Memory;
use crate::units::Address;

/// An interpreter whose layout is not known, or is not what its version promises.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// No table for this version.
    #[error("CPython {0} is not supported (3.11 to 3.15 are): its locks get no names")]
    UnknownVersion(String),
    /// The debug table is not where it should be, or is of another version.
    #[error("CPython {0}: `_Py_DebugOffsets` is missing or of another version")]
    NoDebugOffsets(String),
    /// A value that can't be true.
    #[error(
        "CPython {version}: {what} makes no sense ({value:#x}): not the layout of that version"
    )]
    Insane {
        /// The interpreter's version.
        version: String,
        /// Which value.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// The file does not export a symbol that every known build of the version exports.
    #[error("CPython {version}: no symbol `{symbol}`: its Python stacks can't be read")]
    NoSymbol {
        /// The interpreter's version.
        version: String,
        /// Which symbol.
        symbol: &'static str,
    },
    /// The offsets of the version did not find in the live process what they should.
    #[error(
        "CPython {version}: {what} not where that version keeps them: its Python stacks can't be \
         read"
    )]
    NotThere {
        /// The interpreter's version.
        version: String,
        /// What was looked for: `thread ids are`, `frames are`.
        what: &'static str,
    },
}

/// Offsets in bytes, unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Free-threaded build.
    pub free_threaded: bool,
    /// Has a parking lot (`Python/parking_lot.c`, 3.13 and later).
    pub parking_lot: bool,
    /// `_PyRuntime.interpreters.head` in `_PyRuntime`.
    pub interpreters_head: u64,
    /// `next` in an interpreter state.
    pub interpreter_next: u64,
    /// Where the GIL is found.
    pub gil: GilPlace,
    /// `ob_type` in an object.
    pub ob_type: u64,
    /// `tp_name` in a type.
    pub tp_name: u64,
    /// `tp_flags` in a type.
    pub tp_flags: u64,
    /// Size of an object header: where a `threading.Lock` has its `PyMutex`.
    pub object_header: u64,
    /// Size of `_PyRuntime`.
    pub runtime_size: u64,
    /// Size of an interpreter state; 0: not known (before 3.13).
    pub interpreter_size: u64,
    /// `gc.collecting` in an interpreter state, if that is known (3.13 and later).
    pub gc_collecting: Option<u64>,
    /// `state` in a thread state, which a thread parks on while the world is stopped (3.13 and later).
    pub thread_state: Option<u64>,
}

/// Where the GIL struct is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GilPlace {
    /// One for all, at this offset in `_PyRuntime` (3.11).
    Runtime(u64),
    /// Behind a pointer at this offset in the interpreter state (3.12 and later).
    Interpreter(u64),
}

/// Offsets in `struct _gil_runtime_state` (`Include/internal/pycore_gil.h`), the same from 3.11 to
/// 3.15 but for the `enabled` word (8 bytes with padding) that free-threaded builds put first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GilLayout {
    /// `interval`, microseconds.
    pub interval: u64,
    /// `last_holder`: the thread state that took it last, also after it let go.
    pub holder: u64,
    /// `locked`: 4 bytes, 1 while it is held.
    pub locked: u64,
    /// `cond`, with `mutex` behind it.
    pub cond: u64,
    /// `switch_cond`, with `switch_mutex` behind it.
    pub switch_cond: u64,
    /// Size of the struct.
    pub size: u64,
}

impl Layout {
    /// The layout of a live interpreter. 3.13 and later tell it themselves; 3.11 and 3.12 are
    /// tables; `scripts/derive_layouts.py` derives them from their headers.
    ///
    /// # Errors
    /// [`LayoutError`] if the version is unknown or its table is not there.
    pub fn read(
        memory: &Memory,
        runtime: Address,
        runtime_size: u64,
        version: Version,
    ) -> Result<Self, LayoutError> {
        match version.minor() {
            (3, 11) => Ok(Self {
                interpreter_next: 0,
                gil: GilPlace::Runtime(360),
                ..Self::before_debug_offsets(runtime_size)
            }),
            (3, 12) => Ok(Self {
                interpreter_next: 0,
                gil: GilPlace::Interpreter(384),
                ..Self::before_debug_offsets(runtime_size)
            }),
            (3, 13..=15) => {
                let table = DebugOffsets::read(memory, runtime, version)
                    .ok_or_else(|| LayoutError::NoDebugOffsets(version.to_string()))?;
                Self::from_debug_offsets(&table, version)
            }
            _ => Err(LayoutError::UnknownVersion(version.to_string())),
        }
    }

    fn before_debug_offsets(runtime_size: u64) -> Self {
        Self {
            free_threaded: false,
            parking_lot: false,
            interpreters_head: 40,
            interpreter_next: 0,
            gil: GilPlace::Runtime(0),
            ob_type: 8,
            tp_name: 24,
            tp_flags: 168,
            object_header: 16,
            runtime_size,
            interpreter_size: 0,
            gc_collecting: None,
            thread_state: None,
        }
    }

    fn from_debug_offsets(table: &DebugOffsets, version: Version) -> Result<Self, LayoutError> {
        let get = |section, field| table.get(section, field).unwrap_or(u64::MAX);
        let sane = |what, value: u64, limit: u64| {
            let version = version.to_string();
            if value < limit {
                Ok(value)
            } else {
                Err(LayoutError::Insane { version, what, value })
            }
        };
        Ok(Self {
            free_threaded: sane("free_threaded", get("", "free_threaded"), 2)? == 1,
            parking_lot: true,
            interpreters_head: sane(
                "runtime_state.interpreters_head",
                get("runtime_state", "interpreters_head"),
                1 << 20,
            )?,
            interpreter_next: sane(
                "interpreter_state.next",
                get("interpreter_state", "next"),
                1 << 20,
            )?,
            gil: GilPlace::Interpreter(sane(
                "interpreter_state.ceval_gil",
                get("interpreter_state", "ceval_gil"),
                1 << 20,
            )?),
            ob_type: sane("pyobject.ob_type", get("pyobject", "ob_type"), 64)?,
            tp_name: sane("type_object.tp_name", get("type_object", "tp_name"), 1024)?,
            tp_flags: sane("type_object.tp_flags", get("type_object", "tp_flags"), 1024)?,
            object_header: sane("pyobject.size", get("pyobject", "size"), 65)?,
            runtime_size: sane("runtime_state.size", get("runtime_state", "size"), 1 << 26)?,
            interpreter_size: sane(
                "interpreter_state.size",
                get("interpreter_state", "size"),
                1 << 24,
            )?,
            gc_collecting: Some(
                sane("interpreter_state.gc", get("interpreter_state", "gc"), 1 << 20)?
                    + sane("gc.collecting", get("gc", "collecting"), 1 << 12)?,
            ),
            // Not in the table: the word `state` follows `_status` with two or three others between
            // (`struct _ts`, Include/cpython/pystate.h; seen in headers and in live processes).
            thread_state: match version.minor() {
                (3, 13) => Some(40),
                (3, 14) => Some(44),
                (3, 15) => Some(48),
                _ => None,
            },
        })
    }

    /// Offsets in the GIL struct.
    #[must_use]
    pub fn gil_layout(&self) -> GilLayout {
        let shift = if self.free_threaded { 8 } else { 0 };
        GilLayout {
            interval: shift,
            holder: 8 + shift,
            locked: 16 + shift,
            cond: 32 + shift,
            switch_cond: 120 + shift,
            size: 208 + shift,
        }
    }
}
