//! Names of the mutexes of `_PyRuntime` and of interpreter states.
//!
//! Offsets move between patch releases and differ between builds, so a table is for exactly one size
//! of `PyInterpreterState` and one version; with another the lock has an address and no name. Taken
//! from the headers of the version (compiled, `Include/internal/pycore_interp_structs.h` and
//! `pycore_runtime_structs.h`) and compared with live locks.

use super::Version;

/// A mutex, or an array of them.
struct Field {
    offset: u64,
    /// Bytes from one to the next, and how many; (0, 1): only one.
    array: (u64, u64),
    name: &'static str,
}

const fn one(offset: u64, name: &'static str) -> Field {
    Field { offset, array: (0, 1), name }
}

const fn many(offset: u64, stride: u64, count: u64, name: &'static str) -> Field {
    Field { offset, array: (stride, count), name }
}

/// Interpreter states of one build: major and minor version, size, fields.
struct Table {
    version: (u8, u8),
    free_threaded: bool,
    size: u64,
    fields: &'static [Field],
}

/// Where `struct _stoptheworld_state` is in an interpreter state, and its `requester` in it.
const STOP_THE_WORLD: &str = "stoptheworld";

const TABLES: &[Table] = &[
    Table {
        version: (3, 13),
        free_threaded: true,
        size: 215_616,
        fields: &[
            one(40, "ceval.pending.mutex"),
            one(7712, "imports.lock"),
            one(8000, "codecs.search_path_mutex"),
            one(10_624, "xi registry mutex"),
            one(10_696, "warnings.mutex"),
            one(10_744, STOP_THE_WORLD),
            one(10_748, STOP_THE_WORLD),
            one(10_800, "qsbr.mutex"),
            many(11_136, 24, 257, "brc.table mutex"),
            many(17_304, 1, 127, "weakref_locks"),
            one(20_088, "func_state.mutex"),
            one(85_632, "code_state.mutex"),
            one(85_764, "mem_free_queue.mutex"),
            one(196_152, "types.mutex"),
        ],
    },
    Table {
        version: (3, 14),
        free_threaded: true,
        size: 246_720,
        fields: &[
            one(40, "ceval.pending.mutex"),
            one(7688, "gc.mutex"),
            one(7760, "imports.lock"),
            one(8056, "codecs.search_path_mutex"),
            one(10_696, "xi registry mutex"),
            one(10_784, "warnings.lock"),
            one(10_848, STOP_THE_WORLD),
            one(10_852, STOP_THE_WORLD),
            one(10_912, "qsbr.mutex"),
            many(11_264, 24, 257, "brc.table mutex"),
            one(17_432, "unique_ids.mutex"),
            many(17_464, 1, 127, "weakref_locks"),
            one(17_592, "tlbc_indices.mutex"),
            one(17_648, "asyncio_tasks_lock"),
            one(20_376, "func_state.mutex"),
            one(85_920, "code_state.mutex"),
            one(85_940, "dict_state.watcher_mutex"),
            one(86_044, "mem_free_queue.mutex"),
            one(196_456, "types.mutex"),
            one(230_744, "cached_objects.interned_mutex"),
        ],
    },
    Table {
        version: (3, 15),
        free_threaded: true,
        size: 247_040,
        fields: &[
            one(40, "ceval.pending.mutex"),
            one(7684, "imports.lazy_mutex"),
            one(7688, "imports.lock"),
            one(7984, "codecs.search_path_mutex"),
            one(10_632, "xi registry mutex"),
            one(10_736, "warnings.lock"),
            one(10_800, STOP_THE_WORLD),
            one(10_804, STOP_THE_WORLD),
            one(10_864, "qsbr.mutex"),
            many(11_200, 24, 257, "brc.table mutex"),
            one(17_368, "unique_ids.mutex"),
            many(17_400, 1, 127, "weakref_locks"),
            one(17_528, "tlbc_indices.mutex"),
            one(17_584, "asyncio_tasks_lock"),
            one(20_312, "func_state.mutex"),
            one(85_856, "code_state.mutex"),
            one(85_876, "dict_state.watcher_mutex"),
            one(85_980, "mem_free_queue.mutex"),
            one(196_552, "types.mutex"),
            one(230_944, "cached_objects.interned_mutex"),
            one(231_024, "cached_objects.descriptor_mutex"),
        ],
    },
    Table {
        version: (3, 13),
        free_threaded: false,
        size: 194_984,
        fields: &[
            one(40, "ceval.pending.mutex"),
            one(7704, "imports.lock"),
            one(10_608, "xi registry mutex"),
            one(10_680, "warnings.mutex"),
            one(10_784, "qsbr.mutex"),
            one(82_544, "code_state.mutex"),
            one(82_676, "mem_free_queue.mutex"),
            one(193_064, "types.mutex"),
        ],
    },
    Table {
        version: (3, 14),
        free_threaded: false,
        size: 225_864,
        fields: &[
            one(40, "ceval.pending.mutex"),
            one(7736, "imports.lock"),
            one(10_656, "xi registry mutex"),
            one(10_744, "warnings.lock"),
            one(10_864, "qsbr.mutex"),
            one(10_896, "asyncio_tasks_lock"),
            one(79_800, "code_state.mutex"),
            one(79_820, "dict_state.watcher_mutex"),
            one(79_924, "mem_free_queue.mutex"),
            one(190_336, "types.mutex"),
        ],
    },
    // With `_Py_TIER2`, as Debian builds it.
    Table {
        version: (3, 15),
        free_threaded: false,
        size: 226_240,
        fields: &[
            one(40, "ceval.pending.mutex"),
            one(7688, "imports.lock"),
            one(10_616, "xi registry mutex"),
            one(10_720, "warnings.lock"),
            one(10_840, "qsbr.mutex"),
            one(10_872, "asyncio_tasks_lock"),
            one(79_808, "code_state.mutex"),
            one(79_828, "dict_state.watcher_mutex"),
            one(79_932, "mem_free_queue.mutex"),
            one(190_504, "types.mutex"),
        ],
    },
];

