//! The processes of a recording: one, or several with the children that they fork.
//!
//! Each has its own memory, in which the same address is another thing. A memory has a number, by
//! which everything that is kept by address is told apart: in a recording of one it is 0, in one of
//! several each process has its own, and another one after an `exec`.

use rustc_hash::FxHashMap;
use tracer_common::process::{tag, tag_of};

use super::shared::SharedMemory;
use super::traced::Traced;
use crate::cpython::Namer;
use crate::target::Process;
use crate::trace::processes::{Came, ProcessRecord};
use crate::trace::records::Target;
use crate::units::{Monotonic, Pid, ProcessIndex};

/// Forks in a row through which code objects are looked for in the parent's memory.
const MAX_ANCESTORS: usize = 8;

/// All processes seen so far.
#[derive(Debug)]
pub(super) struct Processes {
    /// There can be more than one.
    pub(super) several: bool,
    sampler: bool,
    all: Vec<Traced>,
    by_pid: FxHashMap<Pid, usize>,
    /// Numbers in use by what an address is marked with: whose memory that is or was.
    by_tag: FxHashMap<u16, (usize, u32)>,
    next_number: u32,
    /// Memories that are gone, and whose last records may still come.
    gone: Vec<(usize, u32)>,
}

impl Processes {
    /// The only process of a recording.
    pub(super) fn one(target: Target, namer: Namer, sampler: bool) -> Self {
        let pid = target.pid;
        let mut only = Traced::new(pid, 0, namer, sampler);
        only.record.target = target;
        Self {
            several: false,
            sampler,
            all: vec![only],
            by_pid: FxHashMap::from_iter([(pid, 0)]),
            by_tag: FxHashMap::default(),
            next_number: 1,
            gone: Vec::new(),
        }
    }

    /// Several, none of which is known yet; numbers below `next_number` are given already.
    pub(super) fn several(sampler: bool, next_number: u32) -> Self {
        Self {
            several: true,
            sampler,
            all: Vec::new(),
            by_pid: FxHashMap::default(),
            by_tag: FxHashMap::default(),
            next_number,
            gone: Vec::new(),
        }
    }

    /// Adds one that was there, or was started by us. Returns its place.
    pub(super) fn add(
        &mut self,
        pid: Pid,
        number: u32,
        namer: Namer,
        came: Came,
        target: Target,
    ) -> usize {
        let mut traced = Traced::new(pid, number, namer, self.sampler);
        traced.record = ProcessRecord { target, came, ..ProcessRecord::default() };
        self.push(traced)
    }

    /// A traced process forked another one: it has a copy of all memory, so what is known of the
    /// parent is known of the child.
    /// `comm` is what the kernel calls both.
    pub(super) fn born(
        &mut self,
        pid: Pid,
        number: u32,
        parent: Pid,
        at: Monotonic,
        comm: &str,
    ) -> usize {
        let known = self.by_pid.get(&parent).and_then(|&at| Some((at, self.all.get(at)?)));
        let (namer, record, ancestors) = match known {
            None => (Namer::new(pid), ProcessRecord::default(), Vec::new()),
            Some((place, parent)) => {
                let record = ProcessRecord {
                    target: Target { pid, ..parent.record.target.clone() },
                    parent: Some(parent.record.index),
                    came: Came::Fork,
                    recorded: parent.record.recorded,
                    ..ProcessRecord::default()
                };
                let further = parent.ancestors.iter().copied();
                let ancestors = std::iter::once(place).chain(further).take(MAX_ANCESTORS);
                (Namer::forked(pid, &parent.namer), record, ancestors.collect())
            }
        };
        let mut traced = Traced::new(pid, number, namer, self.sampler);
        traced.record = ProcessRecord { started: Some(at), ..record };
        traced.record.target.pid = pid;
        if traced.record.target.exe.is_empty() {
            comm.clone_into(&mut traced.record.target.exe);
        }
        let parent = ancestors.first().and_then(|&parent| self.all.get(parent));
        traced.shared = parent.map(|parent| parent.shared.clone()).unwrap_or_default();
        traced.ancestors = ancestors;
        // It may have been found in the kernel side's table before the record of its birth came.
        if let Some(found) = self.by_pid.get(&pid).copied()
            && let Some(before) = self.all.get_mut(found).filter(|before| before.number == number)
        {
            traced.record.index = before.record.index;
            *before = traced;
            return found;
        }
        self.push(traced)
    }

    fn push(&mut self, mut traced: Traced) -> usize {
        let place = self.all.len();
        let index = ProcessIndex(u32::try_from(place).unwrap_or(u32::MAX));
        traced.record.index = index;
        if let Some(before) = self.by_pid.insert(traced.pid, place) {
            self.end(before, traced.record.started.unwrap_or_default()); // its end was not seen
        }
        self.by_tag.insert(memory_tag(traced.number), (place, traced.number));
        self.all.push(traced);
        place
    }

