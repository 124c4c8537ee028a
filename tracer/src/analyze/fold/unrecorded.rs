//! Waits without a record of their own: of most only the shape is known, and so no more than a kind.

use std::collections::BTreeMap;

use tracer_common::Shape;

use crate::analyze::sums::Sums;
use crate::trace::records::{BelowSums, Class, Kind, LockRecord, ShapeSums, Totals};
use crate::units::{LockIndex, Ns};

/// Waits without a record of their own that belong to no lock and no thread, by kind and class.
#[derive(Debug)]
pub(in crate::analyze) struct Unrecorded {
    /// Below the threshold.
    pub(in crate::analyze) below: BTreeMap<(Kind, Class), Sums>,
    /// Their record was lost.
    pub(in crate::analyze) lost: BTreeMap<(Kind, Class), Sums>,
    /// Beyond the limit.
    pub(in crate::analyze) limited: BTreeMap<(Kind, Class), Sums>,
}

impl Unrecorded {
    pub(super) fn of(totals: &Totals, names: &BTreeMap<LockIndex, LockRecord>) -> Self {
        Self {
            below: by_lock(&totals.below, &totals.below_locks, names),
            lost: by_lock(&totals.lost, &totals.lost_locks, names),
            limited: by_lock(&totals.limited, &totals.limited_locks, names),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&(Kind, Class), &Sums)> {
        self.below.iter().chain(&self.lost).chain(&self.limited)
    }
}

fn by_shape(sums: &BTreeMap<u32, ShapeSums>) -> BTreeMap<(Kind, Class), Sums> {
    let mut out = BTreeMap::new();
    for (&shape, sums) in sums {
        let key = Shape::from_u32(shape)
            .map_or((Kind::Unclassified, Class::Unclassified), Kind::of_shape);
        *out.entry(key).or_insert_with(Sums::default) += Sums::from(sums);
    }
    out
}

/// Those of known locks are of these locks' kinds, the others of their shape's.
fn by_lock(
    by_shapes: &BTreeMap<u32, ShapeSums>,
    locks: &[BelowSums],
    names: &BTreeMap<LockIndex, LockRecord>,
) -> BTreeMap<(Kind, Class), Sums> {
    let mut rest = by_shapes.clone();
    let mut known = Vec::new();
    for below in locks {
        let Some(lock) = names.get(&below.lock) else { continue };
        let Some(all) = rest.get_mut(&below.shape) else { continue };
        // A part is never more than the whole, whatever a hostile file says.
        let part = ShapeSums {
            waits: below.sums.waits.min(all.waits),
            blocked: below.sums.blocked.min(all.blocked),
            runq: below.sums.runq.min(all.runq),
            max: below.sums.max.min(all.max),
        };
        all.waits -= part.waits;
        all.blocked = Ns(all.blocked.0 - part.blocked.0);
        all.runq = Ns(all.runq.0 - part.runq.0);
        known.push(((lock.kind, lock.class), Sums::from(&part)));
    }
    rest.retain(|_, sums| *sums != ShapeSums { max: sums.max, ..ShapeSums::default() });
    let mut out = by_shape(&rest);
    for (key, sums) in known {
        *out.entry(key).or_default() += sums;
    }
    out
}
