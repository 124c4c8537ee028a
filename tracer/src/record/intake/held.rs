//! Which locks the threads seem to have that are blocked when the recording ends.

use super::Intake;
use crate::record::threads::Home;
use crate::trace::records::{HeldHow, HeldRecord};
use crate::trace::writer::WriteError;
use crate::units::{Address, Tid};

/// Records beyond this many are left out: readers keep no more.
const MAX_RECORDS: usize = 1 << 16;

impl Intake {
    /// Looks into the frames of the threads whose waits were under way at the end.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(in crate::record) fn write_held(&mut self) -> Result<(), WriteError> {
        let mut records = Vec::new();
        for (tid, futex) in std::mem::take(&mut self.under_way) {
            records.extend(self.held_by(tid, futex));
        }
        records.truncate(MAX_RECORDS);
        self.writer.held(&records)
    }

    fn held_by(&mut self, tid: Tid, futex: Address) -> Vec<HeldRecord> {
        let Home { pid, place, .. } = self.threads.home(tid);
        let held = self.processes.get_mut(place).and_then(|traced| {
            traced.thread_ids.held_while_blocked(pid, tid, futex, &traced.namer)
        });
        let thread = self.threads.index(tid);
        let record = |held: crate::cpython::Held| HeldRecord {
            thread,
            object: held.object,
            lock: held.lock,
            how: HeldHow::With,
            depth: held.depth,
        };
        held.unwrap_or_default().into_iter().map(record).collect()
    }
}
