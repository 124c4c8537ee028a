//! Where a file's functions begin, for probes: offsets in the file, not addresses.

use std::collections::BTreeMap;
use std::fs::File;

use object::elf::{PT_LOAD, PT_NOTE, STT_FUNC};
use object::read::ReadCache;
use object::read::elf::{ProgramHeader, SectionHeader, Sym, SymbolTable};
use object::{Endianness, Object, ObjectSection, elf};

use super::elf::{Elf, ElfError, open, parse};
use super::process::MappedFile;

/// A function, or a copy of one that the compiler made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The symbol, with what the compiler appended to it.
    pub symbol: String,
    /// Where it begins in the file.
    pub offset: u64,
}

/// A USDT probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usdt {
    /// Who put it there: `libc`.
    pub provider: String,
    /// Its name: `mutex_acquired`.
    pub name: String,
    /// Where its arguments are: `8@%rdi`.
    pub arguments: String,
    /// Where it is in the file.
    pub offset: u64,
    /// It is passed over unless a counter in the process is raised.
    pub guarded: bool,
}

/// The functions of a file, by their names in the source.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    by_name: BTreeMap<String, Vec<Function>>,
    /// Its USDT probes.
    pub usdt: Vec<Usdt>,
}

type Symbols<'a> = SymbolTable<'a, elf::FileHeader64<Endianness>, &'a ReadCache<File>>;

impl Functions {
    /// Looks up the functions named in `wanted`, in both symbol tables. Older versions of a symbol,
    /// kept for old programs, are left out if they are functions of their own.
    ///
    /// # Errors
    /// If the file can't be read or is no ELF file.
    pub fn read(file: &MappedFile, wanted: &[&str]) -> Result<Self, ElfError> {
        let cache = open(file)?;
        let elf = parse(file, &cache)?;
        let mut found = Self { usdt: usdt(&elf), ..Self::default() };
        let versions = elf.elf_section_table().versions(elf.endian(), elf.data()).ok().flatten();
        let hidden = |index| {
            versions.as_ref().is_some_and(|v| v.version_index(elf.endian(), index).is_hidden())
        };
        found.add(&elf, elf.elf_dynamic_symbol_table(), wanted, hidden);
        found.add(&elf, elf.elf_symbol_table(), wanted, |_| false);
        Ok(found)
    }

    fn add(
        &mut self,
        elf: &Elf<'_>,
        symbols: &Symbols<'_>,
        wanted: &[&str],
        hidden: impl Fn(object::SymbolIndex) -> bool,
    ) {
        let endian = elf.endian();
        for (index, symbol) in symbols.enumerate() {
            if symbol.st_type() != STT_FUNC || symbol.is_undefined(endian) || hidden(index) {
                continue;
            }
            let Ok(name) = symbols.symbol_name(endian, symbol) else { continue };
            let Ok(name) = std::str::from_utf8(name) else { continue };
            // Of a file with versions the full symbol table says `name@@VERSION`.
            let name = name.split('@').next().unwrap_or_default();
            let Some(base) = source_name(name).filter(|base| wanted.contains(base)) else {
                continue;
            };
            let Some(offset) = file_offset(elf, symbol.st_value(endian)) else { continue };
            let known = self.by_name.entry(base.to_owned()).or_default();
            let copy = name != base;
            // The full table repeats the dynamic one, and old versions too.
            if known.iter().any(|f| f.offset == offset || (!copy && f.symbol == base)) {
                continue;
            }
            known.push(Function { symbol: name.to_owned(), offset });
        }
    }

    /// How many there are, copies as well.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_name.values().map(Vec::len).sum()
    }

    /// The function of this name and its copies.
    #[must_use]
    pub fn named(&self, name: &str) -> &[Function] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The name that a symbol has in the source, or none if it is no function of its own: GCC appends
/// `.lto_priv.N` (renamed), `.constprop.N` and `.isra.N` (arguments dropped) to whole functions,
/// `.cold` and `.part.N` to pieces.
fn source_name(symbol: &str) -> Option<&str> {
    let mut parts = symbol.split('.');
    let base = parts.next().filter(|base| !base.is_empty())?;
    let whole = |part: &str| {
        matches!(part, "lto_priv" | "constprop" | "isra")
            || part.bytes().all(|b| b.is_ascii_digit())
    };
    parts.all(whole).then_some(base)
}

fn file_offset(elf: &Elf<'_>, address: u64) -> Option<u64> {
    let endian = elf.endian();
    elf.elf_program_headers().iter().find_map(|header| {
        let within = address.checked_sub(header.p_vaddr(endian))?;
        let loaded = header.p_type(endian) == PT_LOAD && within < header.p_filesz(endian);
        if loaded { header.p_offset(endian).checked_add(within) } else { None }
    })
}

/// `.note.stapsdt` (<https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>): three
/// addresses, then provider, name and arguments, each ended by a zero.
fn usdt(elf: &Elf<'_>) -> Vec<Usdt> {
    const TYPE_STAPSDT: u32 = 3;
    let endian = elf.endian();
    let mut probes = Vec::new();
    let segments = elf.elf_program_headers().iter().filter(|h| h.p_type(endian) == PT_NOTE);
    let in_segments = segments.filter_map(|header| header.notes(endian, elf.data()).ok().flatten());
    // Debian's are in a section that is not loaded.
    let sections = elf.elf_section_table().iter();
    let in_sections =
        sections.filter_map(|section| section.notes(endian, elf.data()).ok().flatten());
    for mut notes in in_segments.chain(in_sections) {
        while let Ok(Some(note)) = notes.next() {
            if note.name() != b"stapsdt" || note.n_type(endian) != TYPE_STAPSDT {
                continue;
            }
            let Some((addresses, words)) = note.desc().split_at_checked(24) else { continue };
            let mut addresses = addresses.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b));
            let mut address = || addresses.next().unwrap_or_default();
            let (location, base, semaphore) = (address(), address(), address());
            let mut words = words.split(|&byte| byte == 0);
            let mut word =
                || String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
            let (provider, name, arguments) = (word(), word(), word());
            // A file that was prelinked has moved since the note was written.
            let moved =
                elf.section_by_name(".stapsdt.base").map_or(0, |s| s.address().wrapping_sub(base));
            let Some(offset) = file_offset(elf, location.wrapping_add(moved)) else { continue };
            let probe = Usdt { provider, name, arguments, offset, guarded: semaphore != 0 };
            if !probes.contains(&probe) {
                probes.push(probe);
            }
        }
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_functions_are_no_functions() {
        for whole in ["f", "f.lto_priv.0", "f.constprop.0.isra.0", "f.isra.12"] {
            assert_eq!(source_name(whole), Some("f"), "{whole}");
        }
        for piece in ["f.cold", "f.constprop.0.cold", "f.part.0", "", ".text", "f.lto_priv.0.cold"]
        {
            assert_eq!(source_name(piece), None, "{piece}");
        }
    }
}
