//! Whether what was recorded of a wait is true.

use super::seen::Seen;
use super::truth::Truth;

/// A recorded wait may reach this far beyond the stamps around it. Both sides read the same clock,
/// so nothing should; a wait that touches a neighbour's stamps by less is not that neighbour's.
pub(crate) const SLACK_NS: u64 = 20_000;

/// The recorded time may be this far from the truth, or [`TOLERANCE_PARTS`], whichever is more.
pub(crate) const TOLERANCE_NS: u64 = 50_000;

/// One part in so many: 1 %.
pub(crate) const TOLERANCE_PARTS: u64 = 100;

/// What is right about one wait. Columns that the truth says nothing about are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Its kind.
    pub(crate) kind: bool,
    /// Its class.
    pub(crate) class: bool,
    /// The name of what was waited for.
    pub(crate) name: bool,
    /// Its address.
    pub(crate) address: Option<bool>,
    /// The time is within the tolerance.
    pub(crate) time: bool,
    /// Who was in the way, or ended the wait.
    pub(crate) holder: Option<bool>,
    /// Recorded time minus true time.
    pub(crate) off_ns: i64,
    /// Recorded time off the CPU minus the time that the thread slept, if it left its CPU for nothing else:
    /// which of the two clocks is right, if they disagree.
    pub(crate) off_asleep_ns: Option<i64>,
    /// What was recorded, in words.
    pub(crate) recorded: String,
}

/// Compares a wait that lasted for `duration` with the recorded ones of its thread; none if none
/// of them falls into it.
///
/// A thread that waited for a lock then waits for the GIL: the truth is the time of all of it, so
/// the times of all recorded waits between the stamps are added, each from its beginning to its end:
/// who wakes up by itself in a wait, looks, and sleeps again, still waits. Kind, name and so on are
/// those of the longest.
pub(crate) fn judge(truth: &Truth, duration: u64, recorded: &[Seen]) -> Option<Verdict> {
    let between: Vec<&Seen> = recorded.iter().filter(|seen| overlaps(truth, seen)).collect();
    let slept = between.iter().filter(|seen| !seen.is_yields());
    let main = slept.max_by_key(|seen| seen.wait.total())?;
    let off_cpu: u64 = between.iter().map(|seen| seen.wait.total().0).sum();
    let time: u64 = off_cpu + between.iter().map(|seen| seen.awake_ns()).sum::<u64>();
    let address = main.lock.address.to_string();
    let right = |known: &Option<String>| known.as_ref().map(|known| *known == address);
    Some(Verdict {
        kind: main.lock.kind.name() == truth.kind,
        class: main.lock.class.name() == truth.class,
        // A pause's name goes on to say for whom.
        name: main.lock.name == truth.name
            || truth.kind == "stop_the_world" && main.lock.name.starts_with(&truth.name),
        address: right(&truth.address)
            .map(|exact| exact || right(&truth.or_address).unwrap_or(false)),
        time: within_tolerance(time, duration),
        holder: truth.holder_tid.map(|tid| main.holder_tid == Some(tid)),
        off_ns: time.cast_signed() - duration.cast_signed(),
        off_asleep_ns: truth.asleep().map(|asleep| off_cpu.cast_signed() - asleep.cast_signed()),
        recorded: format!(
            "{} {} {} {address} holder {:?} {}",
            main.lock.class.name(),
            main.lock.kind.name(),
            main.lock.name,
            main.holder_tid,
            course(truth, &between),
        ),
    })
}

/// What happened between the stamps, in microseconds: `(…)` on the CPU, or nothing recorded;
/// blocked+run queue, by kind; `~` time on the CPU between episodes.
fn course(truth: &Truth, between: &[&Seen]) -> String {
    let (mut at, mut course) = (truth.start_ns, String::new());
    for seen in between {
        let wait = &seen.wait;
        let gap = (wait.start.0.cast_signed() - at.cast_signed()) / 1000;
        let inside = wait.awake().0 / 1000;
        let (kind, blocked, runq) =
            (seen.lock.kind.name(), wait.blocked.0 / 1000, wait.runq.0 / 1000);
        course += &format!("({gap}) {kind} {blocked}+{runq}~{inside}/{} ", wait.episodes);
        at = wait.end.0;
    }
    format!("{course}({})", (truth.end_ns.cast_signed() - at.cast_signed()) / 1000)
}

/// More of it than slack lies between the stamps, or all of it.
fn overlaps(truth: &Truth, seen: &Seen) -> bool {
    let (start, end) = (seen.wait.start.0, seen.wait.end.0);
    let common = end.min(truth.end_ns).saturating_sub(start.max(truth.start_ns));
    common > SLACK_NS || (start >= truth.start_ns && end <= truth.end_ns)
}

fn within_tolerance(recorded: u64, truth: u64) -> bool {
    recorded.abs_diff(truth) <= TOLERANCE_NS.max(truth / TOLERANCE_PARTS)
}

/// The parts of a wait fill it exactly: blocked and run-queue time follow each other from its
/// beginning to its end, and only stitched episodes have time on the CPU between them.
pub(crate) fn parts_fill(seen: &Seen) -> bool {
    let wait = &seen.wait;
    let Some(whole) = wait.end.0.checked_sub(wait.start.0) else { return false };
    match wait.blocked.0.checked_add(wait.runq.0) {
        Some(parts) if wait.episodes == 1 => parts == whole,
        Some(parts) => parts <= whole,
        None => false,
    }
}
