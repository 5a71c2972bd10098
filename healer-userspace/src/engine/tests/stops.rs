//! Ends that somebody has asked for, and words that were no stop.

use super::*;
use crate::{
    engine::policy::{Probe, ProbeAsk},
    identity::process::{Container, Parent},
    signal::{OomKill, OomScope, Party, SeenBy},
};

const INIT: ProcessId = ProcessId { pid: 1, start: BootTime(1) };

fn sent_by(at: u64, sender: ProcessId, signal_number: i32, to: &Process) -> Signal {
    let sender = Party { id: sender, comm: "systemd".into(), ..Party::default() };
    let sent =
        SignalSent { signal: signal_number, sender: Some(sender), group: true, ..SignalSent::default() };
    signal(at, to, Fact::SignalSent(sent))
}

fn of_class(class: Class) -> PolicySet {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].rules[0].when[0].class = class;
    set
}

/// Three lives, each ended by somebody's SIGTERM after some seconds.
fn restarts_by(sender: ProcessId) -> Vec<Signal> {
    let mut signals = Vec::new();
    for number in 0..3 {
        let start = (2 + 8 * number) * SECOND;
        let web = supervised(10 + number as u32, start);
        let end = Fact::Exited(Exit { signal: Some(libc::SIGTERM), ..Exit::default() });
        signals.push(registered(start + 1, &web));
        signals.push(sent_by(start + 7 * SECOND, sender, libc::SIGTERM, &web));
        signals.push(signal(start + 7 * SECOND + 1, &web, end));
    }
    signals
}

#[test]
fn restarts_by_the_manager_are_no_loop_and_by_a_stranger_they_are() {
    let by_init = run(&restarts_by(INIT), of_class(Class::CrashLoop));
    count(&by_init, "diagnosis crash_loop", 0);
    let stranger = ProcessId { pid: 777, start: BootTime(5) };
    has(&run(&restarts_by(stranger), of_class(Class::CrashLoop)), "diagnosis crash_loop");
}

/// systemd starts and stops them; they catch its signal and then end by the same one, as Ruby and node do.
#[test]
fn who_hands_its_managers_signal_on_to_itself_is_in_no_loop() {
    let ends = |by_init: bool| {
        let mut signals = Vec::new();
        for life in 0..3 {
            let start = (2 + 8 * life) * SECOND;
            let parent = Some(Parent { pid: INIT.pid, start: INIT.start, ..Parent::default() });
            let web = Process { parent, ..supervised(10 + life as u32, start) };
            signals.push(registered(start + 1, &web));
            if by_init {
                signals.push(sent_by(start + 6 * SECOND, INIT, libc::SIGTERM, &web));
            }
            signals.push(sent_by(start + 7 * SECOND, web.id(), libc::SIGTERM, &web));
            let end = Fact::Exited(Exit { signal: Some(libc::SIGTERM), ..Exit::default() });
            signals.push(signal(start + 7 * SECOND + 1, &web, end));
        }
        run(&signals, of_class(Class::CrashLoop))
    };
    count(&ends(true), "diagnosis crash_loop", 0);
    has(&ends(false), "diagnosis crash_loop");
}

/// A build of thousands of files, each with a crash of the compiler.
#[test]
fn failures_of_what_nobody_named_do_not_push_a_loop_out() {
    let crash = |at, who: &Process| {
        signal(at, who, Fact::Exited(Exit { signal: Some(libc::SIGSEGV), ..Exit::default() }))
    };
    let life = |number: u64| {
        let start = (2 + 8 * number) * SECOND;
        let web = supervised(10 + number as u32, start);
        [registered(start + 1, &web), crash(start + SECOND, &web)]
    };
    let compilers = (0..3000_u64).map(|number| {
        let at = 20 * SECOND + number * 100_000;
        let parent = Some(Parent { pid: 77, ..Parent::default() });
        let args = vec!["cc1".to_owned(), ["abc", "def", "ghi"][number as usize % 3].repeat(number as usize)];
        let one = served(1000 + number as u32, at, "process/cc1");
        crash(at + 1, &Process { parent, args, ..one })
    });
    let mut signals: Vec<_> = [life(0), life(1)].concat();
    signals.extend(compilers);
    signals.extend(life(3));
    has(&run(&signals, of_class(Class::CrashLoop)), "web ended abnormally 3 times in 24.0s");
}

