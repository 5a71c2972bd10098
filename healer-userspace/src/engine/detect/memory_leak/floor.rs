//! How fast the floor under a cgroup's memory rises: what is given back now and then does not count.

use core::time::Duration;
use std::collections::VecDeque;

use crate::engine::time::BootTime;

/// The look back, in parts; the lowest of each part is its floor.
pub(super) const WINDOW: Duration = Duration::from_secs(15);
const PARTS: u32 = 5;
/// Of a growth that is known already, so much tells whether it goes on.
pub(super) const AGAIN: Duration = Duration::from_secs(3);
const AGAIN_PARTS: u32 = 3;
/// What is looked back at for a word in the log.
const LONG: Duration = Duration::from_secs(120);
const COARSE: Duration = Duration::from_secs(3);
/// Of the limit, what a fall must have to be more than noise: the garbage of a heap was collected.
const FALL_PERCENT: u64 = 10;
/// Of the limit, by which a climb must pass all earlier ones to be news.
const BEYOND_PERCENT: u64 = 3;
const CYCLES_KEPT: usize = 8;
/// A fall of this morning makes no cycle of what grows now.
const CYCLES_HOLD: Duration = Duration::from_secs(1800);
/// Troughs that must rise one above the other.
const TROUGHS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Floor {
    fine: VecDeque<(BootTime, u64)>,
    coarse: VecDeque<(BootTime, u64)>,
    peaks: VecDeque<(BootTime, u64)>,
    troughs: VecDeque<(BootTime, u64)>,
    /// Since the last turn.
    highest: (BootTime, u64),
    lowest: (BootTime, u64),
    is_falling: bool,
}

/// The floor rises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rise {
    pub(super) bytes_per_second: f64,
    /// Of the memory now taken, or of the last peaks where it goes up and down.
    pub(super) level: u64,
    pub(super) since: BootTime,
    pub(super) in_cycles: bool,
}

impl Rise {
    pub(super) fn time_to(&self, limit: u64) -> Duration {
        let left = limit.saturating_sub(self.level) as f64 / self.bytes_per_second;
        Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX)
    }
}

impl Floor {
    pub(super) fn add(&mut self, at: BootTime, taken: u64, limit: u64) {
        self.fine.push_back((at, taken));
        keep(&mut self.fine, at, WINDOW);
        match self.coarse.back_mut() {
            Some((began, lowest)) if at.since(*began) < COARSE => *lowest = taken.min(*lowest),
            Some(_) | None => self.coarse.push_back((at, taken)),
        }
        keep(&mut self.coarse, at, LONG);
        keep(&mut self.peaks, at, CYCLES_HOLD);
        keep(&mut self.troughs, at, CYCLES_HOLD);
        self.turn(at, taken, limit * FALL_PERCENT / 100);
    }

    /// Up to now it went up and down like a heap whose garbage is collected.
    pub(super) fn has_cycles(&self) -> bool {
        !self.peaks.is_empty()
    }

    /// Of the last seconds.
    pub(super) fn rise(&self, now: BootTime, limit: u64) -> Option<Rise> {
        let (_, taken) = *self.fine.back()?;
        let highest = self.peaks.iter().map(|(_, peak)| *peak).max();
        let Some(highest) = highest.filter(|peak| taken <= peak + limit * BEYOND_PERCENT / 100) else {
            // Higher than ever: a first climb, or the top of a saw that rises.
            return self.of_window(now, taken).or_else(|| self.of_troughs(limit));
        };
        // It has been here before, and come down again.
        match self.period() {
            Some(period) if period <= WINDOW / PARTS => self.of_window(now, highest),
            Some(_) | None => self.of_troughs(limit),
        }
    }

    /// Over two minutes, for whoever reads the log.
    pub(super) fn long_rise(&self, limit: u64) -> Option<Rise> {
        let (first, lowest) = *self.coarse.front()?;
        let (last, taken) = *self.coarse.back()?;
        let over = last.since(first);
        if over < LONG / 2 {
            return None;
        }
        let quarter = |number: u32| {
            let from = first + over * number / 4;
            let part = self.coarse.iter().filter(|(at, _)| from <= *at && *at <= from + over / 4);
            part.map(|(_, taken)| *taken).min()
        };
        let floors: Vec<u64> = (0..4).map_while(quarter).collect();
        let rises = floors.len() == 4 && floors.windows(2).all(|two| two[0] + limit / 500 < two[1]);
        let bytes_per_second = taken.saturating_sub(lowest) as f64 / over.as_secs_f64();
        rises.then_some(Rise { bytes_per_second, level: taken, since: first, in_cycles: self.has_cycles() })
    }

