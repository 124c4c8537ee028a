//! `lockwatt compare` as text and JSON.

mod gaps;
mod json;
mod table;

use std::fmt::Write;

pub use self::json::json;
use self::table::{Table, time};
use super::energy::rule;
use super::escape;
use super::rows::{Limits, Rows};
use crate::analyze::compare::Comparison;
use crate::trace::energy::EnergySource;

/// What was compared.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Both commands, as they were given.
    pub commands: [String; 2],
    /// The source of all runs, and how its energy is divided.
    pub source: EnergySource,
}

const LETTERS: [&str; 2] = ["A", "B"];

/// The comparison for people.
#[must_use]
pub fn text(comparison: &Comparison, about: &About, top: usize) -> String {
    let limits = Limits { top: usize::MAX, width: None };
    let header = ["", "A", "B", "B − A", "95 % CI", "sure"];
    let mut table = Table(Rows::new(&header, 1, limits));
    table.row("wall time", &comparison.wall, time);
    table.row("CPU time", &comparison.cpu, time);
    table.waiting(comparison.waiting.as_ref());
    if let Some(energy) = &comparison.energy {
        table.energy(energy, &about.source);
    }
    for (what, one) in comparison.kinds.iter().take(top) {
        table.row(&format!("contention, {what}"), one, time);
    }
    for (what, one) in comparison.locks.iter().take(top) {
        table.row(&format!("contention, {}", escape::name(what)), one, time);
    }
    gaps::lines(&comparison.incomplete, comparison.runs, about)
        + &table.0.finish("row")
        + &notes(comparison, about)
}

