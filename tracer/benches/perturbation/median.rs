//! Medians, and how sure they are.

/// Sorts the values.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 { f64::NAN } else { (values[(n - 1) / 2] + values[n / 2]) / 2.0 }
}

/// Distribution-free 95 % interval of the median, from order statistics: the ranks between which
/// a binomial(n, 1/2) falls with that probability. `values` are sorted.
pub(super) fn median_interval(values: &[f64]) -> (f64, f64) {
    let n = values.len();
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let count = |n: usize| n as f64;
    // As a logarithm: 0.5^n is no number of its own beyond 1,074.
    let mut term = count(n) * 0.5_f64.ln(); // ln P(X = 0)
    let (mut below, mut rank) = (0.0, 0);
    while below + term.exp() <= 0.025 && rank < n / 2 {
        below += term.exp();
        term += (count(n - rank) / count(rank + 1)).ln();
        rank += 1;
    }
    // `rank` values may lie below the interval on each side.
    let low = rank.saturating_sub(1).min(n.saturating_sub(1));
    (values[low], values[n - 1 - low])
}
