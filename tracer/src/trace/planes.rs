//! Columns of numbers in a chunk: of all values the lowest bytes, then all second bytes, and so on.
//!
//! The high bytes of times vary little and compress to nearly nothing, the low ones are noise and
//! don't disturb them (`docs/trace-format.md`). A column of zeros takes no bytes at all.

/// Values that are decoded at a time: with all their columns they stay in the nearest caches.
pub(super) const PIECE: usize = 256;

/// A column to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Planes {
    bytes: Vec<u8>,
    /// How long each plane is.
    values: usize,
}

impl Planes {
    /// Lowest bytes, then second bytes, up to the highest byte that is not 0 in all of them.
    pub(super) fn pack(values: &[u64]) -> Self {
        let all = values.iter().fold(0, |all, value| all | value);
        let width = (u64::BITS - all.leading_zeros()).div_ceil(8) as usize;
        let mut bytes = Vec::with_capacity(width * values.len());
        for plane in 0..width {
            bytes.extend(values.iter().map(|value| value.to_le_bytes()[plane]));
        }
        Self { bytes, values: values.len() }
    }

    /// One field of many.
    pub(super) fn of<T>(all: &[T], field: impl FnMut(&T) -> u64) -> Self {
        Self::pack(&all.iter().map(field).collect::<Vec<_>>())
    }
}

/// A payload under way, and where in it each plane begins: planes are compressed each alone, because
/// what is likely in one is not in the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) raw: Vec<u8>,
    pub(super) cuts: Vec<usize>,
}

impl Payload {
    /// Adds an unsigned number as postcard does.
    pub(super) fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.raw.push(n.to_le_bytes()[0] | 0x80);
            n >>= 7;
        }
        self.raw.push(n.to_le_bytes()[0]);
    }

    /// Adds a column as postcard does byte strings.
    pub(super) fn column(&mut self, column: &Planes) {
        self.number(column.bytes.len() as u64);
        for plane in column.bytes.chunks(column.values.max(1)) {
            self.cuts.push(self.raw.len());
            self.raw.extend(plane);
        }
    }
}

/// The column has whole planes for `n` values, and every value is one of those that are `right`.
pub(super) fn fits(bytes: &[u8], n: usize, right: impl Fn(u64) -> bool) -> bool {
    if bytes.is_empty() {
        return true;
    }
    if n == 0 || !bytes.len().is_multiple_of(n) || bytes.len() / n > 8 {
        return false;
    }
    // Up to four bytes are any index, and any stack or reason but for unknown reasons: all are known.
    if bytes.len() / n <= 4 {
        return true;
    }
    let mut values = [0; PIECE];
    (0..n).step_by(PIECE).all(|from| {
        let values = &mut values[..PIECE.min(n - from)];
        unpack(bytes, n, from, values);
        values.iter().all(|&value| right(value))
    })
}

/// The values of a column of `n` from the one of number `from` on.
pub(super) fn unpack(bytes: &[u8], n: usize, from: usize, values: &mut [u64]) {
    let mut planes = bytes.chunks_exact(n.max(1)).filter_map(|plane| plane.get(from..));
    match planes.next() {
        None => values.fill(0),
        Some(lowest) => {
            for (value, byte) in values.iter_mut().zip(lowest) {
                *value = u64::from(*byte);
            }
        }
    }
    for (plane, bytes) in (1..8).zip(planes) {
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value |= u64::from(*byte) << (8 * plane);
        }
    }
}

/// A difference as a small number, whatever its sign.
pub(super) fn zigzag(difference: u64) -> u64 {
    let signed = difference.cast_signed();
    ((signed << 1) ^ (signed >> 63)).cast_unsigned()
}

pub(super) fn unzigzag(n: u64) -> u64 {
    (n >> 1) ^ (n & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_either_sign_are_small() {
        for (difference, n) in [(0i64, 0), (-1, 1), (1, 2), (-2, 3), (i64::MIN, u64::MAX)] {
            assert_eq!(zigzag(difference.cast_unsigned()), n);
            assert_eq!(unzigzag(n).cast_signed(), difference);
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let values = |bytes: &[u8], n| {
            let mut values = [0; 3];
            unpack(bytes, n, 0, &mut values[..n]);
            values
        };
        assert_eq!(values(&[], 3), [0, 0, 0]);
        assert_eq!(values(&[1, 2, 3, 1, 0, 0], 3), [257, 2, 3]);
        let any = |_| true;
        assert!(fits(&[], 0, any) && fits(&[0; 8], 1, any));
        assert!(!fits(&[1, 2], 3, any));
        assert!(!fits(&[1], 0, any));
        assert!(!fits(&[0; 9], 1, any));
        let few = |value| value < 1 << 32;
        assert!(fits(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 0], 2, few));
        assert!(!fits(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 1], 2, few));
    }
}
