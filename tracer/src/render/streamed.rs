//! What came of a recording whose trace went into a pipe, in one line: from its counters alone.

use super::answer::beyond_the_limit;
use super::escape;
use super::text::{count, plural};
use crate::analyze::UNSEEN_SWITCHES;
use crate::trace::records::{ShapeSums, Totals};
use crate::units::Ns;

/// `INCOMPLETE: 3 of 1,000 waits lost; losses: ring_full_wait 3; 990 waits with a record, …`
#[must_use]
pub fn streamed(totals: &Totals, min_wait: Ns, duration: Ns) -> String {
    let waits = |sums: &std::collections::BTreeMap<u32, ShapeSums>| {
        sums.values().fold(0u64, |sum, one| sum.saturating_add(one.waits))
    };
    let below = waits(&totals.below).saturating_add(totals.short_waits);
    let (limited, lost) = (waits(&totals.limited), waits(&totals.lost));
    let all = totals.events.saturating_add(below).saturating_add(limited).saturating_add(lost);
    // Of these a report says how much they can change.
    let losses = totals.drops.iter().filter(|(name, n)| **n > 0 && *name != UNSEEN_SWITCHES);
    let losses: Vec<_> =
        losses.map(|(name, n)| format!("{} {}", escape::name(name), count(*n))).collect();
    let mut head = Vec::new();
    if lost > 0 {
        head.push(format!("{} of {} lost", count(lost), plural(all, "wait")));
    }
    if !losses.is_empty() {
        head.push(format!("losses: {}", losses.join(", ")));
    }
    let mut words = vec![format!("{} with a record", plural(totals.events, "wait"))];
    if below > 0 {
        words.push(format!("{} below {min_wait} summed up", count(below)));
    }
    let beyond = beyond_the_limit(limited);
    if head.is_empty() {
        words.push("none lost".to_owned());
        let but = beyond.map_or_else(String::new, |beyond| format!(", but {beyond}"));
        return format!("complete{but}: {} in {duration}", words.join(", "));
    }
    words.extend(beyond);
    format!("INCOMPLETE: {}; {} in {duration}", head.join("; "), words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(waits: u64) -> std::collections::BTreeMap<u32, ShapeSums> {
        [(1, ShapeSums { waits, ..ShapeSums::default() })].into()
    }

    #[test]
    fn what_is_missing_is_said_first() {
        let mut totals =
            Totals { events: 900, short_waits: 40, below: sums(10), ..Totals::default() };
        let line = |totals: &Totals| streamed(totals, Ns(10_000), Ns(2_000_000_000));
        assert_eq!(
            line(&totals),
            "complete: 900 waits with a record, 50 below 10.0 µs summed up, none lost in 2.00 s"
        );
        totals.limited = sums(20);
        totals.drops.insert(UNSEEN_SWITCHES.to_owned(), 7);
        let text = line(&totals);
        assert!(text.starts_with("complete, but 20 waits beyond the limit"), "{text}");
        totals.lost = sums(30);
        totals.drops.insert("ring_full_wait".to_owned(), 30);
        let text = line(&totals);
        let begin = "INCOMPLETE: 30 of 1,000 waits lost; losses: ring_full_wait 30; 900 waits";
        assert!(text.starts_with(begin) && text.contains("20 waits beyond the limit"), "{text}");
    }
}
