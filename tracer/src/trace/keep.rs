//! What is kept of a file that is read, and how much of it at most: a hostile file ends here.

use std::collections::BTreeMap;

use super::chunk::Chunk;
use super::contents::Trace;
use super::processes::{LockProcess, ProcessRecord};
use super::reader::Visited;
use super::records::{FrameRecord, LockRecord, ThreadRecord};
use crate::units::Monotonic;

/// Locks, threads, frames, and stacks, that are kept of each; waits of further ones stay in the
/// sums.
const MAX_NAMED: usize = 1 << 20;
/// Held locks that are kept.
const MAX_HELD: usize = 1 << 16;
/// Frames in all stacks together that are kept.
const MAX_FRAMES_IN_STACKS: usize = 1 << 24;
/// Bytes of all names together that are kept.
const MAX_TEXT: usize = 256 << 20;
/// Bytes of one function's or file's name that are kept. Each may stand in an output many times.
const MAX_NAME: usize = 4 << 10;

/// Takes chunks, keeps what they name and shows their waits.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    trace: Trace,
    left_out: u64,
    frames_in_stacks: usize,
    text: usize,
}

impl Keeper {
    /// Takes the next chunk of the file.
    pub(super) fn take(&mut self, chunk: Chunk, visit: &mut impl FnMut(Visited<'_>)) {
        let trace = &mut self.trace;
        match chunk {
            Chunk::Meta(meta) => trace.meta = *meta,
            Chunk::Locks(locks) => {
                for lock in locks {
                    if !self.trace.locks.contains_key(&lock.index) {
                        visit(Visited::Lock(&lock));
                        self.lock(lock);
                    }
                }
            }
            Chunk::Threads(threads) => threads.into_iter().for_each(|one| self.thread(one)),
            Chunk::Frames(frames) => frames.into_iter().for_each(|frame| self.frame(frame)),
            Chunk::Stacks(stacks) => {
                for stack in stacks {
                    if trace.stacks.contains_key(&stack.index) {
                        continue;
                    }
                    let frames = self.frames_in_stacks + stack.frames.len();
                    if trace.stacks.len() < MAX_NAMED && frames <= MAX_FRAMES_IN_STACKS {
                        self.frames_in_stacks = frames;
                        trace.stacks.insert(stack.index, stack);
                    } else {
                        self.left_out += 1;
                    }
                }
            }
            Chunk::Waits(waits) => {
                for wait in &waits {
                    trace.last_seen = trace.last_seen.max(wait.end);
                    visit(Visited::Wait(wait));
                }
            }
            Chunk::Yields(runs) => {
                for run in &runs {
                    trace.last_seen = trace.last_seen.max(run.end);
                    visit(Visited::Yields(run));
                }
            }
            Chunk::ShortWaits(all) => {
                for waits in &all {
                    trace.last_seen = trace.last_seen.max(waits.end);
                    visit(Visited::ShortWaits(waits));
                }
            }
            Chunk::Held(held) => {
                let room = MAX_HELD.saturating_sub(trace.held.len());
                self.left_out += held.len().saturating_sub(room) as u64;
                trace.held.extend(held.into_iter().take(room));
            }
            Chunk::Processes(all) => all.into_iter().for_each(|one| self.process(one)),
            Chunk::LockProcesses(all) => all.into_iter().for_each(|one| self.lock_process(one)),
            Chunk::EnergySource(source) => visit(Visited::EnergySource(&source)),
            Chunk::Energy(intervals) => {
                for interval in &intervals {
                    let end = interval.windows.last().map(|window| window.end);
                    trace.last_seen = trace.last_seen.max(end.unwrap_or_default());
                    visit(Visited::Energy(interval));
                }
            }
            Chunk::Totals(totals) => {
                trace.last_seen = trace.last_seen.max(totals.at);
                trace.totals = *totals;
            }
            Chunk::End(end) => {
                trace.last_seen = trace.last_seen.max(end.at);
                trace.end = Some(end);
            }
        }
    }

    /// Waits that somebody else has seen: the end of the last one.
    pub(super) fn seen(&mut self, end: Monotonic) {
        self.trace.last_seen = self.trace.last_seen.max(end);
    }

    /// What was kept, and how many locks, threads, frames and stacks were not.
    pub(super) fn finish(self) -> (Trace, u64) {
        (self.trace, self.left_out)
    }

    /// The first record of an index stays; this is the first.
    fn lock(&mut self, lock: LockRecord) {
        let room = self.room(self.trace.locks.len(), lock.name.len());
        keep(&mut self.trace.locks, lock.index, lock, room);
    }

    /// The last record of an index stays.
    fn thread(&mut self, thread: ThreadRecord) {
        let text = |thread: &ThreadRecord| {
            thread.name.len() + thread.python_name.as_ref().map_or(0, String::len)
        };
        let old = self.trace.threads.get(&thread.index);
        let others = self.trace.threads.len() - usize::from(old.is_some());
        let freed = old.map_or(0, text);
        self.text -= freed;
        if self.room(others, text(&thread)) {
            self.trace.threads.insert(thread.index, thread);
        } else {
            self.text += freed;
        }
    }

    /// The last record of an index stays.
    fn process(&mut self, process: ProcessRecord) {
        let text = |process: &ProcessRecord| {
            let target = &process.target;
            let words = [&target.python, &target.unnamed_because, &target.stackless_because];
            let words = words.into_iter().flatten().chain(&target.cmdline);
            target.exe.len() + words.map(String::len).sum::<usize>()
        };
        let old = self.trace.processes.get(&process.index);
        let others = self.trace.processes.len() - usize::from(old.is_some());
        let freed = old.map_or(0, text);
        self.text -= freed;
        if self.room(others, text(&process)) {
            self.trace.processes.insert(process.index, process);
        } else {
            self.text += freed;
        }
    }

    /// The first record of a lock stays.
    fn lock_process(&mut self, LockProcess { lock, process }: LockProcess) {
        if self.trace.lock_processes.len() < MAX_NAMED {
            self.trace.lock_processes.entry(lock).or_insert(process);
        } else {
            self.left_out += 1;
        }
    }

    /// The first record of an index stays.
    fn frame(&mut self, mut frame: FrameRecord) {
        if !self.trace.frames.contains_key(&frame.index) {
            cut(&mut frame.function);
            cut(&mut frame.file);
            let room = self.room(self.trace.frames.len(), frame.function.len() + frame.file.len());
            keep(&mut self.trace.frames, frame.index, frame, room);
        }
    }

    /// Whether one more is kept beside `named` others; if so its text is counted.
    fn room(&mut self, named: usize, text: usize) -> bool {
        let room = named < MAX_NAMED && self.text + text <= MAX_TEXT;
        if room {
            self.text += text;
        } else {
            self.left_out += 1;
        }
        room
    }
}

fn keep<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, room: bool) {
    if room {
        map.insert(key, value);
    }
}

