//! Whether it all was true.

use serde_json::Value;

use super::{Case, NEIGHBOUR};
use crate::{
    engine::class::Class,
    identity::process::ProcessId,
    report::{
        incidents::Incident,
        record::{Record, text},
    },
};

/// What was not as it should be with one service.
pub(super) fn case(
    case: &Case,
    incidents: &[Incident],
    victim: ProcessId,
    now: Option<ProcessId>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |fine: bool, words: &str| {
        if !fine {
            wrong.push(format!("{}: {words}", case.name));
        }
    };
    check(now.is_some_and(|now| now != victim), "no successor runs");
    check(incidents.len() == 1, &format!("{} incidents instead of one", incidents.len()));
    for incident in incidents {
        let class = Class::by_name(&incident.class);
        check(class.is_some_and(|class| case.classes.contains(&class)), "another diagnosis");
        check(incident.sentence.contains(case.says), &format!("no word of {}", case.says));
        check(incident.pid == victim.pid, "another process was diagnosed");
        check(incident.outcome.as_deref() == Some("healed"), "not healed");
        let gates = of_kind(incident, "gate");
        check(
            !gates.is_empty() && gates.iter().all(|gate| text(gate, "verdict") == "pass"),
            "a gate held it",
        );
        let acts = of_kind(incident, "result");
        check(acts.len() == 1 && text(acts[0], "outcome") == "done", "not exactly one act was done");
        let verified = of_kind(incident, "verification");
        let successor = verified.last().and_then(|record| record.get("successor")?.get("pid")?.as_u64());
        let runs = now.map(|now| u64::from(now.pid));
        check(successor.is_some() && successor == runs, "verified somebody else");
    }
    wrong
}

fn of_kind<'a>(incident: &'a Incident, kind: &str) -> Vec<&'a Record> {
    let has_kind = |record: &&Record| record.get("record").and_then(Value::as_str) == Some(kind);
    incident.timeline.iter().filter(has_kind).collect()
}

/// The healthy one must be the same process, and nothing may have been said of it.
pub(super) fn neighbour(before: ProcessId, now: Option<ProcessId>, incidents: &[Incident]) -> Vec<String> {
    let mut wrong = Vec::new();
    if now != Some(before) {
        wrong.push(format!("{}: it is not the same process any more", NEIGHBOUR.0));
    }
    if incidents.iter().any(|incident| incident.workload == format!("supervise/{}", NEIGHBOUR.0)) {
        wrong.push(format!("{}: it was healthy and was diagnosed", NEIGHBOUR.0));
    }
    wrong
}
