//! Verdicts added up.

use anyhow::Result;
use tracer::analyze::Summary;
use tracer::trace::records::Class;

use super::matching::{Verdict, judge, parts_fill};
use super::seen::{Recording, Seen};
use super::truth::{Account, Truth};

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// How many are so.
    pub(crate) part: u64,
    /// How many there are.
    pub(crate) of: u64,
}

impl Share {
    /// Counts one more.
    pub(crate) fn count(&mut self, so: bool) {
        self.of += 1;
        self.part += u64::from(so);
    }

    /// The part as a number from 0 to 1; none of nothing.
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    pub(crate) fn fraction(self) -> Option<f64> {
        (self.of > 0).then(|| self.part as f64 / self.of as f64)
    }
}

/// What one program on one interpreter came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Score {
    /// Waits of the truth that were seen at all. All other shares are of those seen.
    pub(crate) matched: Share,
    /// Kind.
    pub(crate) kind: Share,
    /// Class.
    pub(crate) class: Share,
    /// Name.
    pub(crate) name: Share,
    /// Address, of those that have one.
    pub(crate) address: Share,
    /// Time within the tolerance.
    pub(crate) time: Share,
    /// The other side, of those of which it is known.
    pub(crate) holder: Share,
    /// Recorded waits whose parts fill them.
    pub(crate) parts: Share,
    /// Time of recorded waits in nanoseconds that is unclassified, of all.
    pub(crate) unclassified: Share,
    /// The same of contention.
    pub(crate) contention: Share,
    /// How long the waits seen were in truth, shortest first.
    pub(crate) true_ns: Vec<u64>,
    /// How far the times are off, least first.
    pub(crate) off_ns: Vec<u64>,
    /// What the program took for waits though it slept in none of them: in no share.
    pub(crate) awake: u64,
    /// Waits that were lost, of any reason.
    pub(crate) lost: u64,
    /// What was wrong, a few of each kind.
    pub(crate) wrong: Vec<String>,
}

/// What is shown of one score's faults.
const MAX_WRONG: usize = 12;

/// Compares a program's account with what was recorded of it.
///
/// # Errors
/// If the account lacks a cost.
pub(crate) fn score(account: &Account, recording: &Recording) -> Result<Score> {
    let mut score = Score::default();
    for truth in &account.waits {
        let duration = account.duration(truth)?;
        let recorded = recording.waits.get(&truth.tid).map_or(&[][..], Vec::as_slice);
        let verdict = judge(truth, duration, recorded);
        // Long, but it never slept: what took its CPU away was another program, not a lock.
        if verdict.is_none() && truth.slept == Some(0) {
            score.awake += 1;
            continue;
        }
        score.take(truth, duration, verdict);
    }
    for seen in recording.waits.values().flatten() {
        score.fill(seen);
    }
    score.shares(&recording.summary);
    score.true_ns.sort_unstable();
    score.off_ns.sort_unstable();
    Ok(score)
}

impl Score {
    fn take(&mut self, truth: &Truth, duration: u64, verdict: Option<Verdict>) {
        self.matched.count(verdict.is_some());
        let Some(verdict) = verdict else {
            self.fault(truth, duration, "not seen");
            return;
        };
        self.kind.count(verdict.kind);
        self.class.count(verdict.class);
        self.name.count(verdict.name);
        self.time.count(verdict.time);
        for (share, known) in
            [(&mut self.address, verdict.address), (&mut self.holder, verdict.holder)]
        {
            if let Some(right) = known {
                share.count(right);
            }
        }
        self.true_ns.push(duration);
        self.off_ns.push(verdict.off_ns.unsigned_abs());
        if verdict != verdict.clone().all_right() {
            let off = format!("{}, off by {} ns", verdict.recorded, verdict.off_ns);
            let off = match verdict.off_asleep_ns {
                Some(asleep) => format!("{off}, its sleep by {asleep} ns"),
                None => format!("{off}, and lost its CPU {} times", truth.lost_cpu),
            };
            self.fault(truth, duration, &off);
        }
    }

    fn fault(&mut self, truth: &Truth, duration: u64, recorded: &str) {
        if self.wrong.len() < MAX_WRONG {
            self.wrong.push(format!(
                "{} {} {} {} holder {:?} by {} for {duration} ns from {}: {recorded}",
                truth.class,
                truth.kind,
                truth.name,
                truth.address.as_deref().unwrap_or("-"),
                truth.holder_tid,
                truth.op,
                truth.start_ns,
            ));
        }
    }

    fn fill(&mut self, seen: &Seen) {
        let fills = parts_fill(seen);
        self.parts.count(fills);
        if !fills && self.wrong.len() < MAX_WRONG {
            self.wrong.push(format!("parts don't fill it: {:?}", seen.wait));
        }
    }

    fn shares(&mut self, summary: &Summary) {
        let of = summary.totals.wait().0;
        let part = |class| Share { part: summary.class(class).wait().0, of };
        (self.unclassified, self.contention) = (part(Class::Unclassified), part(Class::Contention));
        self.lost = summary.completeness.lost_waits;
    }
}

/// What this share of them is at most. They are in order.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among a few thousand"
)]
pub(crate) fn at_share(ns: &[u64], share: f64) -> Option<u64> {
    let last = ns.len().checked_sub(1)?;
    let rank = (ns.len() as f64 * share).ceil() as usize;
    ns.get(rank.saturating_sub(1).min(last)).copied()
}

impl Verdict {
    fn all_right(mut self) -> Self {
        (self.kind, self.class, self.name, self.time) = (true, true, true, true);
        self.address = self.address.map(|_| true);
        self.holder = self.holder.map(|_| true);
        self
    }
}