/// What the figures are, below them.
fn notes(comparison: &Comparison, about: &About) -> String {
    let pairs = |n: usize| format!("{n} pair{}", if n == 1 { "" } else { "s" });
    let mut out = format!(
        " difference between runs, {}, {}; in turns, both traced; whatever else differs between the \
         commands is in it\n",
        pairs(comparison.runs),
        if comparison.runs > 1 { "95 % CI" } else { "and so no interval" }
    );
    if comparison.in_no_lock.a + comparison.in_no_lock.b > 0.0 {
        let _ = writeln!(
            out,
            " contention of waits without a record is in its kind's row and in no lock's: {} of A, {} \
             of B",
            time(comparison.in_no_lock.a),
            time(comparison.in_no_lock.b)
        );
    }
    let source = &about.source;
    if let Some(why) = &source.none_because {
        let _ = writeln!(out, " energy: no live counter ({})", escape::whole(why));
        return out;
    }
    let whole = match &comparison.energy {
        None if !source.domains.iter().any(|domain| domain.split) => {
            "nothing of it can be divided over tasks, and so nothing is compared".to_owned()
        }
        None => "in no pair it is known of both runs throughout, and so nothing is said".to_owned(),
        Some(energy) if energy.pairs < comparison.runs => format!(
            "difference between runs, {} of {}, whose energy is known throughout",
            energy.pairs,
            pairs(comparison.runs)
        ),
        Some(_) => "of all pairs".to_owned(),
    };
    let _ = writeln!(
        out,
        " energy: {whole}; {}, {}; no number of lockwatt's has been validated against RAPL hardware",
        source.quality.name(),
        escape::whole(&source.source)
    );
    let _ = writeln!(out, " rule: {}", rule(source));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::gaps::lost;
    use super::*;
    use crate::analyze::compare::{Gap, OnCpu, Run, RunEnergy};
    use crate::analyze::completeness::UNSEEN_SWITCHES;
    use crate::analyze::{Completeness, SpinSource, UnseenSwitches};
    use crate::energy::{Known, Quality, Watts};
    use crate::trace::energy::IdlePower;
    use crate::units::Ns;

    fn about(quality: Quality) -> About {
        let source = EnergySource {
            source: "powercap (/t)".to_owned(),
            quality,
            idle: vec![Some(IdlePower { watts: Watts(1.0), spread: Watts(0.1) })],
            ..EnergySource::default()
        };
        About { commands: ["./a".to_owned(), "./b\u{1b}[2J".to_owned()], source }
    }

    fn run(source: SpinSource, mj: f64) -> Run {
        let waiting = Some(OnCpu { time: 5e6, source });
        let energy = RunEnergy {
            all: 10.0 * mj * 1e3,
            target: 4.0 * mj * 1e3,
            baseline: mj * 1e3,
            waiting: Some(mj * 1e3),
            watts: 3.0,
        };
        Run { wall: 1e9, cpu: 1e9, waiting, energy: Some(energy), ..Run::default() }
    }

    /// The row that begins with these words.
    fn row<'a>(text: &'a str, words: &str) -> &'a str {
        text.lines()
            .find(|line| line.trim_start().starts_with(words))
            .unwrap_or_else(|| panic!("no {words:?} in\n{text}"))
    }

    #[test]
    fn every_row_says_what_it_is() {
        let (a, b) = (run(SpinSource::Sampled, 1.0), run(SpinSource::Sampled, 2.0));
        let comparison = Comparison::of(&[a, run(SpinSource::Sampled, 1.0)], &[b.clone(), b]);
        let simulated = text(&comparison, &about(Quality::Simulated), 10);
        for (words, cells) in [
            ("energy, all that is counted (simulated)", "10.0 mJ  20.0 mJ  +10.0 mJ"),
            ("of the command (attributed, simulated)", "4.00 mJ  8.00 mJ  +4.00 mJ"),
            ("waiting on the CPU (attributed, simulated)", "1.00 mJ  2.00 mJ  +1.00 mJ"),
            ("rest of the command (attributed, simulated)", "3.00 mJ  6.00 mJ  +3.00 mJ"),
            ("rest of the machine (attributed, simulated)", "6.00 mJ  12.0 mJ  +6.00 mJ"),
            ("of that, baseline", "1.00 mJ  2.00 mJ  +1.00 mJ"),
            ("both rests: not explained by waiting", "9.00 mJ  18.0 mJ  +9.00 mJ"),
            ("average power (simulated)", "3.00 W   3.00 W"),
            ("waiting on the CPU: spinning and futex calls (sampled)", "5.00 ms  5.00 ms"),
            ("rest of CPU time: not explained by that", "995 ms   995 ms"),
        ] {
            let columns = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let row = columns(row(&simulated, words));
            assert!(row.contains(&columns(cells)), "{row} for {cells}");
        }
        for words in [
            "difference between runs, 2 pairs, 95 % CI",
            "simulated, powercap (/t); no number of lockwatt's has been validated against RAPL",
            "rule: divided by on-CPU time of all tasks; calibrated idle power is taken off first",
        ] {
            assert!(simulated.contains(words), "no {words:?} in\n{simulated}");
        }
        assert!(!simulated.contains("INCOMPLETE"), "{simulated}");
        // What most short runs have is told once, with its bound.
        let unseen = |switches| {
            let of = UnseenSwitches { switches, at_most: Some(Ns(30)), of: Ns(1_000) };
            let lost = [(UNSEEN_SWITCHES.to_owned(), switches)].into();
            let gap = Completeness { unseen: Some(of), lost, ..Completeness::default() };
            let whole = run(SpinSource::Sampled, 1.0);
            Run { gaps: vec![Gap::Lost(Box::new(gap))], ..whole }
        };
        let two =
            Comparison::of(&[unseen(1), unseen(2)], &[unseen(3), run(SpinSource::Sampled, 1.0)]);
        let two = text(&two, &about(Quality::Simulated), 10);
        let words = "in 3 of 4 runs switches of a CPU were not seen: at most 90 ns of 3.00 µs of their CPU time (3.0 %)";
        assert!(two.contains(words) && !two.contains("INCOMPLETE"), "{two}");
        let measured = text(&comparison, &about(Quality::Measured), 10);
        assert!(measured.contains("energy, all that is counted (measured)"), "{measured}");
        assert!(measured.contains("  of the command (attributed)"), "{measured}");
        let estimated = text(&comparison, &about(Quality::Estimated), 10);
        assert!(estimated.contains("average power (estimated)"), "{estimated}");
        let timed =
            Comparison::of(&[run(SpinSource::Measured, 1.0)], &[run(SpinSource::Measured, 1.0)]);
        let timed = text(&timed, &about(Quality::Measured), 10);
        assert!(timed.contains("difference between runs, 1 pair, and so no interval"), "{timed}");
        assert!(timed.contains("spinning and futex calls (measured)"), "{timed}");
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let mut unknown = run(SpinSource::Sampled, 1.0);
        unknown.waiting = None;
        unknown.energy = unknown.energy.map(|one| RunEnergy { waiting: None, ..one });
        let comparison = Comparison::of(&[run(SpinSource::Sampled, 1.0)], &[unknown]);
        let out = text(&comparison, &about(Quality::Measured), 10);
        for words in ["waiting on the CPU (neither", "waiting on the CPU (attributed)"] {
            assert_eq!(row(&out, words).matches("not known").count(), 2, "{out}");
        }
        assert!(!out.contains("not explained"), "{out}");
        assert_eq!(json(&comparison, &about(Quality::Measured))["waiting_uj"], Value::Null);
    }

    #[test]
    fn an_incomplete_run_is_told_with_its_command_and_why() {
        let gap = Gap::Counter {
            name: "package-0".to_owned(),
            known: Known::Frozen,
            since: Ns(1_000_000_000),
            unknown: Ns(2_000_000_000),
            compared: true,
        };
        let whole = run(SpinSource::Sampled, 1.0);
        let broken = Run { energy: None, gaps: vec![gap], ..whole.clone() };
        let comparison = Comparison::of(&[whole.clone(), whole.clone()], &[whole, broken]);
        let about = about(Quality::Measured);
        let out = text(&comparison, &about, 10);
        let said = "INCOMPLETE: run 2 of B (./b\\u{1b}[2J): the counter of package-0 stood still 1.00 s \
                    after the first reading; 2.00 s of its energy are not known; its pair is in no row \
                    of energy";
        assert!(out.contains(said), "{out}");
        assert!(out.contains("energy: difference between runs, 1 of 2 pairs"), "{out}");
        let found = json(&comparison, &about);
        assert_eq!(found["incomplete"][0]["command"], "b");
        assert_eq!(
            (&found["incomplete"][0]["run"], &found["energy_pairs"]),
            (&2.into(), &1.into())
        );
        assert_eq!(found["incomplete"][0]["energy_left_out"], true);
        assert_eq!(found["energy_uj"]["half_95"], Value::Null);
    }

    #[test]
    fn switches_unseen_are_no_lost_waits() {
        let unseen = UnseenSwitches { switches: 2, at_most: Some(Ns(10)), of: Ns(20) };
        let mut c = Completeness { unseen: Some(unseen), ..Completeness::default() };
        c.lost.insert(UNSEEN_SWITCHES.to_owned(), 2);
        let words = lost(&c);
        assert!(words.starts_with("energy: 2 switches of a CPU not seen"), "{words}");
        assert!(!words.contains("waits lost"), "{words}");
        c.lost_waits = 5;
        assert!(lost(&c).starts_with("5 of 5 waits lost; energy: 2 switches"), "{}", lost(&c));
    }
}
