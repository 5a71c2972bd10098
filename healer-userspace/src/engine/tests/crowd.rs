//! Many patients at once: storm and canary.

use super::*;
use crate::engine::{
    command::{ActionOutcome, ActionResult, JournalEntry},
    policy::{Canary, Storm},
};

fn one(name: &str, pid: u32, start: u64) -> Process {
    Process {
        workload: WorkloadKey::supervise(name),
        place: Place { supervise: Some(name.into()), ..Place::default() },
        ..supervised(pid, start)
    }
}

fn known(at: u64, process: &Process) -> Signal {
    let name = process.place.supervise.clone().unwrap_or_default();
    let supervisor = ProcessId { pid: 1000, start: BootTime(1) };
    signal(at, process, Fact::Registered(Registration { name, supervisor, last_key: None, waiting: None }))
}

/// `web-0`, `web-1`, …: all registered, then all killed in the eighth second.
fn all_fall(many: u32) -> (Vec<Process>, Vec<Signal>) {
    let instances: Vec<_> = (0..many).map(|i| one(&format!("web-{i}"), 10 + i, SECOND)).collect();
    let known = instances.iter().map(|instance| known(2 * SECOND, instance));
    let fell = instances.iter().enumerate().map(|(i, instance)| killed(8 * SECOND + i as u64, instance));
    let signals = known.chain(fell).collect();
    (instances, signals)
}

fn back(at: u64, instance: &Process) -> Signal {
    let name = instance.place.supervise.clone().unwrap_or_default();
    known(at, &one(&name, instance.pid + 100, at))
}

fn of_many(change: impl FnOnce(&mut PolicySet)) -> PolicySet {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches.supervise = vec!["web-*".into()];
    change(&mut set);
    set
}

fn storm(targets: u32, percent: u32) -> PolicySet {
    of_many(|set| set.storm = Some(Storm { targets, percent, window: Duration::from_secs(60) }))
}

#[test]
fn many_victims_at_once_are_held_and_told_once() {
    let (instances, mut signals) = all_fall(7);
    signals.extend(instances.iter().take(3).map(|instance| back(9 * SECOND, instance)));
    let lines = run(&signals, storm(3, 20));
    count(&lines[..], "held by gate storm", 1);
    has(&lines, "gate storm hold: 4 of 7 workloads failed within 1m00s: one problem of the node");
    let acts: Vec<_> = lines.iter().filter(|line| line.contains("intent restart")).collect();
    assert_eq!(acts.iter().filter(|line| line.starts_with("8.000s")).count(), 3, "{acts:#?}");
    assert_eq!(acts.len(), 7, "those that were held are healed when it has passed: {acts:#?}");
    let second: Vec<_> =
        acts.iter().filter(|line| line.starts_with("68.") || line.starts_with("69.")).collect();
    assert_eq!(second.len(), 3, "and no more at once than before: {acts:#?}");
}

#[test]
fn few_victims_and_few_of_many_are_no_storm() {
    count(&run(&all_fall(3).1, storm(3, 20)), "gate storm hold", 0);
    let (mut instances, mut signals) = all_fall(4);
    instances.extend((4..40).map(|i| one(&format!("web-{i}"), 10 + i, SECOND)));
    signals.splice(0..0, instances.iter().map(|instance| known(SECOND, instance)));
    let lines = run(&signals, storm(3, 20));
    count(&lines, "gate storm hold", 0);
    has(&lines, "gate storm pass: 4 of 40 workloads failed within 1m00s");
}

#[test]
fn shadow_knows_a_storm_and_bothers_nobody() {
    let (_, signals) = all_fall(7);
    let mut set = storm(3, 20);
    set.policies[0].mode = Mode::Shadow;
    let lines = run(&signals, set);
    has(&lines, "gate storm hold");
    count(&lines, "held by gate storm", 0);
}

fn canary(instances: u32) -> PolicySet {
    let soak = Duration::from_secs(20);
    of_many(|set| set.policies[0].safety.canary = Some(Canary { instances, soak }))
}

#[test]
fn one_instance_goes_first_and_the_rest_when_it_has_soaked() {
    let (instances, mut signals) = all_fall(3);
    signals.push(back(9 * SECOND, &instances[0]));
    let lines = run(&signals, canary(1));
    has(
        &lines,
        "8.000s i1 supervise/web-0 gate canary pass: this one is the canary: supervise/web-0 goes first",
    );
    has(&lines, "gate canary hold: the canary supervise/web-0 is being healed");
    has(&lines, "14.000s i1 supervise/web-0 closed healed");
    let acts: Vec<_> = lines.iter().filter(|line| line.contains("intent restart")).collect();
    assert_eq!(acts.len(), 3, "{acts:#?}");
    assert!(acts[0].starts_with("8.000s i1") && acts[1].starts_with("34.000s"), "{acts:#?}");
}

