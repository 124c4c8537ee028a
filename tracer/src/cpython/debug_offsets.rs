//! `_Py_DebugOffsets` (`Include/internal/pycore_debug_offsets.h`): the table that 3.13 and later
//! publish at the start of `_PyRuntime` for debuggers. Fields are 8 bytes each, behind a cookie;
//! their order is that of the header of each version.

use super::Version;
use crate::target::Memory;
use crate::units::Address;

const COOKIE: &[u8; 8] = b"xdebugpy";

type Section = (&'static str, &'static [&'static str]);

const V3_13: &[Section] = &[
    ("", &["version", "free_threaded"]),
    ("runtime_state", &["size", "finalizing", "interpreters_head"]),
    (
        "interpreter_state",
        &[
            "size",
            "id",
            "next",
            "threads_head",
            "gc",
            "imports_modules",
            "sysdict",
            "builtins",
            "ceval_gil",
            "gil_runtime_state",
            "gil_runtime_state_enabled",
            "gil_runtime_state_locked",
            "gil_runtime_state_holder",
        ],
    ),
    (
        "thread_state",
        &[
            "size",
            "prev",
            "next",
            "interp",
            "current_frame",
            "thread_id",
            "native_thread_id",
            "datastack_chunk",
            "status",
        ],
    ),
    ("interpreter_frame", &["size", "previous", "executable", "instr_ptr", "localsplus", "owner"]),
    ("code_object", CODE),
    ("pyobject", &["size", "ob_type"]),
    ("type_object", &["size", "tp_name", "tp_repr", "tp_flags"]),
    ("tuple_object", SEQUENCE),
    ("list_object", SEQUENCE),
    ("dict_object", DICT),
    ("float_object", FLOAT),
    ("long_object", LONG),
    ("bytes_object", BYTES),
    ("unicode_object", &["size", "state", "length", "asciiobject_size"]),
    ("gc", &["size", "collecting"]),
];

const V3_14: &[Section] = &[
    ("", &["version", "free_threaded"]),
    ("runtime_state", &["size", "finalizing", "interpreters_head"]),
    ("interpreter_state", INTERPRETER_3_14),
    (
        "thread_state",
        &[
            "size",
            "prev",
            "next",
            "interp",
            "current_frame",
            "thread_id",
            "native_thread_id",
            "datastack_chunk",
            "status",
        ],
    ),
    ("interpreter_frame", FRAME_3_14),
    ("code_object", CODE_3_14),
    ("pyobject", &["size", "ob_type"]),
    ("type_object", &["size", "tp_name", "tp_repr", "tp_flags"]),
    ("tuple_object", SEQUENCE),
    ("list_object", SEQUENCE),
    ("set_object", SET),
    ("dict_object", DICT),
    ("float_object", FLOAT),
    ("long_object", LONG),
    ("bytes_object", BYTES),
    ("unicode_object", &["size", "state", "length", "asciiobject_size"]),
    ("gc", &["size", "collecting"]),
];

const V3_15: &[Section] = &[
    ("", &["version", "free_threaded"]),
    ("runtime_state", &["size", "finalizing", "interpreters_head"]),
    ("interpreter_state", INTERPRETER_3_14),
    (
        "thread_state",
        &[
            "size",
            "prev",
            "next",
            "interp",
            "current_frame",
            "base_frame",
            "last_profiled_frame",
            "last_profiled_frame_seq",
            "thread_id",
            "native_thread_id",
            "datastack_chunk",
            "status",
            "holds_gil",
            "gil_requested",
            "current_exception",
            "exc_state",
        ],
    ),
    ("err_stackitem", &["exc_value"]),
    ("interpreter_frame", FRAME_3_14),
    ("code_object", CODE_3_14),
    ("pyobject", &["size", "ob_type"]),
    ("type_object", &["size", "tp_name", "tp_repr", "tp_flags", "tp_basicsize", "tp_dictoffset"]),
    ("heap_type_object", &["size", "ht_cached_keys"]),
    ("tuple_object", SEQUENCE),
    ("list_object", SEQUENCE),
    ("set_object", SET),
    ("dict_object", DICT),
    ("float_object", FLOAT),
    ("long_object", LONG),
    ("bytes_object", BYTES),
    (
        "unicode_object",
        &["size", "state", "length", "asciiobject_size", "compactunicodeobject_size"],
    ),
    ("gc", &["size", "collecting"]),
];

const SEQUENCE: &[&str] = &["size", "ob_item", "ob_size"];
const SET: &[&str] = &["size", "used", "table", "mask"];
const DICT: &[&str] = &["size", "ma_keys", "ma_values"];
const FLOAT: &[&str] = &["size", "ob_fval"];
const LONG: &[&str] = &["size", "lv_tag", "ob_digit"];
const BYTES: &[&str] = &["size", "ob_size", "ob_sval"];

const INTERPRETER_3_14: &[&str] = &[
    "size",
    "id",
    "next",
    "threads_head",
    "threads_main",
    "gc",
    "imports_modules",
    "sysdict",
    "builtins",
    "ceval_gil",
    "gil_runtime_state",
    "gil_runtime_state_enabled",
    "gil_runtime_state_locked",
    "gil_runtime_state_holder",
    "code_object_generation",
    "tlbc_generation",
];
const FRAME_3_14: &[&str] = &[
    "size",
    "previous",
    "executable",
    "instr_ptr",
    "localsplus",
    "owner",
    "stackpointer",
    "tlbc_index",
];
const CODE: &[&str] = &[
    "size",
    "filename",
    "name",
    "qualname",
    "linetable",
    "firstlineno",
    "argcount",
    "localsplusnames",
    "localspluskinds",
    "co_code_adaptive",
];
const CODE_3_14: &[&str] = &[
    "size",
    "filename",
    "name",
    "qualname",
    "linetable",
    "firstlineno",
    "argcount",
    "localsplusnames",
    "localspluskinds",
    "co_code_adaptive",
    "co_tlbc",
];

/// The table as read from a live process, up to the sections that lockwatt uses.
#[derive(Clone, Debug)]
pub(super) struct DebugOffsets {
    sections: &'static [Section],
    values: Vec<u64>,
}

impl DebugOffsets {
    /// Reads the table at `runtime` (the address of `_PyRuntime`). `None` if the version has no
    /// table known here, or the cookie or the version in it is another.
    pub(super) fn read(memory: &Memory, runtime: Address, version: Version) -> Option<Self> {
        let sections = match version.minor() {
            (3, 13) => V3_13,
            (3, 14) => V3_14,
            (3, 15) => V3_15,
            _ => return None,
        };
        let count: usize = sections.iter().map(|(_, fields)| fields.len()).sum();
        let mut bytes = vec![0; COOKIE.len() + 8 * count];
        memory.read(runtime, &mut bytes)?;
        let (cookie, table) = bytes.split_at(COOKIE.len());
        if cookie != COOKIE {
            return None;
        }
        let values: Vec<u64> = table
            .chunks_exact(8)
            .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
            .collect();
        let offsets = Self { sections, values };
        (offsets.get("", "version") == Some(u64::from(version.0))).then_some(offsets)
    }

    /// The value of a field; `None` if this version's table has none of that name.
    pub(super) fn get(&self, section: &str, field: &str) -> Option<u64> {
        let mut index = 0;
        for (name, fields) in self.sections {
            if *name == section {
                let at = fields.iter().position(|found| *found == field)?;
                return self.values.get(index + at).copied();
            }
            index += fields.len();
        }
        None
    }
}
