//! The answer in words: which lock costs most, and how far the figures can be trusted.

use super::completeness::{condition_words, stacks_lost_words, unseen_words};
use super::escape;
use super::place;
use super::tables::spin_words;
use super::text::{count, percent, plural};
use super::uprobes::cost_words;
use crate::analyze::{LockSummary, Site, SiteSums, Source, SpinSource, Summary, Sums};
use crate::trace::records::{Class, LockRecord};

/// Two or three sentences, a line each, the most important first.
#[must_use]
pub fn answer(summary: &Summary) -> String {
    let contention = summary.class(Class::Contention);
    let unclassified = summary.class(Class::Unclassified);
    let mut lines = Vec::new();
    match summary.locks_of(Class::Contention).next() {
        Some(lock) if summary.lost(&lock.sums).0 > 0 => {
            lines.push(format!(
                "{} costs most: {} of contention, {}.",
                label(summary, &lock.lock),
                percent(summary.lost(&lock.sums), summary.lost(&contention)),
                cost(summary, lock)
            ));
            lines.extend(place_words(summary, lock));
            lines.push(format!(
                "Contention in all: {} in {}{} over {}.",
                contention.wait(),
                times(&contention),
                spinning(summary, &contention),
                summary.duration
            ));
        }
        _ if contention.wait().0 > 0 => lines.push(format!(
            "Contention: {} in {} over {}, all of it below the threshold of {} or lost, so that \
             no lock can be named.",
            contention.wait(),
            times(&contention),
            summary.duration,
            summary.meta.options.min_wait
        )),
        _ if summary.totals.waits == 0
            && summary.totals.spins == 0
            && summary.totals.samples == 0 =>
        {
            lines.push(format!("No waits were recorded in {}.", summary.duration));
        }
        _ => lines.push(format!("No contention was recorded in {}.", summary.duration)),
    }
    if summary.lost(&unclassified) > summary.lost(&contention) {
        let most = summary.locks_of(Class::Unclassified).next();
        let place = most.and_then(|lock| place_words(summary, lock));
        lines.push(format!(
            "More is unclassified, contention or idling: {} in {}{}{}.",
            unclassified.wait(),
            times(&unclassified),
            spinning(summary, &unclassified),
            most.map_or_else(String::new, |lock| format!(
                "; most of it {}: {}",
                label(summary, &lock.lock),
                cost(summary, lock)
            ))
        ));
        lines.extend(place);
    }
    lines.extend(cost_words(summary));
    let c = &summary.completeness;
    if c.whole() {
        let lost = stacks_lost_words(c).map_or_else(String::new, |words| format!(", {words}"));
        let but =
            beyond_the_limit(c.limited).map_or_else(String::new, |words| format!(", but {words}"));
        lines.push(format!("Complete{but}: {}{lost}.", recorded(summary)));
    } else {
        lines.push(format!("INCOMPLETE: {}; {}.", condition_words(c), recorded(summary)));
    }
    lines.join("\n") + "\n"
}

/// What was beyond the limit; none if nothing was.
pub(super) fn beyond_the_limit(waits: u64) -> Option<String> {
    let verb = if waits == 1 { "has" } else { "have" };
    (waits > 0).then(|| {
        format!(
            "{} beyond the limit (--max-events-per-sec) {verb} no record",
            plural(waits, "wait")
        )
    })
}