#[test]
fn after_the_managers_word_an_exit_with_any_code_is_no_crash() {
    let web = supervised(10, SECOND);
    let end = Fact::Exited(Exit { code: 1, ..Exit::default() });
    let signals = [
        registered(2 * SECOND, &web),
        sent_by(8 * SECOND, INIT, libc::SIGTERM, &web),
        signal(9 * SECOND, &web, end.clone()),
    ];
    count(&run(&signals, of_class(Class::Crash)), "diagnosis crash ", 0);
    has(&run(&[signals[0].clone(), signals[2].clone()], of_class(Class::Crash)), "diagnosis crash ");
}

/// A thread dump of a JVM, a signal that was ignored: long after it nobody has been stopped.
#[test]
fn a_word_that_was_no_stop_is_forgotten() {
    let web = supervised(10, SECOND);
    let asked = |signal_number| {
        let lines = run(
            &[
                registered(2 * SECOND, &web),
                signal(3 * SECOND, &web, Fact::StopAsked { signal: signal_number }),
                killed(300 * SECOND, &web),
            ],
            policies(Mode::Enforce, &[ActionName::Restart]),
        );
        lines.iter().any(|line| line.contains("diagnosis down"))
    };
    assert!(asked(libc::SIGQUIT));
    assert!(!asked(libc::SIGTERM), "a drain may take minutes");
}

/// An entrypoint that waits for its database, and then is replaced by the server.
#[test]
fn a_start_has_its_grace_from_the_exec_on() {
    let web = supervised(10, SECOND);
    let mut set = of_class(Class::ProbeFailed);
    let probe = Probe::each_second(ProbeAsk::Tcp { port: 80 });
    set.policies[0].expect.probe = Some(Probe { start_grace: Duration::from_secs(60), ..probe });
    let failed = |at| signal(at * SECOND, &web, Fact::Probed(crate::signal::work::Probed::default()));
    let started = signal(100 * SECOND, &web, Fact::Execed);
    let early = [registered(2 * SECOND, &web), started, failed(120)];
    count(&run(&early, set.clone()), "diagnosis probe_failed", 0);
    let late = [early.as_slice(), &[failed(161)]].concat();
    count(&run(&late, set), "diagnosis probe_failed", 1);
}

#[test]
fn who_is_about_to_end_is_not_started_again() {
    let web = supervised(10, SECOND);
    let hangs = |stop: Option<Signal>| {
        let mut set = of_class(Class::ProbeFailed);
        set.policies[0].expect.probe = Some(Probe::each_second(ProbeAsk::Tcp { port: 80 }));
        let failed = Fact::Probed(crate::signal::work::Probed::default());
        let mut signals = vec![registered(2 * SECOND, &web)];
        signals.extend(stop);
        signals.push(signal(9 * SECOND, &web, failed));
        run(&signals, set)
    };
    has(&hangs(None), "result done");
    let lines = hangs(Some(sent_by(8 * SECOND, INIT, libc::SIGTERM, &web)));
    has(&lines, "it was asked to stop, and is at it");
    let done: Vec<_> = lines.iter().filter(|line| line.contains("result done")).collect();
    assert!(
        done.len() == 1 && done[0].starts_with("69."),
        "who does not heed it is as sick as before: {done:#?}"
    );
}

#[test]
fn the_child_of_a_living_master_is_left_to_it() {
    let nginx = Process {
        exe: Some("/usr/sbin/nginx".into()),
        workload: WorkloadKey("program/nginx".into()),
        place: Place::default(),
        ..supervised(10, SECOND)
    };
    let parent = Parent { pid: 10, start: nginx.start, comm: "web".into(), ..Parent::default() };
    let worker =
        Process { pid: 11, start: BootTime(3 * SECOND), main: false, parent: Some(parent), ..nginx.clone() };
    let mut set = of_class(Class::Crash);
    let policy = &mut set.policies[0];
    policy.matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    policy.rules[0].escalate[0].command = vec!["/usr/sbin/nginx".into()];
    let end = Fact::Exited(Exit { signal: Some(libc::SIGSEGV), core: true, ..Exit::default() });
    let lines = run(&[signal(2 * SECOND, &nginx, Fact::Execed), signal(8 * SECOND, &worker, end)], set);
    has(&lines, "diagnosis crash");
    count(&lines, "result done", 0);
    has(&lines, "which lives and is who replaces it");
}

