//! An incident as the API, the control socket and `--json` give it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::Record;
use crate::engine::report::Outcome;

/// One incident, from first kernel record to verified recovery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Incident {
    /// `i42`
    pub id: String,
    /// Key, for example `supervise/web`.
    pub workload: String,
    pub class: String,
    pub certainty: String,
    /// One line with numbers, for a person.
    pub sentence: String,
    pub pid: u32,
    pub open: bool,
    /// How it ended, once closed: `healed`, `recovered_alone`, `notified` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// First kernel evidence, RFC 3339.
    pub fault_time: String,
    pub fault_boot_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_time: Option<String>,
    /// Fault to diagnosis, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_detect_ns: Option<u64>,
    /// Diagnosis to act done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_act_ns: Option<u64>,
    /// Act done to verified well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_recover_ns: Option<u64>,
    /// The records, oldest first; repeated gate verdicts are one entry with `repeats`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<BTreeMap<String, Value>>")]
    pub timeline: Vec<Record>,
    /// Records left out because the timeline is full.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Does `name` mean the workload: its key, its key without the kind, or what `short_name` shows?
pub fn is_named(workload: &str, name: &str) -> bool {
    let without_kind = workload.split_once('/').map_or(workload, |(_, rest)| rest);
    workload == name || without_kind == name || short_name(workload) == name
}

/// `web` for `supervise/web`, `payments/api-0/app` for a pod, the program's file name for a program.
pub fn short_name(workload: &str) -> &str {
    match workload.split_once('/') {
        Some(("program", rest)) => {
            let exe = rest.split_once('@').map_or(rest, |(exe, _)| exe);
            exe.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(exe)
        }
        Some((_, rest)) => rest,
        None => workload,
    }
}

/// A person may look away: the patient is well, or never was in danger.
pub fn ended_well(outcome: &str) -> bool {
    [Outcome::Healed, Outcome::RecoveredAlone].iter().any(|good| good.name() == outcome)
}

/// The agent ended before the incident did.
pub const INTERRUPTED: &str = "interrupted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_shown_by_file_name() {
        assert_eq!(short_name("program//usr/bin/nginx@/a/b</usr/bin/sh"), "nginx");
        assert_eq!(short_name("unit/web.service"), "web.service");
        assert_eq!(short_name("web"), "web");
    }
}
