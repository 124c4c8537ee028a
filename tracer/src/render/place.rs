//! Places in a Python program, in words.

use super::escape;
use crate::analyze::{Site, StackTable};
use crate::trace::records::FrameRecord;

/// Characters of a function's and of a file's name in a table, so that both fit a line.
const FUNCTION: usize = 48;
const FILE: usize = 40;

/// A site for people: `Cache.get (app/cache.py:77)`, or the words that stand for it.
pub(super) fn site(stacks: &StackTable, site: Site) -> String {
    match site {
        Site::Frame(index) => stacks.frame(index).map_or_else(|| "[frame lost]".to_owned(), text),
        other => other.words().unwrap_or_default(),
    }
}

/// A frame for a table: the last two parts of its file's path, the rest in JSON.
fn text(frame: &FrameRecord) -> String {
    let function = cut_end(&frame.function, FUNCTION);
    let start = frame.file.rmatch_indices('/').nth(1).map_or(0, |(slash, _)| slash + 1);
    let file = cut_start(&frame.file[start..], FILE);
    with_line(&escape::name(&function), &escape::name(&file), frame.line)
}

/// A frame of a folded stack: only the file's own name, no separators.
pub(super) fn folded(frame: &FrameRecord) -> String {
    let file = frame.file.rsplit('/').next().unwrap_or_default();
    let file = if file.is_empty() { String::new() } else { escape::frame(file) };
    with_line(&escape::frame(&frame.function), &file, frame.line)
}

fn with_line(function: &str, file: &str, line: u32) -> String {
    match (file, line) {
        ("", 0) => function.to_owned(),
        ("", line) => format!("{function} (line {line})"),
        (file, 0) => format!("{function} ({file})"),
        (file, line) => format!("{function} ({file}:{line})"),
    }
}

fn cut_end(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn cut_start(text: &str, max: usize) -> String {
    match text.char_indices().rev().nth(max) {
        Some((before, c)) => format!("…{}", &text[before + c.len_utf8()..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str, line: u32) -> FrameRecord {
        let (function, file) = (function.to_owned(), file.to_owned());
        FrameRecord { function, file, line, ..FrameRecord::default() }
    }

    #[test]
    fn a_file_is_short_in_text_and_shorter_in_pictures() {
        let handle = frame("C.handle", "/srv/app/web/h.py", 12);
        assert_eq!(text(&handle), "C.handle (web/h.py:12)");
        assert_eq!(folded(&handle), "C.handle (h.py:12)");
        assert_eq!(text(&frame("f", "h.py", 1)), "f (h.py:1)");
        assert_eq!(text(&frame("f", "app/h.py", 1)), "f (app/h.py:1)");
        assert_eq!(folded(&frame("[code gone]", "", 0)), "[code gone]");
        assert_eq!(text(&frame("f", "<string>", 0)), "f (<string>)");
        assert_eq!(text(&frame("f", "", 3)), "f (line 3)");
        assert_eq!(folded(&frame("", "/", 0)), "?");
    }

    #[test]
    fn hostile_names_stay_short_and_in_one_frame() {
        let hostile = frame(&"ö;\n".repeat(90), &format!("/{}/ö;x.py", "é".repeat(90)), 7);
        let shown = text(&hostile);
        assert!(shown.ends_with("é/ö;x.py:7)") && shown.contains("…"), "{shown}");
        assert!(!shown.contains('\n'));
        let shown = folded(&hostile);
        assert!(!shown.contains([';', '\n']) && shown.ends_with("x.py:7)"), "{shown}");
    }
}
