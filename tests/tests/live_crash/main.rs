//! SIGKILL to the agent while it heals, at random moments and at each state of its journal: no restart, signal or hook
//! comes twice by one intent, every intent has one result, and the audit's chain holds. Needs root.

mod points;
mod random;
mod victims;

use std::collections::BTreeMap;

use healer_tests::home::Home;
use serde_json::Value;

/// Actions and results of the audit, by the key of their intent.
struct Ledger {
    actions: BTreeMap<String, String>,
    results: BTreeMap<String, usize>,
}

impl Ledger {
    fn of(home: &Home) -> Self {
        let mut ledger = Self { actions: BTreeMap::new(), results: BTreeMap::new() };
        for record in home.audit() {
            let key = record["key"].as_str().unwrap_or_default().to_owned();
            match record["record"].as_str() {
                Some("intent") => {
                    let action = record["action"].as_str().unwrap_or_default().to_owned();
                    assert!(ledger.actions.insert(key, action).is_none(), "an intent twice: {record}");
                }
                Some("result") => *ledger.results.entry(key).or_default() += 1,
                _other => {}
            }
        }
        ledger
    }

    /// Keys of intents of that action.
    fn of_action(&self, action: &str) -> usize {
        self.actions.values().filter(|found| *found == action).count()
    }

    fn open(&self) -> Vec<&String> {
        self.actions.keys().filter(|key| !self.results.contains_key(*key)).collect()
    }

    /// No result without its intent, none twice.
    fn assert_sound(&self) {
        for (key, results) in &self.results {
            assert!(self.actions.contains_key(key), "a result without its intent: {key}");
            assert_eq!(*results, 1, "results of {key}");
        }
    }
}

/// `healer audit verify`: its status and words.
fn verify(home: &Home) -> (Option<i32>, String) {
    let said = home.healer(&["audit", "verify"]);
    (said.status.code(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
}

/// The chain is valid and ends where healer's own memory of it says; without its last line it does not.
fn assert_whole_and_a_cut_is_found(home: &Home) {
    let (status, says) = verify(home);
    assert_eq!(status, Some(0), "{says}");
    let audit = home.state().join("audit.jsonl");
    let whole = std::fs::read_to_string(&audit).expect("the audit is there");
    let last = whole.lines().next_back().expect("it has lines");
    let cut = whole.strip_suffix(&format!("{last}\n")).expect("the last line is whole");
    std::fs::write(&audit, cut).expect("it can be written");
    let (status, says) = verify(home);
    assert_eq!(status, Some(1), "a cut tail: {says}");
    std::fs::write(&audit, &whole).expect("it can be written");
}

fn number(record: &Value, key: &str) -> u32 {
    record[key].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}
