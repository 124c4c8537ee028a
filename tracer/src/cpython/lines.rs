//! `co_linetable` (3.11 and later): which line an instruction belongs to.
//!
//! `InternalDocs/code_objects.md` and `Objects/codeobject.c` (`advance`, `get_line_delta`): a
//! sequence of entries, each for 1 to 8 code units. The first byte is `1cccclll`: a code, and the
//! number of code units less one; a number of bytes that depends on the code follows. Lines are
//! deltas to the entry before; the first entry's is to `co_firstlineno`.

/// The line of the instruction at `lasti` (in code units of 2 bytes); `None` if it has none, or the
/// table is malformed or too short.
#[must_use]
pub fn line(table: &[u8], first_line: u32, lasti: u32) -> Option<u32> {
    let mut rest = Bytes(table);
    let mut line = i64::from(first_line);
    let mut start = 0u64;
    while !rest.0.is_empty() {
        let entry = rest.entry()?;
        line = line.checked_add(entry.delta.unwrap_or(0))?;
        start += entry.units;
        if u64::from(lasti) < start {
            return entry.delta.and_then(|_| u32::try_from(line).ok()).filter(|&line| line > 0);
        }
    }
    None
}

/// One entry of the table.
struct Entry {
    /// Code units that it is for.
    units: u64,
    /// Change of the line; `None`: these instructions have no line.
    delta: Option<i64>,
}

/// What is left of a table.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn entry(&mut self) -> Option<Entry> {
        let first = self.next().filter(|byte| byte & 0x80 != 0)?;
        let delta = match first >> 3 & 15 {
            // Short forms: columns in one more byte.
            0..=9 => {
                self.next()?;
                Some(0)
            }
            // One-line forms: columns in two more bytes.
            code @ 10..=12 => {
                self.next()?;
                self.next()?;
                Some(i64::from(code) - 10)
            }
            // No columns.
            13 => Some(self.signed()?),
            // Long form: then the end's line, the columns.
            14 => {
                let delta = self.signed()?;
                for _ in 0..3 {
                    self.number()?;
                }
                Some(delta)
            }
            _ => None,
        };
        Some(Entry { units: u64::from(first & 7) + 1, delta })
    }

    /// `scan_varint`: six bits a byte, low ones first; bit 6 says that more follow. Numbers are at
    /// most 32 bits wide there.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..36).step_by(6) {
            let byte = self.next()?;
            number |= u64::from(byte & 63) << shift;
            if byte & 64 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// `scan_signed_varint`: the lowest bit is the sign.
    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        let size = i64::try_from(number >> 1).ok()?;
        Some(if number & 1 == 0 { size } else { -size })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// First byte of an entry.
    fn head(code: u8, units: u8) -> u8 {
        0x80 | code << 3 | (units - 1)
    }

    #[test]
    fn each_form_of_entry_moves_the_line() {
        #[rustfmt::skip]
        let table = [
            head(13, 1), 0,             // units 0: the first line
            head(0, 2), 0x12,           // 1, 2: short form, same line
            head(11, 1), 4, 9,          // 3: one more
            head(12, 8), 4, 9,          // 4 to 11: two more
            head(15, 1),                // 12: no line
            head(14, 1), 0x40 | 8, 2, 0, 0x41, 1, 3, // 13: (8 + (2 << 6)) >> 1 = 68 more
            head(13, 1), 3,             // 14: one less
        ];
        let lines: Vec<_> = (0..16).map(|lasti| line(&table, 10, lasti)).collect();
        let mut expected = vec![Some(10), Some(10), Some(10), Some(11)];
        expected.extend([Some(13); 8]);
        expected.extend([None, Some(81), Some(80), None]);
        assert_eq!(lines, expected);
    }

    /// `def f():`, `  x = 1`, `  return g(x,`, `    2)` and what `co_lines()` of 3.11 and 3.14 says.
    #[test]
    fn tables_of_cpython_read_as_cpython_reads_them() {
        let read = |table: &[u8], units| (0..units).map(|lasti| line(table, 1, lasti)).collect();
        let lines = |runs: &[(u32, usize)]| -> Vec<Option<u32>> {
            runs.iter().flat_map(|&(line, units)| std::iter::repeat_n(Some(line), units)).collect()
        };
        let v3_14 = [
            128, 0, 216, 6, 7, 128, 33, 220, 9, 10, 136, 49, 216, 4, 5, 243, 3, 1, 10, 7, 240, 0,
            1, 3, 7,
        ];
        let found: Vec<_> = read(&v3_14, 15);
        assert_eq!(found, lines(&[(1, 1), (2, 2), (3, 6), (4, 1), (3, 5)]));
        let v3_11 = [
            128, 0, 216, 6, 7, 128, 33, 221, 9, 10, 136, 49, 216, 4, 5, 241, 3, 1, 10, 7, 244, 0,
            1, 10, 7, 240, 0, 1, 3, 7,
        ];
        let found: Vec<_> = read(&v3_11, 19);
        assert_eq!(found, lines(&[(1, 1), (2, 2), (3, 7), (4, 1), (3, 8)]));
    }

    #[test]
    fn malformed_tables_have_no_lines() {
        assert_eq!(line(&[], 1, 0), None);
        assert_eq!(line(&[0x00], 1, 0), None, "no entry begins with a clear bit");
        assert_eq!(line(&[head(0, 1)], 1, 0), None, "cut");
        assert_eq!(line(&[head(11, 1), 1], 1, 0), None, "cut");
        assert_eq!(line(&[head(14, 1), 2, 0, 0], 1, 0), None, "cut");
        assert_eq!(line(&[head(13, 1), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], 1, 0), None);
        assert_eq!(line(&[head(13, 1), 7], 1, 0), None, "before the first line");
        assert_eq!(line(&[head(13, 8), 0], 1, u32::MAX), None);
        assert_eq!(line(&[head(13, 1), 2], u32::MAX, 0), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            table in prop::collection::vec(any::<u8>(), 0..300),
            first in any::<u32>(),
            lasti in 0..400u32,
        ) {
            let _ = line(&table, first, lasti);
        }

        /// What is written is what is read, whatever the deltas.
        #[test]
        fn deltas_add_up(deltas in prop::collection::vec((-1000..1000i64, 1..=8u8), 1..50)) {
            let (mut table, mut expected, mut at) = (Vec::new(), Vec::new(), 100_000i64);
            for (delta, units) in deltas {
                at += delta;
                table.push(head(13, units));
                let mut number = delta.unsigned_abs() << 1 | u64::from(delta < 0);
                while number > 63 {
                    table.push(0x40 | (number & 63) as u8);
                    number >>= 6;
                }
                table.push(number as u8);
                expected.extend(std::iter::repeat_n(u32::try_from(at).ok(), units.into()));
            }
            for (lasti, expected) in (0..).zip(expected) {
                prop_assert_eq!(line(&table, 100_000, lasti), expected);
            }
        }
    }
}