/// Shortens a name that is too long, and gives back the memory.
fn cut(name: &mut String) {
    if name.len() > MAX_NAME {
        name.truncate(name.floor_char_boundary(MAX_NAME));
        name.push('…');
        name.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::records::{HeldRecord, StackRecord};
    use crate::units::{FrameIndex, StackIndex, ThreadIndex};

    fn take(keeper: &mut Keeper, chunk: Chunk) {
        keeper.take(chunk, &mut |_| {});
    }

    #[test]
    fn frames_in_stacks_are_bounded_together() {
        let mut keeper = Keeper { frames_in_stacks: MAX_FRAMES_IN_STACKS - 3, ..Keeper::default() };
        let stack = |index, frames| StackRecord {
            index: StackIndex(index),
            frames: vec![FrameIndex(0); frames],
            end: 0,
        };
        // The second one of index 0 is none too many: it is the same.
        take(&mut keeper, Chunk::Stacks(vec![stack(0, 2), stack(0, 2), stack(1, 2), stack(2, 1)]));
        let (trace, left_out) = keeper.finish();
        assert_eq!(trace.stacks.into_keys().collect::<Vec<_>>(), [StackIndex(0), StackIndex(2)]);
        assert_eq!(left_out, 1);
    }

    #[test]
    fn held_locks_are_bounded() {
        let mut keeper = Keeper::default();
        for _ in 0..3 {
            take(&mut keeper, Chunk::Held(vec![HeldRecord::default(); MAX_HELD / 2]));
        }
        let (trace, left_out) = keeper.finish();
        assert_eq!((trace.held.len(), left_out), (MAX_HELD, MAX_HELD as u64 / 2));
    }

    #[test]
    fn text_is_bounded_in_each_name_and_in_all() {
        let mut keeper = Keeper::default();
        let frame = |index, len| FrameRecord {
            index: FrameIndex(index),
            function: "ö".repeat(len),
            ..FrameRecord::default()
        };
        take(&mut keeper, Chunk::Frames(vec![frame(0, 5), frame(1, 1 << 20)]));
        let long = &keeper.trace.frames[&FrameIndex(1)].function;
        assert!(long.len() <= MAX_NAME + 3 && long.ends_with("ö…"), "{}", long.len());
        keeper.text = MAX_TEXT - 20;
        take(&mut keeper, Chunk::Frames(vec![frame(2, 10), frame(3, 1)]));
        let thread = |name: &str| ThreadRecord {
            index: ThreadIndex(0),
            name: name.to_owned(),
            ..ThreadRecord::default()
        };
        take(&mut keeper, Chunk::Threads(vec![thread("x")]));
        assert!(keeper.trace.threads.is_empty());
        assert_eq!(keeper.finish().1, 2);
    }

    #[test]
    fn a_thread_that_is_written_again_takes_no_more_room() {
        let mut keeper = Keeper { text: MAX_TEXT - 4, ..Keeper::default() };
        for name in ["four", "4444", "iiii"] {
            let thread = ThreadRecord { name: name.to_owned(), ..ThreadRecord::default() };
            take(&mut keeper, Chunk::Threads(vec![thread]));
        }
        assert_eq!(keeper.trace.threads[&ThreadIndex(0)].name, "iiii");
        assert_eq!(keeper.finish().1, 0);
    }
}
