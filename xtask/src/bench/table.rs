//! Ratios, their middle and spread, and the tables of docs/benchmarks.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::load::Rates;
use crate::workspace;

/// Fewer voluntary switches a second than this say nothing.
const FEW_SWITCHES: f64 = 50.0;
const DOCS: &str = "docs/benchmarks.md";

/// One tracer's line.
pub(super) struct Row {
    name: &'static str,
    /// Traced against untraced, a ratio per round.
    operations: Vec<f64>,
    switches: Vec<f64>,
    /// Why there is nothing.
    pub(super) missing: Option<String>,
    /// Rounds in which it failed, and why the last time.
    failed: (u32, String),
    /// Traced stretches beside work of others, which no repetition got rid of.
    disturbed: u32,
    /// What lockwatt said of losses.
    lost: Vec<String>,
    complete: u32,
    /// Bytes that it wrote, in the last round.
    bytes: u64,
}

impl Row {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            operations: Vec::new(),
            switches: Vec::new(),
            missing: None,
            failed: (0, String::new()),
            disturbed: 0,
            lost: Vec::new(),
            complete: 0,
            bytes: 0,
        }
    }

    /// A round without it.
    pub(super) fn fail(&mut self, why: String) {
        self.failed = (self.failed.0 + 1, why);
    }

    pub(super) fn add(&mut self, traced: Rates, untraced: Rates) {
        self.disturbed += u32::from(traced.disturbed());
        self.operations.push(traced.operations / untraced.operations);
        if untraced.switches >= FEW_SWITCHES {
            self.switches.push(traced.switches / untraced.switches);
        }
    }

    /// What a tracer said at its end, and what it left in its folder.
    pub(super) fn hear(&mut self, said: &str, folder: &Path) {
        let size = |name| fs::metadata(folder.join(name)).map_or(0, |file| file.len());
        if self.name.starts_with("lockwatt") {
            self.bytes = size("t.lockwatt");
            for line in said.lines().filter(|line| line.contains("with a record")) {
                self.complete += u32::from(line.starts_with("Complete"));
                // "Complete, but …": nothing lost, and not all with a record.
                if !line.starts_with("Complete:") {
                    // What is not recorded comes first; what is follows behind a colon.
                    let words = line.strip_prefix("Complete, but ").unwrap_or(line);
                    let words =
                        words.split_once(" have no record: ").map_or(words, |(first, _)| first);
                    self.lost.push(words.to_owned());
                }
            }
        } else if self.name.starts_with("perf record") {
            self.bytes = size("perf.data");
        }
        let lost = said.lines().filter(|line| {
            !self.name.starts_with("lockwatt") && line.to_lowercase().contains("lost")
        });
        self.lost.extend(lost.map(|line| line.trim().chars().take(100).collect()));
    }

    fn note(&self) -> String {
        if let Some(missing) = &self.missing {
            return missing.replace('|', "/");
        }
        let mut notes = Vec::new();
        if self.failed.0 > 0 {
            let why = self.failed.1.replace('|', "/");
            notes.push(format!("**failed in {} rounds**: {why}", self.failed.0));
        }
        if self.disturbed > 0 {
            let (n, of) = (self.disturbed, self.operations.len());
            notes.push(format!("**others were at work in {n} of {of} stretches**"));
        }
        if self.complete > 0 {
            notes.push(format!("nothing lost in {} of {}", self.complete, self.operations.len()));
        }
        if let Some(last) = self.lost.last() {
            notes.push(last.replace('|', "/"));
        }
        if self.bytes > 0 {
            notes.push(format!("{} KB", thousands(self.bytes as f64 / 1e3)));
        }
        notes.join("; ")
    }
}

