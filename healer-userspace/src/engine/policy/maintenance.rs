//! When nobody is to be touched: planned work, by the wall clock in UTC.

use crate::engine::time::BootTime;

const DAY: i64 = 24 * 3600;

/// Both ends in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// On these days from one second of the day to another; to an earlier one, of the day after.
    Weekly { days: Days, from: i64, to: i64 },
    /// Since 1970.
    Once { from: i64, to: i64 },
}

/// One bit a day, Monday first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub u8);

impl Days {
    pub const ALL: Self = Self(0b111_1111);

    /// Of so many days since 1970-01-01, which was a Thursday.
    fn has(self, day: i64) -> bool {
        self.0 & (1 << (day + 3).rem_euclid(7)) != 0
    }
}

/// What the wall clock shows, brought by the caller: it may be set at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Nanoseconds between 1970 and the boot.
    pub booted: i128,
}

impl WallClock {
    /// Since 1970.
    pub fn seconds(self, at: BootTime) -> i64 {
        let nanos = self.booted + i128::from(at.0);
        i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX)
    }
}

impl Maintenance {
    /// When it will be over, if it is under way.
    pub fn until(self, wall: i64) -> Option<i64> {
        match self {
            Self::Once { from, to } => (from..to).contains(&wall).then_some(to),
            Self::Weekly { days, from, to } => {
                let length = (to - from).rem_euclid(DAY);
                // Of yesterday's the night may be left.
                let today = wall.div_euclid(DAY);
                let begun = [today, today - 1].into_iter().filter(|day| days.has(*day));
                begun
                    .map(|day| day * DAY + from)
                    .find(|begin| (*begin..begin + length).contains(&wall))
                    .map(|begin| begin + length)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    /// 2026-11-28 00:00 UTC, a Saturday.
    const SATURDAY: i64 = 20_785 * DAY;

    #[test]
    fn a_weekly_one_is_of_its_days_and_of_the_night_that_follows() {
        let night = Maintenance::Weekly { days: Days(1 << 5), from: 22 * HOUR, to: 2 * HOUR };
        assert_eq!(night.until(SATURDAY + 21 * HOUR), None);
        assert_eq!(night.until(SATURDAY + 22 * HOUR), Some(SATURDAY + 26 * HOUR));
        assert_eq!(night.until(SATURDAY + 25 * HOUR), Some(SATURDAY + 26 * HOUR));
        assert_eq!(night.until(SATURDAY + 26 * HOUR), None);
        assert_eq!(night.until(SATURDAY + HOUR), None, "Friday is none of its days");
        let daily = Maintenance::Weekly { days: Days::ALL, from: 3 * HOUR, to: 4 * HOUR };
        assert!((0..7).all(|day| daily.until(SATURDAY + day * DAY + 3 * HOUR).is_some()));
    }

    #[test]
    fn one_with_a_date_comes_once() {
        let once = Maintenance::Once { from: SATURDAY, to: SATURDAY + HOUR };
        assert_eq!(once.until(SATURDAY - 1), None);
        assert_eq!(once.until(SATURDAY), Some(SATURDAY + HOUR));
        assert_eq!(once.until(SATURDAY + DAY), None);
    }

    #[test]
    fn the_clock_on_the_wall_goes_with_the_machine() {
        let clock = WallClock { booted: i128::from(SATURDAY) * 1_000_000_000 };
        assert_eq!(clock.seconds(BootTime(61_000_000_000)), SATURDAY + 61);
    }
}
