//! The tables, as Markdown that is also readable as it is.

use tracer::units::Ns;

use super::measure::{Outcome, Row};
use super::score::{Share, at_share};
use super::workloads::WorkloadRow;

/// The table of truth programs.
pub(crate) fn truth(rows: &[Row]) -> String {
    let head = [
        "family",
        "python",
        "waits",
        "wait (p50)",
        "seen",
        "kind",
        "class",
        "name",
        "address",
        "time",
        "off (p99)",
        "other side",
        "parts",
        "unclassified",
        "contention",
    ];
    let cells = rows.iter().filter_map(|row| {
        let mut cells = vec![row.family.clone(), row.version.clone()];
        match &row.outcome {
            Outcome::NotHere => return None,
            Outcome::Failed(_) => cells.push("not measured".to_owned()),
            Outcome::Measured(score) => {
                cells.push(score.matched.of.to_string());
                cells.push(at(&score.true_ns, 0.5));
                let before =
                    [score.matched, score.kind, score.class, score.name, score.address, score.time];
                cells.extend(before.map(percent));
                cells.push(at(&score.off_ns, 0.99));
                let after = [score.holder, score.parts, score.unclassified, score.contention];
                cells.extend(after.map(percent));
            }
        }
        Some(cells)
    });
    markdown(&head, cells)
}

/// What this share of them is at most.
fn at(ns: &[u64], share: f64) -> String {
    at_share(ns, share).map_or("–".to_owned(), |ns| Ns(ns).to_string())
}

/// The table of workloads.
pub(crate) fn workloads(rows: &[WorkloadRow]) -> String {
    let head =
        ["workload", "python", "waits", "waited", "unclassified", "contention", "tied to no lock"];
    let cells = rows.iter().map(|row| {
        let mut cells = vec![row.name.clone(), row.version.clone()];
        match &row.outcome {
            Err(_) => cells.push("not measured".to_owned()),
            Ok(shares) => cells.extend([
                shares.waits.to_string(),
                Ns(shares.wait_ns).to_string(),
                percent(shares.unclassified),
                percent(shares.contention),
                Ns(shares.yielded_unattributed_ns).to_string(),
            ]),
        }
        cells
    });
    markdown(&head, cells)
}

/// Never rounded to all or nothing: `100 %` is all, `0 %` is nothing.
pub(crate) fn percent(share: Share) -> String {
    let Some(fraction) = share.fraction() else { return "–".to_owned() };
    let percent = fraction * 100.0;
    match share.part {
        0 => "0 %".to_owned(),
        part if part == share.of => "100 %".to_owned(),
        _ if percent < 0.01 => "<0.01 %".to_owned(),
        _ if percent < 1.0 => format!("{percent:.2} %"),
        _ if percent > 99.9 => ">99.9 %".to_owned(),
        _ => format!("{percent:.1} %"),
    }
}

/// Cells missing at the end of a row are empty.
pub(crate) fn markdown(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        })
        .collect();
    let line = |cells: &[String]| {
        let cell = |(column, &width): (usize, &usize)| {
            let cell = cells.get(column).map_or("", String::as_str);
            // Words to the left, numbers to the right.
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        };
        format!("| {} |\n", widths.iter().enumerate().map(cell).collect::<Vec<_>>().join(" | "))
    };
    let rule = |(column, &width): (usize, &usize)| {
        if column < 2 { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
    };
    let rules: Vec<String> = widths.iter().enumerate().map(rule).collect();
    let mut out = line(&head) + &line(&rules);
    rows.iter().for_each(|row| out.push_str(&line(row)));
    out
}
