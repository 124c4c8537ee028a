//! Splitting a whole number without a rest: the largest-remainder method.

/// Parts of `total` in proportion to the weights that sum to it exactly. Each is its exact share
/// rounded down or up; who is rounded up has the largest rest, and of equal rests the first one.
/// Without any weight all parts are 0: the caller must put `total` somewhere else.
#[must_use]
pub fn apportion(total: u64, weights: &[u128]) -> Vec<u64> {
    // So that a weight times the total fits: the lowest bits of gigantic weights go, in all alike.
    let most = weights.iter().copied().max().unwrap_or(0);
    let shift = 64u32.saturating_sub(most.leading_zeros());
    let weights: Vec<u128> = weights.iter().map(|&weight| weight >> shift).collect();
    let sum: u128 = weights.iter().fold(0, |sum, &weight| sum.saturating_add(weight));
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let shares = weights.iter().map(|&weight| {
        let exact = u128::from(total) * weight;
        let part = exact / sum;
        (u64::try_from(part).unwrap_or(u64::MAX), exact - part * sum)
    });
    let (mut parts, rests): (Vec<u64>, Vec<u128>) = shares.unzip();
    let given = parts.iter().fold(0u64, |sum, &part| sum.saturating_add(part));
    let missing = usize::try_from(total.saturating_sub(given)).unwrap_or(0);
    let mut order: Vec<usize> = (0..rests.len()).collect();
    if (1..order.len()).contains(&missing) {
        let first = |&a: &usize, &b: &usize| rests[b].cmp(&rests[a]).then(a.cmp(&b));
        order.select_nth_unstable_by(missing - 1, first);
    }
    for &place in order.iter().take(missing) {
        parts[place] += 1;
    }
    parts
}

/// Weights as whole numbers, the largest with 60 bits.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "casts from floating point saturate"
)]
pub fn whole(weights: &[f64]) -> Vec<u128> {
    let most = weights.iter().copied().fold(0.0, f64::max);
    let scale = if most > 0.0 { (1u64 << 60) as f64 / most } else { 0.0 };
    weights.iter().map(|weight| (weight * scale) as u128).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rests_go_to_the_largest() {
        assert_eq!(apportion(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(apportion(1, &[2, 3]), [0, 1]);
        assert_eq!(apportion(5, &[0, 0]), [0, 0]);
        assert_eq!(
            apportion(u64::MAX, &[u128::MAX, u128::MAX])
                .iter()
                .map(|&n| u128::from(n))
                .sum::<u128>(),
            u128::from(u64::MAX)
        );
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole_and_are_their_shares(
            total in any::<u64>(),
            weights in prop::collection::vec(any::<u64>().prop_map(u128::from), 1..40),
        ) {
            let parts = apportion(total, &weights);
            let sum: u128 = parts.iter().map(|&part| u128::from(part)).sum();
            let whole: u128 = weights.iter().sum();
            prop_assert_eq!(sum, if whole == 0 { 0 } else { u128::from(total) });
            for (&part, &weight) in parts.iter().zip(&weights) {
                if weight == 0 {
                    prop_assert_eq!(part, 0);
                }
            }
        }
    }
}
