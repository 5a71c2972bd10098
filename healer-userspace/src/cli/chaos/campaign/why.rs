//! `healer why` of every incident: the whole chain, of the agent that runs and from what it leaves behind.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    engine::safety::GATES,
    own_binary::ourselves,
    report::{
        incidents::{INTERRUPTED, Incident},
        record::{Record, text},
    },
};

/// What `healer why` does not tell of these incidents; `from` says who answers.
pub(super) fn gaps(state_dir: &Path, ids: &BTreeSet<String>, from: &str) -> Vec<String> {
    let gap = |id: &String| match ask(state_dir, id) {
        Ok(incident) => missing(&incident).map(|what| format!("why {id}, from {from}: {what}")),
        Err(error) => Some(format!("why {id}, from {from}: {error:#}")),
    };
    ids.iter().filter_map(gap).collect()
}

fn ask(state_dir: &Path, id: &str) -> anyhow::Result<Incident> {
    let mut command = Command::new(ourselves());
    let output = command.arg("--state-dir").arg(state_dir).args(["why", id, "--json"]).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}", errors.trim());
    let mut answer: Value = serde_json::from_slice(&output.stdout)?;
    let told: Vec<Incident> = serde_json::from_value(answer["incidents"].take())?;
    told.into_iter().find(|incident| incident.id == id).context("no such incident is told")
}

/// Signal, diagnosis, rule, gates, act, verification: which link of the chain is not there?
fn missing(incident: &Incident) -> Option<String> {
    let records = &incident.timeline;
    let of = |kind: &'static str| records.iter().filter(move |record| text(record, "record") == kind);
    let rests_on = |diagnosis: &Record| diagnosis.get("evidence").and_then(Value::as_array).map(Vec::len);
    if of("diagnosis").next().is_none() {
        return Some("no diagnosis".to_owned());
    }
    if let Some(bare) = of("diagnosis").find(|diagnosis| rests_on(diagnosis).unwrap_or_default() == 0) {
        return Some(format!("{} rests on no signal", text(bare, "class")));
    }
    if incident.omitted != 0 {
        return None;
    }
    let intents = records.iter().enumerate().filter(|(_, record)| text(record, "record") == "intent");
    let gap = intents.filter_map(|(at, intent)| of_act(&records[..at], intent, &records[at..])).next();
    let is_over = !incident.open && incident.outcome.as_deref() != Some(INTERRUPTED);
    gap.or_else(|| (is_over && of("closed").next().is_none()).then(|| "no end".to_owned()))
}

/// What lacks before and after one intent. A capture is asked by no gate, and heals nobody.
fn of_act(before: &[Record], intent: &Record, after: &[Record]) -> Option<String> {
    let key = text(intent, "key");
    if text(intent, "action") == "capture" {
        return None;
    }
    if !before.iter().any(|record| text(record, "record") == "plan") {
        return Some(format!("{key} without a rule"));
    }
    let passed: BTreeSet<&str> = before
        .iter()
        .filter(|record| text(record, "verdict") == "pass")
        .map(|gate| text(gate, "gate"))
        .collect();
    if let Some(gate) = GATES.iter().find(|gate| !passed.contains(gate.name)) {
        return Some(format!("{key} without the gate {}", gate.name));
    }
    let result =
        after.iter().position(|record| text(record, "record") == "result" && text(record, "key") == key);
    let Some(result) = result else { return Some(format!("{key} without a result")) };
    let verified = |record: &Record| matches!(text(record, "record"), "verification" | "closed");
    let is_done = text(&after[result], "outcome") == "done";
    (is_done && !after[result..].iter().any(verified)).then(|| format!("{key} was done and never verified"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::book::Book;

    fn told(records: &[Value]) -> Incident {
        let mut book = Book::default();
        let each = records.iter().map(|record| record.as_object().cloned().unwrap_or_default());
        for (at, mut record) in each.enumerate() {
            record.extend([("incident".to_owned(), json!("i1")), ("boot_ns".to_owned(), json!(at + 1))]);
            book.add(&record);
        }
        book.get("i1").unwrap()
    }

    fn chain() -> Vec<Value> {
        let mut chain = vec![
            json!({"record": "diagnosis", "class": "down", "evidence": [{"signal": "exited"}]}),
            json!({"record": "plan", "policy": "p", "rule": "r"}),
        ];
        chain
            .extend(GATES.iter().map(|gate| json!({"record": "gate", "gate": gate.name, "verdict": "pass"})));
        chain.extend([
            json!({"record": "intent", "action": "restart", "key": "k"}),
            json!({"record": "result", "action": "restart", "key": "k", "outcome": "done"}),
            json!({"record": "verification", "outcome": "healed"}),
            json!({"record": "closed", "outcome": "healed"}),
        ]);
        chain
    }

    #[test]
    fn every_link_counts() {
        assert_eq!(missing(&told(&chain())), None);
        let without = |kind: &str, at: usize| {
            let mut chain = chain();
            let place =
                chain.iter().enumerate().filter(|(_, record)| record["record"] == kind).nth(at).unwrap().0;
            chain.remove(place);
            missing(&told(&chain)).unwrap()
        };
        assert_eq!(without("plan", 0), "k without a rule");
        assert_eq!(without("gate", 3), format!("k without the gate {}", GATES[3].name));
        assert_eq!(without("result", 0), "k without a result");
        let mut unverified = chain();
        unverified.truncate(unverified.len() - 2);
        assert_eq!(missing(&told(&unverified)).unwrap(), "k was done and never verified");
        let mut bare = chain();
        bare[0]["evidence"] = json!([]);
        assert_eq!(missing(&told(&bare)).unwrap(), "down rests on no signal");
    }
}
