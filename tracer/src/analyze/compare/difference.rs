//! One figure of both commands, and how surely it differs.

/// One figure of both commands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Mean of the first.
    pub a: f64,
    /// Mean of the second.
    pub b: f64,
    /// Half of the 95 % interval of `b − a`, over pairs of runs; none: a single pair.
    pub half: Option<f64>,
}

impl Difference {
    /// Over pairs of runs.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "statistics")]
    pub fn of(pairs: &[(f64, f64)]) -> Self {
        let n = pairs.len() as f64;
        if pairs.is_empty() {
            return Self::default();
        }
        let a = pairs.iter().map(|pair| pair.0).sum::<f64>() / n;
        let b = pairs.iter().map(|pair| pair.1).sum::<f64>() / n;
        let half = (pairs.len() > 1).then(|| {
            let squares: f64 = pairs.iter().map(|pair| (pair.1 - pair.0 - (b - a)).powi(2)).sum();
            student(pairs.len() - 1) * (squares / (n - 1.0) / n).sqrt()
        });
        Self { a, b, half }
    }

    /// `b − a`.
    #[must_use]
    pub fn change(&self) -> f64 {
        self.b - self.a
    }

    /// The interval leaves out 0.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.half.is_some_and(|half| self.change().abs() > half)
    }
}

/// 97.5 % of Student's t.
fn student(freedom: usize) -> f64 {
    const T: [f64; 20] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    ];
    // Beyond the table a little too much.
    T.get(freedom.saturating_sub(1)).copied().unwrap_or(2.086)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_students() {
        let one = Difference::of(&[(1.0, 2.0)]);
        assert_eq!((one.change(), one.half, one.is_sure()), (1.0, None, false));
        // Differences 1, 2, 3: mean 2, s = 1, half = 4.303 / sqrt(3).
        let three = Difference::of(&[(0.0, 1.0), (5.0, 7.0), (1.0, 4.0)]);
        assert!((three.change() - 2.0).abs() < 1e-12);
        assert!((three.half.unwrap() - 4.303 / 3f64.sqrt()).abs() < 1e-9);
        assert!(!three.is_sure());
    }
}
