//! Reading the target's memory without stopping it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::units::{Address, Pid};

/// `/proc/PID/mem`: reads never stop the target, and fail softly where nothing is mapped.
#[derive(Debug)]
pub struct Memory(File);

impl Memory {
    /// Opens the memory of a process.
    ///
    /// # Errors
    /// If the process is gone or belongs to somebody else (`ptrace_may_access`).
    pub fn open(pid: Pid) -> std::io::Result<Self> {
        File::open(format!("/proc/{}/mem", pid.0)).map(Self)
    }

    /// The same memory once more.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Fills `buffer`, or says no.
    #[must_use]
    pub fn read(&self, address: Address, buffer: &mut [u8]) -> Option<()> {
        self.0.read_exact_at(buffer, address.0).ok()
    }

    /// A little-endian 8-byte word.
    #[must_use]
    pub fn word(&self, address: Address) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    /// A little-endian 4-byte word.
    #[must_use]
    pub fn half_word(&self, address: Address) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    /// A NUL-terminated UTF-8 string of at most `limit` bytes; `None` if it is longer, empty or
    /// not text. Reads up to the next page border only, so that a string at the end of a mapping
    /// is readable.
    #[must_use]
    pub fn c_string(&self, address: Address, limit: usize) -> Option<String> {
        const PAGE: u64 = 4096;
        let mut bytes = Vec::new();
        while bytes.len() < limit {
            let at = address.0.checked_add(bytes.len() as u64)?;
            let piece = usize::try_from(PAGE - at % PAGE).ok()?.min(limit - bytes.len());
            let begin = bytes.len();
            bytes.resize(begin + piece, 0);
            self.read(Address(at), &mut bytes[begin..])?;
            if let Some(end) = bytes[begin..].iter().position(|&byte| byte == 0) {
                bytes.truncate(begin + end);
                return String::from_utf8(bytes).ok().filter(|text| !text.is_empty());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_reads_and_unmapped_memory_does_not() {
        let memory = Memory::open(Pid(std::process::id())).expect("own memory");
        let value = 0x1122_3344_5566_7788_u64;
        let address = Address(&raw const value as u64);
        assert_eq!(memory.word(address), Some(value));
        assert_eq!(memory.half_word(address), Some(0x5566_7788));
        let text = c"dict";
        assert_eq!(memory.c_string(Address(text.as_ptr() as u64), 64).as_deref(), Some("dict"));
        assert_eq!(memory.c_string(Address(text.as_ptr() as u64), 3), None);
        assert_eq!(memory.word(Address(0)), None);
        assert_eq!(memory.word(Address(u64::MAX - 3)), None);
    }
}
