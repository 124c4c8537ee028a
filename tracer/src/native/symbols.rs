//! Names of native functions.

use blazesym::symbolize::source::{Process, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use rustc_hash::FxHashMap;

use crate::units::Pid;

/// Names of more addresses than this are forgotten, and asked for again.
const MAX_KNOWN: usize = 1 << 16;

/// The symbols of a process.
pub(super) struct Symbols {
    pid: Pid,
    symbolizer: Symbolizer,
    known: FxHashMap<u64, Option<String>>,
}

impl Symbols {
    pub(super) fn new(pid: Pid) -> Self {
        Self { pid, symbolizer: Symbolizer::new(), known: FxHashMap::default() }
    }

    /// The function at an address; `None` if its file has no symbol for it, or the process is gone.
    pub(super) fn name(&mut self, address: u64) -> Option<String> {
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let mut process = Process::new(self.pid.0.into());
        // The process's own maps for JIT code are a file that it wrote: not believed.
        process.perf_map = false;
        let found =
            self.symbolizer.symbolize_single(&Source::Process(process), Input::AbsAddr(address));
        let name = match found {
            Ok(Symbolized::Sym(symbol)) => Some(symbol.name.into_owned()),
            _ => None,
        };
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(address, name.clone());
        name
    }
}
