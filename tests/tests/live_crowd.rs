//! Many services that fail at once: a storm is held and told once, a canary goes first. Needs root.

use std::collections::BTreeSet;

use healer_tests::{
    home::{Agent, Home, count, signal_to},
    policies::{RESTART, policy},
    supervised::{Supervised, lives, name},
};
use rustix::process::Signal;

const WINDOW_NS: u64 = 6_000_000_000;
const SOAK_NS: u64 = 3_000_000_000;

fn services(home: &Home, base: &str, many: u32) -> Vec<Supervised> {
    let start = |i| Supervised::start(home, &format!("{base}-{i}"), &["sleep", "1000"]);
    let services: Vec<_> = (0..many).map(start).collect();
    assert!(services.iter().all(|service| lives(service.child())));
    services
}

/// The agent knows them all; then all are killed.
fn all_fall(agent: &mut Agent<'_>, services: &[Supervised]) {
    agent.wait("all are followed", |agent| {
        let told = agent.get("/api/v1/workloads");
        services.iter().all(|service| told.contains(&service.workload())).then_some(())
    });
    services.iter().for_each(|service| signal_to(service.child(), Signal::KILL));
}

/// When each was acted on, in order.
fn acts(agent: &mut Agent<'_>, services: &[Supervised]) -> Vec<u64> {
    let mut all: Vec<_> = services
        .iter()
        .map(|service| agent.record(&service.workload(), "intent", "")["boot_ns"].as_u64().unwrap())
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn a_storm_is_held_and_told_once_and_passes() {
    let base = name();
    let home = Home::new(&policy("enforce", &format!("supervise: '{base}-*'"), RESTART));
    let mut agent =
        home.agent_with_config("storm: {targets: 2, percent: 20, window: 6s}\nbudget: {node: {max: 100}}");
    let services = services(&home, &base, 5);
    all_fall(&mut agent, &services);
    let acts = acts(&mut agent, &services);
    for (at, third) in acts.iter().zip(&acts[2..]) {
        assert!(WINDOW_NS <= third - at, "more than two at once: {acts:?}");
    }
    services
        .iter()
        .for_each(|service| drop(agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"")));
    let audit = home.audit();
    assert_eq!(count(&audit, "notify", "held by gate storm"), 1, "{}", agent.log());
    let held = audit.iter().find(|record| record["gate"] == "storm" && record["verdict"] == "hold").unwrap();
    let why = home.healer(&["why", held["workload"].as_str().unwrap()]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    // Others may run on this machine beside the five.
    assert!(why.contains(" workloads failed within 6.0s: one problem of the node"), "{why}");
}

#[test]
fn one_instance_goes_first_and_the_rest_follow_when_it_is_well() {
    let base = name();
    let safety = RESTART.replace("  safety:", "  safety:\n    canary: {instances: 1, soak: 3s}");
    let home = Home::new(&policy("enforce", &format!("supervise: '{base}-*'"), &safety));
    let mut agent = home.agent_with_config("budget: {node: {max: 100}}");
    let services = services(&home, &base, 3);
    all_fall(&mut agent, &services);
    let acts = acts(&mut agent, &services);
    services
        .iter()
        .for_each(|service| drop(agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"")));
    let audit = home.audit();
    let healed = audit
        .iter()
        .filter(|record| record["record"] == "closed")
        .filter_map(|record| record["boot_ns"].as_u64());
    let first = healed.min().unwrap();
    assert!(acts[0] < first && first + SOAK_NS <= acts[1], "{acts:?}, the canary was well at {first}");
    let held = audit.iter().find(|record| record["gate"] == "canary" && record["verdict"] == "hold").unwrap();
    let why = home.healer(&["why", held["workload"].as_str().unwrap()]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("is well again since its act"), "{why}");
    assert!(services.iter().all(|service| lives(service.child())));
}

/// Who went first in an earlier life is forgotten: one goes first again, and nobody is left behind.
#[test]
fn an_agent_that_is_killed_in_the_middle_of_a_canary_heals_the_rest() {
    let base = name();
    let safety = RESTART.replace("  safety:", "  safety:\n    canary: {instances: 1, soak: 3s}");
    let home = Home::new(&policy("enforce", &format!("supervise: '{base}-*'"), &safety));
    let services = {
        let mut agent = home.agent_with_config("budget: {node: {max: 100}}");
        let services = services(&home, &base, 3);
        all_fall(&mut agent, &services);
        agent.wait("some wait for the canary", |agent| {
            let held = agent.home().audit();
            let held = held.iter().filter(|record| record["gate"] == "canary" && record["verdict"] == "hold");
            (2 <= held.map(|record| record["workload"].to_string()).collect::<BTreeSet<_>>().len())
                .then_some(())
        });
        agent.signal(Signal::KILL);
        agent.end();
        services
    };
    let before = home.audit().len();
    let mut agent = home.agent_with_config("budget: {node: {max: 100}}");
    agent.wait("all live", |_| {
        services.iter().all(|service| service.child_now().is_some_and(lives)).then_some(())
    });
    let acts: Vec<_> = home.audit().split_off(before);
    let acts: Vec<_> = acts.iter().filter(|record| record["record"] == "intent").collect();
    assert!((1..=3).contains(&acts.len()), "{acts:?}");
    let times: Vec<_> = acts.iter().filter_map(|act| act["boot_ns"].as_u64()).collect();
    // One goes first; once it has been well for long enough, the rest may go together.
    assert!(times.get(1).is_none_or(|second| times[0] + SOAK_NS <= *second), "{times:?}");
}
