//! The engine on hand-made signals: each test says what a user would see.

use core::time::Duration;

use super::{
    Engine,
    class::Class,
    command::{Command, Recovered},
    policy::{
        ActionName, Backoff, Breaker, Budget, Condition, Expect, Match, Mode, Policy, PolicySet, Rule, Rung,
        Safety, Scope, Terms, Verify,
    },
    report::Report,
    time::BootTime,
};
use crate::{
    identity::process::{Place, Process, ProcessId, WorkloadKey},
    replay::{line, replay},
    signal::{
        Exit, Fact, Registration, Signal, SignalSent,
        levels::{Level, LevelSnapshot, Resource},
        syscall_error::SyscallError,
    },
};

mod cascade;
mod certificates;
mod crowd;
mod deaths;
mod errands;
mod gates;
mod homes;
mod journal;
mod late;
mod lent;
mod listen;
mod pods;
mod reach;
mod read_only;
mod restarts;
mod stops;

const SECOND: u64 = 1_000_000_000;

fn supervised(pid: u32, start: u64) -> Process {
    Process {
        pid,
        start: BootTime(start),
        comm: "web".into(),
        workload: WorkloadKey::supervise("web"),
        main: true,
        place: Place { supervise: Some("web".into()), ..Place::default() },
        ..Process::default()
    }
}

fn signal(at: u64, process: &Process, fact: Fact) -> Signal {
    Signal { at: BootTime(at), process: Some(process.clone()), fact }
}

fn registered(at: u64, process: &Process) -> Signal {
    let registration = Registration {
        name: "web".into(),
        supervisor: ProcessId { pid: 1000, start: BootTime(1) },
        last_key: None,
        waiting: None,
    };
    signal(at, process, Fact::Registered(registration))
}

fn killed(at: u64, process: &Process) -> Signal {
    signal(at, process, Fact::Exited(Exit { signal: Some(libc::SIGKILL), ..Exit::default() }))
}

fn rung(action: ActionName) -> Rung {
    Rung {
        action,
        scope: Scope::Process,
        grace: None,
        timeout: None,
        signal: None,
        command: Vec::new(),
        terms: Terms::default(),
    }
}

fn policies(mode: Mode, ladder: &[ActionName]) -> PolicySet {
    let policy = Policy {
        name: "web".into(),
        mode,
        matches: Match { supervise: vec!["web".into()], ..Match::default() },
        avoid: Vec::new(),
        expect: Expect { running: Some(true), ..Expect::default() },
        rules: vec![Rule {
            name: "down".into(),
            when: vec![Condition::of(Class::Down)],
            unless: Vec::new(),
            capture: None,
            escalate: ladder.iter().copied().map(rung).collect(),
        }],
        safety: Safety {
            canary: None,
            pause: None,
            maintenance: Vec::new(),
            budget: Budget { max: 3, per: Duration::from_secs(3600) },
            backoff: Backoff {
                initial: Duration::from_secs(10),
                factor: 2.0,
                max: Duration::from_secs(300),
                reset_after: Duration::from_secs(600),
            },
            breaker: Breaker {
                trip_after: 2,
                within: Duration::from_secs(1800),
                probe_after: Duration::from_secs(600),
            },
        },
        verify: Verify { stable_for: Duration::from_secs(5), ..Verify::default() },
    };
    PolicySet { policies: vec![policy], ..PolicySet::default() }
}

fn run(signals: &[Signal], policies: PolicySet) -> Vec<String> {
    let reports: Vec<Report> = replay(signals, policies);
    reports.iter().map(|report| line(report, BootTime(0))).collect()
}

#[track_caller]
fn has(lines: &[String], part: &str) {
    assert!(lines.iter().any(|line| line.contains(part)), "no line has {part:?}:\n{}", lines.join("\n"));
}

#[track_caller]
fn count(lines: &[String], part: &str, wanted: usize) {
    let got = lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(got, wanted, "{part:?}:\n{}", lines.join("\n"));
}

#[test]
fn a_killed_service_is_restarted_and_verified() {
    let (old, new) = (supervised(10, SECOND), supervised(11, 9 * SECOND));
    let lines = run(
        &[registered(2 * SECOND, &old), killed(8 * SECOND, &old), registered(9 * SECOND, &new)],
        policies(Mode::Enforce, &[ActionName::Restart]),
    );
    has(&lines, "diagnosis down proved: web is down: web[10] ended by SIGKILL");
    has(&lines, "8.000s i1 supervise/web result done");
    has(&lines, "verification healed: web[11] has lived 5.0s");
    has(&lines, "closed healed");
    count(&lines, "intent", 1);
}

#[test]
fn shadow_touches_nothing_and_follows() {
    let old = supervised(10, SECOND);
    let lines = run(
        &[registered(2 * SECOND, &old), killed(8 * SECOND, &old)],
        policies(Mode::Shadow, &[ActionName::Restart]),
    );
    has(&lines, "result would_do");
    has(&lines, "score stayed_sick");
    count(&lines, "result done", 0);
}

