//! The part of a document that a command writes, between two markers.

use anyhow::{Context, Result, ensure};

use super::table::markdown;

/// As [`replace`], but keeps the rows that the new table doesn't have, if its columns are the same: a
/// row is known by its first two cells. Rows are in the order of these.
///
/// # Errors
/// As there.
pub(crate) fn merge(document: &str, name: &str, table: &str) -> Result<String> {
    let [head, new @ ..] = &cells(table)[..] else { return Ok(document.to_owned()) };
    let old = document
        .split_once(&format!("<!-- {name}: begin -->\n"))
        .and_then(|(_, rest)| rest.split_once(&format!("<!-- {name}: end -->")))
        .map(|(old, _)| cells(old))
        .unwrap_or_default();
    let mut rows: Vec<_> = new.to_vec();
    if old.first() == Some(head) {
        let is_new = |row: &[String]| new.iter().any(|new| new.get(..2) == row.get(..2));
        rows.extend(old.into_iter().skip(1).filter(|row| !is_new(row)));
    }
    let order = |row: &Vec<String>| {
        let version = row.get(1).cloned().unwrap_or_default();
        (row.first().cloned(), version.ends_with('t'), version)
    };
    rows.sort_by_key(order);
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    replace(document, name, &markdown(&head, rows.into_iter()))
}

/// The cells of a table's rows, without the rule below its head.
fn cells(table: &str) -> Vec<Vec<String>> {
    let rows = table.lines().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'));
    let rows = rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect());
    rows.filter(|row: &Vec<String>| {
        !row.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')))
    })
    .collect()
}

/// The document with `text` between the markers of this name.
///
/// # Errors
/// If the document has not one of each marker, in this order.
pub(crate) fn replace(document: &str, name: &str, text: &str) -> Result<String> {
    let begin = format!("<!-- {name}: begin -->\n");
    let end = format!("<!-- {name}: end -->");
    let (before, rest) =
        document.split_once(&begin).with_context(|| format!("no `{}`", begin.trim()))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no `{end}` after it"))?;
    ensure!(!after.contains(&begin), "`{}` stands there twice", begin.trim());
    Ok(format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
}
