//! Each gate blocks an act that without it would be done: who takes one out of the table sees it here.

use super::*;
use crate::{
    engine::{
        command::{Ask, Question},
        policy::{Protect, Unless},
    },
    identity::process::Pod,
    signal::{Answer, Ring},
};

fn lost(at: u64) -> Signal {
    Signal { at: BootTime(at), process: None, fact: Fact::Lost { ring: Ring::Bulk, count: 7 } }
}

fn killed_at_8() -> Vec<Signal> {
    let web = supervised(10, SECOND);
    vec![registered(2 * SECOND, &web), killed(8 * SECOND, &web)]
}

fn restarting(change: impl FnOnce(&mut PolicySet)) -> PolicySet {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    change(&mut set);
    set
}

/// Blocked by that gate with that reason, and without what blocks it done.
#[track_caller]
fn blocks(part: &str, lines: &[String]) {
    has(lines, part);
    count(lines, "intent restart", 0);
    count(lines, "result done", 0);
}

#[test]
fn nothing_blocks_an_act_that_is_in_order() {
    let lines = run(&killed_at_8(), restarting(|_| ()));
    count(&lines, "intent restart", 1);
}

#[test]
fn a_pause_holds() {
    let mut engine = Engine::new(BootTime(SECOND), restarting(|_| ()), Recovered::default());
    engine.pause(BootTime(SECOND), Some("a person".to_owned()));
    for signal in killed_at_8() {
        engine.observe(signal.at, &signal);
    }
    (9..99).for_each(|second| engine.advance(BootTime(second * SECOND)));
    assert!(!engine.has_journal(), "no intent is wanted");
    engine.pause(BootTime(99 * SECOND), None);
    assert!(engine.has_journal());
}

/// The last question about a pause that the engine has.
fn question(engine: &mut Engine) -> u64 {
    let asked = core::iter::from_fn(|| engine.poll_command()).filter_map(|command| {
        let Command::Ask(Question { id, what: Ask::Paused { .. }, .. }) = command else { return None };
        Some(id)
    });
    asked.last().expect("it asks before it acts")
}

#[test]
fn a_pod_is_left_alone_while_its_owner_says_so() {
    const KEY: &str = "healer.dev/pause";
    // What the pod was made with, what the API server says at first, and whether that blocks.
    for (made_with, said, blocks) in [
        (Some("yes"), None, true),
        (Some("yes"), Some(false), false),
        (Some("false"), None, false),
        (None, None, false),
        (None, Some(true), true),
    ] {
        let mut web = supervised(10, SECOND);
        let annotations = made_with.map(|value| (KEY.to_owned(), value.to_owned())).into_iter().collect();
        web.place.pod = Some(Pod { annotations, ..Pod::default() });
        let set = restarting(|set| set.policies[0].safety.pause = Some(KEY.to_owned()));
        let mut engine = Engine::new(BootTime(SECOND), set, Recovered::default());
        let answer = |engine: &mut Engine, at: u64, said: Option<bool>| {
            let question = question(engine);
            let fact = Fact::Answered { question, answer: Answer::Paused(said) };
            engine.observe(BootTime(at * SECOND), &signal(at * SECOND, &web, fact));
        };
        for signal in [registered(2 * SECOND, &web), killed(8 * SECOND, &web)] {
            engine.observe(signal.at, &signal);
        }
        assert!(!engine.has_journal(), "the answer comes first");
        answer(&mut engine, 9, said);
        assert_eq!(engine.has_journal(), !blocks, "{made_with:?}, {said:?}");
        if blocks {
            (10..60).for_each(|second| engine.advance(BootTime(second * SECOND)));
            assert!(!engine.has_journal(), "{made_with:?}, {said:?}");
            answer(&mut engine, 60, None);
            assert!(!engine.has_journal(), "a server that is silent has not taken it back");
            (61..80).for_each(|second| engine.advance(BootTime(second * SECOND)));
            answer(&mut engine, 80, Some(false));
            assert!(engine.has_journal(), "{made_with:?}, {said:?}");
        }
    }
}

#[test]
fn a_protected_unit_and_executable_are_refused() {
    let mut web = supervised(10, SECOND);
    web.exe = Some("/usr/bin/web".into());
    web.place.unit = Some("web.service".into());
    let signals = [registered(2 * SECOND, &web), killed(8 * SECOND, &web)];
    let by = |protect: Protect| run(&signals, restarting(|set| set.protect = protect));
    let units = by(Protect { units: vec!["web*".into()], ..Protect::default() });
    blocks("gate protected refuse: unit web.service is protected", &units);
    let exes = by(Protect { exes: vec!["/usr/bin/web".into()], ..Protect::default() });
    blocks("gate protected refuse: executable /usr/bin/web is protected", &exes);
    count(&by(Protect { units: vec!["db*".into()], ..Protect::default() }), "intent restart", 1);
}

#[test]
fn a_used_up_budget_holds() {
    let lines = run(&killed_at_8(), restarting(|set| set.policies[0].safety.budget.max = 0));
    blocks("gate budget hold: 0 of 0 acts", &lines);
    let node = Some(Budget { max: 0, per: Duration::from_secs(60) });
    blocks("gate budget hold: 0 of 0 acts", &run(&killed_at_8(), restarting(|set| set.node_budget = node)));
}