#[test]
fn a_canary_that_is_not_healed_keeps_the_rest_from_harm() {
    let (_, signals) = all_fall(3);
    let lines = run(&signals, canary(1));
    has(&lines, "gate canary hold: the canary supervise/web-0 is being healed");
    let acts: Vec<_> = lines.iter().filter(|line| line.contains("intent restart")).collect();
    assert_eq!(
        acts.iter()
            .filter(|line| line.split('.').next().is_some_and(|at| at.parse::<u32>().unwrap() < 600))
            .count(),
        1
    );
}

/// Nobody knows whether anything was done, and it is not well: that is no reason to do the same to the next.
#[test]
fn a_canary_whose_act_nobody_knows_of_keeps_the_rest_from_harm() {
    for action in [ActionName::Restart, ActionName::RunHook] {
        let mut set = canary(1);
        set.policies[0].rules[0].escalate = vec![rung(action)];
        let mut engine = Engine::new(BootTime(SECOND), set, Recovered::default());
        let mut acts = Vec::new();
        let (_, signals) = all_fall(3);
        for signal in &signals {
            engine.observe(signal.at, signal);
        }
        for second in 9..500 {
            engine.advance(BootTime(second * SECOND));
            while let Some(entry) = engine.poll_journal() {
                if let JournalEntry::Intent(intent) = entry {
                    let key = intent.act.key;
                    engine.committed(BootTime(second * SECOND), &key);
                    let outcome = ActionOutcome::Unknown { reason: "no answer".into() };
                    engine.action_finished(
                        BootTime(second * SECOND),
                        ActionResult { key: key.clone(), outcome },
                    );
                    acts.push(key);
                }
            }
        }
        assert_eq!(acts.len(), 1, "{action:?}: {acts:?}");
    }
}

#[test]
fn a_canary_that_falls_again_while_it_soaks_was_not_healed() {
    let (instances, mut signals) = all_fall(2);
    signals.push(back(9 * SECOND, &instances[0]));
    let again = one("web-0", instances[0].pid + 100, 9 * SECOND);
    signals.push(killed(20 * SECOND, &again));
    let lines = run(&signals, canary(1));
    let acts: Vec<_> = lines.iter().filter(|line| line.contains("intent restart")).collect();
    assert!(acts[0].contains("web-0") && acts[1].contains("web-0"), "only the canary itself: {acts:#?}");
    let others: Vec<_> = acts.iter().filter(|line| line.contains("web-1")).collect();
    assert!(
        others.iter().all(|line| !line.starts_with("34.")),
        "not when its soak would have ended: {others:#?}"
    );
}

#[test]
fn breakers_probe_one_after_the_other() {
    let (_, mut signals) = all_fall(2);
    let again: Vec<_> = (0..2).map(|i| one(&format!("web-{i}"), 110 + i, 20 * SECOND)).collect();
    signals.extend(again.iter().map(|instance| known(20 * SECOND, instance)));
    signals.extend(again.iter().map(|instance| killed(30 * SECOND, instance)));
    signals.push(known(70 * SECOND, &one("web-0", 210, 70 * SECOND)));
    let set = of_many(|set| {
        let policy = &mut set.policies[0];
        policy.safety.breaker.trip_after = 1;
        policy.safety.breaker.probe_after = Duration::from_secs(60);
        policy.verify.within = Duration::from_secs(10);
    });
    let lines = run(&signals, set);
    has(&lines, "gate breaker hold: breaker tripped after 1 acts on down that did not heal");
    let acts: Vec<_> = lines.iter().filter(|line| line.contains("intent restart")).collect();
    let at: Vec<_> = acts.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(at, ["8.000s", "8.000s", "68.000s", "80.000s"], "{acts:#?}");
    has(&lines, "gate canary hold: the canary supervise/web-0 is being healed");
}

#[test]
fn where_act_after_act_heals_nobody_the_node_has_a_breaker() {
    let (_, signals) = all_fall(5);
    let set = of_many(|set| {
        set.node_breaker = Some(Breaker {
            trip_after: 3,
            within: Duration::from_secs(1800),
            probe_after: Duration::from_secs(300),
        });
        set.policies[0].verify.within = Duration::from_secs(10);
        set.node_budget = Some(Budget { max: 3, per: Duration::from_secs(15) });
    });
    let lines = run(&signals, set);
    has(&lines, "gate breaker hold: breaker of the node tripped: the last 3 acts healed nobody");
    has(&lines, "gate breaker pass: breaker of the node is probing: this one act decides");
    let acts: Vec<_> = acts(&lines);
    assert!(acts[2].starts_with("8.") && acts[3].starts_with("308."), "{acts:#?}");
}

