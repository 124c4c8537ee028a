//! Symbols of a mapped ELF file, at their addresses in the process.

use std::fs::File;

use object::elf::{ET_EXEC, PT_LOAD};
use object::read::ReadCache;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

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
        let path = file.path.display().to_string();
        let handle = File::open(&file.open)
            .map_err(|source| ElfError::Unreadable { path: path.clone(), source })?;
        let cache = ReadCache::new(handle);
        let elf = ElfFile64::<Endianness, _>::parse(&cache)
            .map_err(|source| ElfError::Malformed { path: path.clone(), source })?;
        let endian = elf.endian();
        let bias = if elf.elf_header().e_type.get(endian) == ET_EXEC {
            0
        } else {
            let first = elf
                .elf_program_headers()
                .iter()
                .find(|header| header.p_type(endian) == PT_LOAD && header.p_offset(endian) == 0);
            file.start.wrapping_sub(first.map_or(0, |header| header.p_vaddr(endian)))
        };
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
