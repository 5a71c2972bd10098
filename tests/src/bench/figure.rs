//! One number with its name, its unit and what was aimed at.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
    /// Spread, count, circumstances.
    pub remark: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    #[must_use]
    pub fn new(name: &str, value: f64, unit: &str) -> Self {
        Self { name: name.to_owned(), value, unit: unit.to_owned(), aim: None, remark: String::new() }
    }

    #[must_use]
    pub fn at_most(self, aim: f64) -> Self {
        Self { aim: Some(Aim::AtMost(aim)), ..self }
    }

    #[must_use]
    pub fn at_least(self, aim: f64) -> Self {
        Self { aim: Some(Aim::AtLeast(aim)), ..self }
    }

    #[must_use]
    pub fn remark(self, remark: impl Into<String>) -> Self {
        Self { remark: remark.into(), ..self }
    }

    #[must_use]
    pub fn verdict(&self) -> &'static str {
        let reached = match self.aim {
            None => return "",
            Some(Aim::AtMost(aim)) => self.value <= aim,
            Some(Aim::AtLeast(aim)) => aim <= self.value,
        };
        if reached { "ok" } else { "MISSED" }
    }

    #[must_use]
    pub fn aim_shown(&self) -> String {
        match self.aim {
            None => String::new(),
            Some(Aim::AtMost(aim)) => format!("≤ {}", number(aim)),
            Some(Aim::AtLeast(aim)) => format!("≥ {}", number(aim)),
        }
    }
}

/// Four significant digits at most.
#[must_use]
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1000.0 || value == value.trunc() {
        grouped(value)
    } else if magnitude >= 100.0 {
        format!("{value:.1}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    if value < 0.0 { format!("-{shown}") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        let shown: Vec<_> = [0.0, 0.0123, 1.5, 123.45, 1_234_567.8, -1000.0].map(number).into();
        assert_eq!(shown, ["0", "0.0123", "1.50", "123.5", "1,234,568", "-1,000"]);
    }

    #[test]
    fn an_aim_is_reached_or_missed() {
        let figure = Figure::new("x", 5.0, "ms");
        assert_eq!(figure.verdict(), "");
        assert_eq!(figure.clone().at_most(5.0).verdict(), "ok");
        assert_eq!(figure.clone().at_least(6.0).verdict(), "MISSED");
        assert_eq!(figure.at_least(6.0).aim_shown(), "≥ 6");
    }
}
