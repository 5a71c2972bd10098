//! When maintenance is: times of the day and days of the week, or dates. UTC: a static binary has no time zones.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::value::{Text, written_as_text};

/// `22:00`, or `2026-12-01T22:00:00Z`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    /// In seconds.
    OfDay(i64),
    /// Seconds since 1970.
    Once(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MomentText(pub(super) Moment);
written_as_text!(MomentText, "a time such as \"22:00\"", moment, {
    "type": "string", "pattern": "^([0-9]{2}:[0-9]{2}|[0-9]{4}-[0-9]{2}-[0-9]{2}T.+)$"
});

fn moment(text: &str) -> Result<Moment, String> {
    let of_day = text.split_once(':').filter(|_| text.len() == 5).and_then(|(hour, minute)| {
        let hour = two_digits(hour).filter(|hour| *hour < 24)?;
        let minute = two_digits(minute).filter(|minute| *minute < 60)?;
        Some(Moment::OfDay(hour * 3600 + minute * 60))
    });
    let once = || Some(Moment::Once(text.parse::<jiff::Timestamp>().ok()?.as_second()));
    of_day
        .or_else(once)
        .ok_or_else(|| format!("{text:?} is no time: write it as \"22:00\" or 2026-12-01T22:00:00Z, in UTC"))
}

fn two_digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    /// From Monday.
    pub(super) fn number(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_day_and_dates() {
        assert_eq!(moment("22:30"), Ok(Moment::OfDay(22 * 3600 + 1800)));
        assert_eq!(moment("1970-01-02T00:00:01Z"), Ok(Moment::Once(86_401)));
        assert_eq!(moment("1970-01-02T00:00:00+01:00"), Ok(Moment::Once(82_800)));
        for wrong in ["24:00", "22:60", "2:00", "+2:00", "22", "1970-01-02", "", "22:00:00"] {
            assert!(moment(wrong).unwrap_err().contains("is no time"), "{wrong}");
        }
    }
}
