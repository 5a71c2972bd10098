//! When something that grows will be used up.

use core::time::Duration;
use std::collections::VecDeque;

use crate::{engine::time::BootTime, signal::levels::percent};

/// Farther ahead nothing is foretold.
const HORIZON: Duration = Duration::from_secs(60);
/// A window has so many looks, and lasts so long.
const LOOKS: usize = 6;
const WINDOW: Duration = Duration::from_secs(5);
const KEPT: usize = 30;
/// Of the limit: whatever falls by so much is emptied by somebody, who will do it again.
const FALL_PERCENT: u64 = 5;
const EMPTIED_FOR: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct Forecast {
    looks: VecDeque<(BootTime, u64)>,
    limit: u64,
    emptied: Option<BootTime>,
}

impl Forecast {
    pub(super) fn note(&mut self, at: BootTime, used: u64, limit: u64) {
        if limit != self.limit {
            self.looks.clear();
            self.limit = limit;
        }
        let peak = self.looks.iter().map(|(_, used)| *used).max().unwrap_or(0);
        if FALL_PERCENT <= percent(peak.saturating_sub(used), limit) {
            self.emptied = Some(at);
            self.looks.clear();
        }
        self.looks.push_back((at, used));
        if KEPT < self.looks.len() {
            self.looks.pop_front();
        }
    }

    /// Until none is left, and how much of it a second; `None` if it is far or not known.
    /// Below `least` percent of the limit nothing is foretold: what is bounded stops before.
    pub(super) fn time_left(&self, least: u64) -> Option<(Duration, u64)> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let is_emptied = self.emptied.is_some_and(|at| last.0.since(at) < EMPTIED_FOR);
        if is_emptied || self.looks.len() < LOOKS || percent(last.1, self.limit) < least {
            return None;
        }
        let recent = self.looks.iter().rev().take(LOOKS);
        // Newest first: each look found no less than the one before, and the last two windows both grew.
        let values: Vec<u64> = recent.map(|(_, used)| *used).collect();
        let is_steady = values.windows(2).all(|two| two[1] <= two[0]);
        let half = values[LOOKS / 2];
        if !is_steady || values[0] == half || half == values[LOOKS - 1] {
            return None;
        }
        let time = last.0.since(first.0);
        let grown = last.1.saturating_sub(first.1);
        if time < WINDOW || grown == 0 {
            return None;
        }
        let left = time.as_secs_f64() * (self.limit.saturating_sub(last.1)) as f64 / grown as f64;
        let left = Duration::try_from_secs_f64(left).ok().filter(|left| *left <= HORIZON)?;
        Some((left, (grown as f64 / time.as_secs_f64()).round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(values: impl IntoIterator<Item = u64>) -> Forecast {
        let mut forecast = Forecast::default();
        for (second, used) in values.into_iter().enumerate() {
            forecast.note(BootTime(second as u64 * 1_000_000_000), used, 1000);
        }
        forecast
    }

    #[test]
    fn a_leak_is_foretold_once_it_is_near_and_steady() {
        let near = after((0..20).map(|second| 850 + second * 5));
        let (left, rate) = near.time_left(90).unwrap();
        assert_eq!(rate, 5);
        assert!(Duration::from_secs(9) < left && left < Duration::from_secs(13), "{left:?}");
        assert_eq!(after((0..20).map(|second| 700 + second * 5)).time_left(90), None, "far");
        assert_eq!(after((0..4).map(|second| 980 + second * 5)).time_left(90), None, "three seconds");
    }

    #[test]
    fn what_is_full_and_stays_so_and_what_is_emptied_is_no_leak() {
        assert_eq!(after((0..20).map(|_| 990)).time_left(90), None, "a bounded pool");
        assert_eq!(
            after((0..20).map(|second| 990.min(900 + second * 10))).time_left(90),
            None,
            "it has filled"
        );
        let log = (0..60).map(|second| 800 + second % 20 * 9);
        assert_eq!(after(log.clone().take(39)).time_left(90), None, "rotated once");
        assert_eq!(after(log).time_left(90), None);
    }
}
