#!/usr/bin/env python3
"""Derives the numbers that tracer/src/cpython/ has tables of for CPython 3.11 and 3.12.

3.13 and later publish their layout at run time (`_Py_DebugOffsets`); 3.11 and 3.12 don't. For them
this compiles and runs a small C program that asks the release's own headers by `offsetof` and
`sizeof`. The answers are those of the ABI that `cc` compiles for; the tables are x86_64's, for
release builds.

Every number in the tables must have a C expression here, and every expression a number there:
`--check` reports what is on one side only, too.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("3.11", "3.12")
RUST = Path(__file__).resolve().parents[1] / "tracer/src/cpython"

EXAMPLES = """\
examples:
  scripts/derive_layouts.py 3.12           print the numbers of each 3.12 that is found
  scripts/derive_layouts.py --check        compare those of 3.11 and 3.12 with the Rust tables
  scripts/derive_layouts.py --check --include ~/cpython-3.12.8/include/python3.12

headers are looked for in /usr/include and in pyenv's versions ($PYENV_ROOT, else ~/.pyenv)

exit codes:
  0  derived; with --check: all numbers agree
  1  --check: a number differs, or is missing on one side
  2  wrong usage
  3  headers or C compiler missing, or the headers don't compile
"""

# Where the number is in the Rust tables: what it is in C.
EXPRESSIONS = {
    "layout.interpreters_head": "offsetof(_PyRuntimeState, interpreters.head)",
    "layout.interpreter_next": "offsetof(PyInterpreterState, next)",
    "layout.ob_type": "offsetof(PyObject, ob_type)",
    "layout.tp_name": "offsetof(PyTypeObject, tp_name)",
    "layout.tp_flags": "offsetof(PyTypeObject, tp_flags)",
    "layout.object_header": "sizeof(PyObject)",
    "gil.interval": "offsetof(struct _gil_runtime_state, interval)",
    "gil.holder": "offsetof(struct _gil_runtime_state, last_holder)",
    "gil.locked": "offsetof(struct _gil_runtime_state, locked)",
    "gil.cond": "offsetof(struct _gil_runtime_state, cond)",
    "gil.switch_cond": "offsetof(struct _gil_runtime_state, switch_cond)",
    "gil.size": "sizeof(struct _gil_runtime_state)",
    "frames.interpreter.threads_head": "offsetof(PyInterpreterState, threads.head)",
    "frames.thread.next": "offsetof(PyThreadState, next)",
    "frames.thread.interpreter": "offsetof(PyThreadState, interp)",
    "frames.thread.native_id": "offsetof(PyThreadState, native_thread_id)",
    "frames.thread.frame": "offsetof(PyThreadState, cframe)",
    "frames.thread.cframe_current": "offsetof(_PyCFrame, current_frame)",
    "frames.frame.previous": "offsetof(_PyInterpreterFrame, previous)",
    "frames.frame.executable": "offsetof(_PyInterpreterFrame, f_code)",
    "frames.frame.instruction": "offsetof(_PyInterpreterFrame, prev_instr)",
    "frames.frame.owner": "offsetof(_PyInterpreterFrame, owner)",
    "frames.frame.locals": "offsetof(_PyInterpreterFrame, localsplus)",
    "frames.code.filename": "offsetof(PyCodeObject, co_filename)",
    "frames.code.name": "offsetof(PyCodeObject, co_name)",
    "frames.code.qualname": "offsetof(PyCodeObject, co_qualname)",
    "frames.code.line_table": "offsetof(PyCodeObject, co_linetable)",
    "frames.code.first_line": "offsetof(PyCodeObject, co_firstlineno)",
    "frames.code.adaptive": "offsetof(PyCodeObject, co_code_adaptive)",
    "frames.ob_type": "offsetof(PyObject, ob_type)",
    "frames.strings.bytes_length": "offsetof(PyBytesObject, ob_base.ob_size)",
    "frames.strings.bytes_data": "offsetof(PyBytesObject, ob_sval)",
    "frames.strings.length": "offsetof(PyASCIIObject, length)",
    "frames.strings.state": "offsetof(PyASCIIObject, state)",
    "frames.strings.ascii_data": "sizeof(PyASCIIObject)",
    "frames.strings.compact_data": "sizeof(PyCompactUnicodeObject)",
    "frames.strings.state_bits.kind_shift": "KIND_SHIFT",
    "state_bits.kind": "STATE(kind) >> KIND_SHIFT",
    "state_bits.compact": "STATE(compact) >> KIND_SHIFT",
    "state_bits.ascii": "STATE(ascii) >> KIND_SHIFT",
    "frames.attributes.cached_keys": "offsetof(PyHeapTypeObject, ht_cached_keys)",
    "frames.attributes.dict_keys": "offsetof(PyDictObject, ma_keys)",
    "frames.attributes.dict_values": "offsetof(PyDictObject, ma_values)",
    "frames.attributes.first_value": "offsetof(PyDictValues, values)",
    "TYPE_TO_CACHED_KEYS": "offsetof(PyHeapTypeObject, ht_cached_keys) - sizeof(PyTypeObject)",
    "MANAGED_DICT": "Py_TPFLAGS_MANAGED_DICT",
    "LOG2_INDEX_BYTES": "offsetof(PyDictKeysObject, dk_log2_index_bytes)",
    "KIND": "offsetof(PyDictKeysObject, dk_kind)",
    "ENTRY_COUNT": "offsetof(PyDictKeysObject, dk_nentries)",
    "INDICES": "offsetof(PyDictKeysObject, dk_indices)",
    "GENERAL": "DICT_KEYS_GENERAL",
    "UNICODE": "DICT_KEYS_UNICODE",
    "SPLIT": "DICT_KEYS_SPLIT",
    "entry.general.size": "sizeof(PyDictKeyEntry)",
    "entry.general.key": "offsetof(PyDictKeyEntry, me_key)",
    "entry.unicode.size": "sizeof(PyDictUnicodeEntry)",
    "entry.unicode.key": "offsetof(PyDictUnicodeEntry, me_key)",
    "entry.general.key_to_value": "KEY_TO_VALUE(PyDictKeyEntry)",
    "entry.unicode.key_to_value": "KEY_TO_VALUE(PyDictUnicodeEntry)",
}

# What the two don't have in common. Of enum variants, the name is part of where the number is.
EXPRESSIONS_OF = {
    "3.11": {
        "layout.gil.Runtime": "offsetof(_PyRuntimeState, ceval.gil)",
        # Has no shims: any owner that it does not know.
        "frames.frame.first_shim_owner": "FRAME_OWNED_BY_FRAME_OBJECT + 1",
        "place.Pointers.values": "WORDS_BEFORE(_PyObject_ValuesPointer)",
        "place.Pointers.dict": "WORDS_BEFORE(_PyObject_ManagedDictPointer)",
    },
    "3.12": {
        "layout.gil.Interpreter": "offsetof(PyInterpreterState, ceval.gil)",
        "frames.frame.first_shim_owner": "FRAME_OWNED_BY_CSTACK",
        "place.TaggedPointer.word": "WORDS_BEFORE(_PyObject_DictOrValuesPointer)",
        # What makes the pointer to the values out of the odd word.
        "place.TaggedPointer.add": "(long)_PyDictOrValues_GetValues((PyDictOrValues){0})",
    },
}

# `internal/` because Python.h does not have them; no header of 3.11's includes all the others.
PROGRAM = """\
#include <Python.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "internal/pycore_code.h"
#include "internal/pycore_dict.h"
#include "internal/pycore_frame.h"
#include "internal/pycore_gil.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_object.h"
#include "internal/pycore_runtime.h"