    /// A process replaced its program; `comm` is what the kernel calls it since.
    pub(super) fn exec(&mut self, place: usize, number: u32, comm: &str) {
        let Some(traced) = self.all.get_mut(place) else { return };
        traced.record.execs += 1;
        if self.several {
            // All that is known of it should it end before it is looked at.
            traced.record.target =
                Target { pid: traced.pid, exe: comm.to_owned(), ..Target::default() };
            self.gone.push((place, traced.number));
            traced.number = number;
            traced.record.recorded = false;
            traced.changed = true;
            self.by_tag.insert(memory_tag(number), (place, number));
        }
        traced.ancestors.clear();
        traced.thread_ids.forget();
        traced.natives.forget(traced.pid);
        traced.shared = SharedMemory::default();
    }

    /// One of its threads was born.
    pub(super) fn thread_born(&mut self, place: usize) {
        if let Some(traced) = self.all.get_mut(place) {
            traced.alive += 1;
        }
    }

    /// One of its threads ended: with the last one it ends itself.
    pub(super) fn thread_ended(&mut self, place: usize, at: Monotonic) {
        let Some(traced) = self.all.get_mut(place) else { return };
        // Of one whose birth was lost it is not known how many threads it has: its end is found out.
        let Some(alive) = traced.alive.checked_sub(1) else { return };
        traced.alive = alive;
        if alive == 0 {
            self.end(place, at);
        }
    }

    /// It is over.
    pub(super) fn end(&mut self, place: usize, at: Monotonic) {
        let Some(traced) = self.all.get_mut(place).filter(|traced| traced.lives()) else { return };
        traced.record.ended = Some(at);
        traced.changed = true;
        traced.lookout = None;
        self.gone.push((place, traced.number));
    }

    /// Those whose end was not seen, but who are gone: the record of it was lost.
    pub(super) fn end_the_dead(&mut self, at: Monotonic) {
        let lives = |pid| Process::open(pid).is_ok();
        let dead: Vec<usize> = (0..self.all.len())
            .filter(|&place| self.all.get(place).is_some_and(|t| t.lives() && !lives(t.pid)))
            .collect();
        for place in dead {
            self.end(place, at);
        }
    }

    /// Memories that were gone when this was last called, and those that are now. Of the former no
    /// record can come any more.
    pub(super) fn take_gone(&mut self, before: &mut Vec<(usize, u32)>) -> Vec<(usize, u32)> {
        std::mem::replace(before, std::mem::take(&mut self.gone))
    }

    /// Forgets what a memory was that is gone.
    pub(super) fn retire(&mut self, place: usize, number: u32) {
        let tag = memory_tag(number);
        if self.by_tag.get(&tag).is_some_and(|&(_, known)| known == number) {
            self.by_tag.remove(&tag);
        }
        let Some(traced) = self.all.get_mut(place).filter(|traced| traced.number == number) else {
            return;
        };
        traced.forget();
        traced.namer = Namer::default();
        let pid = traced.pid;
        if self.by_pid.get(&pid) == Some(&place) {
            self.by_pid.remove(&pid);
        }
    }

    /// A number that is not in use, for the kernel side to give; the same one until it is
    /// [used](Self::use_number).
    pub(super) fn free_number(&mut self) -> u32 {
        while memory_tag(self.next_number) == 0
            || self.by_tag.contains_key(&memory_tag(self.next_number))
        {
            self.next_number = self.next_number.wrapping_add(1);
        }
        self.next_number
    }

    /// That number was given.
    pub(super) fn use_number(&mut self) {
        self.next_number = self.next_number.wrapping_add(1);
    }

    pub(super) fn get(&self, place: usize) -> Option<&Traced> {
        self.all.get(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Traced> {
        self.all.get_mut(place)
    }

    /// Where the process is that has this id now.
    pub(super) fn place(&self, pid: Pid) -> Option<usize> {
        self.by_pid.get(&pid).copied()
    }

    /// Whose memory an address is of that the kernel side marked: the process, and the number.
    pub(super) fn of_tagged(&self, address: u64) -> Option<(usize, u32)> {
        if self.several { self.by_tag.get(&tag_of(address)).copied() } else { Some((0, 0)) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Traced)> {
        self.all.iter().enumerate()
    }

    /// The places of those that live.
    pub(super) fn living(&self) -> Vec<usize> {
        self.iter().filter(|(_, traced)| traced.lives()).map(|(place, _)| place).collect()
    }

    /// Records that are not in the trace as they are now.
    pub(super) fn changed(&mut self) -> Vec<ProcessRecord> {
        let changed = self.all.iter_mut().filter(|traced| traced.changed);
        let take = |traced: &mut Traced| {
            traced.changed = false;
            traced.record.clone()
        };
        changed.map(take).collect()
    }
}

/// What an address in the memory of this number is marked with.
pub(super) fn memory_tag(number: u32) -> u16 {
    tag_of(tag(number, 0))
}
