//! How much of what happened is in the report.

use serde_json::{Map, Value, json};

use crate::analyze::Summary;

pub(super) fn completeness(summary: &Summary) -> Value {
    let c = &summary.completeness;
    json!({
        "waits": c.waits(),
        "events": c.events,
        "lost": c.lost,
        "energy_switches_unseen": c.unseen.map(|unseen| json!({
            "switches": unseen.switches,
            "cpu_time_at_most_ns": unseen.at_most,
            "of_cpu_time_ns": unseen.of,
            "little": unseen.is_little(),
        })),
        "lost_waits": c.lost_waits,
        "below_min_wait": c.below,
        "below_by_lock": c.placed,
        "rate_limited": c.limited,
        "unclassified": c.unclassified.waits,
        "unclassified_ns": c.unclassified.wait(),
        "stacks_lost": c.stacks_lost(),
        "stacks_missing": c.stacks_missing.iter()
            .map(|(reason, n)| (reason.name().to_owned(), Value::from(*n)))
            .collect::<Map<_, _>>(),
        "stacks_truncated": c.stacks_truncated,
        "spins_unattributed": c.spins_unattributed,
        "yielded_unattributed_ns": c.yielded_unattributed,
        "sampled": summary.sampling.map(|sampling| json!({
            "ticks": sampling.ticks,
            "target": sampling.target,
            "spinning": sampling.spinning,
            "ambiguous": sampling.ambiguous,
            "inexact_functions": sampling.inexact,
        })),
        "woken_before_sleep": c.woken_before_sleep,
        "wake_unseen": c.wake_unseen,
        "switch_in_unseen": c.switch_in_unseen,
        "places_estimated": c.places_estimated,
        "futex_switches": c.futex_switches,
        "closed": c.file.closed,
        "cut": c.file.cut,
        "damage": c.file.damage,
        "unknown_chunks": c.file.unknown_chunks,
        "left_out": c.file.left_out,
        "graph_late": summary.graph.late,
        "chains_not_followed": summary.graph.not_followed,
        "crowded": {
            "threads": c.crowded.cells,
            "waiters": c.crowded.waiting,
            "holders": c.crowded.holding,
            "pairs": c.crowded.pairs,
            "links": c.crowded.links,
            "yielders": c.crowded.yielders,
            "yielding": c.crowded.yielding,
        },
        "chains_unfollowed": summary.graph.unfollowed,
        "chains_left_out_ns": summary.graph.chains_left_out,
        "graph_locks_left_out": summary.graph.locks_left_out,
    })
}
