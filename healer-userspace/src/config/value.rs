//! Single values that have a grammar: each is read, checked and described here.

use core::{fmt, time::Duration};
use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use crate::engine::{
    class::Class,
    policy::{Port, Protocol, Unless},
};

/// A type that is written as text: what it is called, how it is parsed, how its schema describes it.
macro_rules! written_as_text {
    ($name:ident, $called:literal, $parse:path, $schema:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Text { called: $called, parse: $parse };
                deserializer.deserialize_str(text).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

pub(super) use written_as_text;

pub(super) struct Text<T> {
    pub(super) called: &'static str,
    pub(super) parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.called)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// `30s`, `5m`, `1h30m`, `250ms`; at most 365 days, so that sums never overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Period(pub(super) Duration);
written_as_text!(Period, "a duration such as 30s", duration, {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"});

/// `8080/tcp`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PortName(pub(super) Port);
written_as_text!(PortName, "a port such as 8080/tcp", port, {"type": "string", "pattern": "^[0-9]+/(tcp|udp)$"});

/// `TERM` or `SIGTERM`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SignalName(pub(super) i32);
written_as_text!(SignalName, "a signal name such as TERM", signal, {"type": "string", "pattern": "^(SIG)?[A-Z0-9]+$"});

/// `95%`, whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Percent(pub(super) u32);
written_as_text!(Percent, "a share such as 20%", percent, {"type": "string", "pattern": "^[0-9]+%$"});

/// `512Mi`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quantity(pub(super) u64);
written_as_text!(Quantity, "an amount such as 512Mi", quantity, {"type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi|Ti)$"});

/// Lower-case letters, digits, `-` and `.`, as Kubernetes has object names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ObjectName(pub(super) String);
written_as_text!(ObjectName, "a string", object_name, {
    "type": "string", "maxLength": 253, "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
});

/// A word without control characters, with or without `*`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern(pub(super) String);
written_as_text!(Pattern, "a string", pattern, {"type": "string", "minLength": 1});

/// An absolute path, exactly.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExactPath(pub(super) String);
written_as_text!(ExactPath, "an absolute path", exact_path, {"type": "string", "pattern": "^/"});

/// `64Mi`, `1Gi`, `65536`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bytes(pub(super) u64);
written_as_text!(Bytes, "an amount of memory such as 64Mi", bytes, {"type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi)?$"});

fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err(format!("{text:?} is no amount of memory, such as 64Mi")),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| 0 < *bytes)
        .ok_or_else(|| format!("{text:?} is no amount of memory, such as 64Mi"))
}

/// `1.0`, `0.25`: kept as parts in a million.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Percentage(pub(super) u64);

impl<'de> Deserialize<'de> for Percentage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        if (0.01..=100.0).contains(&percent) {
            return Ok(Self((percent * 10_000.0).round() as u64));
        }
        Err(D::Error::custom(format_args!("{percent} is no share of a CPU from 0.01 to 100 percent")))
    }
}

impl JsonSchema for Percentage {
    fn schema_name() -> Cow<'static, str> {
        "Percentage".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0.01, "maximum": 100})
    }
}

/// A class, or `evidence_lost`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct UnlessWord(pub(super) Unless);

const EVIDENCE_LOST: &str = "evidence_lost";

impl<'de> Deserialize<'de> for UnlessWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        if word == EVIDENCE_LOST {
            return Ok(Self(Unless::EvidenceLost));
        }
        Class::by_name(&word).map(|class| Self(Unless::Class(class))).ok_or_else(|| {
            let hint = super::problem::suggestion(&word, unless_words());
            D::Error::custom(format_args!("unknown class {word:?}{hint}"))
        })
    }
}

fn unless_words() -> impl Iterator<Item = &'static str> {
    Class::ALL.iter().map(|class| class.name()).chain([EVIDENCE_LOST])
}

impl JsonSchema for UnlessWord {
    fn schema_name() -> Cow<'static, str> {
        "UnlessWord".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": unless_words().collect::<Vec<_>>()})
    }
}

pub fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    let wrong = || format!("{text:?} is no duration: write it as 30s, 5m, 1h30m or 250ms");
    let mut total = Duration::ZERO;
    let mut last_unit = Duration::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let unit = unit_of_time(unit).filter(|unit| *unit < last_unit).ok_or_else(wrong)?;
        let number: u32 = number.parse().map_err(|_| wrong())?;
        total = total.saturating_add(unit.saturating_mul(number));
        (last_unit, rest) = (unit, after);
    }
    if text.is_empty() {
        return Err(wrong());
    }
    if total > LONGEST {
        return Err(format!("{text:?} is longer than 365d"));
    }
    Ok(total)
}

