//! One table of the text report: its columns, its rows, and what there is no room for.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::text::count;
use crate::units::Ns;

/// How much of a table is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Rows.
    pub(super) top: usize,
    /// Columns of the terminal, if it is one.
    pub(super) width: Option<u16>,
}

/// A table that stops at a number of rows and says what the others come to.
pub(super) struct Rows {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    words: usize,
    limits: Limits,
    cut: usize,
    cut_wait: Ns,
}

/// Left out on a narrow terminal, the first one first. JSON has everything.
const DISPENSABLE: [&str; 7] =
    ["yielded", "run queue", "blocked", "p50", "yields", "p99", "longest"];

impl Rows {
    /// The first `words` columns hold words, the others figures.
    pub(super) fn new(header: &[&'static str], words: usize, limits: Limits) -> Self {
        Self { header: header.to_vec(), rows: Vec::new(), words, limits, cut: 0, cut_wait: Ns(0) }
    }

    pub(super) fn row(&mut self, wait: Ns, cells: impl FnOnce() -> Vec<String>) {
        if self.rows.len() < self.limits.top {
            self.rows.push(cells());
        } else {
            self.cut += 1;
            self.cut_wait += wait;
        }
    }

    pub(super) fn finish(mut self, what: &str) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if let Some(width) = self.limits.width {
            self.narrow(width.into());
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        table.set_header(aligned(self.header.iter().map(|&title| title.to_owned()), self.words));
        for row in self.rows {
            table.add_row(aligned(row.into_iter(), self.words));
        }
        let mut out = table.trim_fmt() + "\n";
        if self.cut > 0 {
            let s = if self.cut == 1 { "" } else { "s" };
            let together = match self.cut_wait {
                Ns(0) => String::new(), // a table of something else
                wait => format!(", {wait} together"),
            };
            let more = count(self.cut as u64);
            out += &format!(" and {more} more {what}{s}{together}; --top shows more\n");
        }
        out
    }

    /// Leaves out columns until the table fits, as far as there are dispensable ones.
    fn narrow(&mut self, width: usize) {
        for title in DISPENSABLE {
            if self.width() <= width {
                return;
            }
            if let Some(column) = self.header.iter().position(|&t| t == title) {
                self.header.remove(column);
                for row in &mut self.rows {
                    row.remove(column);
                }
            }
        }
    }

    /// Columns of the terminal that the table takes, a space on either side of every cell.
    fn width(&self) -> usize {
        let widest = |(column, title): (usize, &&str)| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([title.chars().count()]).max().unwrap_or(0) + 2
        };
        self.header.iter().enumerate().map(widest).sum()
    }
}

fn aligned(cells: impl Iterator<Item = String>, words: usize) -> Vec<Cell> {
    cells
        .enumerate()
        .map(|(column, text)| {
            let alignment = if column < words { CellAlignment::Left } else { CellAlignment::Right };
            Cell::new(text).set_alignment(alignment)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_costs_columns_and_not_lines() {
        let table = |width| {
            let mut rows =
                Rows::new(&["lock", "blocked", "p50", "share"], 1, Limits { top: 1, width });
            for _ in 0..2 {
                rows.row(Ns(7), || {
                    ["dict 0x7f00", "1.00 ms", "9 ns", "50 %"].map(str::to_owned).into()
                });
            }
            rows.finish("lock")
        };
        let wide = table(None);
        assert!(wide.starts_with(" lock         blocked   p50  share\n"), "{wide}");
        assert!(wide.ends_with(" and 1 more lock, 7 ns together; --top shows more\n"), "{wide}");
        assert_eq!(table(Some(35)), wide);
        assert!(table(Some(34)).starts_with(" lock          p50  share\n"), "{}", table(Some(34)));
        assert_eq!(table(Some(34)).lines().count(), 3);
    }
}
