//! What is said about a figure that was measured several times.

/// LIMIT: how far medians may lie apart, as a share of the last, and still count as one.
const STABLE_WITHIN: f64 = 0.05;

/// Medians in a row that must agree.
const STABLE_ROUNDS: usize = 3;

/// The middle of the figures; between the two in the middle of an even number.
pub(super) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(match sorted.len() % 2 {
        1 => upper,
        _ => f64::midpoint(sorted[middle - 1], upper),
    })
}

/// How far the largest and the smallest lie apart, as a share of the median.
pub(super) fn spread(figures: &[f64]) -> Option<f64> {
    let median = median(figures)?;
    let range = range(figures);
    Some(match range {
        0.0 => 0.0,
        range => range / median,
    })
}

/// Whether the last rounds did not change the median any more.
pub(super) fn is_stable(figures: &[f64]) -> bool {
    let rounds = figures.len();
    let Some(first) = rounds.checked_sub(STABLE_ROUNDS) else {
        return false;
    };
    let medians: Vec<f64> = (first + 1..=rounds)
        .filter_map(|rounds| median(&figures[..rounds]))
        .collect();
    let last = medians.last().copied().unwrap_or(0.0);
    range(&medians) <= last * STABLE_WITHIN
}

fn range(figures: &[f64]) -> f64 {
    let largest = figures.iter().copied().fold(f64::MIN, f64::max);
    let smallest = figures.iter().copied().fold(f64::MAX, f64::min);
    largest - smallest
}

#[cfg(test)]
mod tests {
    use super::{is_stable, median, spread};

    #[test]
    fn a_median_is_the_middle_and_no_outlier_moves_it() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[1e9, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn a_spread_is_told_as_a_share_of_the_median() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[5.0]), Some(0.0));
        assert_eq!(spread(&[0.0, 0.0]), Some(0.0));
        assert_eq!(spread(&[90.0, 100.0, 120.0]), Some(0.3));
    }

    #[test]
    fn medians_are_stable_when_three_in_a_row_agree() {
        assert!(!is_stable(&[100.0, 100.0]), "two are no row");
        assert!(is_stable(&[100.0, 100.0, 100.0]));
        assert!(is_stable(&[50.0, 100.0, 100.0, 200.0, 100.0]));
        // Medians of one, two and three: 100, 103, 106.
        assert!(!is_stable(&[100.0, 106.0, 112.0]));
        assert!(is_stable(&[100.0, 101.0, 104.0]));
    }
}