/// A unit that only the kernel tells of: a successor whose start was lost would not be seen.
#[test]
fn lost_records_forbid_a_conclusion_from_absence() {
    let mut web = supervised(10, SECOND);
    web.place = Place { unit: Some("web.service".into()), ..Place::default() };
    web.workload = WorkloadKey("unit/web.service".into());
    let set = || {
        restarting(|set| {
            set.policies[0].matches = Match { units: vec!["web.service".into()], ..Match::default() }
        })
    };
    let began = signal(2 * SECOND, &web, Fact::Execed);
    let died = killed(8 * SECOND, &web);
    let lines = run(&[began.clone(), died.clone(), lost(9 * SECOND)], set());
    blocks("gate evidence refuse: 7 records were lost and the diagnosis rests on what was not seen", &lines);
    count(&run(&[lost(SECOND), began, died], set()), "intent restart", 1);
    // Whoever has a supervisor is missed by that, and not by the kernel's silence.
    let mut supervised = killed_at_8();
    supervised.insert(1, lost(8 * SECOND));
    let lines = run(&supervised, restarting(|_| ()));
    has(&lines, "gate evidence pass: 7 records lost, but");
    count(&lines, "intent restart", 1);
}

#[test]
fn the_rule_may_ask_for_all_the_evidence() {
    let mut signals = killed_at_8();
    signals.insert(1, lost(8 * SECOND));
    let set = || restarting(|set| set.policies[0].rules[0].unless = vec![Unless::EvidenceLost]);
    blocks("gate unless refuse: 7 records were lost, and the rule says", &run(&signals, set()));
    count(&run(&killed_at_8(), set()), "intent restart", 1);
}

#[test]
fn a_class_that_the_rule_excepts_holds_it() {
    let web = supervised(10, SECOND);
    let failed = Exit { code: 3, ..Exit::default() };
    let signals = [registered(2 * SECOND, &web), signal(8 * SECOND, &web, Fact::Exited(failed))];
    let unless = |class| restarting(|set| set.policies[0].rules[0].unless = vec![Unless::Class(class)]);
    blocks("gate unless hold: crash is diagnosed for this workload", &run(&signals, unless(Class::Crash)));
    count(&run(&signals, unless(Class::DiskFull)), "intent restart", 1);
}

/// healer stops it; that it is down then is healer's own doing.
#[test]
fn what_our_own_act_did_is_refused() {
    let lines = dies_after(ActionName::Stop, 8);
    has(&lines, "gate self_effect refuse: our own act");
    count(&lines, "intent stop", 1);
    count(&lines, "intent restart", 0);
}

/// Half a minute after a hook its patient's death is its own again.
#[test]
fn a_hook_that_is_over_kills_nobody() {
    let lines = dies_after(ActionName::RunHook, 37);
    count(&lines, "intent run_hook", 1);
    count(&lines, "refuse: our own act", 0);
    count(&lines, "intent restart", 1);
}

#[test]
fn other_policies_reach_what_lasts_already() {
    let web = supervised(10, SECOND);
    let of = |action| {
        restarting(|set| {
            let rule = &mut set.policies[0].rules[0];
            rule.when[0].class = Class::FdExhaustion;
            rule.escalate = vec![rung(action)];
        })
    };
    let mut engine = Engine::new(BootTime(SECOND), of(ActionName::Notify), Recovered::default());
    for signal in [registered(2 * SECOND, &web), full(7 * SECOND, &web)] {
        engine.observe(signal.at, &signal);
    }
    (8..20).for_each(|second| engine.advance(BootTime(second * SECOND)));
    let plans = |engine: &mut Engine| -> Vec<String> {
        let reports = core::iter::from_fn(|| engine.poll_report());
        let lines = reports.map(|report| line(&report, BootTime(0)));
        lines.filter(|line| line.contains(" plan ")).collect()
    };
    let before = plans(&mut engine);
    assert!(before.len() == 1 && before[0].ends_with("notify"), "{before:?}");
    engine.replace_policy(BootTime(20 * SECOND), of(ActionName::RunHook));
    has(&plans(&mut engine), "plan policy web, rule down (enforce): run_hook");
}

/// It has no descriptor left.
fn full(at: u64, process: &Process) -> Signal {
    let of = Resource::Descriptors { pid: process.pid };
    let error = SyscallError {
        call: "openat".into(),
        errno: libc::EMFILE,
        count: 1,
        level: Some(Level { process: Some(process.clone()), ..Level::new(of, 100, 100) }),
        ..SyscallError::default()
    };
    signal(at, process, Fact::SyscallError(Box::new(error)))
}

/// An act at 7 s, and its target's end by SIGKILL.
fn dies_after(action: ActionName, second: u64) -> Vec<String> {
    let web = supervised(10, SECOND);
    let signals = [registered(2 * SECOND, &web), full(7 * SECOND, &web), killed(second * SECOND, &web)];
    let set = restarting(|set| {
        let policy = &mut set.policies[0];
        policy.rules[0].when[0].class = Class::FdExhaustion;
        policy.rules[0].escalate = vec![rung(action)];
        policy.rules.push(Rule {
            name: "down".into(),
            when: vec![Condition::of(Class::Down)],
            unless: Vec::new(),
            capture: None,
            escalate: vec![rung(ActionName::Restart)],
        });
    });
    run(&signals, set)
}