#[test]
fn an_asked_stop_is_no_failure() {
    let old = supervised(10, SECOND);
    let stop = signal(7 * SECOND, &old, Fact::StopAsked { signal: libc::SIGTERM });
    let lines = run(
        &[registered(2 * SECOND, &old), stop, killed(8 * SECOND, &old)],
        policies(Mode::Enforce, &[ActionName::Restart]),
    );
    assert_eq!(lines, Vec::<String>::new());
}

/// The kernel's word of the signal comes before the death; the supervisor's own comes after it.
#[test]
fn a_stop_is_known_by_the_signal_to_the_supervisor() {
    let old = supervised(10, SECOND);
    let supervisor = Process { pid: 1000, start: BootTime(1), ..Process::default() };
    let sent = SignalSent {
        signal: libc::SIGTERM,
        si_code: 0,
        sender: None,
        group: true,
        ignored: false,
        ..SignalSent::default()
    };
    let end = Fact::Exited(Exit { signal: Some(libc::SIGTERM), ..Exit::default() });
    let lines = run(
        &[
            registered(2 * SECOND, &old),
            signal(8 * SECOND, &supervisor, Fact::SignalSent(sent)),
            signal(8 * SECOND + 1, &old, end),
            signal(8 * SECOND + 2, &old, Fact::StopAsked { signal: libc::SIGTERM }),
        ],
        policies(Mode::Enforce, &[ActionName::Restart]),
    );
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn a_child_that_was_dead_before_it_was_introduced_is_down_and_not_healed() {
    let (old, second) = (supervised(10, SECOND), supervised(11, 9 * SECOND));
    let mut by_kernel = second.clone();
    (by_kernel.workload, by_kernel.main, by_kernel.place) =
        (WorkloadKey("program/x".into()), false, Place::default());
    let lines = run(
        &[
            registered(2 * SECOND, &old),
            killed(8 * SECOND, &old),
            killed(9 * SECOND, &by_kernel),
            registered(9 * SECOND + 1, &second),
            killed(9 * SECOND + 2, &second),
        ],
        policies(Mode::Enforce, &[ActionName::Restart]),
    );
    count(&lines, "verification healed", 0);
    has(&lines, "verification unchanged: the successor web[11] ended by SIGKILL");
}

/// The kernel tells its end before the supervisor can introduce it, and the supervisor tells that end again.
#[test]
fn the_end_of_a_successor_is_one_incident_whoever_tells_it_first() {
    let failed =
        |at, process: &Process| signal(at, process, Fact::Exited(Exit { code: 1, ..Exit::default() }));
    let (old, second) = (supervised(10, SECOND), supervised(11, 9 * SECOND));
    let mut set = policies(Mode::Enforce, &[ActionName::Restart, ActionName::Notify]);
    set.policies[0].rules[0].when = vec![Condition::of(Class::Crash), Condition::of(Class::Down)];
    let lines = run(
        &[
            registered(2 * SECOND, &old),
            failed(8 * SECOND, &old),
            failed(9 * SECOND, &second),
            registered(9 * SECOND + 1, &second),
            failed(9 * SECOND + 2, &second),
        ],
        set,
    );
    count(&lines, "diagnosis crash proved: web[11]", 1);
    count(&lines, "diagnosis down proved", 2);
    count(&lines, " i3 ", 0);
    has(&lines, "i1 supervise/web closed unchanged");
}

#[test]
fn a_service_that_keeps_dying_is_backed_off_and_then_held_by_the_breaker() {
    let mut signals = vec![registered(SECOND, &supervised(10, SECOND))];
    signals.push(killed(2 * SECOND, &supervised(10, SECOND)));
    let second = supervised(11, 3 * SECOND);
    signals.extend([registered(3 * SECOND, &second), killed(4 * SECOND, &second)]);
    let third = supervised(12, 15 * SECOND);
    signals.extend([registered(15 * SECOND, &third), killed(16 * SECOND, &third)]);
    let lines = run(&signals, policies(Mode::Enforce, &[ActionName::Restart]));
    has(&lines, "verification unchanged: the successor web[11] ended by SIGKILL");
    has(&lines, "gate backoff hold");
    has(&lines, "gate breaker hold: breaker tripped after 2 acts");
    has(&lines, "breaker is probing");
}

#[test]
fn observe_mode_only_reports() {
    let old = supervised(10, SECOND);
    let lines = run(
        &[registered(2 * SECOND, &old), killed(8 * SECOND, &old)],
        policies(Mode::Observe, &[ActionName::Restart]),
    );
    has(&lines, "closed notified: observe mode");
    count(&lines, "intent", 0);
}

/// Descriptors fail, the hook has its say, and then so many of a hundred are used.
fn descriptors_end_at(used: u64, signal_below: Option<u32>) -> Vec<String> {
    let web = supervised(10, SECOND);
    let level = |used| {
        let of = Resource::Descriptors { pid: 10 };
        Level { process: Some(web.clone()), ..Level::new(of, used, 100) }
    };
    let error = SyscallError {
        call: "openat".into(),
        errno: libc::EMFILE,
        count: 1,
        level: Some(level(100)),
        ..SyscallError::default()
    };
    let mut signals =
        vec![registered(2 * SECOND, &web), signal(8 * SECOND, &web, Fact::SyscallError(Box::new(error)))];
    signals.extend((9..90).map(|second| {
        let used = if second < 12 { 100 } else { used };
        let snapshot = LevelSnapshot { levels: vec![level(used)], ..LevelSnapshot::default() };
        Signal { at: BootTime(second * SECOND), process: None, fact: Fact::Levels(snapshot) }
    }));
    let mut set = policies(Mode::Enforce, &[ActionName::RunHook]);
    let policy = &mut set.policies[0];
    policy.rules[0].when[0].class = Class::FdExhaustion;
    policy.verify = Verify { signal_below, alive: false, ..policy.verify.clone() };
    run(&signals, set)
}

#[test]
fn a_number_must_be_below_what_the_policy_calls_well() {
    let healed = descriptors_end_at(40, Some(50));
    has(&healed, "verification healed: the fault has not come back");
    let lines = descriptors_end_at(80, Some(50));
    has(&lines, "verification unchanged: fd_exhaustion is at 80%, and not below 50% within");
    count(&lines, "verification healed", 0);
    has(&descriptors_end_at(80, None), "verification healed: the fault has not come back");
    let lines = descriptors_end_at(100, None);
    has(&lines, "verification unchanged: the fault is still there");
    count(&lines, "verification healed", 0);
}

#[test]
fn a_failed_first_rung_leads_to_the_next() {
    let (old, second, third) =
        (supervised(10, SECOND), supervised(11, 9 * SECOND), supervised(12, 11 * SECOND));
    let lines = run(
        &[
            registered(2 * SECOND, &old),
            killed(8 * SECOND, &old),
            registered(9 * SECOND, &second),
            killed(10 * SECOND, &second),
            registered(11 * SECOND, &third),
        ],
        policies(Mode::Enforce, &[ActionName::Restart, ActionName::Restart, ActionName::Notify]),
    );
    count(&lines, "intent restart", 2);
    has(&lines, "verification healed: web[12]");
    count(&lines, "closed", 1);
}

/// Whether the waiting supervisor was sent away within 20 s, and whether an act was wanted within 40 s.
fn while_a_rule_waits(mode: Mode) -> (bool, bool) {
    let mut set = policies(mode, &[ActionName::Restart]);
    set.policies[0].rules[0].when[0].hold = Some(Duration::from_secs(30));
    let old = supervised(10, SECOND);
    let mut engine = Engine::new(BootTime(SECOND), set, Recovered::default());
    engine.observe(BootTime(2 * SECOND), &registered(2 * SECOND, &old));
    engine.observe(BootTime(8 * SECOND), &killed(8 * SECOND, &old));
    let mut is_released = false;
    for second in 8..28 {
        engine.advance(BootTime(second * SECOND));
        while let Some(command) = engine.poll_command() {
            is_released |= matches!(command, Command::Release { .. });
        }
    }
    for second in 28..48 {
        engine.advance(BootTime(second * SECOND));
    }
    let acts = core::iter::from_fn(|| engine.poll_command());
    let wants = acts.filter(|command| !matches!(command, Command::Release { .. })).count() > 0;
    (is_released, wants || engine.has_journal())
}

#[test]
fn a_supervisor_waits_for_a_rule_that_waits() {
    let (is_released, acts) = while_a_rule_waits(Mode::Enforce);
    assert!(!is_released && acts);
    assert!(while_a_rule_waits(Mode::Observe).0, "nothing will follow");
}

fn served(pid: u32, start: u64, workload: &str) -> Process {
    Process {
        pid,
        start: BootTime(start),
        comm: "nginx".into(),
        exe: Some("/usr/sbin/nginx".into()),
        workload: WorkloadKey(workload.into()),
        ..Process::default()
    }
}

#[test]
fn evidence_is_no_act_the_ladder_goes_on_behind_it() {
    let (old, new) = (supervised(10, SECOND), supervised(11, 9 * SECOND));
    let signals = [registered(2 * SECOND, &old), killed(8 * SECOND, &old), registered(9 * SECOND, &new)];
    let lines = run(&signals, policies(Mode::Enforce, &[ActionName::Capture, ActionName::Restart]));
    count(&lines, "intent capture", 1);
    count(&lines, "intent restart", 1);
    has(&lines, "closed healed");
    let lines = run(&signals, policies(Mode::Enforce, &[ActionName::Capture, ActionName::Notify]));
    count(&lines, "intent capture", 1);
    count(&lines, "the ladder is at its end", 0);
    count(&lines, "verification", 0);
}