    /// Whether what is known to grow goes on: too little to tell a leak by.
    pub(super) fn goes_on(&self, now: BootTime) -> Option<Rise> {
        let floors = self.floors(now, AGAIN, AGAIN_PARTS);
        let (first, last) = (*floors.first()?, *floors.last()?);
        let rises = floors.len() == AGAIN_PARTS as usize && floors.windows(2).all(|two| two[0] < two[1]);
        let over = AGAIN / AGAIN_PARTS * (AGAIN_PARTS - 1);
        rises.then(|| Rise {
            bytes_per_second: (last - first) as f64 / over.as_secs_f64(),
            level: self.fine.back().map_or(last, |(_, taken)| *taken),
            since: now - AGAIN,
            in_cycles: false,
        })
    }

    /// The lowest of each part of the last so long, oldest first, as far as all were looked at.
    fn floors(&self, now: BootTime, window: Duration, parts: u32) -> Vec<u64> {
        let (began, part) = (now - window, window / parts);
        let floor = |number: u32| {
            let from = began + part * number;
            let of_part = self.fine.iter().filter(|(at, _)| from <= *at && *at <= from + part);
            of_part.map(|(_, taken)| *taken).min()
        };
        (0..parts).map_while(floor).collect()
    }

    fn of_window(&self, now: BootTime, level: u64) -> Option<Rise> {
        let part = WINDOW / PARTS;
        let began = now - WINDOW;
        // A window that is not full yet says nothing.
        if began + part < self.fine.front()?.0 {
            return None;
        }
        let floors = self.floors(now, WINDOW, PARTS);
        let mut rises: Vec<u64> =
            floors.windows(2).map_while(|two| two[1].checked_sub(two[0]).filter(|rise| 0 < *rise)).collect();
        let last = *rises.last()?;
        if rises.len() + 1 < PARTS as usize {
            return None;
        }
        rises.sort_unstable();
        // A climb that slows down is a warm-up: its latest pace counts.
        let pace = rises[rises.len() / 2 - 1].min(last) as f64 / part.as_secs_f64();
        Some(Rise { bytes_per_second: pace, level, since: began, in_cycles: self.has_cycles() })
    }

    /// From trough to trough, where one period is longer than a part of the window.
    fn of_troughs(&self, limit: u64) -> Option<Rise> {
        let last: Vec<_> = self.troughs.iter().rev().take(TROUGHS).rev().collect();
        let (first, end) = (last.first()?, last.last()?);
        let rises = last.len() == TROUGHS && last.windows(2).all(|two| two[0].1 + limit / 200 < two[1].1);
        let over = end.0.since(first.0);
        let level = self.peaks.back()?.1;
        rises.then(|| Rise {
            bytes_per_second: (end.1 - first.1) as f64 / over.as_secs_f64(),
            level,
            since: first.0,
            in_cycles: true,
        })
    }

    /// From one peak to the next.
    fn period(&self) -> Option<Duration> {
        let (first, last) = (self.peaks.front()?, self.peaks.back()?);
        let between = u32::try_from(self.peaks.len() - 1).ok().filter(|count| 0 < *count)?;
        Some(last.0.since(first.0) / between)
    }

    fn turn(&mut self, at: BootTime, taken: u64, noise: u64) {
        if self.highest.1 <= taken {
            self.highest = (at, taken);
        }
        if self.lowest.1 == 0 || taken <= self.lowest.1 {
            self.lowest = (at, taken);
        }
        if !self.is_falling && taken + noise < self.highest.1 {
            self.is_falling = true;
            remember(&mut self.peaks, self.highest);
            self.lowest = (at, taken);
        } else if self.is_falling && self.lowest.1 + noise / 2 < taken {
            self.is_falling = false;
            remember(&mut self.troughs, self.lowest);
            self.highest = (at, taken);
        }
    }
}

