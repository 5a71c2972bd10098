//! Runs in turn: A B A B … A. Each B is compared with the mean of the A before and after it, so that a slow
//! drift of the machine falls out; each inner A is compared with its own neighbours, which shows what the
//! machine does by itself: a ratio inside that range means nothing.

use serde::{Deserialize, Serialize};

/// Time with ÷ time without; 1 is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Ratio {
    fn of(ratios: impl Iterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(ratios);
        Some(Self { median: median(&sorted)?, lowest: *sorted.first()?, highest: *sorted.last()? })
    }
}

impl core::fmt::Display for Ratio {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "{:.3} [{:.3}..{:.3}]", self.median, self.lowest, self.highest)
    }
}

/// Each of `with` against the mean of two of `around`: the run just before it and the one just after.
#[must_use]
pub fn compared(around: &[f64], with: &[f64]) -> Option<Ratio> {
    Ratio::of(with.iter().zip(around.chunks_exact(2)).map(|(b, a)| b / mean(a)))
}

/// The A/A control: each inner value against its neighbours, which lie twice as far away as in a pair.
#[must_use]
pub fn control(without: &[f64]) -> Option<Ratio> {
    Ratio::of(without.windows(3).map(|three| three[1] / mean(&[three[0], three[2]])))
}

/// Middle value of values in order; the mean of the two middle ones of an even number.
#[must_use]
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(mean(&[*sorted.get(middle.checked_sub(1)?)?, upper]))
}

/// The value below which `share` of them lie (nearest rank), of values in order.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[must_use]
pub fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// NaN of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_drift_falls_out() {
        let ratio = compared(&[100.0, 110.0, 110.0, 120.0], &[110.25, 120.75]).unwrap();
        assert!((ratio.lowest - 1.05).abs() < 1e-9 && (ratio.highest - 1.05).abs() < 1e-9);
        assert_eq!(control(&[100.0, 110.0, 120.0]).unwrap().median, 1.0);
    }

    #[test]
    fn too_few_values_give_nothing() {
        assert_eq!(compared(&[1.0], &[1.0]), None);
        assert_eq!(control(&[1.0, 1.0]), None);
        assert_eq!(median(&[]), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.99), Some(99.0));
        assert_eq!(quantile(&hundred, 0.5), Some(50.0));
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
    }
}
