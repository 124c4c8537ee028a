//! The kernel side's rare words (aya-log) on standard error.

use aya::Ebpf;
use aya_log::EbpfLogger;

#[derive(Debug, Default)]
struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("lockwatt: kernel side: {}", record.args());
    }

    fn flush(&self) {}
}

/// The open log.
pub(super) struct KernelLog(EbpfLogger<StandardError>);

impl KernelLog {
    /// Opens the log; without it a recording is no worse.
    pub(super) fn open(ebpf: &mut Ebpf) -> Option<Self> {
        EbpfLogger::init_with_logger(ebpf, StandardError).ok().map(Self)
    }

    /// Prints what has come.
    pub(super) fn drain(&mut self) {
        self.0.flush();
    }
}