/// Minor version, sizes of `_PyRuntime` in some of its builds, and the fields there.
type Runtimes = ((u8, u8), &'static [u64], &'static [Field]);

const RUNTIMES: &[Runtimes] = &[
    // 3.13.5, free-threaded.
    (
        (3, 13),
        &[328_320],
        &[
            one(624, "interpreters.mutex"),
            one(696, "allocators.mutex"),
            one(2248, "atexit.mutex"),
            one(2536, "imports.extensions.mutex"),
            one(2648, "ceval.pending_mainthread.mutex"),
            one(10_328, "stoptheworld_mutex"),
            one(10_336, STOP_THE_WORLD),
            one(10_340, STOP_THE_WORLD),
            one(10_416, "audit_hooks.mutex"),
            one(10_448, "unicode_state.ids.mutex"),
        ],
    ),
    // 3.13.15, with the GIL and without.
    (
        (3, 13),
        &[283_408, 328_384],
        &[
            one(624, "interpreters.mutex"),
            one(696, "allocators.mutex"),
            one(2248, "atexit.mutex"),
            one(2536, "imports.extensions.mutex"),
            one(2672, "ceval.pending_mainthread.mutex"),
            one(10_352, "stoptheworld_mutex"),
            one(10_360, STOP_THE_WORLD),
            one(10_364, STOP_THE_WORLD),
            one(10_440, "audit_hooks.mutex"),
            one(10_472, "unicode_state.ids.mutex"),
        ],
    ),
    // 3.14.10 with the GIL, 3.14.9 without.
    (
        (3, 14),
        &[316_616, 362_368],
        &[
            one(800, "interpreters.mutex"),
            one(872, "allocators.mutex"),
            one(2432, "atexit.mutex"),
            one(2720, "imports.extensions.mutex"),
            one(2856, "ceval.pending_mainthread.mutex"),
            one(10_544, "stoptheworld_mutex"),
            one(10_552, STOP_THE_WORLD),
            one(10_556, STOP_THE_WORLD),
            one(10_632, "audit_hooks.mutex"),
            one(10_664, "unicode_state.ids.mutex"),
        ],
    ),
    // 3.15.2 with the GIL, 3.15.1 without.
    (
        (3, 15),
        &[346_568, 406_016],
        &[
            one(928, "interpreters.mutex"),
            one(1000, "allocators.mutex"),
            one(2552, "atexit.mutex"),
            one(2840, "imports.extensions.mutex"),
            one(2984, "ceval.pending_mainthread.mutex"),
            one(10_664, "stoptheworld_mutex"),
            one(10_672, STOP_THE_WORLD),
            one(10_676, STOP_THE_WORLD),
            one(10_752, "audit_hooks.mutex"),
            one(10_776, "unicode_state.ids.mutex"),
        ],
    ),
];