/* A bit field has no offset: set all its bits in a zeroed struct and look which these are. */
#define STATE(member) ({ \\
    PyASCIIObject object; \\
    unsigned word; \\
    memset(&object, 0, sizeof object); \\
    object.state.member = ~0u; \\
    memcpy(&word, &object.state, sizeof word); \\
    word; })
#define KIND_SHIFT __builtin_ctz(STATE(kind))

#define KEY_TO_VALUE(entry) (offsetof(entry, me_value) - offsetof(entry, me_key))

/* Where the header's own function goes from an object. */
static PyObject objects[2];
#define WORDS_BEFORE(function) \\
    (((char *)&objects[1] - (char *)function(&objects[1])) / (long)sizeof(void *))

int main(void) {
@PRINTS@
    return 0;
}
"""


class CannotDerive(Exception):
    """No headers or compiler, or they don't work together."""


class NotFound(Exception):
    """The Rust source is not as this script knows it."""


def has_headers(directory):
    """Packages without the internal headers exist, and are of no use."""
    return (directory / "patchlevel.h").is_file() and (
        directory / "internal/pycore_runtime.h"
    ).is_file()


def header_directories(version):
    """All that are found: the more patch releases agree, the better."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [Path(f"/usr/include/python{version}")]
    candidates += sorted(pyenv.glob(f"{version}.*/include/python{version}"))
    found = [directory for directory in candidates if has_headers(directory)]
    if not found:
        raise CannotDerive(
            f"no headers of CPython {version} in /usr/include/python{version} or {pyenv}: install "
            f"python{version}-dev (Debian), run `pyenv install {version}` or name their directory "
            "with --include"
        )
    return found


def full_version(directory):
    """PY_VERSION of the headers."""
    text = (directory / "patchlevel.h").read_text()
    found = re.search(r'^#define PY_VERSION\s+"(.+)"', text, re.MULTILINE)
    if not found:
        raise CannotDerive(f"{directory}/patchlevel.h has no PY_VERSION: not CPython's headers")
    return found[1]


def derive(version, directory):
    """{where in Rust: (number, C expression)}"""
    expressions = EXPRESSIONS | EXPRESSIONS_OF[version]
    prints = [f'    printf("%ld\\n", (long)({text}));' for text in expressions.values()]
    if not shutil.which("cc"):
        raise CannotDerive("no C compiler `cc`: install gcc and libc6-dev (Debian) or alike")
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "layouts.c"), Path(folder, "layouts")
        source.write_text(PROGRAM.replace("@PRINTS@", "\n".join(prints)))
        # NDEBUG as in release builds: the asserts would need symbols of the interpreter.
        flags = ["-w", "-DNDEBUG", "-DPy_BUILD_CORE", "-I", directory]
        compiled = subprocess.run(
            ["cc", *flags, "-o", program, source], capture_output=True, text=True
        )
        if compiled.returncode != 0:
            raise CannotDerive(f"cc can't compile the headers in {directory}:\n{compiled.stderr}")
        output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    numbers = [int(line) for line in output.split()]
    return dict(zip(expressions, zip(numbers, expressions.values()), strict=True))


def one(pattern, source, what):
    """The only match; anything else means that this script must be adapted."""
    found = list(re.finditer(pattern, source, re.DOTALL))
    if len(found) != 1:
        raise NotFound(f"{what}: found {len(found)} times in the Rust source, expected once")
    return found[0]


def struct_literal(source, at, known):
    """({field: text or nested fields}, end) of the struct literal whose `{` ends at `at`.

    `known` maps the text of constants and base structs to their fields.
    """
    fields, base = {}, {}
    item = re.compile(r"\s*(?:(\})|\.\.([\w:.()]+),?|(\w+)\s*:\s*|(\w+)\s*(?:,|(?=\})))")
    # Up to the comma, which may also be in parentheses.
    value = re.compile(r"((?:[^,{}()]|\((?:[^()]|\([^()]*\))*\))+),?")
    while match := item.match(source, at):
        at = match.end()
        end, base_text, name, shorthand = match.groups()
        if end:
            return base | fields, at
        if base_text:
            owner, _, section = base_text.partition(".")
            if owner not in known:
                raise NotFound(f"the base `..{base_text}` is not known")
            base = known[owner][section] if section else known[owner]
        elif shorthand:
            fields[shorthand] = shorthand
        elif nested := re.compile(r"[\w:]+\s*\{").match(source, at):
            fields[name], at = struct_literal(source, nested.end(), known)
            at += source.startswith(",", at)
        elif match := value.match(source, at):
            text = re.sub(r"^Some\((.+)\)$", r"\1", match[1].strip())
            fields[name], at = known.get(text, text), match.end()
        else:
            break
    raise NotFound(f"not a struct literal as expected: `{source[at:at + 60]}`")


def flat_numbers(prefix, fields, constants):
    """{path: number}; fields that say which variant or build it is are no numbers."""
    numbers = {}
    for name, value in fields.items():
        path = f"{prefix}.{name}"
        if isinstance(value, dict):
            numbers |= flat_numbers(path, value, constants)
        elif variant := re.fullmatch(r"\w+::(\w+)\((.+)\)", value):
            numbers[f"{path}.{variant[1]}"] = evaluate(variant[2], constants)
        elif value not in ("None", "true", "false", name, *PLACES):
            numbers[path] = evaluate(value, constants)
    return numbers


def evaluate(text, constants):
    """Arithmetic with numbers and constants."""

    def spell_out(match):
        if match[0] not in constants:
            raise NotFound(f"`{match[0]}` in `{text}` is no constant of the Rust source")
        return str(evaluate(constants[match[0]], constants))

    text = re.sub(r"[A-Za-z]\w*", spell_out, text)
    if not re.fullmatch(r"[\d_+\-*()<\s]+", text):
        raise NotFound(f"`{text}` is not the arithmetic that this script knows")
    return eval(text)


# Numbers in code instead of tables: file, pattern, what its groups are.
IN_CODE = [
    ("text", r"match bits & (\d+) \{", ["state_bits.kind"]),
    (
        "text",
        r"\(bits & (\d+) != 0, bits & (\d+) != 0\)",
        ["state_bits.compact", "state_bits.ascii"],
    ),
    (
        "attributes",
        r"GENERAL => \((\d+), (\d+)\)",
        ["entry.general.size", "entry.general.key"],
    ),
    (
        "attributes",
        r"UNICODE \| SPLIT => \((\d+), (\d+)\)",
        ["entry.unicode.size", "entry.unicode.key"],
    ),
    ("attributes", r"entry\.word\(key_at \+ (\d+)\)", ["entry.general.key_to_value"]),
    ("attributes", r"entry\.word\(key_at \+ (\d+)\)", ["entry.unicode.key_to_value"]),
]
# The same for what a variant of `ValuesPlace` means.
PLACES = {
    "ValuesPlace::Pointers": (
        r"ValuesPlace::Pointers => \(before\((\d+)\)[^,]*, before\((\d+)\)",
        ["place.Pointers.values", "place.Pointers.dict"],
    ),
    "ValuesPlace::TaggedPointer": (
        r"ValuesPlace::TaggedPointer => \{\s*let word = before\((\d+)\).*?checked_add\((\d+)\)",
        ["place.TaggedPointer.word", "place.TaggedPointer.add"],
    ),
}


def rust_numbers(version):
    """{path: number} of one version, out of the Rust source."""
    source = {
        file: re.sub(r"//.*", "", (RUST / f"{file}.rs").read_text()).split("#[cfg(test)]")[0]
        for file in ("layout", "frame_layout", "attributes", "text")
    }
    # In the order in which they build upon each other.
    known = {}
    for name, file, opening in [
        ("StateBits::INTERNED_BITS", "text", r"const INTERNED_BITS: Self = Self \{"),
        ("StringLayout::PLAIN", "text", r"const PLAIN: Self = Self \{"),
        ("Self::V3_11", "attributes", r"const V3_11: Self = Self \{"),
        ("AttributeLayout::V3_11", "attributes", r"const V3_11: Self = Self \{"),
        ("AttributeLayout::V3_12", "attributes", r"const V3_12: Self = Self \{"),
        ("before", "frame_layout", r"fn v3_11\(\) -> Self \{\s*Self \{"),
        ("frames of 3.11", "frame_layout", r"fn v3_11\(\) -> Self \{\s*Self \{"),
        (
            "frames of 3.12",
            "frame_layout",
            r"fn v3_12\(\) -> Self \{\s*let before = Self::v3_11\(\);\s*Self \{",
        ),
        (
            "Self::before_debug_offsets(runtime_size)",
            "layout",
            r"fn before_debug_offsets\([^)]*\) -> Self \{\s*Self \{",
        ),
        ("layout of 3.11", "layout", r"\(3, 11\) => Ok\(Self \{"),
        ("layout of 3.12", "layout", r"\(3, 12\) => Ok\(Self \{"),
        ("gil", "layout", r"fn gil_layout\([^;]*;\s*GilLayout \{"),
    ]:
        at = one(opening, source[file], name).end()
        known[name], _ = struct_literal(source[file], at, known)

    constant = r"const (\w+): (?:u8|u32|u64) = (.+?);"
    constants = dict(re.findall(constant, source["attributes"]))
    # A limit, and a flag that only 3.13 and later have.
    own = constants.keys() - {"MAX_ENTRIES", "INLINE_VALUES"}
    constants |= dict(re.findall(constant, source["frame_layout"]))
    shift = one(
        r"let shift = if self\.free_threaded \{[^}]+\} else \{([^}]+)\};", source["layout"], "shift"
    )

    numbers = flat_numbers("layout", known[f"layout of {version}"], constants)
    numbers |= flat_numbers("gil", known["gil"], {"shift": shift[1]})
    numbers |= flat_numbers("frames", known[f"frames of {version}"], constants)
    numbers |= {name: evaluate(name, constants) for name in own}
    place = PLACES[known[f"frames of {version}"]["attributes"]["place"]]
    for file, pattern, paths in [*IN_CODE, ("attributes", *place)]:
        groups = one(pattern, source[file], " and ".join(paths)).groups()
        numbers |= zip(paths, map(int, groups), strict=True)
    return numbers


def print_table(title, derived):
    print(f"CPython {title}")
    width = max(map(len, derived))
    print(f"{'field':{width}}  offset")
    for path, (number, expression) in derived.items():
        print(f"{path:{width}}  {number:6}  {expression}")
    print()


def agrees(title, derived, rust):
    """Prints what differs; true if nothing does."""
    ok = True
    for path in derived | rust:
        number, expression = derived.get(path, (None, None))
        if path not in rust:
            difference = f"{number} by the headers ({expression}), not found in the Rust tables"
        elif path not in derived:
            difference = f"{rust[path]} in the Rust tables, no C expression in this script"
        elif number != rust[path]:
            difference = f"{number} by the headers ({expression}), {rust[path]} in the Rust tables"
        else:
            continue
        print(f"CPython {title}: {path}: {difference}")
        ok = False
    if ok:
        print(f"CPython {title}: all {len(derived)} numbers agree")
    return ok


def versions_and_directories(parser, arguments):
    """[(version, directories or None for those that are found)]"""
    versions = [arguments.version] if arguments.version else VERSIONS
    directory = arguments.include
    if directory is None:
        return [(version, None) for version in versions]
    if not has_headers(directory):
        raise CannotDerive(
            f"{directory} is no CPython include directory with internal/ in it: install "
            "python3.11-dev (Debian) or alike, or name the directory that Python.h is in"
        )
    found = full_version(directory)
    matching = [version for version in versions if found.startswith(f"{version}.")]
    if not matching:
        parser.error(f"{directory} has the headers of {found}, not of {' or '.join(versions)}")
    return [(matching[0], [directory])]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", nargs="?", choices=VERSIONS, help="default: both")
    parser.add_argument("--check", action="store_true", help="compare with the Rust tables")
    parser.add_argument("--include", type=Path, metavar="DIR", help="use these headers, no others")
    arguments = parser.parse_args()
    try:
        todo = versions_and_directories(parser, arguments)
    except CannotDerive as error:
        print(error, file=sys.stderr)
        return 3

    status = 0
    for version, directories in todo:
        try:
            rust = rust_numbers(version) if arguments.check else None
            for directory in directories or header_directories(version):
                derived = derive(version, directory)
                title = f"{full_version(directory)} ({directory})"
                if rust is None:
                    print_table(title, derived)
                elif not agrees(title, derived, rust):
                    status = 1
        except NotFound as error:
            print(f"CPython {version}: {error}", file=sys.stderr)
            status = 1
        except CannotDerive as error:
            print(error, file=sys.stderr)
            status = status or 3
    return status


if __name__ == "__main__":
    sys.exit(main())
