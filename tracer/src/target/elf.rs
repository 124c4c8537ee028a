//! What a mapped ELF file says: symbols at their addresses in the process, unwind tables.

use std::fs::File;
use std::ops::Range;

use object::elf::{ET_EXEC, PT_LOAD};
use object::read::ReadCache;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

use super::process::MappedFile;
use crate::units::Address;

/// Why a file's symbols could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It can't be opened.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// The error.
        source: std::io::Error,
    },
    /// It is no 64-bit ELF file.
    #[error("{path}: {source}")]
    Malformed {
        /// The file.
        path: String,
        /// The error.
        source: object::Error,
    },
}

pub(super) type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<File>>;

pub(super) fn open(file: &MappedFile) -> Result<ReadCache<File>, ElfError> {
    let handle = File::open(&file.open)
        .map_err(|source| ElfError::Unreadable { path: file.path.display().to_string(), source })?;
    Ok(ReadCache::new(handle))
}

pub(super) fn parse<'a>(
    file: &MappedFile,
    cache: &'a ReadCache<File>,
) -> Result<Elf<'a>, ElfError> {
    ElfFile64::parse(cache)
        .map_err(|source| ElfError::Malformed { path: file.path.display().to_string(), source })
}

/// What is added to the file's own addresses.
fn bias(elf: &Elf<'_>, file: &MappedFile) -> u64 {
    let endian = elf.endian();
    if elf.elf_header().e_type.get(endian) == ET_EXEC {
        return 0;
    }
    let first = elf
        .elf_program_headers()
        .iter()
        .find(|header| header.p_type(endian) == PT_LOAD && header.p_offset(endian) == 0);
    file.start.wrapping_sub(first.map_or(0, |header| header.p_vaddr(endian)))
}

/// A section: its bytes, at the file's own addresses.
#[derive(Clone, Debug)]
pub struct Section {
    /// Where it would lie without a bias.
    pub addresses: Range<u64>,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What unwinding through a file needs.
#[derive(Clone, Debug)]
pub struct UnwindTables {
    /// What is added to the file's own addresses.
    pub bias: u64,
    /// All that it occupies, at the file's own addresses.
    pub span: Range<u64>,
    /// Where `.text` lies.
    pub text: Option<Range<u64>>,
    /// `.eh_frame`.
    pub eh_frame: Option<Section>,
    /// `.eh_frame_hdr`, the index of it.
    pub eh_frame_hdr: Option<Section>,
}

impl UnwindTables {
    /// Tables larger than this are not read (bytes).
    const MAX: u64 = 256 << 20;

    /// Reads a file's tables.
    ///
    /// # Errors
    /// If the file can't be read or is no ELF file.
    pub fn read(file: &MappedFile) -> Result<Self, ElfError> {
        let cache = open(file)?;
        let elf = parse(file, &cache)?;
        let endian = elf.endian();
        let loaded = || elf.elf_program_headers().iter().filter(|h| h.p_type(endian) == PT_LOAD);
        let start = loaded().map(|h| h.p_vaddr(endian)).min().unwrap_or(0);
        let end = loaded().map(|h| h.p_vaddr(endian).saturating_add(h.p_memsz(endian))).max();
        let range = |name| {
            let section = elf.section_by_name(name)?;
            Some((section.address()..section.address().checked_add(section.size())?, section))
        };
        let whole = |name| {
            let (addresses, section) = range(name).filter(|(_, s)| s.size() <= Self::MAX)?;
            Some(Section { addresses, bytes: section.data().ok()?.to_vec() })
        };
        Ok(Self {
            bias: bias(&elf, file),
            span: start..end.unwrap_or(start),
            text: range(".text").map(|(addresses, _)| addresses),
            eh_frame: whole(".eh_frame"),
            eh_frame_hdr: whole(".eh_frame_hdr"),
        })
    }
}

/// The dynamic symbols that were asked for, at run-time addresses.
#[derive(Clone, Debug)]
pub struct Image {
    symbols: Vec<(String, Address, u64)>,
}

impl Image {
    /// Reads the dynamic symbols named in `wanted`.
    ///
    /// # Errors
    /// If the file can't be read or is no ELF file.
    pub fn read(file: &MappedFile, wanted: &[&str]) -> Result<Self, ElfError> {
        let cache = open(file)?;
        let elf = parse(file, &cache)?;
        let bias = bias(&elf, file);
        let symbols = elf
            .dynamic_symbols()
            .filter(ObjectSymbol::is_definition)
            .filter_map(|symbol| {
                let name = symbol.name().ok().filter(|name| wanted.contains(name))?;
                Some((name.to_owned(), Address(symbol.address().wrapping_add(bias)), symbol.size()))
            })
            .collect();
        Ok(Self { symbols })
    }

    /// Address of a symbol that was asked for.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<Address> {
        self.symbols.iter().find(|(symbol, ..)| symbol == name).map(|&(_, address, _)| address)
    }

    /// Size in bytes of a symbol that was asked for.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.symbols.iter().find(|(symbol, ..)| symbol == name).map(|&(_, _, size)| size)
    }
}
