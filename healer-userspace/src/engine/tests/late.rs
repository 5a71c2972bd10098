//! What is answered too late: maintenance, and events that have passed.

use super::*;
use crate::{
    engine::{
        command::{ActionOutcome, ActionResult, JournalEntry},
        policy::maintenance::{Days, Maintenance, WallClock},
    },
    replay,
};

/// By the engine's own clock, hands that do as they are told, and a wall clock.
struct Line {
    engine: Engine,
    lines: Vec<String>,
}

/// 2026-11-28 00:00 UTC when the machine booted.
const MIDNIGHT: WallClock = WallClock { booted: 20_785 * 86_400 * 1_000_000_000 };

impl Line {
    fn new(policies: PolicySet, now: u64, clock: WallClock) -> Self {
        let mut engine = Engine::new(BootTime(now), policies, Recovered::default());
        engine.set_wall_clock(clock);
        Self { engine, lines: Vec::new() }
    }

    fn tell(&mut self, signals: &[Signal]) {
        for signal in signals {
            self.until(signal.at.0);
            self.engine.observe(signal.at, signal);
            self.drain(signal.at);
        }
    }

    fn until(&mut self, at: u64) {
        while let Some(due) = self.engine.next_deadline().filter(|due| due.0 <= at) {
            self.engine.advance(due);
            self.drain(due);
        }
    }

    fn drain(&mut self, now: BootTime) {
        loop {
            if let Some(entry) = self.engine.poll_journal() {
                if let JournalEntry::Intent(intent) = entry {
                    self.engine.committed(now, &intent.act.key);
                }
            } else if let Some(command) = self.engine.poll_command() {
                if let Command::Act(act) = command {
                    let outcome = ActionOutcome::Done { says: "done".into() };
                    self.engine.action_finished(now, ActionResult { key: act.key, outcome });
                }
            } else if let Some(report) = self.engine.poll_report() {
                self.lines.push(replay::line(&report, BootTime(0)));
            } else {
                return;
            }
        }
    }
}

fn with_crashes(change: impl FnOnce(&mut PolicySet)) -> PolicySet {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    let mut crash = set.policies[0].rules[0].when[0].clone();
    crash.class = Class::Crash;
    set.policies[0].rules[0].when.push(crash);
    change(&mut set);
    set
}

fn minutes(from: i64, to: i64) -> Vec<Maintenance> {
    vec![Maintenance::Weekly { days: Days::ALL, from: from * 60, to: to * 60 }]
}

#[test]
fn in_maintenance_nobody_is_touched_and_what_is_down_afterwards_is_healed() {
    for of_node in [true, false] {
        let set = with_crashes(|set| match of_node {
            true => set.maintenance = minutes(0, 5),
            false => set.policies[0].safety.maintenance = minutes(0, 5),
        });
        let mut line = Line::new(set, SECOND, MIDNIGHT);
        let old = supervised(10, SECOND);
        line.tell(&[registered(2 * SECOND, &old), killed(8 * SECOND, &old)]);
        line.until(299 * SECOND);
        let whose = if of_node { "AgentConfig" } else { "policy web" };
        has(&line.lines, &format!("gate maintenance hold: maintenance ({whose}) for another 4m52s"));
        count(&line.lines, "intent", 0);
        count(&line.lines, "notify", 0);
        line.until(301 * SECOND);
        has(&line.lines, "300.000s i1 supervise/web intent restart of down");
    }
}

#[test]
fn a_clock_that_is_set_ends_maintenance() {
    let mut line = Line::new(with_crashes(|set| set.maintenance = minutes(0, 60)), SECOND, MIDNIGHT);
    let old = supervised(10, SECOND);
    line.tell(&[registered(2 * SECOND, &old), killed(8 * SECOND, &old)]);
    line.engine.set_wall_clock(WallClock { booted: MIDNIGHT.booted + 3_600_000_000_000 });
    line.until(60 * SECOND);
    has(&line.lines, "38.000s i1 supervise/web intent restart of down");
}

/// A worker beside the main process: its end is a crash, and nothing is down.
fn worker_crashes(at: u64, pid: u32) -> Signal {
    let worker = Process { main: false, ..supervised(pid, SECOND) };
    signal(at, &worker, Fact::Exited(Exit { signal: Some(libc::SIGSEGV), ..Exit::default() }))
}

#[test]
fn what_fell_into_maintenance_and_has_passed_is_dropped_in_silence() {
    let mut line = Line::new(with_crashes(|set| set.maintenance = minutes(0, 5)), SECOND, MIDNIGHT);
    line.tell(&[registered(2 * SECOND, &supervised(10, SECOND)), worker_crashes(8 * SECOND, 11)]);
    line.until(400 * SECOND);
    has(
        &line.lines,
        "300.000s i1 supervise/web gate stale refuse: stale: it happened in a maintenance window",
    );
    has(&line.lines, "closed refused: gate stale refused");
    count(&line.lines, "intent", 0);
    count(&line.lines, "notify", 0);
}

/// A program that its policy does not expect to run: its crashes are answered, and pass.
fn program(pid: u32, start: u64) -> Process {
    let (place, exe) = (Place::default(), "/usr/bin/job");
    let workload = WorkloadKey::of(&place, exe, "/", "init");
    Process { exe: Some(exe.into()), workload, place, main: false, ..supervised(pid, start) }
}

