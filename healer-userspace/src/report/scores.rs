//! What rules in shadow would have done, and whether that would have been right.
//! Built from records alone, so that a running agent and a cold audit file give the same score.

mod suggest;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::suggest::Suggestion;
use super::{
    history,
    record::{Record, number, text},
};
use crate::{
    engine::{
        policy::{ActionName, Mode},
        report::Outcome,
    },
    store::StoreError,
};

/// Of each rule, so many acts are remembered with the time that the patient was sick.
const REMEMBERED: usize = 1000;

/// One rule's score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RuleScore {
    pub policy: String,
    pub rule: String,
    /// Dry runs of acts whose patients were followed, or are.
    pub would_have_acted: u64,
    /// Needless: within `verify.within` the patient was well without an act.
    pub recovered_alone: u64,
    /// Right: the patient ended.
    pub died: u64,
    /// Right: the patient was as sick at the end of `verify.within`.
    pub stayed_sick: u64,
    /// The patient was asked to stop meanwhile, or healer was.
    pub unknown: u64,
    /// Patients that are followed now.
    pub following: u64,
    /// What it answered, by class.
    pub classes: BTreeMap<String, u64>,
    /// RFC 3339, of the latest outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggestion>,
}

impl RuleScore {
    pub fn right(&self) -> u64 {
        self.died + self.stayed_sick
    }
}

/// All rules that ever would have acted, as far back as the audit goes.
#[derive(Debug, Default)]
pub struct Scores {
    rules: BTreeMap<(String, String), Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    score: RuleScore,
    following: BTreeSet<String>,
    acts: VecDeque<Sick>,
}

/// How long a would-be patient was sick, from its diagnosis; None: longer than it was followed.
#[derive(Clone, Copy, Debug)]
struct Sick {
    needless: bool,
    millis: Option<u64>,
}

impl Scores {
    /// What the audit of a state directory tells, through all its files.
    ///
    /// # Errors
    /// The directory cannot be opened or read.
    pub fn of_audit(state_dir: &Path) -> Result<Self, StoreError> {
        let mut scores = Self::default();
        history::for_each_of(state_dir, &["score", "intent", "closed"], |line| {
            if let Value::Object(record) = &line.value {
                scores.add(record);
            }
        })?;
        Ok(scores)
    }

    /// What became of an earlier agent's patients nobody knows, unless a new agent says so.
    pub fn nobody_follows(mut self) -> Self {
        for tally in self.rules.values_mut() {
            tally.score.unknown += core::mem::take(&mut tally.following).len() as u64;
        }
        self
    }

    pub fn add(&mut self, record: &Record) {
        let incident = text(record, "incident");
        match text(record, "record") {
            "intent" if text(record, "mode") == Mode::Shadow.name() && !is_capture(record) => {
                self.tally(record).following.insert(incident.to_owned());
            }
            "score" => self.scored(record),
            "closed" => {
                for tally in self.rules.values_mut() {
                    tally.following.remove(incident);
                }
            }
            _other => {}
        }
    }

    fn tally(&mut self, record: &Record) -> &mut Tally {
        let (policy, rule) = (text(record, "policy").to_owned(), text(record, "rule").to_owned());
        self.rules.entry((policy, rule)).or_default()
    }

    fn scored(&mut self, record: &Record) {
        let tally = self.tally(record);
        tally.following.remove(text(record, "incident"));
        let outcome = text(record, "outcome");
        let is = |known: Outcome| known.name() == outcome;
        let score = &mut tally.score;
        let count = match () {
            () if is(Outcome::RecoveredAlone) => &mut score.recovered_alone,
            () if is(Outcome::Died) => &mut score.died,
            () if is(Outcome::StayedSick) => &mut score.stayed_sick,
            () => &mut score.unknown,
        };
        *count += 1;
        let is_known = !is(Outcome::Unknown);
        if !text(record, "class").is_empty() {
            *score.classes.entry(text(record, "class").to_owned()).or_default() += 1;
        }
        score.last_time = Some(text(record, "time").to_owned());
        if is_known {
            let millis = record.contains_key("sick_ms").then(|| number(record, "sick_ms"));
            tally.acts.push_back(Sick { needless: is(Outcome::RecoveredAlone), millis });
        }
        if tally.acts.len() > REMEMBERED {
            tally.acts.pop_front();
        }
    }

    /// In order of policy and rule.
    pub fn list(&self) -> Vec<RuleScore> {
        self.rules.iter().map(|((policy, rule), tally)| tally.told(policy, rule)).collect()
    }
}

/// Touches nobody: whether it was needed is no question.
fn is_capture(record: &Record) -> bool {
    text(record, "action") == ActionName::Capture.name()
}

impl Tally {
    fn told(&self, policy: &str, rule: &str) -> RuleScore {
        let score = &self.score;
        let following = self.following.len() as u64;
        RuleScore {
            policy: policy.to_owned(),
            rule: rule.to_owned(),
            would_have_acted: score.right() + score.recovered_alone + score.unknown + following,
            following,
            suggestion: suggest::suggestion(self.acts.iter().copied()),
            ..score.clone()
        }
    }
}

#[cfg(test)]
mod tests;
