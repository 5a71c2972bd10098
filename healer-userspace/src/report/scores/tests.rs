use serde_json::json;

use super::*;

fn record(value: Value) -> Record {
    value.as_object().expect("an object").clone()
}

fn score(incident: &str, outcome: &str, sick_ms: Option<u64>) -> Record {
    let mut of = record(json!({
        "record": "score", "incident": incident, "policy": "web", "rule": "stuck", "class": "hang",
        "outcome": outcome, "after_ms": 500, "time": "2026-01-01T00:00:00Z",
    }));
    of.extend(sick_ms.map(|sick| ("sick_ms".to_owned(), json!(sick))));
    of
}

fn of(records: impl IntoIterator<Item = Record>) -> RuleScore {
    let mut scores = Scores::default();
    records.into_iter().for_each(|record| scores.add(&record));
    scores.list().pop().expect("one rule")
}

#[test]
fn a_longer_wait_is_suggested_for_what_recovers_alone() {
    let needless = [3, 12, 14, 22, 400].map(|sick| score("i1", "recovered_alone", Some(sick * 1000)));
    let told = of(needless.into_iter().chain([score("i2", "stayed_sick", None)]));
    assert_eq!((told.would_have_acted, told.recovered_alone, told.right()), (6, 5, 1));
    let suggestion = told.suggestion.expect("four of five were short");
    assert_eq!((suggestion.for_seconds, suggestion.avoids, suggestion.misses), (30, 4, 0));
    assert_eq!(suggestion.says, "for: 30s would have avoided 4 of 5 needless acts");
    assert_eq!(told.classes, BTreeMap::from([("hang".to_owned(), 6)]));
}

#[test]
fn who_dies_sooner_counts_against_waiting() {
    let acts = [("recovered_alone", 2), ("recovered_alone", 3), ("died", 4)];
    let records = acts.map(|(outcome, sick)| score("i1", outcome, Some(sick * 1000)));
    let says = of(records.clone()).suggestion.expect("more needless than right").says;
    assert_eq!(
        says,
        "for: 5s would have avoided 2 of 2 needless acts, and come too late for 1 of 1 right ones"
    );
    let deadly = records.into_iter().chain([score("i3", "died", Some(100))]);
    assert_eq!(of(deadly).suggestion, None);
    assert_eq!(of([score("i1", "died", Some(1))]).suggestion, None, "nothing was needless");
}

#[test]
fn whoever_was_followed_when_healer_ended_is_unknown() {
    let intent = |incident: &str| {
        record(
            json!({"record": "intent", "incident": incident, "mode": "shadow", "policy": "web", "rule": "stuck"}),
        )
    };
    let mut scores = Scores::default();
    [intent("i1"), intent("i2"), score("i1", "died", Some(1))].iter().for_each(|record| scores.add(record));
    let told = scores.nobody_follows().list().remove(0);
    assert_eq!((told.following, told.unknown, told.died, told.would_have_acted), (0, 1, 1, 2));
}

#[test]
fn a_patient_is_followed_from_the_intent_to_the_outcome() {
    let intent = |incident: &str, mode: &str| {
        record(
            json!({"record": "intent", "incident": incident, "mode": mode, "policy": "web", "rule": "stuck"}),
        )
    };
    let told = of([intent("i1", "shadow"), intent("i2", "shadow"), intent("i3", "shadow")]);
    assert_eq!((told.following, told.would_have_acted), (3, 3));
    let closed = record(json!({"record": "closed", "incident": "i2", "outcome": "unknown"}));
    let told = of([intent("i1", "shadow"), intent("i2", "shadow"), score("i1", "unknown", None), closed]);
    assert_eq!((told.following, told.unknown, told.would_have_acted), (0, 1, 1));
    let mut capture = intent("i5", "shadow");
    capture.insert("action".to_owned(), json!("capture"));
    let mut scores = Scores::default();
    scores.add(&capture);
    scores.add(&intent("i4", "enforce"));
    assert_eq!(scores.list(), []);
}
