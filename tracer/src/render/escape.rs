//! Names come from the traced program and may hold anything: here they are made harmless.

use std::fmt::Write;

/// Longest name that is shown, in characters.
const MAX_CHARS: usize = 80;

/// A name for a terminal or an XML text: control characters, line breaks and characters that
/// reorder or hide text are written as `\u{…}`, and what is too long ends in `…`.
#[must_use]
pub fn name(raw: &str) -> String {
    escape(raw, MAX_CHARS, |_| false)
}

/// As [`name`], but whole: for a path in a message, of which every part may matter.
#[must_use]
pub fn whole(raw: &str) -> String {
    escape(raw, usize::MAX, |_| false)
}

/// A name as one frame of a folded stack: as [`name`], and `;`, which separates frames, too.
#[must_use]
pub fn frame(raw: &str) -> String {
    let escaped = escape(raw.trim(), MAX_CHARS, |c| c == ';');
    // A line that begins with `#` is a comment to some readers.
    match escaped.strip_prefix('#') {
        Some(rest) => format!("\\u{{23}}{rest}"),
        None if escaped.is_empty() => "?".to_owned(),
        None => escaped,
    }
}

fn escape(raw: &str, max: usize, also: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(raw.len().min(max));
    for (n, c) in raw.chars().enumerate() {
        if n == max {
            out.push('…');
            break;
        }
        if harmful(c) || also(c) {
            // Writing to a String can't fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Moves the cursor, breaks the line, reorders or hides text, or is not allowed in XML.
pub(super) fn harmful(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_become_harmless() {
        assert_eq!(name("dict"), "dict");
        assert_eq!(name("Größe 字"), "Größe 字");
        assert_eq!(name("\x1b[31mred\n"), "\\u{1b}[31mred\\u{a}");
        assert_eq!(name("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(name(&"x".repeat(1000)).chars().count(), MAX_CHARS + 1);
        assert_eq!(whole(&"/x\n".repeat(100)), "/x\\u{a}".repeat(100));
    }

    #[test]
    fn a_frame_has_no_separator() {
        assert_eq!(frame("a;b 1\n"), "a\\u{3b}b 1");
        assert_eq!(frame("# no comment"), "\\u{23} no comment");
        assert_eq!(frame(" "), "?");
    }
}
