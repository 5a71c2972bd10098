//! An amount of memory, and how it has grown by two measures: within seconds, and from low to low.

use core::time::Duration;
use std::collections::VecDeque;

use crate::{
    engine::time::BootTime,
    signal::memory::{Growth, LONG_MS, RECENT_MS},
};

/// A long look back is made of the lowest of so long each, and its ends of a quarter of them.
const PART: Duration = Duration::from_secs(3);
const END_PARTS: usize = 5;

#[derive(Default)]
pub(super) struct Trend {
    /// The looks of late, oldest first.
    lately: VecDeque<(BootTime, u64)>,
    /// The lowest of each part of the long look back.
    lows: VecDeque<(BootTime, u64)>,
}

impl Trend {
    pub(super) fn beginning(now: BootTime, amount: u64) -> Self {
        let lately = VecDeque::from([(now, amount)]);
        Self { lows: lately.clone(), lately }
    }

    pub(super) fn add(&mut self, now: BootTime, amount: u64) {
        let is_old = |at: BootTime, span: u64| Duration::from_millis(span) < now.since(at);
        while self.lately.get(1).is_some_and(|(at, _)| is_old(*at, RECENT_MS)) {
            self.lately.pop_front();
        }
        self.lately.push_back((now, amount));
        match self.lows.back_mut() {
            Some((began, low)) if now.since(*began) < PART => *low = amount.min(*low),
            Some(_) | None => self.lows.push_back((now, amount)),
        }
        while self.lows.front().is_some_and(|(at, _)| is_old(*at, LONG_MS)) {
            self.lows.pop_front();
        }
    }

    pub(super) fn growth(&self) -> Growth {
        Growth { lately: self.grown_lately(), from_low: self.grown_from_low() }
    }

    pub(super) fn grown_from_low(&self) -> u64 {
        let end = (self.lows.len() / 4).clamp(1, END_PARTS);
        let low = |parts: &mut dyn Iterator<Item = &(BootTime, u64)>| parts.map(|(_, low)| *low).min();
        let (then, lately) =
            (low(&mut self.lows.iter().take(end)), low(&mut self.lows.iter().rev().take(end)));
        lately.unwrap_or(0).saturating_sub(then.unwrap_or(0))
    }

    pub(super) fn grown_lately(&self) -> u64 {
        let ends = self.lately.front().zip(self.lately.back());
        ends.map_or(0, |((_, then), (_, now))| now.saturating_sub(*then))
    }
}