/// How much there is a record of, and how much of the time has no verdict.
fn recorded(summary: &Summary) -> String {
    let c = &summary.completeness;
    let mut words = vec![format!("{} with a record", plural(c.events, "wait"))];
    if c.below > 0 {
        let threshold = summary.meta.options.min_wait;
        let (placed, other) = (c.placed, c.below.saturating_sub(c.placed));
        if placed > 0 {
            words.push(format!("{} below {threshold} summed up by lock and place", count(placed)));
        }
        if other > 0 {
            words.push(format!("{} below {threshold} summed up by kind", count(other)));
        }
    }
    if c.limited > 0 {
        words.push(format!("{} beyond the limit summed up by kind", count(c.limited)));
    }
    if c.lost_waits == 0 {
        words.push("none lost".to_owned());
    }
    if summary.totals.wait().0 > 0 {
        let share = percent(c.unclassified.wait(), summary.totals.wait());
        words.push(format!("{share} of the time unclassified"));
    }
    if c.spins_unattributed > 0 {
        words.push(format!("{} tied to no lock", plural(c.spins_unattributed, "yield")));
    }
    words.extend(unseen_words(c));
    words.join(", ")
}

/// At which lines a lock is waited for, and held, for the longest time, if that is known.
fn place_words(summary: &Summary, lock: &LockSummary) -> Option<String> {
    // The first of a known place: the lists are sorted.
    let first = |sites: &[SiteSums]| {
        sites
            .iter()
            .find(|one| matches!(one.site, Site::Frame(_)) && one.sums.wait().0 > 0)
            .copied()
    };
    let words = |what: &str, one: SiteSums, whole, of: &str| {
        let share = percent(one.sums.wait(), whole);
        let site = place::site(&summary.stacks, one.site);
        format!("{what} above all at {site}, {share} of {of}")
    };
    let waited = first(&lock.waiters).map(|one| words("waited for", one, lock.sums.wait(), "that"));
    let held = first(&lock.holders).map(|one| {
        let what = match one.source {
            Source::Owner | Source::None => "held",
            Source::OwnerUnverified => "held (unverified)",
            Source::Waker => "let go",
        };
        // Yields have no other side.
        let yields = lock.sums.yielded.0 > 0;
        let of = if yields { "the waits without yields" } else { "that" };
        words(what, one, lock.sums.blocked + lock.sums.runq, of)
    });
    match (waited, held) {
        (None, None) => None,
        (waited, held) => {
            let words: Vec<_> = waited.into_iter().chain(held).collect();
            Some(format!("It is {}.", words.join("; ")))
        }
    }
}

/// A lock for people: `dict 0x7f…`.
/// If there are several processes, whose it is: `dict 0x7f… (pid 4242)`.
pub(super) fn label(summary: &Summary, lock: &LockRecord) -> String {
    let name = escape::name(&lock.name);
    let name = if name.is_empty() { lock.kind.name().to_owned() } else { name };
    let label = if lock.address.0 == 0 { name } else { format!("{name} {}", lock.address) };
    if !summary.several() {
        return label;
    }
    match (summary.homes.sharers(lock.index), summary.homes.of_lock(lock.index)) {
        (Some(n), _) => format!("{label} (shared by {})", plural_of(n, "process", "processes")),
        (None, Some(of)) => match summary.homes.pid(of) {
            Some(pid) => format!("{label} (pid {})", pid.0),
            None => label,
        },
        (None, None) => label,
    }
}

fn plural_of(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

fn cost(summary: &Summary, lock: &LockSummary) -> String {
    let LockSummary { sums, .. } = lock;
    let spin = spinning(summary, sums);
    format!("{} in {}, longest {}{spin}", sums.wait(), times(sums), sums.max)
}

/// `, and 1.02 s ±4 % spinning (sampled)`, if there was any.
fn spinning(summary: &Summary, sums: &Sums) -> String {
    let Some(spin) = summary.spin(sums).filter(|spin| spin.time.0 > 0) else {
        return String::new();
    };
    let words = spin_words(summary, sums);
    match spin.source {
        SpinSource::Measured => format!(", and {words} spinning"),
        SpinSource::Sampled => format!(", and {words} spinning (sampled)"),
    }
}

fn times(sums: &Sums) -> String {
    let waits = plural(sums.waits, "wait");
    match sums.spins {
        0 => waits,
        n => format!("{waits} and {}", plural(n, "yield")),
    }
}