#[test]
fn without_a_successor_nobody_is_called_healed() {
    let web = Process {
        place: Place { unit: Some("web.service".into()), ..Place::default() },
        ..supervised(10, SECOND)
    };
    let mut set = policies(Mode::Enforce, &[ActionName::RunHook]);
    let policy = &mut set.policies[0];
    policy.matches = Match { units: vec!["web.service".into()], ..Match::default() };
    (policy.expect.running, policy.rules[0].when[0].class) = (None, Class::Crash);
    let end = Fact::Exited(Exit { signal: Some(libc::SIGSEGV), ..Exit::default() });
    let lines = run(&[signal(SECOND, &web, Fact::Execed), signal(8 * SECOND, &web, end)], set);
    has(&lines, "result done");
    has(&lines, "verification unknown: nobody is known to have taken its place");
    count(&lines, "closed healed", 0);
}

/// Healed once by a hook and a restart; the hook of its next death waits for the backoff when this is told.
fn while_a_hook_waits(told: impl Fn(&Process) -> Vec<Signal>) -> Vec<String> {
    let (old, new) = (supervised(10, SECOND), supervised(11, 9 * SECOND));
    let mut signals = vec![
        registered(2 * SECOND, &old),
        killed(8 * SECOND, &old),
        registered(9 * SECOND, &new),
        killed(20 * SECOND, &new),
    ];
    signals.extend(told(&new));
    let lines = run(&signals, policies(Mode::Enforce, &[ActionName::RunHook, ActionName::Restart]));
    has(&lines, "20.000s i2 supervise/web gate backoff hold");
    lines
}

#[test]
fn nothing_that_waits_is_done_for_whom_a_person_has_stopped() {
    let gone = |at: u64, web: &Process| signal(at, web, Fact::Deregistered);
    let lines = while_a_hook_waits(|web| {
        let stop = Fact::StopAsked { signal: libc::SIGTERM };
        vec![signal(25 * SECOND, web, stop), gone(25 * SECOND + 1, web)]
    });
    has(&lines, "25.000s i2 supervise/web closed refused: gate stale refused: it was asked to stop since");
    count(&lines, "intent run_hook", 1);
    // Its supervisor was killed.
    let lines = while_a_hook_waits(|web| vec![gone(25 * SECOND, web)]);
    count(&lines, "intent run_hook", 2);
    count(&lines, "gate stale refuse", 0);
    // The agent was away, and its supervisor waits as before.
    let lines = while_a_hook_waits(|web| {
        let waiting = Some(Exit { signal: Some(libc::SIGKILL), ..Exit::default() });
        let supervisor = ProcessId { pid: 1000, start: BootTime(1) };
        let back = Registration { name: "web".into(), supervisor, last_key: None, waiting };
        vec![gone(25 * SECOND, web), signal(26 * SECOND, web, Fact::Registered(back))]
    });
    count(&lines, "intent run_hook", 2);
    count(&lines, "gate stale refuse", 0);
}

/// A hook has run, and the restart waits for its budget.
#[test]
fn whose_memory_ran_out_no_person_has_stopped() {
    let was_stopped = |by_oom: bool| {
        let web = supervised(10, SECOND);
        let mut set = policies(Mode::Enforce, &[ActionName::RunHook, ActionName::Restart]);
        set.policies[0].safety.budget.max = 1;
        let oom = OomKill {
            scope: OomScope::Memcg,
            trigger: Party::default(),
            memcg: "/web".into(),
            usage: 64 << 20,
            limit: 64 << 20,
            is_scope_guessed: false,
        };
        let mut signals = vec![registered(2 * SECOND, &web)];
        signals.extend(by_oom.then(|| signal(8 * SECOND - 1, &web, Fact::OomKilled(oom))));
        let stop = Fact::StopAsked { signal: libc::SIGTERM };
        signals.extend([killed(8 * SECOND, &web), signal(25 * SECOND, &web, stop)]);
        let lines = run(&signals, set);
        has(&lines, "gate budget hold");
        lines.iter().any(|line| line.contains("gate stale refuse"))
    };
    assert!(was_stopped(false) && !was_stopped(true));
}

