//! Needs root and gcc: how soon a deadlock is proved, its process replaced, and the cure believed.

use std::{fs, path::PathBuf, time::Duration};

use healer_tests::{
    hangs::build,
    home::{Home, is},
    policies::policy,
    supervised::{Supervised, name},
    victim::Victim,
};
use serde_json::Value;

/// Far above what is seen on a quiet machine: others may use the CPUs.
const CEILING: Duration = Duration::from_secs(20);
const STABLE_FOR: Duration = Duration::from_secs(1);

#[expect(clippy::print_stdout, reason = "the figures, for whoever reads the test's output")]
fn say(what: &str, times: &mut [Duration]) -> Duration {
    times.sort();
    let median = times[times.len() / 2];
    println!("{what}: p50 {median:?} of {}, {:?} to {:?}", times.len(), times[0], times[times.len() - 1]);
    median
}

fn between(from: u64, to: &Value) -> Duration {
    Duration::from_nanos(to.as_u64().expect("records have their time").saturating_sub(from))
}

/// When the threads locked each other out, as the victim wrote it down.
fn stamp(file: &PathBuf) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.parse().expect("the victim writes down when")
}

/// One after the other. In the long form nobody is suspected any more when the next one comes; in the short one all but
/// the first meet a scanner that is alert.
#[test]
fn a_deadlock_is_proved_within_seconds() {
    let home = Home::new(&policy(
        "shadow",
        "comm: stamped",
        "\n  rules: [{name: tell, when: [{class: deadlock}], escalate: [{do: notify}]}]\n",
    ));
    let program = build(home.scratch(), "stamped.c");
    let is_full = std::env::var_os("HEALER_FULL").is_some();
    let gap = if is_full { 17_370 } else { 670 };
    let mut agent = home.agent();
    let victims: Vec<(PathBuf, Victim)> = (0..12)
        .map(|number| {
            let file = home.path().join(format!("stamp-{number}"));
            let delay = (number * gap).to_string();
            let victim = Victim::start(&program, &[file.to_str().expect("a plain path"), &delay]);
            (file, victim)
        })
        .collect();
    let mut times = Vec::new();
    for (file, victim) in &victims {
        let of_it =
            |found: &Value| is(found, "diagnosis", "deadlock") && found["target"]["pid"] == victim.tgid();
        let found = agent.wait("a diagnosis", |agent| agent.home().audit().into_iter().find(of_it));
        assert_eq!(found["certainty"], "proved", "{found}");
        times.push(between(stamp(file), &found["detected_boot_ns"]));
    }
    let quiet = times.remove(0);
    say("proved after (nobody was suspected before)", &mut [quiet]);
    let median =
        say(if is_full { "proved after" } else { "proved after (at the cadence of suspicion)" }, &mut times);
    assert!(quiet < CEILING && median < CEILING);
}

#[test]
fn its_successor_is_up_and_verified_soon_after() {
    let names: Vec<String> = (0..3).map(|_| name()).collect();
    let home = Home::new("");
    let rules = "
  rules: [{name: stuck, when: [{class: deadlock}], escalate: [{do: restart, grace: 1s}]}]
  verify: {within: 20s, stableFor: 1s}
";
    home.write_policy(&policy("enforce", &format!("supervise: [{}]", names.join(", ")), rules));
    let program = build(home.scratch(), "stamped.c").display().to_string();
    let mut agent = home.agent();
    let start = |name: &String| {
        let file = home.path().join(name);
        (Supervised::start(&home, name, &[&program, &file.display().to_string(), "500"]), file)
    };
    let services: Vec<_> = names.iter().map(start).collect();
    let (mut up, mut verified) = (Vec::new(), Vec::new());
    for (service, file) in &services {
        let found = agent.record(&service.workload(), "diagnosis", "deadlock");
        let proved = found["detected_boot_ns"].as_u64().expect("a diagnosis has its time");
        let done = agent.record(&service.workload(), "result", "restart");
        let closed = agent.record(&service.workload(), "closed", "healed");
        assert!(stamp(file) < proved);
        up.push(between(proved, &done["boot_ns"]));
        verified.push(between(proved, &closed["boot_ns"]));
    }
    let up = say("successor up after the proof", &mut up);
    let verified = say("verified after the proof", &mut verified);
    assert!(up < CEILING);
    assert!(STABLE_FOR <= verified, "no cure is believed before it has lasted: {verified:?}");
}
