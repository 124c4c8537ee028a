//! The rows of a comparison, each with what it is and how surely.

use super::super::rows::Rows;
use crate::analyze::compare::{Difference, Energy, Waiting};
use crate::energy::{Microjoules, Watts};
use crate::trace::energy::EnergySource;
use crate::units::Ns;

/// What a figure is in.
type Unit = fn(f64) -> String;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floating point saturate"
)]
pub(super) fn time(ns: f64) -> String {
    Ns(ns as u64).to_string()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floating point saturate"
)]
fn energy(uj: f64) -> String {
    Microjoules(uj as u64).to_string()
}

fn power(watts: f64) -> String {
    Watts(watts).to_string()
}

/// The rows, one after the other.
pub(super) struct Table(pub(super) Rows);

impl Table {
    pub(super) fn row(&mut self, what: &str, one: &Difference, unit: Unit) {
        self.0.row(Ns(0), || {
            let change = one.change();
            let sign = if change < 0.0 { "−" } else { "+" };
            let half = one.half.map_or_else(|| "-".to_owned(), |half| format!("±{}", unit(half)));
            let sure = if one.is_sure() { "yes" } else { "no" };
            vec![
                what.to_owned(),
                unit(one.a),
                unit(one.b),
                format!("{sign}{}", unit(change.abs())),
                half,
                sure.to_owned(),
            ]
        });
    }

    fn unknown(&mut self, what: &str) {
        self.0.row(Ns(0), || {
            let mut cells = vec![what.to_owned()];
            cells.extend(["not known", "not known", "-", "-", "-"].map(str::to_owned));
            cells
        });
    }

    pub(super) fn waiting(&mut self, waiting: Option<&Waiting>) {
        let Some(waiting) = waiting else {
            self.unknown("  waiting on the CPU (neither sampled nor timed)");
            return;
        };
        let what = if waiting.futex { "spinning and futex calls" } else { "spinning" };
        let how = waiting.source.name();
        self.row(&format!("  waiting on the CPU: {what} ({how})"), &waiting.time, time);
        self.row("  rest of CPU time: not explained by that", &waiting.rest, time);
    }

    pub(super) fn energy(&mut self, found: &Energy, source: &EnergySource) {
        let (read, given) = (source.quality.name(), source.quality.attributed());
        self.row(&format!("energy, all that is counted ({read})"), &found.all, energy);
        self.row(&format!("  of the command ({given})"), &found.target, energy);
        match &found.waiting {
            Some(one) => {
                let on_cpu = format!("    waiting on the CPU ({given})");
                self.row(&on_cpu, &one.waiting, energy);
                self.row(&format!("    rest of the command ({given})"), &one.target_rest, energy);
            }
            None => self.unknown(&format!("    waiting on the CPU ({given})")),
        }
        self.row(&format!("  rest of the machine ({given})"), &found.others, energy);
        if source.idle_policy() == "calibrated" {
            self.row(
                "    of that, baseline (attributed: idle power × time)",
                &found.baseline,
                energy,
            );
        }
        if let Some(one) = &found.waiting {
            let what = format!("  both rests: not explained by waiting ({given})");
            self.row(&what, &one.unexplained, energy);
        }
        self.row(&format!("average power ({read})"), &found.watts, power);
    }
}
