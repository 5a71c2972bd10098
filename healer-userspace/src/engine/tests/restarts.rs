//! The agent ended in the middle of a cure of one that lives.

use super::*;
use crate::{
    engine::command::{ActionOutcome, Ask, Intent, JournalEntry, Question},
    signal::{Answer, syscall_error::File},
};

fn descriptors_run_out(at: u64, web: &Process) -> Signal {
    let of = Resource::Descriptors { pid: web.pid };
    let level = Level { process: Some(web.clone()), ..Level::new(of, 100, 100) };
    let error = SyscallError {
        call: "openat".into(),
        errno: libc::EMFILE,
        count: 1,
        level: Some(level),
        ..SyscallError::default()
    };
    signal(at, web, Fact::SyscallError(Box::new(error)))
}

fn hook_then_kill() -> PolicySet {
    let mut set = policies(Mode::Enforce, &[ActionName::RunHook, ActionName::Kill]);
    let policy = &mut set.policies[0];
    policy.rules[0].when[0].class = Class::FdExhaustion;
    policy.safety.backoff.initial = Duration::from_secs(1);
    set
}

fn drain(engine: &mut Engine) -> (Vec<Intent>, Vec<JournalEntry>) {
    let mut intents = Vec::new();
    let mut rest = Vec::new();
    while let Some(entry) = engine.poll_journal() {
        match entry {
            JournalEntry::Intent(intent) => intents.push(intent),
            other @ (JournalEntry::Result(_)
            | JournalEntry::Verified { .. }
            | JournalEntry::Closed { .. }
            | JournalEntry::Undone { .. }) => rest.push(other),
        }
    }
    (intents, rest)
}

/// The second life of an agent that had intended the hook, and was not told its result.
fn second_life(web: &Process) -> Engine {
    let mut first = Engine::new(BootTime(SECOND), hook_then_kill(), Recovered::default());
    first.observe(BootTime(2 * SECOND), &registered(2 * SECOND, web));
    first.observe(BootTime(8 * SECOND), &descriptors_run_out(8 * SECOND, web));
    first.advance(BootTime(8 * SECOND));
    let (open, _) = drain(&mut first);
    assert_eq!(open.len(), 1);
    let recovered = Recovered { open, next_incident: 2, ..Recovered::default() };
    let mut second = Engine::new(BootTime(20 * SECOND), hook_then_kill(), recovered);
    second.observe(BootTime(21 * SECOND), &registered(21 * SECOND, web));
    second
}

fn intended(engine: &mut Engine, seconds: core::ops::Range<u64>) -> Vec<ActionName> {
    let mut found = Vec::new();
    for second in seconds {
        engine.advance(BootTime(second * SECOND));
        found.extend(drain(engine).0.into_iter().map(|intent| intent.act.rung.action));
    }
    found
}

#[test]
fn no_rung_is_climbed_on_a_fault_that_nobody_has_seen_again() {
    let web = supervised(10, SECOND);
    let mut engine = second_life(&web);
    let (_, entries) = drain(&mut engine);
    let is_unknown = |entry: &JournalEntry| matches!(entry, JournalEntry::Result(result) if matches!(result.outcome, ActionOutcome::Unknown { .. }));
    assert!(entries.iter().any(is_unknown), "the open intent has its result");
    assert_eq!(intended(&mut engine, 22..200), Vec::new());
    let reports: Vec<_> = core::iter::from_fn(|| engine.poll_report()).collect();
    let lines: Vec<_> = reports.iter().map(|report| line(report, BootTime(0))).collect();
    has(&lines, "closed unknown: fd_exhaustion was not seen again since healer came back");
}

#[test]
fn seen_again_it_is_healed_by_the_next_rung_and_not_by_the_same() {
    let web = supervised(10, SECOND);
    let mut engine = second_life(&web);
    assert_eq!(intended(&mut engine, 22..40), Vec::new());
    engine.observe(BootTime(40 * SECOND), &descriptors_run_out(40 * SECOND, &web));
    assert_eq!(intended(&mut engine, 40..120), [ActionName::Kill]);
}

#[test]
fn what_nobody_has_looked_at_since_is_not_called_healed() {
    let web = supervised(10, SECOND);
    let mut first = Engine::new(BootTime(SECOND), hook_then_kill(), Recovered::default());
    first.observe(BootTime(2 * SECOND), &registered(2 * SECOND, &web));
    first.observe(BootTime(8 * SECOND), &descriptors_run_out(8 * SECOND, &web));
    first.advance(BootTime(8 * SECOND));
    let verifying = drain(&mut first).0;
    let recovered = Recovered { verifying, next_incident: 2, ..Recovered::default() };
    let mut engine = Engine::new(BootTime(20 * SECOND), hook_then_kill(), recovered);
    engine.observe(BootTime(21 * SECOND), &registered(21 * SECOND, &web));
    let closed = |engine: &mut Engine, seconds: core::ops::Range<u64>| {
        intended(engine, seconds);
        let reports: Vec<_> = core::iter::from_fn(|| engine.poll_report()).collect();
        reports.iter().map(|report| line(report, BootTime(0))).filter(|line| line.contains("closed")).count()
    };
    assert_eq!(closed(&mut engine, 22..79), 0);
    assert_eq!(closed(&mut engine, 79..200), 1);
}

