//! After a failed write: what of the trace can still be saved.

use std::fs::File;
use std::io::{Seek, SeekFrom};

use super::records::{End, Wait};
use super::writer::{TraceWriter, WriteError};

/// Waits per chunk below which a full disk is taken at its word.
const FEWEST_WAITS: usize = 64;

impl TraceWriter<File> {
    /// Cuts the file back to its last complete chunk and writes as many of the buffered waits as
    /// still fit, in ever smaller chunks, then the end if there is room for it. Nothing may be
    /// written afterwards. Whatever it returns, the file ends with a complete chunk if it can be
    /// cut back at all.
    ///
    /// # Errors
    /// [`WriteError`], if the end was not written: the trace is readable, as one that was cut. Also
    /// if the file can't be cut back, for instance because it is a device or a pipe.
    pub fn rescue(&mut self, end: &End) -> Result<(), WriteError> {
        self.cut_back()?;
        let waits = std::mem::take(&mut self.waits);
        self.cut_locks().or_else(|error| self.cut_back().and(Err(error)))?;
        self.cut_lock_processes().or_else(|error| self.cut_back().and(Err(error)))?;
        self.cut_threads().or_else(|error| self.cut_back().and(Err(error)))?;
        // A wait without its stack still counts: what doesn't fit of the stacks is given up.
        if self.cut_stacks().is_err() {
            self.cut_back()?;
            self.frames.clear();
            self.stacks.clear();
        }
        self.waits_that_fit(&waits)?;
        if self.cut_yields().is_err() {
            self.cut_back()?;
            self.yields.clear();
        }
        if self.cut_short_waits().is_err() {
            self.cut_back()?;
            self.short_waits.clear();
        }
        self.close(end).or_else(|error| self.cut_back().and(Err(error)))
    }

    fn waits_that_fit(&mut self, mut rest: &[Wait]) -> Result<(), WriteError> {
        let mut step = rest.len();
        while !rest.is_empty() && step >= FEWEST_WAITS.min(rest.len()) {
            let (now, later) = rest.split_at(step.min(rest.len()));
            match self.wait_chunk(now) {
                Ok(()) => rest = later,
                Err(_) => {
                    self.cut_back()?;
                    step /= 2;
                }
            }
        }
        Ok(())
    }

    fn cut_back(&mut self) -> Result<(), WriteError> {
        let cut = self
            .sink
            .set_len(self.committed)
            .and_then(|()| self.sink.seek(SeekFrom::Start(self.committed)));
        cut.map_err(|source| WriteError::Io { offset: self.committed, source })?;
        self.half_written = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::reader::TraceReader;
    use super::super::records::{FrameRecord, Meta, StackRecord};
    use super::*;

    #[test]
    fn half_a_chunk_is_cut_off_before_the_end_is_written() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = TraceWriter::new(file.try_clone().unwrap()).unwrap();
        writer.meta(&Meta::default()).unwrap();
        let len = writer.bytes_written();
        file.write_all(&[0xa5; 5000]).unwrap();
        writer.half_written = true;
        writer.rescue(&End::default()).unwrap();
        assert_eq!(file.metadata().unwrap().len(), writer.bytes_written());
        assert!(writer.bytes_written() > len);
    }

    #[test]
    fn stacks_are_rescued_with_their_frames() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = TraceWriter::new(file.try_clone().unwrap()).unwrap();
        writer.frame(FrameRecord::default()).unwrap();
        let frames = vec![Default::default()];
        writer.stack(StackRecord { frames, ..StackRecord::default() }).unwrap();
        writer.half_written = true;
        writer.rescue(&End::default()).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let trace = TraceReader::from_read(&file).unwrap().read(|_| {}).unwrap();
        assert_eq!((trace.frames.len(), trace.stacks.len()), (1, 1));
        assert!(trace.condition.closed);
    }
}