#[test]
fn what_an_act_has_healed_since_is_not_replayed_when_the_gate_opens() {
    let set = with_crashes(|set| {
        let policy = &mut set.policies[0];
        policy.matches = Match { exes: vec!["/usr/bin/job".into()], ..Match::default() };
        policy.expect.running = None;
        policy.safety.backoff.initial = Duration::from_secs(60);
    });
    let crash = |at: u64, pid: u32| {
        let exit = Exit { signal: Some(libc::SIGSEGV), ..Exit::default() };
        signal(at * SECOND, &program(pid, SECOND), Fact::Exited(exit))
    };
    let starts = |at: u64, pid: u32| signal(at * SECOND, &program(pid, at * SECOND), Fact::Execed);
    let mut line = Line::new(set, SECOND, MIDNIGHT);
    line.tell(&[crash(8, 11), starts(9, 20), crash(30, 12), crash(31, 13)]);
    line.tell(&[
        signal(40 * SECOND, &program(20, 9 * SECOND), Fact::Exited(Exit::default())),
        starts(69, 21),
    ]);
    line.until(200 * SECOND);
    let acts: Vec<_> = line.lines.iter().filter(|line| line.contains(" intent ")).collect();
    assert!(acts.len() == 2 && acts[0].starts_with("8.") && acts[1].starts_with("68."), "{acts:#?}");
    has(&line.lines, "gate stale refuse: stale: it happened 37.0s before an act that healed");
}

#[test]
fn an_end_from_before_healer_is_dropped() {
    let mut line = Line::new(with_crashes(|_| {}), 20 * SECOND, MIDNIGHT);
    let mut late = worker_crashes(8 * SECOND, 11);
    line.tell(&[registered(21 * SECOND, &supervised(10, SECOND))]);
    late.at = BootTime(8 * SECOND);
    line.engine.observe(BootTime(22 * SECOND), &late);
    line.drain(BootTime(22 * SECOND));
    has(&line.lines, "gate stale refuse: stale: it happened 12.0s before healer started");
    count(&line.lines, "intent", 0);
}

#[test]
fn what_an_earlier_life_left_open_waits_for_the_end_of_maintenance() {
    let mut set = with_crashes(|set| set.maintenance = minutes(0, 5));
    set.policies[0].rules[0].escalate = vec![rung(ActionName::RunHook), rung(ActionName::Restart)];
    let old = supervised(10, SECOND);
    let mut first = Engine::new(BootTime(SECOND), set.clone(), Recovered::default());
    first.observe(BootTime(2 * SECOND), &registered(2 * SECOND, &old));
    first.observe(BootTime(8 * SECOND), &killed(8 * SECOND, &old));
    let entries = core::iter::from_fn(|| first.poll_journal());
    let open: Vec<_> = entries
        .filter_map(|entry| if let JournalEntry::Intent(intent) = entry { Some(intent) } else { None })
        .collect();
    assert_eq!(open.len(), 1);
    let recovered = Recovered { open, ..Recovered::default() };
    let mut engine = Engine::by_the_wall(BootTime(20 * SECOND), MIDNIGHT, set, recovered);
    let mut entries = core::iter::from_fn(|| engine.poll_journal());
    assert!(!entries.any(|entry| matches!(entry, JournalEntry::Intent(_))));
}

/// healer itself was stopped, or got no CPU: what it reads afterwards happened long ago.
#[test]
fn a_successor_that_lies_unread_behind_a_long_past_end_counts() {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    let began = |pid, second: u64| {
        let process = served(pid, second * SECOND, "program/nginx");
        signal(second * SECOND, &process, Fact::Execed)
    };
    let old = served(10, SECOND, "program/nginx");
    let told = |signals: &[Signal]| {
        let mut engine = Engine::new(BootTime(SECOND), set.clone(), Recovered::default());
        engine.observe(BootTime(2 * SECOND), &began(10, 1));
        for signal in signals {
            engine.observe(BootTime(20 * SECOND), signal);
        }
        engine.advance(BootTime(20 * SECOND));
        core::iter::from_fn(|| engine.poll_report())
            .map(|report| line(&report, BootTime(0)))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&[killed(8 * SECOND, &old), began(11, 9)]), Vec::<String>::new());
    has(&told(&[killed(8 * SECOND, &old)]), "diagnosis down proved");
}

#[test]
fn what_a_pause_has_held_for_long_is_not_replayed_when_it_ends() {
    let paused_until = |minutes: u64| {
        let mut line = Line::new(with_crashes(|_| {}), SECOND, MIDNIGHT);
        line.tell(&[registered(2 * SECOND, &supervised(10, SECOND))]);
        line.engine.pause(BootTime(7 * SECOND), Some("somebody".into()));
        line.tell(&[worker_crashes(8 * SECOND, 11)]);
        let end = BootTime(minutes * 60 * SECOND);
        line.until(end.0);
        line.engine.pause(end, None);
        line.drain(end);
        line.lines
    };
    let soon = paused_until(5);
    count(&soon, "stale refuse", 0);
    count(&soon, "intent", 1);
    let late = paused_until(60);
    has(&late, "gate stale refuse: stale: it happened 59m");
    count(&late, "intent", 0);
}