#[test]
fn a_canary_whose_act_is_refused_lets_the_others_go() {
    let web = supervised(10, SECOND);
    let mut set = hook_then_kill();
    set.policies[0].safety.canary =
        Some(crate::engine::policy::Canary { instances: 1, soak: Duration::ZERO });
    let mut engine = Engine::new(BootTime(SECOND), set, Recovered::default());
    engine.observe(BootTime(2 * SECOND), &registered(2 * SECOND, &web));
    engine.observe(BootTime(8 * SECOND), &descriptors_run_out(8 * SECOND, &web));
    engine.advance(BootTime(8 * SECOND));
    let act = drain(&mut engine).0.remove(0).act;
    assert!(engine.canaries.is_flying(act.incident));
    engine.committed(BootTime(9 * SECOND), &act.key);
    let outcome = ActionOutcome::Refused { reason: "another process".into() };
    let result = crate::engine::command::ActionResult { key: act.key, outcome };
    engine.action_finished(BootTime(9 * SECOND), result);
    assert!(engine.open_incidents() == 1 && !engine.canaries.is_flying(act.incident));
}

/// Of a death whose restart the owner has refused.
fn refused_by_its_owner(successor: Option<&Process>) -> Vec<String> {
    let old = supervised(10, SECOND);
    let set = policies(Mode::Enforce, &[ActionName::Restart]);
    let mut engine = Engine::new(BootTime(SECOND), set, Recovered::default());
    engine.observe(BootTime(2 * SECOND), &registered(2 * SECOND, &old));
    engine.observe(BootTime(8 * SECOND), &killed(8 * SECOND, &old));
    engine.advance(BootTime(8 * SECOND));
    let act = drain(&mut engine).0.remove(0).act;
    engine.committed(BootTime(8 * SECOND), &act.key);
    if let Some(successor) = successor {
        engine.observe(BootTime(9 * SECOND), &registered(9 * SECOND, successor));
    }
    let outcome = ActionOutcome::Refused { reason: "systemd says so".into() };
    let result = crate::engine::command::ActionResult { key: act.key, outcome };
    engine.action_finished(BootTime(10 * SECOND), result);
    let reports: Vec<_> = core::iter::from_fn(|| engine.poll_report()).collect();
    reports.iter().map(|report| line(report, BootTime(0))).collect()
}

#[test]
fn whom_its_owner_has_restarted_first_has_recovered_alone_and_nobody_is_woken() {
    let lines = refused_by_its_owner(Some(&supervised(11, 9 * SECOND)));
    has(&lines, "gate second_look");
    has(&lines, "closed recovered_alone: systemd says so");
    count(&lines, " notify ", 0);
}

#[test]
fn a_refusal_that_leaves_nobody_running_is_told() {
    let lines = refused_by_its_owner(None);
    has(&lines, "closed refused: gate second_look refused: systemd says so");
    count(&lines, " notify ", 1);
}

fn has_become_read_only(at: u64, web: &Process) -> Signal {
    let file = File {
        path: "/data/log".into(),
        mount: "/data".into(),
        filesystem: "ext4".into(),
        device: "8:17".into(),
        stored: true,
        ..File::default()
    };
    let error = SyscallError {
        call: "write".into(),
        errno: libc::EROFS,
        count: 1,
        file: Some(file),
        ..SyscallError::default()
    };
    signal(at, web, Fact::SyscallError(Box::new(error)))
}

/// As the journal has it.
fn restart_for_a_read_only_disk(set: &PolicySet) -> serde_json::Value {
    let web = supervised(10, SECOND);
    let mut first = Engine::new(BootTime(SECOND), set.clone(), Recovered::default());
    first.observe(BootTime(2 * SECOND), &registered(2 * SECOND, &web));
    first.observe(BootTime(8 * SECOND), &has_become_read_only(8 * SECOND, &web));
    first.advance(BootTime(8 * SECOND));
    serde_json::to_value(drain(&mut first).0.remove(0)).unwrap()
}

/// The second life has only to verify it: what it asks about, each time answered like this, and what it says.
fn verified_anew(journaled: serde_json::Value, set: PolicySet, told: bool) -> (Vec<String>, Vec<String>) {
    let new = supervised(11, 9 * SECOND);
    let verifying = vec![serde_json::from_value(journaled).unwrap()];
    let recovered = Recovered { verifying, next_incident: 2, ..Recovered::default() };
    let mut engine = Engine::new(BootTime(20 * SECOND), set, recovered);
    engine.observe(BootTime(21 * SECOND), &registered(21 * SECOND, &new));
    let mut asked = Vec::new();
    for at in (22..130).map(|second| second * SECOND) {
        engine.advance(BootTime(at));
        while let Some(command) = engine.poll_command() {
            if let Command::Ask(Question { id, what: Ask::ReadOnly { device }, .. }) = command {
                asked.push(device);
                let fact = Fact::Answered { question: id, answer: Answer::ReadOnly(Some(told)) };
                engine.observe(BootTime(at), &signal(at, &new, fact));
            }
        }
    }
    let reports = core::iter::from_fn(|| engine.poll_report());
    (asked, reports.map(|report| line(&report, BootTime(0))).collect())
}

#[test]
fn which_disk_was_read_only_is_known_to_the_next_life() {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].rules[0].when[0].class = Class::IoError;
    let journaled = restart_for_a_read_only_disk(&set);
    let (asked, lines) = verified_anew(journaled.clone(), set.clone(), true);
    assert_eq!(asked.first().map(String::as_str), Some("8:17"));
    has(&lines, "verification unchanged: /data (8:17) is still read-only");
    count(&lines, "verification healed", 0);
    let (asked, lines) = verified_anew(journaled.clone(), set.clone(), false);
    assert_eq!(asked, ["8:17"]);
    has(&lines, "verification healed: web[11] has lived");
    // Written by a healer that did not keep it.
    let mut old = journaled;
    assert!(old.as_object_mut().unwrap().remove("read_only").is_some());
    let (asked, lines) = verified_anew(old, set, true);
    assert_eq!(asked, [""; 0]);
    has(&lines, "verification healed: web[11] has lived");
}
