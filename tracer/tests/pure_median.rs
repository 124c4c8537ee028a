//! Ring 1: how sure a median of many rounds is, as the perturbation bench tells it.

#[path = "../benches/perturbation/median.rs"]
mod median;

use median::{median, median_interval};

fn interval(n: u32) -> (f64, f64) {
    let mut values: Vec<f64> = (1..=n).rev().map(f64::from).collect();
    assert_eq!(median(&mut values), f64::from(n + 1) / 2.0);
    median_interval(&values)
}

#[test]
fn the_ranks_are_those_of_the_binomial_distribution() {
    // By hand: P(X = 0) of 6 is 1/64, P(X <= 1) is 7/64; P(X <= 5) of 20 is 0.0207, P(X <= 6) is 0.0577.
    assert_eq!(interval(6), (1.0, 6.0));
    assert_eq!(interval(20), (6.0, 15.0));
    assert_eq!(interval(100), (40.0, 61.0));
    // Of five, not even the smallest is so rare.
    assert_eq!(interval(5), (1.0, 5.0));
}

#[test]
fn many_rounds_have_a_width_too() {
    for n in [1_000_u32, 1_074, 1_075, 3_000, 100_000] {
        let (low, high) = interval(n);
        // The normal approximation, which is right here to a rank or two.
        let (middle, half) = (f64::from(n + 1) / 2.0, 0.98 * f64::from(n).sqrt());
        assert!((low - (middle - half)).abs() < 2.0, "{n}: {low}");
        assert!((high - (middle + half)).abs() < 2.0, "{n}: {high}");
    }
}