/// A workload's table.
pub(super) fn section(title: &str, head: &str, rows: &[Row]) -> String {
    let mut text = format!("### {title}\n\n{head}.\n\n");
    text.push_str(
        "| tracer | rounds | throughput lost | from … to | voluntary switches kept | |\n",
    );
    text.push_str("|---|---|---|---|---|---|\n");
    for row in rows {
        let mut operations = row.operations.clone();
        let mut switches = row.switches.clone();
        let lost = if operations.is_empty() {
            "–".to_owned()
        } else {
            percent(1.0 - median(&mut operations))
        };
        let spread = match (operations.first(), operations.last()) {
            (Some(low), Some(high)) => format!("{} … {}", percent(1.0 - high), percent(1.0 - low)),
            _ => "–".to_owned(),
        };
        let kept =
            if switches.is_empty() { "–".to_owned() } else { percent(median(&mut switches)) };
        let (name, n, note) = (row.name, operations.len(), row.note());
        let _ = writeln!(text, "| {name} | {n} | {lost} | {spread} | {kept} | {note} |");
    }
    text
}

/// Puts a section where the one of the same workload is, or at the end of them all.
pub(super) fn into_docs(title: &str, section: &str) -> Result<()> {
    let path = workspace::root().join(DOCS);
    let docs = fs::read_to_string(&path).with_context(|| format!("reading {DOCS}"))?;
    let docs = replaced(&docs, title, section)
        .with_context(|| format!("{DOCS} has no <!-- overhead: end -->"))?;
    fs::write(&path, docs).with_context(|| format!("writing {DOCS}"))
}

fn replaced(docs: &str, title: &str, section: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {title} -->\n"), format!("<!-- end of {title} -->\n"));
    let new = format!("{begin}{section}{end}");
    if let (Some(from), Some(to)) = (docs.find(&begin), docs.find(&end)) {
        return Some(format!("{}{new}{}", docs.get(..from)?, docs.get(to + end.len()..)?));
    }
    let at = docs.find("<!-- overhead: end -->")?;
    Some(format!("{}{new}\n{}", docs.get(..at)?, docs.get(at..)?))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Sorts, and returns the middle.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 { f64::NAN } else { (values[(n - 1) / 2] + values[n / 2]) / 2.0 }
}

/// Rounded, with commas.
pub(super) fn thousands(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_its_own() {
        let docs = "# B\n<!-- overhead: end -->\nhand-written\n";
        let one = replaced(docs, "token 3.11", "old\n").expect("a place");
        let two = replaced(&one, "token 3.14t", "two\n").expect("a place");
        let three = replaced(&two, "token 3.11", "new\n").expect("a place");
        assert!(three.contains("new") && !three.contains("old") && three.contains("two"));
        assert!(three.ends_with("<!-- overhead: end -->\nhand-written\n"));
        assert_eq!(replaced("nothing", "token", "x"), None);
    }

    #[test]
    fn the_middle_and_the_spread_are_of_the_ratios() {
        let rates = |operations| Rates { operations, switches: 100.0, others: 0.0 };
        let mut row = Row::new("x");
        for traced in [50.0, 80.0, 90.0] {
            row.add(rates(traced), rates(100.0));
        }
        let text = section("t", "h", &[row]);
        assert!(text.contains("| x | 3 | 20.0 % | 10.0 % … 50.0 % | 100.0 % |"), "{text}");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }

    #[test]
    fn failed_rounds_and_disturbed_stretches_are_told() {
        let rates = |operations, others| Rates { operations, switches: 100.0, others };
        let mut row = Row::new("x");
        row.add(rates(90.0, 0.0), rates(100.0, 0.0));
        row.add(rates(80.0, 0.5), rates(100.0, 0.0));
        row.fail("ended at once: no | room".to_owned());
        let text = section("t", "h", &[row]);
        assert!(text.contains("| x | 2 | 15.0 % |"), "{text}");
        assert!(text.contains("**failed in 1 rounds**: ended at once: no / room; "), "{text}");
        assert!(text.contains("**others were at work in 1 of 2 stretches**"), "{text}");
    }
}
