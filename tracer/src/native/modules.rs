//! The files that a process maps, with the tables to unwind through them.

use std::fmt;
use std::time::{Duration, Instant};

use framehop::x86_64::UnwinderX86_64;
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder};

use crate::target::{MappedFile, Process, UnwindTables};
use crate::units::Pid;

/// A process may load libraries at any time; but it is not asked more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One mapped file.
#[derive(Debug)]
struct Known {
    path: String,
    bias: u64,
    start: u64,
    end: u64,
}

/// All files that the process maps, as far as it was asked.
pub struct Modules {
    pid: Pid,
    known: Vec<Known>,
    pub(super) unwinder: UnwinderX86_64<Vec<u8>>,
    looked: Option<Instant>,
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Modules").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Modules {
    /// For a process; nothing is read yet.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { pid, known: Vec::new(), unwinder: UnwinderX86_64::new(), looked: None }
    }

    /// The path of the file that is mapped at an address, and the address in that file.
    #[must_use]
    pub fn of(&self, address: u64) -> Option<(&str, u64)> {
        let known = self.known.iter().find(|known| (known.start..known.end).contains(&address))?;
        Some((&known.path, address.wrapping_sub(known.bias)))
    }

    /// Asks the process for its files if nothing is known of this address.
    pub fn learn(&mut self, address: u64) {
        let recent = self.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN);
        if recent || self.of(address).is_some() {
            return;
        }
        self.looked = Some(Instant::now());
        let Ok(process) = Process::open(self.pid) else { return };
        let Ok(files) = process.mapped_files(|_| true) else { return };
        for file in files {
            // Data files are no ELF files, and a file may be gone.
            if let Ok(tables) = UnwindTables::read(&file) {
                self.add(&file, tables);
            }
        }
    }

    fn add(&mut self, file: &MappedFile, tables: UnwindTables) {
        let at = |address: u64| address.wrapping_add(tables.bias);
        let (start, end) = (at(tables.span.start), at(tables.span.end));
        let path = file.path.to_string_lossy().into_owned();
        if start >= end || self.known.iter().any(|known| known.start == start && known.path == path)
        {
            return;
        }
        self.known.push(Known { path: path.clone(), bias: tables.bias, start, end });
        let (hdr, frame) = (tables.eh_frame_hdr, tables.eh_frame);
        let sections = ExplicitModuleSectionInfo {
            base_svma: tables.span.start,
            text_svma: tables.text,
            eh_frame_svma: frame.as_ref().map(|section| section.addresses.clone()),
            eh_frame: frame.map(|section| section.bytes),
            eh_frame_hdr_svma: hdr.as_ref().map(|section| section.addresses.clone()),
            eh_frame_hdr: hdr.map(|section| section.bytes),
            ..ExplicitModuleSectionInfo::default()
        };
        self.unwinder.add_module(Module::new(path, start..end, start, sections));
    }
}
