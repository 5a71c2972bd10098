//! A fact as the JSON object that scripts hold on to: a line of the audit without its place in the chain,
//! an entry of an incident's timeline.

use serde::Serialize;
use serde_json::{Map, Value};

use super::audit::view::Line;
use crate::{
    engine::{command::Intent, report::Report},
    store::row::Stamp,
};

pub type Record = Map<String, Value>;

/// What an intent said, kept until its result: a result carries the key alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActName {
    pub action: &'static str,
    pub rung: usize,
    pub mode: &'static str,
}

impl From<&Intent> for ActName {
    fn from(intent: &Intent) -> Self {
        Self { action: intent.act.rung.action.name(), rung: intent.rung_index, mode: intent.act.mode.name() }
    }
}

/// The same object as the audit's line has; `act` is the one that a result belongs to.
pub fn record(report: &Report, act: Option<&ActName>, stamp: &Stamp) -> Record {
    match serde_json::to_value(Line::new(0, report, act, stamp)) {
        Ok(Value::Object(mut record)) => {
            record.remove("seq");
            record
        }
        // Keys are strings and numbers are finite: there is nothing that JSON could not hold.
        Ok(_) | Err(_) => Record::new(),
    }
}

/// A number of a record; 0 if absent.
pub fn number(record: &Record, key: &str) -> u64 {
    record.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// A text field of a record; empty if absent.
pub fn text<'a>(record: &'a Record, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}
