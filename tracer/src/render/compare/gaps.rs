//! What is missing in the runs of a comparison, in words.

use super::super::completeness::{condition_words, unseen as unseen_words};
use super::super::energy::became;
use super::super::escape;
use super::super::text::percent;
use super::{About, LETTERS};
use crate::analyze::compare::{Gap, Incomplete};
use crate::analyze::completeness::UNSEEN_SWITCHES;
use crate::analyze::{Completeness, UnseenSwitches};
use crate::units::Ns;

/// So much of a command is shown where it is one of many words.
const WIDE: usize = 60;

/// A line for each run of which something is missing, and one for what most short runs have.
pub(super) fn lines(incomplete: &[Incomplete], runs: usize, about: &About) -> String {
    let (unseen, others): (Vec<_>, Vec<_>) =
        incomplete.iter().partition(|one| only_unseen(one).is_some());
    let others = others.into_iter().map(|one| told(one, about));
    let unseen: Vec<_> = unseen.into_iter().filter_map(only_unseen).collect();
    others.collect::<String>() + &all_unseen(&unseen, 2 * runs)
}

/// Switches of a CPU that were not seen, if that is all that is missing in a run.
fn only_unseen(one: &Incomplete) -> Option<UnseenSwitches> {
    let [Gap::Lost(completeness)] = &one.gaps[..] else { return None };
    let unseen = completeness.unseen.filter(|unseen| unseen.at_most.is_some())?;
    let mut others = (**completeness).clone();
    others.lost.remove(UNSEEN_SWITCHES);
    others.whole().then_some(unseen)
}

/// They are of most short runs: a line for all of them, with the bound.
fn all_unseen(unseen: &[UnseenSwitches], runs: usize) -> String {
    let sum = |of: fn(&UnseenSwitches) -> Ns| unseen.iter().map(of).sum::<Ns>();
    let (at_most, all) = (sum(|one| one.at_most.unwrap_or_default()), sum(|one| one.of));
    if unseen.is_empty() {
        return String::new();
    }
    format!(
        " energy: in {} of {runs} runs switches of a CPU were not seen: at most {at_most} of {all} of their \
         CPU time ({}) may be in the wrong hands; time waited does not depend on it\n",
        unseen.len(),
        percent(at_most, all)
    )
}

/// A line for a run of which something is missing.
fn told(one: &Incomplete, about: &About) -> String {
    let reasons: Vec<_> = one.gaps.iter().map(gap).collect();
    let out = if one.no_energy() { "; its pair is in no row of energy" } else { "" };
    format!(
        " INCOMPLETE: run {} of {} ({}): {}{out}\n",
        one.run,
        LETTERS[one.command],
        shortened(&about.commands[one.command]),
        reasons.join("; ")
    )
}

/// Why a run is incomplete.
pub(super) fn gap(gap: &Gap) -> String {
    match gap {
        Gap::Lost(completeness) => lost(completeness),
        Gap::Counter { name, known, since, unknown, .. } => {
            let (name, what) = (escape::name(name), became(*known));
            format!(
                "the counter of {name} {what} {since} after the first reading; {unknown} of its \
                 energy are not known"
            )
        }
        Gap::Still { name } => {
            format!("the counter of {} did not move once", escape::name(name))
        }
        Gap::OtherCounters => "its counters are not those of the others".to_owned(),
        Gap::Unaccounted { lost, of } => format!(
            "{lost} of {of} of CPU time are not accounted for, and their energy is attributed to \
             nobody"
        ),
    }
}

/// What a recording lost. Switches unseen are no waits, and have words of their own.
pub(super) fn lost(completeness: &Completeness) -> String {
    let mut others = completeness.clone();
    let unseen = others.unseen.take().filter(|unseen| !unseen.is_little());
    if unseen.is_some() {
        others.lost.remove(UNSEEN_SWITCHES);
    }
    let switches = unseen.map(|unseen| unseen_words(&unseen));
    let others = (!others.whole()).then(|| condition_words(&others));
    others.into_iter().chain(switches).collect::<Vec<_>>().join("; ")
}

/// A command in a line.
fn shortened(command: &str) -> String {
    let mut chars = command.chars();
    let begin: String = chars.by_ref().take(WIDE).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    escape::whole(&begin) + more
}