/// Whether podman is told to restart a container of its own that has ended so.
fn is_restarted_by_podman(
    exit: Exit,
    before: impl FnOnce(&Process) -> Vec<Signal>,
    change: impl FnOnce(&mut Process, &mut PolicySet),
) -> bool {
    let container = Container { runtime: "podman".into(), id: "c1".into(), ..Container::default() };
    let mut web = Process {
        place: Place { container: Some(container), ..Place::default() },
        workload: WorkloadKey("container/web".into()),
        exe: Some("/usr/sbin/nginx".into()),
        ..supervised(10, SECOND)
    };
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    change(&mut web, &mut set);
    let mut signals = vec![signal(2 * SECOND, &web, Fact::Execed)];
    signals.extend(before(&web));
    signals.push(signal(6 * SECOND, &web, Fact::Exited(exit)));
    let lines = run(&signals, set);
    has(&lines, "diagnosis down");
    let is_done = lines.iter().any(|line| line.contains("result done"));
    let is_refused = lines.iter().any(|line| line.contains("refused: podman tells nobody of a stop"));
    assert_ne!(is_done, is_refused, "{exit:?}: {lines:#?}");
    is_done
}

#[test]
fn podman_is_not_told_to_restart_whom_a_person_may_have_stopped() {
    let by = |seen_by, number| Exit { signal: Some(number), seen_by, ..Exit::default() };
    let with = |seen_by, code| Exit { code, seen_by, ..Exit::default() };
    let is_restarted = |exit| is_restarted_by_podman(exit, |_| Vec::new(), |_, _| {});
    let (seen, told) = (SeenBy::Kernel, SeenBy::Connector);
    for exit in [by(told, libc::SIGKILL), by(told, libc::SIGTERM), with(told, 0), with(told, 143)] {
        assert!(!is_restarted(exit), "{exit:?}");
    }
    assert!(!is_restarted(with(SeenBy::NoStatus, 1)), "its status means nothing");
    assert!(!is_restarted(by(seen, libc::SIGKILL)), "the record of it was lost");
    for exit in [by(told, libc::SIGSEGV), with(told, 1), with(told, 139), with(seen, 0)] {
        assert!(is_restarted(exit), "{exit:?}");
    }
    let stranger = ProcessId { pid: 777, start: BootTime(5) };
    let kill = |web: &Process| vec![sent_by(6 * SECOND - 1, stranger, libc::SIGKILL, web)];
    assert!(is_restarted_by_podman(by(seen, libc::SIGKILL), kill, |_, _| {}), "somebody's kill -9");
    let docker = |web: &mut Process, _: &mut PolicySet| {
        web.place.container.as_mut().expect("it is in one").runtime = "docker".into();
    };
    let killed = by(told, libc::SIGKILL);
    assert!(is_restarted_by_podman(killed, |_| Vec::new(), docker), "docker tells of a stop");
    let by_command = |_: &mut Process, set: &mut PolicySet| {
        let command = ["podman", "restart", "web"].map(str::to_owned);
        set.policies[0].rules[0].escalate[0].command = command.into();
    };
    assert!(!is_restarted_by_podman(killed, |_| Vec::new(), by_command), "the policy's words for it");
}

#[test]
fn podman_restarts_whose_memory_ran_out_however_that_came_out() {
    let killed = |signal| Exit { signal: Some(signal), seen_by: SeenBy::Poll, ..Exit::default() };
    let by_oom = |web: &Process| vec![signal(6 * SECOND - 1, web, Fact::OomKilled(OomKill::untold()))];
    assert!(is_restarted_by_podman(killed(libc::SIGKILL), by_oom, |_, _| {}));
    for number in [libc::SIGKILL, libc::SIGHUP] {
        assert!(!is_restarted_by_podman(killed(number), |_| Vec::new(), |_, _| {}), "{number}");
    }
    let handed_on = |is_by_oom: bool| {
        let exit = Exit { code: 137, seen_by: SeenBy::Connector, ..Exit::default() };
        let before = |web: &Process| {
            let parent = Some(Parent { pid: web.pid, start: web.start, ..Parent::default() });
            let workload = WorkloadKey("process/app".into());
            let exe = Some("/bin/app".into());
            let start = BootTime(3 * SECOND);
            let app = Process { pid: 20, start, main: false, parent, workload, exe, ..web.clone() };
            let chosen = signal(6 * SECOND - 2, &app, Fact::OomKilled(OomKill::untold()));
            let end = killed(libc::SIGKILL);
            let mut signals: Vec<Signal> = is_by_oom.then_some(chosen).into_iter().collect();
            signals.push(signal(6 * SECOND - 1, &app, Fact::Exited(end)));
            signals
        };
        is_restarted_by_podman(exit, before, |_, _| {})
    };
    assert!(handed_on(true) && !handed_on(false));
}