/// What is at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RuntimeLock {
    /// A mutex with this name.
    Mutex(String),
    /// The requester's side of a stop-the-world pause: its mutex, or the event that all have stopped.
    StopTheWorld,
}

/// The lock at an offset in an interpreter state of this size.
pub(super) fn in_interpreter(
    version: Version,
    free_threaded: bool,
    size: u64,
    offset: u64,
) -> Option<RuntimeLock> {
    let build = |table: &&Table| {
        table.version == version.minor()
            && table.free_threaded == free_threaded
            && table.size == size
    };
    find(TABLES.iter().find(build)?.fields, offset)
}

/// The lock at an offset in a `_PyRuntime` of this size.
pub(super) fn in_runtime(version: Version, size: u64, offset: u64) -> Option<RuntimeLock> {
    let build = |minor, sizes: &[u64]| minor == version.minor() && sizes.contains(&size);
    let (.., fields) = RUNTIMES.iter().find(|(minor, sizes, _)| build(*minor, sizes))?;
    find(fields, offset)
}

fn find(fields: &[Field], offset: u64) -> Option<RuntimeLock> {
    fields.iter().find_map(|field| {
        let from = offset.checked_sub(field.offset)?;
        let (stride, count) = field.array;
        let index = from.checked_div(stride).unwrap_or(from);
        let there = if stride == 0 { from == 0 } else { from % stride == 0 && index < count };
        there.then(|| match field.name {
            STOP_THE_WORLD => RuntimeLock::StopTheWorld,
            name if count == 1 => RuntimeLock::Mutex(name.to_owned()),
            name => RuntimeLock::Mutex(format!("{name}[{index}]")),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3_14T: (Version, bool, u64) = (Version(0x030e_09f0), true, 246_720);

    fn name(offset: u64) -> Option<RuntimeLock> {
        in_interpreter(V3_14T.0, V3_14T.1, V3_14T.2, offset)
    }

    #[test]
    fn a_field_an_element_and_nothing() {
        let mutex = |name: &str| Some(RuntimeLock::Mutex(name.to_owned()));
        assert_eq!(name(196_456), mutex("types.mutex"));
        assert_eq!(name(17_464 + 64), mutex("weakref_locks[64]"));
        assert_eq!(name(17_464 + 127), None);
        assert_eq!(name(10_852), Some(RuntimeLock::StopTheWorld));
        assert_eq!(name(0), None);
        assert_eq!(in_runtime(V3_14T.0, 362_368, 800), mutex("interpreters.mutex"));
    }

    #[test]
    fn another_size_is_another_layout() {
        assert_eq!(in_interpreter(V3_14T.0, true, 249_976, 196_456), None);
        assert_eq!(in_interpreter(V3_14T.0, false, V3_14T.2, 196_456), None);
        assert_eq!(in_runtime(Version(0x030c_01f0), 362_368, 800), None);
    }
}