fn remember(turns: &mut VecDeque<(BootTime, u64)>, turn: (BootTime, u64)) {
    turns.push_back(turn);
    if CYCLES_KEPT < turns.len() {
        turns.pop_front();
    }
}

fn keep(samples: &mut VecDeque<(BootTime, u64)>, now: BootTime, span: Duration) {
    while samples.front().is_some_and(|(at, _)| span < now.since(*at)) {
        samples.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMIT: u64 = 256 * MIB;

    fn run(seconds: u64, taken: impl Fn(f64) -> f64) -> Floor {
        let mut floor = Floor::default();
        for quarter in 0..seconds * 4 {
            let at = BootTime(1 + quarter * 250_000_000);
            floor.add(at, (taken(quarter as f64 / 4.0) * MIB as f64) as u64, LIMIT);
        }
        floor
    }

    fn to_limit(floor: &Floor, seconds: u64) -> Option<f64> {
        let now = BootTime(1 + (seconds * 4 - 1) * 250_000_000);
        floor.rise(now, LIMIT).map(|rise| rise.time_to(LIMIT).as_secs_f64())
    }

    #[test]
    fn a_steady_leak_is_timed() {
        let floor = run(20, |t| 180.0 + 2.0 * t);
        let left = to_limit(&floor, 20).unwrap();
        assert!((17.0..21.0).contains(&left), "{left}");
    }

    #[test]
    fn of_a_growth_that_is_known_three_seconds_tell_whether_it_goes_on() {
        let pace = |taken: fn(f64) -> f64| {
            let now = BootTime(1 + (20 * 4 - 1) * 250_000_000);
            run(20, taken).goes_on(now).map(|rise| rise.bytes_per_second / MIB as f64)
        };
        let again = pace(|t| 224.0 + 2.0 * (t - 16.0).max(0.0)).unwrap();
        assert!((1.5..2.5).contains(&again), "{again}");
        assert_eq!(pace(|_| 224.0), None);
        assert_eq!(pace(|t| 224.0 + 4.0 * (t % 2.0)), None, "up and down");
    }

    #[test]
    fn a_window_that_is_not_full_says_nothing() {
        assert_eq!(to_limit(&run(10, |t| 180.0 + 2.0 * t), 10), None);
    }

    #[test]
    fn a_plateau_has_no_time_to_its_limit() {
        assert_eq!(to_limit(&run(40, |t| 150.0 + (4.0 * t).min(80.0)), 40), None);
    }

    #[test]
    fn a_warm_up_that_slows_down_is_given_time() {
        let floor = run(30, |t| 230.0 * (1.0 - (-t / 10.0_f64).exp()));
        let left = to_limit(&floor, 30).unwrap();
        assert!(15.0 < left, "{left}");
    }

    #[test]
    fn the_second_climb_of_a_saw_is_no_news() {
        let saw = |t: f64| 90.0 + 5.0 * (t % 28.0);
        assert!(to_limit(&run(27, saw), 27).is_some(), "nobody can know it of the first");
        for seconds in [50, 55, 80, 110, 139] {
            assert_eq!(to_limit(&run(seconds, saw), seconds), None, "{seconds}");
        }
    }

    #[test]
    fn one_fall_an_hour_ago_makes_no_cycle_of_a_leak() {
        let leaks = |t: f64| if t < 10.0 { 240.0 } else { 60.0 + (t - 3585.0).max(0.0) * 8.0 };
        let floor = run(3600, leaks);
        assert!(!floor.has_cycles());
        assert!(to_limit(&floor, 3600).is_some(), "below the old peak");
    }

    #[test]
    fn a_leak_under_a_saw_is_timed_by_its_troughs_or_floors() {
        let slow = run(120, |t| 60.0 + t + 40.0 * (t % 8.0) / 8.0);
        let left = to_limit(&slow, 120).unwrap();
        assert!((30.0..60.0).contains(&left), "{left}");
        let quick = run(60, |t| 60.0 + 2.0 * t + 40.0 * (t % 2.0) / 2.0);
        let left = to_limit(&quick, 60).unwrap();
        assert!((12.0..45.0).contains(&left), "{left}");
    }
}
