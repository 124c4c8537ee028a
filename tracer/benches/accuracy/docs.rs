//! The part of a document that a command writes, between two markers.

use anyhow::{Context, Result, ensure};

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