#[test]
fn a_canary_that_was_well_long_ago_is_healed_as_any_other() {
    let (instances, mut signals) = all_fall(1);
    signals.push(back(9 * SECOND, &instances[0]));
    signals.push(killed(100 * SECOND, &one("web-0", instances[0].pid + 100, 9 * SECOND)));
    let lines = run(&signals, canary(1));
    let acts: Vec<_> = lines.iter().filter(|line| line.contains("intent restart")).collect();
    assert!(acts.len() == 2 && acts[1].starts_with("100.000s"), "{acts:#?}");
}

fn acts(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| line.contains(" intent restart")).collect()
}

#[test]
fn evidence_first_does_not_switch_the_canary_off() {
    let (instances, mut signals) = all_fall(3);
    signals.push(back(9 * SECOND, &instances[0]));
    let mut set = canary(1);
    set.policies[0].rules[0].escalate.insert(0, rung(ActionName::Capture));
    let lines = run(&signals, set);
    assert!(acts(&lines)[1].starts_with("34.000s"), "{:#?}", acts(&lines));
}

#[test]
fn one_that_never_heals_does_not_starve_the_rest() {
    let (_, signals) = all_fall(2);
    let mut set = canary(1);
    set.policies[0].safety.breaker.trip_after = 1;
    set.policies[0].rules[0].escalate = vec![rung(ActionName::Restart)];
    let again = (1..6).flat_map(|n| {
        let one = one("web-0", 100 + n, u64::from(n) * 600 * SECOND);
        let at = one.start.0;
        [known(at, &one), killed(at + SECOND, &one)]
    });
    let lines = run(&signals.into_iter().chain(again).collect::<Vec<_>>(), set);
    let soon = |line: &str| line.split('.').next().is_some_and(|at| at.parse::<u32>().unwrap() < 700);
    assert!(acts(&lines).iter().any(|line| line.contains("web-1") && soon(line)), "{:#?}", acts(&lines));
}

#[test]
fn what_flies_ends_with_its_incident_whatever_class_it_flew_for() {
    use crate::engine::safety::canary::{Canaries, Group};
    let group = Group { policy: "web".into(), class: Class::Crash, mode: Mode::Enforce };
    let mut engine = Engine::new(BootTime(SECOND), canary(1), Recovered::default());
    let (_, signals) = all_fall(2);
    signals.iter().for_each(|signal| engine.observe(signal.at, signal));
    let id = crate::engine::command::IncidentId(1);
    engine.canaries = Canaries::default();
    engine.canaries.acts(group, &WorkloadKey::supervise("web-0"), id);
    assert!(engine.canaries.is_flying(id));
    engine.close(BootTime(9 * SECOND), id, crate::engine::report::Outcome::Unchanged, String::new());
    assert!(!engine.canaries.is_flying(id), "whatever class it went first for");
}

#[test]
fn who_ran_once_makes_no_crowd() {
    let (_, mut signals) = all_fall(7);
    let jobs = (0..60).flat_map(|i| {
        let exe = format!("/usr/bin/job-{i}");
        let workload = WorkloadKey(format!("program/job-{i}"));
        let job =
            Process { exe: Some(exe), workload, place: Place::default(), ..supervised(500 + i, SECOND) };
        [signal(SECOND, &job, Fact::Execed), signal(SECOND, &job, Fact::Exited(Exit::default()))]
    });
    signals.splice(0..0, jobs);
    has(&run(&signals, storm(3, 20)), "gate storm hold: 4 of 7 workloads failed within 1m00s");
}

#[test]
fn whom_another_gate_keeps_from_harm_is_no_victim_of_a_storm() {
    let (_, signals) = all_fall(7);
    let mut set = storm(3, 20);
    let mut spared = set.policies[0].clone();
    set.policies[0].matches.supervise = vec!["web-6".into()];
    spared.name = "spared".into();
    spared.rules[0].unless = vec![crate::engine::policy::Unless::Class(Class::Down)];
    set.policies.push(spared);
    let lines = run(&signals, set);
    count(&lines, "gate storm hold", 0);
    assert!(acts(&lines)[0].contains("web-6"));
}