fn unit_of_time(name: &str) -> Option<Duration> {
    let seconds = match name {
        "ms" => return Some(Duration::from_millis(1)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

fn port(text: &str) -> Result<Port, String> {
    let parsed = text.split_once('/').and_then(|(number, protocol)| {
        let number = number.parse().ok().filter(|number| *number > 0)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        Some(Port { number, protocol })
    });
    parsed.ok_or_else(|| format!("{text:?} is no port: write it as 8080/tcp or 53/udp"))
}

fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let parsed = number.and_then(|number| number.parse().ok());
    parsed.ok_or_else(|| format!("{text:?} is no share: write it as 20%"))
}

fn quantity(text: &str) -> Result<u64, String> {
    let shifts = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40)];
    let parsed = shifts.iter().find_map(|(unit, shift)| {
        let number =
            text.strip_suffix(unit).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
        number.parse::<u64>().ok()?.checked_mul(1 << shift)
    });
    let bytes = parsed.filter(|bytes| (1..=1 << 50).contains(bytes));
    bytes.ok_or_else(|| format!("{text:?} is no amount: write it as 512Mi or 2Gi"))
}

/// Signals that ask a process to end. KILL is what `stop` ends with by itself.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ABRT", libc::SIGABRT),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("TERM", libc::SIGTERM),
    ("WINCH", libc::SIGWINCH), // httpd's word for a graceful stop
];

fn signal(text: &str) -> Result<i32, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if name == "KILL" {
        return Err("KILL cannot be a first signal: use `do: kill`".to_owned());
    }
    let found = SIGNALS.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number).ok_or_else(|| {
        let known: Vec<_> = SIGNALS.iter().map(|(known, _)| *known).collect();
        format!("{text:?} does not ask a process to end: one of {}", known.join(", "))
    })
}

fn object_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inside = text.chars().all(|c| plain(c) || matches!(c, '-' | '.'));
    let ends = text.starts_with(plain) && text.ends_with(plain);
    if inside && ends && text.len() <= 253 {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no name: lower-case letters, digits, - and . only, 253 at most"))
}

fn pattern(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{text:?} is empty or has control characters"));
    }
    Ok(text.to_owned())
}

fn exact_path(text: &str) -> Result<String, String> {
    pattern(text)?;
    if !text.starts_with('/') {
        return Err(format!("{text:?} is not an absolute path"));
    }
    if text.contains('*') {
        return Err(format!("{text:?} has a *: an executable is named exactly"));
    }
    if text.split('/').any(|part| matches!(part, "." | "..")) || text.contains("//") {
        return Err(format!("{text:?} is not the path the kernel shows: no ., .. or //"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let seconds = |text| duration(text).map(|period| period.as_secs_f64());
        assert_eq!(seconds("30s"), Ok(30.0));
        assert_eq!(seconds("1h30m"), Ok(5400.0));
        assert_eq!(seconds("1m0s250ms"), Ok(60.25));
        assert_eq!(seconds("0s"), Ok(0.0));
        for wrong in ["", "30", "s", "30 s", "-3s", "1.5s", "30m1h", "5m5m", "99999999999s", "366d", "3é"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(port("8080/tcp").unwrap().to_string(), "8080/tcp");
        for wrong in ["8080", "0/tcp", "65536/tcp", "80/sctp", "/tcp", "tcp/80"] {
            assert!(port(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn signals() {
        assert_eq!(signal("TERM"), Ok(15));
        assert_eq!(signal("SIGHUP"), Ok(1));
        assert!(signal("KILL").unwrap_err().contains("do: kill"));
        assert!(signal("STOP").is_err());
        assert!(signal("term").is_err());
    }

    #[test]
    fn shares_and_amounts() {
        assert_eq!(percent("95%"), Ok(95));
        for wrong in ["", "%", "95", "9.5%", "-1%", "+1%", "99999999999%"] {
            assert!(percent(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(quantity("512Mi"), Ok(512 << 20));
        for wrong in ["", "Mi", "0Mi", "512", "512M", "1.5Gi", "-1Gi", "99999999999Ti"] {
            assert!(quantity(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_and_paths() {
        assert!(object_name("payments-api.v2").is_ok());
        for wrong in ["", "-a", "a-", "A", "a b", "a\n"] {
            assert!(object_name(wrong).is_err(), "{wrong:?}");
        }
        assert!(exact_path("/usr/bin/web server").is_ok());
        for wrong in ["web", "/a/../b", "/a//b", "/a*", "/a\u{1b}"] {
            assert!(exact_path(wrong).is_err(), "{wrong:?}");
        }
    }
}
