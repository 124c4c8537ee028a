//! Offsets of kernel struct members, from the running kernel's own type information.
//!
//! Rust can't emit CO-RE relocations (docs/architecture.md), so the few members that are needed
//! are looked up here and handed to the programs as globals. The format is that of
//! `Documentation/bpf/btf.rst`; aya keeps its own member lookup private.

use std::path::Path;

use tracer_common::config::TaskOffsets;

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the kernel's type information could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file can't be read: a kernel without `CONFIG_DEBUG_INFO_BTF`, or no permission.
    #[error("{path}: {source} (lockwatt needs a kernel with CONFIG_DEBUG_INFO_BTF)")]
    Unreadable {
        /// The file.
        path: String,
        /// The error.
        source: std::io::Error,
    },
    /// Not BTF, or cut.
    #[error("the kernel's BTF is malformed at byte {0}")]
    Malformed(usize),
    /// The member is not there.
    #[error("the kernel's BTF has no member `{1}` in struct `{0}`")]
    NoMember(&'static str, &'static str),
}

/// Offsets of the task members that the kernel programs read directly.
///
/// # Errors
/// If the running kernel's BTF can't be read or lacks one of them.
pub fn task_offsets() -> Result<TaskOffsets, BtfError> {
    let path = Path::new(VMLINUX);
    let bytes = std::fs::read(path)
        .map_err(|source| BtfError::Unreadable { path: VMLINUX.to_owned(), source })?;
    let btf = Btf::parse(&bytes)?;
    let member = |structure, name| {
        btf.structure(structure)
            .and_then(|found| btf.member(found, name, 0))
            .ok_or(BtfError::NoMember(structure, name))
    };
    let task = |name| member("task_struct", name);
    // `__state` since 5.14 (commit 2f064a59a11f), `state` before.
    let state = task("__state").or_else(|_| task("state"))?;
    let sum_exec_runtime = task("se")? + member("sched_entity", "sum_exec_runtime")?;
    Ok(TaskOffsets {
        pid: task("pid")?,
        tgid: task("tgid")?,
        state,
        sum_exec_runtime,
        thread_pid: task("thread_pid")?,
        pid_numbers: member("pid", "numbers")?,
        pid_level: member("pid", "level")?,
        flags: task("flags")?,
    })
}

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

/// Anonymous structs nest this deep at most in what is looked up here.
const MAX_NESTING: u32 = 8;

struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset in `types` of each type; index 0 is the void type, which has no entry.
    offsets: Vec<usize>,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let header = |at| word(bytes, at).map(|value| value as usize);
        if bytes.get(..2) != Some(&[0x9f, 0xeb]) {
            return Err(BtfError::Malformed(0));
        }
        let start = header(4).ok_or(BtfError::Malformed(4))?;
        let section = |at: usize| -> Option<&'a [u8]> {
            let begin = start.checked_add(header(at)?)?;
            bytes.get(begin..begin.checked_add(header(at + 4)?)?)
        };
        let types = section(8).ok_or(BtfError::Malformed(8))?;
        let strings = section(16).ok_or(BtfError::Malformed(16))?;
        let mut offsets = vec![0];
        let mut at = 0;
        while at < types.len() {
            offsets.push(at);
            let info = word(types, at + 4).ok_or(BtfError::Malformed(start + at))?;
            let members = (info & 0xffff) as usize;
            at += 12
                + match kind(info) {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * members,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * members,
                    _ => 0,
                };
        }
        Ok(Self { types, strings, offsets })
    }

    fn structure(&self, name: &str) -> Option<usize> {
        self.offsets.iter().skip(1).copied().find(|&at| {
            word(self.types, at + 4).is_some_and(|info| kind(info) == KIND_STRUCT)
                && self.name(at) == Some(name)
        })
    }

    /// Byte offset of a member, looking into anonymous structs and unions too.
    fn member(&self, structure: usize, name: &str, nesting: u32) -> Option<u32> {
        let info = word(self.types, structure + 4)?;
        (0..(info & 0xffff) as usize).find_map(|i| {
            let member = structure + 12 + 12 * i;
            let bits = word(self.types, member + 8)?;
            // With the kind flag the top byte is a bit field's size.
            let offset = if info >> 31 == 0 { bits } else { bits & 0x00ff_ffff } / 8;
            match self.name(member)? {
                found if found == name => Some(offset),
                "" if nesting < MAX_NESTING => {
                    let inner = *self.offsets.get(word(self.types, member + 4)? as usize)?;
                    let is_aggregate = word(self.types, inner + 4)
                        .is_some_and(|info| matches!(kind(info), KIND_STRUCT | KIND_UNION));
                    is_aggregate.then(|| self.member(inner, name, nesting + 1))?.map(|o| offset + o)
                }
                _ => None,
            }
        })
    }

    fn name(&self, at: usize) -> Option<&'a str> {
        let tail = self.strings.get(word(self.types, at)? as usize..)?;
        std::str::from_utf8(tail.split(|&byte| byte == 0).next()?).ok()
    }
}

fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A BTF with `struct s { struct { int x; }; int y; }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0s\0x\0y\0int\0";
        let mut types = Vec::new();
        let mut push = |words: &[u32]| {
            for word in words {
                types.extend_from_slice(&word.to_le_bytes());
            }
        };
        push(&[7, KIND_INT << 24, 4, 32]); // 1: int
        push(&[0, (KIND_STRUCT << 24) | 1, 4, 3, 1, 0]); // 2: struct { int x; }
        push(&[1, (KIND_STRUCT << 24) | 2, 12, 0, 2, 32, 5, 1, 64]); // 3: s
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_through_anonymous_structs() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).expect("well-formed");
        let s = btf.structure("s").expect("there");
        assert_eq!(btf.member(s, "x", 0), Some(4));
        assert_eq!(btf.member(s, "y", 0), Some(8));
        assert_eq!(btf.member(s, "z", 0), None);
        assert!(btf.structure("t").is_none());
    }

    #[test]
    fn a_cut_or_garbled_btf_is_an_error_or_a_miss_never_a_panic() {
        let bytes = sample();
        for length in 0..bytes.len() {
            if let Ok(btf) = Btf::parse(&bytes[..length]) {
                let _ = btf.structure("s").map(|s| btf.member(s, "x", 0));
            }
        }
        for at in 0..bytes.len() {
            let mut garbled = bytes.clone();
            garbled[at] ^= 0xff;
            if let Ok(btf) = Btf::parse(&garbled) {
                let _ = btf.structure("s").map(|s| btf.member(s, "x", 0));
            }
        }
    }
}
