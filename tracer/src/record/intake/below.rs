//! Waits below the threshold of which no sum by thread and lock tells, and those that are lost or beyond
//! the limit: summed up by shape, and by lock where the shape says too little.
//!
//! What a parked thread waited for tells contention from idling only if the lock is known. The kernel
//! side keeps such sums by address; what the lock at that address is, longer waits for it have said.

use std::collections::BTreeMap;

use tracer_common::{FutexIdentity, Shape, ThreadState};

use super::Intake;
use crate::probe::{Maps, Without};
use crate::trace::records::{BelowSums, ShapeSums, Totals};
use crate::trace::writer::WriteError;
use crate::units::{Address, LockIndex, Ns};

/// By shape and lock.
pub(super) type ByAddress = BTreeMap<(u32, Address), ShapeSums>;

/// What is known of the waits of programs that the target has replaced since.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// As the kernel side counted them.
    counted: ByAddress,
    /// By what the locks were.
    known: Vec<BelowSums>,
}

impl Intake {
    /// Adds the waits without a record to the totals.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn add_without_record(
        &mut self,
        maps: &Maps,
        totals: &mut Totals,
    ) -> Result<(), WriteError> {
        (totals.limited, totals.limited_locks) = self.sums(maps, Without::Limited)?;
        (totals.lost, totals.lost_locks) = self.sums(maps, Without::Lost)?;
        (totals.below, totals.below_locks) = self.sums(maps, Without::Below)?;
        for (&shape, &sums) in &self.below {
            *totals.below.entry(shape).or_default() += sums;
        }
        Ok(())
    }

    /// By shape, and the part of it of which the lock is known.
    fn sums(
        &mut self,
        maps: &Maps,
        why: Without,
    ) -> Result<(BTreeMap<u32, ShapeSums>, Vec<BelowSums>), WriteError> {
        let mut by_shape = maps.by_shape(why);
        let mut counted = maps.by_lock(why);
        if why == Without::Below {
            for (&key, &sums) in &self.below_pending {
                *counted.entry(key).or_default() += sums;
            }
        }
        for (&(shape, _), &sums) in &counted {
            *by_shape.entry(shape).or_default() += sums;
        }
        let mut locks = self.replaced(why).known.clone();
        locks.extend(self.since_replaced(&counted, why)?);
        Ok((by_shape, locks))
    }

    fn replaced(&mut self, why: Without) -> &mut Replaced {
        match why {
            Without::Below => &mut self.below_replaced,
            Without::Limited => &mut self.limited_replaced,
            Without::Lost => &mut self.lost_replaced,
        }
    }

    /// Takes over what a thread has in its state.
    pub(in crate::record) fn pending(&mut self, state: &ThreadState) {
        for one in state.short.iter().filter(|one| one.totals.waits != 0) {
            // After a fork the same address is another lock.
            let lock = if self.processes.several { 0 } else { one.lock };
            let sums = self.below_pending.entry((one.shape, Address(lock))).or_default();
            sums.add(&one.totals);
        }
    }

    /// The target replaces itself: from now on there are other locks at the same addresses.
    ///
    /// # Errors
    /// If the trace can't be written.
    pub(super) fn keep_without_record(&mut self, maps: &Maps) -> Result<(), WriteError> {
        for why in [Without::Below, Without::Limited, Without::Lost] {
            let counted = maps.by_lock(why);
            let now = self.since_replaced(&counted, why)?;
            let replaced = self.replaced(why);
            replaced.known.extend(now);
            replaced.counted = counted;
        }
        Ok(())
    }

    /// The waits of the program that runs now, by lock, as far as their locks are known.
    fn since_replaced(
        &mut self,
        counted: &ByAddress,
        why: Without,
    ) -> Result<Vec<BelowSums>, WriteError> {
        let mut by_lock: BTreeMap<(LockIndex, u32), ShapeSums> = BTreeMap::new();
        for (&(shape, address), &sums) in counted {
            let before = self.replaced(why).counted.get(&(shape, address));
            let since = since(sums, before.copied().unwrap_or_default());
            if since.waits == 0 || address == Address(0) {
                continue;
            }
            if let Some(lock) = self.lock_below(shape, address)? {
                *by_lock.entry((lock, shape)).or_default() += since;
            }
        }
        let sums = by_lock.into_iter();
        Ok(sums.map(|((lock, shape), sums)| BelowSums { lock, shape, sums }).collect())
    }

    /// The lock at an address, if longer waits have told it, or it tells itself.
    fn lock_below(
        &mut self,
        shape: u32,
        address: Address,
    ) -> Result<Option<LockIndex>, WriteError> {
        if let Some(told) = self.locks.told_at(shape, address) {
            return Ok(Some(told));
        }
        if shape != Shape::Parked as u32 {
            return Ok(None);
        }
        // Of several processes the kernel side keeps no such sums.
        let Some(only) = self.processes.get_mut(0) else { return Ok(None) };
        let id: FutexIdentity = only.namer.parked_identity(address.0, 0);
        if !only.namer.tells_itself(&id) {
            return Ok(None);
        }
        let (lock, new) = self.locks.of_plain(&id, &mut only.namer);
        self.write_lock(new, None)?;
        Ok(Some(lock))
    }
}

fn since(now: ShapeSums, before: ShapeSums) -> ShapeSums {
    ShapeSums {
        waits: now.waits.saturating_sub(before.waits),
        blocked: Ns(now.blocked.0.saturating_sub(before.blocked.0)),
        runq: Ns(now.runq.0.saturating_sub(before.runq.0)),
        max: now.max,
    }
}
