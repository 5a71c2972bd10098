//! How a log event looks. Every value is escaped here, whoever logged it.

use core::fmt;

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{
    report::wall::{ReadClock, rfc3339},
    text::{escape_json, printable},
};

pub(super) struct Pretty {
    pub(super) clock: ReadClock,
    pub(super) colour: bool,
}

pub(super) struct Json {
    pub(super) clock: ReadClock,
}

/// Fields that the JSON form bears and a person does not want to read.
const FOR_MACHINES: [&str; 5] = ["workload", "record", "class", "mood", "part"];

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let fields = Fields::of(event);
        let now = (self.clock)();
        write!(out, "{} ", now.wall.strftime("%H:%M:%S%.3fZ"))?;
        let (before, after) =
            if self.colour { colours(fields.text("mood"), event.metadata().level()) } else { ("", "") };
        if fields.text("mood").is_empty() {
            write!(out, "{before}{}{after}", level_word(event.metadata().level()))?;
        }
        if !fields.text("incident").is_empty() {
            write!(out, "{} ", printable(fields.text("incident")))?;
        }
        if !fields.text("part").is_empty() {
            write!(out, "  {:<7} ", fields.text("part"))?;
        }
        write!(out, "{before}{}{after}", printable(fields.text("message")))?;
        for (name, value) in &fields.0 {
            if name != "message" && name != "incident" && !FOR_MACHINES.contains(&name.as_str()) {
                let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                write!(out, " {name}={}", printable(&plain))?;
            }
        }
        writeln!(out)
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::of(event).0;
        fields.retain(|name, value| !["mood", "part"].contains(&name.as_str()) && value.as_str() != Some(""));
        let now = (self.clock)();
        fields.insert("time".into(), rfc3339(now, now.boot).into());
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        fields.insert("level".into(), level.into());
        fields.insert("target".into(), event.metadata().target().into());
        let mut object = Value::Object(fields);
        escape_json(&mut object);
        writeln!(out, "{object}")
    }
}

fn level_word(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error ",
        Level::WARN => "warning ",
        _ => "",
    }
}

fn colours(mood: &str, level: &Level) -> (&'static str, &'static str) {
    match (mood, *level) {
        ("bad", _) | ("", Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
        ("good", _) => ("\x1b[32m", "\x1b[0m"),
        ("held", _) | ("", Level::WARN) => ("\x1b[33m", "\x1b[0m"),
        _ => ("", ""),
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self(Map::new());
        event.record(&mut fields);
        fields
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
