//! What the opt-in uprobes counted, by lock.

use std::collections::BTreeMap;

use tracer_common::{UseKind, UseTotals};

use super::intake::Sink;
use super::locks::Locks;
use crate::cpython::Namer;
use crate::probe::Maps;
use crate::trace::records::{Totals, UprobeCost, UseSums};
use crate::trace::writer::WriteError;
use crate::units::{LockIndex, Ns, Tid};

/// Further locks are summed up by kind: they go to the file each second.
const MAX_LOCKS: usize = 16_384;

/// Sums of uses of which the kernel side has no entry any more, and what hits cost.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// By kind and address.
    retired: BTreeMap<(u32, u64), UseSums>,
    /// From before an `exec`, by kind and lock: the addresses mean other locks now.
    past: BTreeMap<(u32, Option<LockIndex>), UseSums>,
    hits: (u64, u64),
    cost: Option<UprobeCost>,
    wanted: bool,
}

impl Uses {
    /// There are uprobes.
    pub(super) fn wanted(&self) -> bool {
        self.wanted
    }

    /// There are uprobes; this is what a hit costs, if that could be measured.
    pub(super) fn begin(&mut self, cost: Option<UprobeCost>) {
        self.wanted = true;
        self.cost = cost;
    }

    /// Takes over the entries of threads that are gone, so that others find room.
    pub(super) fn retire(&mut self, gone: &[Tid], maps: &mut Maps) {
        if !self.wanted || gone.is_empty() {
            return;
        }
        for (key, totals) in maps.uprobes.uses() {
            if gone.contains(&Tid(key.tid)) {
                add(self.retired.entry((key.what, key.lock)).or_default(), &totals);
                maps.uprobes.remove_use(&key);
            }
        }
        for &tid in gone {
            let (entry, at_return) = maps.uprobes.take_thread(tid);
            self.hits.0 += entry;
            self.hits.1 += at_return;
        }
    }

    /// The target replaces its memory: what there is belongs to the locks that there were.
    pub(super) fn exec(
        &mut self,
        maps: &mut Maps,
        locks: &Locks,
        writer: &mut Sink,
    ) -> Result<(), WriteError> {
        if !self.wanted {
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.retired);
        for (key, totals) in maps.uprobes.uses() {
            add(all.entry((key.what, key.lock)).or_default(), &totals);
            maps.uprobes.remove_use(&key);
        }
        let mut past = std::mem::take(&mut self.past);
        // The memory that would tell more is gone already.
        let known = |_, address, _: &mut Sink| Ok(locks.known_at(address));
        by_lock(all, &mut past, writer, known)?;
        self.past = past;
        Ok(())
    }

    /// Adds what there is so far to the counters.
    pub(super) fn add_to(
        &self,
        totals: &mut Totals,
        maps: &Maps,
        locks: &mut Locks,
        namer: &mut Namer,
        writer: &mut Sink,
    ) -> Result<(), WriteError> {
        if !self.wanted {
            return Ok(());
        }
        let mut all = self.retired.clone();
        for (key, totals) in maps.uprobes.uses() {
            add(all.entry((key.what, key.lock)).or_default(), &totals);
        }
        let mut sums = self.past.clone();
        let named = |kind, address, writer: &mut Sink| {
            let (index, new) = locks.of_use(kind, address, namer);
            new.map_or(Ok(()), |record| writer.lock(record))?;
            Ok(Some(index))
        };
        by_lock(all, &mut sums, writer, named)?;
        totals.uses = sums
            .into_iter()
            .map(|((what, lock), sums)| {
                let what = UseKind::from_u32(what).map_or("unknown", UseKind::name).to_owned();
                UseSums { lock, what, ..sums }
            })
            .collect();
        totals.drops.extend(maps.uprobes.losses());
        let live = maps.uprobes.hits();
        let (entry, at_return) = (live.0 + self.hits.0, live.1 + self.hits.1);
        let mut say = |name: &str, n| totals.self_cost.insert(name.to_owned(), n);
        say("uprobe_entry_hits", entry);
        say("uprobe_return_hits", at_return);
        if let Some(cost) = self.cost {
            let of = |hits: u64, each: Ns| hits.saturating_mul(each.0);
            say("uprobe_entry_ns", cost.entry.0);
            say("uprobe_return_ns", cost.at_return.0);
            say("uprobe_without_ns", cost.without.0);
            let all = of(entry, cost.entry).saturating_add(of(at_return, cost.at_return));
            say("uprobe_ns", all);
        }
        Ok(())
    }
}

/// From addresses to locks, of which the trace has no more than it can bear.
fn by_lock(
    all: BTreeMap<(u32, u64), UseSums>,
    sums: &mut BTreeMap<(u32, Option<LockIndex>), UseSums>,
    writer: &mut Sink,
    mut name: impl FnMut(UseKind, u64, &mut Sink) -> Result<Option<LockIndex>, WriteError>,
) -> Result<(), WriteError> {
    for ((what, address), one) in all {
        let room = sums.len() < MAX_LOCKS;
        let kind = UseKind::from_u32(what).filter(|_| address != 0 && room);
        let lock = match kind {
            Some(kind) => name(kind, address, writer)?,
            None => None,
        };
        let entry = sums.entry((what, lock)).or_default();
        entry.acquisitions += one.acquisitions;
        entry.failed += one.failed;
        entry.releases += one.releases;
        entry.calls += one.calls;
        entry.holds += one.holds;
        entry.held += one.held;
        entry.max_held = entry.max_held.max(one.max_held);
    }
    Ok(())
}

fn add(sums: &mut UseSums, totals: &UseTotals) {
    sums.acquisitions += totals.acquisitions;
    sums.failed += totals.failed;
    sums.releases += totals.releases;
    sums.calls += totals.calls;
    sums.holds += totals.holds;
    sums.held += Ns(totals.held_ns);
    sums.max_held = sums.max_held.max(Ns(totals.max_held_ns));
}
