//! What is lent may hold a fault up; whether that has healed it is seen once it is given back.

use super::*;
use crate::{
    engine::{
        command::{ActionOutcome, ActionResult, JournalEntry, Look},
        lease::{Knob, Surveyed, Turn, Undone},
    },
    signal::memory::{CgroupMemory, Grown, Growth, MemorySnapshot, MemoryUser, RECENT_MS, Taken},
};

const MIB: f64 = 1_048_576.0;
const LIMIT: f64 = 256.0;
/// MiB a look; four of them are a second.
const LEAKED: f64 = 0.2;
const LOOKS_OF_LATE: usize = 60;

/// Hands that throttle, and a program that does not grow while it is throttled.
struct Lab {
    engine: Engine,
    lines: Vec<String>,
    web: Process,
    is_held: bool,
    was_held: bool,
    has_strangers: bool,
    /// MiB that it grew by when memory is short.
    grew: f64,
    looks: Vec<Look>,
    taken: Vec<f64>,
}

impl Lab {
    fn new(policies: PolicySet) -> Self {
        Self {
            engine: Engine::new(BootTime(SECOND), policies, Recovered::default()),
            lines: Vec::new(),
            web: supervised(10, SECOND),
            is_held: false,
            was_held: false,
            has_strangers: false,
            grew: 0.0,
            looks: Vec::new(),
            taken: vec![200.0],
        }
    }

    fn tell(&mut self, signal: &Signal) {
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= signal.at) {
            self.engine.advance(due);
            self.drain(due);
        }
        self.engine.observe(signal.at, signal);
        self.drain(signal.at);
    }

    fn look(&mut self, at: u64, goes_on: bool) {
        let before = self.taken[self.taken.len() - 1];
        let grows = !self.is_held && (goes_on || !self.was_held);
        let now = if grows { (before + LEAKED).min(LIMIT - 10.0) } else { before };
        self.taken.push(now);
        let then = self.taken[self.taken.len().saturating_sub(LOOKS_OF_LATE)];
        let bytes = |amount: f64| (amount * MIB) as u64;
        let user = MemoryUser {
            process: self.web.clone(),
            anon: bytes(now),
            grown: bytes(now - 200.0),
            reserved: bytes(now - 200.0),
            watched_ms: RECENT_MS,
            grown_lately: bytes(now - then),
            grown_from_low: bytes(now - then),
            ..MemoryUser::default()
        };
        let memory = CgroupMemory {
            cgroup: "/web".into(),
            over_ms: 250,
            usage: bytes(now),
            anon: bytes(now),
            limit: bytes(LIMIT),
            users: vec![user],
            ..CgroupMemory::default()
        };
        let fact = Fact::Memory(MemorySnapshot { cgroups: vec![memory], node: None });
        self.tell(&Signal { at: BootTime(at), process: None, fact });
    }

    fn pressed(&mut self, at: u64, thrashes: bool) {
        let bytes = (LIMIT * MIB) as u64;
        let faults = if thrashes { 5000 } else { 0 };
        let grown = (self.grew * MIB) as u64;
        let growth = Growth { lately: grown, from_low: grown };
        let user = MemoryUser {
            process: self.web.clone(),
            anon: grown,
            grown,
            reserved: grown,
            grown_lately: grown,
            grown_from_low: grown,
            of_age: Some(Taken { anon: grown, reserved: grown }),
            ..MemoryUser::default()
        };
        let memory = CgroupMemory {
            cgroup: "/web".into(),
            over_ms: 1000,
            usage: bytes,
            anon: bytes / 2,
            limit: bytes,
            major_faults: faults,
            refaults: faults,
            users: vec![user],
            grown: Some(Grown { users: growth, whole: growth }),
            ..CgroupMemory::default()
        };
        let fact = Fact::Memory(MemorySnapshot { cgroups: vec![memory], node: None });
        self.tell(&Signal { at: BootTime(at), process: None, fact });
    }

    fn drain(&mut self, now: BootTime) {
        loop {
            if let Some(entry) = self.engine.poll_journal() {
                if let JournalEntry::Intent(intent) = entry {
                    self.engine.committed(now, &intent.act.key);
                }
            } else if let Some(command) = self.engine.poll_command() {
                self.obey(now, command);
            } else if let Some(report) = self.engine.poll_report() {
                self.lines.push(line(&report, BootTime(0)));
            } else {
                return;
            }
        }
    }

    fn obey(&mut self, now: BootTime, command: Command) {
        match command {
            Command::Survey(act) => {
                let knob = Knob::Running(act.target.id());
                let turn = Turn { knob, was: "running".into(), set: "stopped".into() };
                let error = "pid 9 lives there too".into();
                let cannot = ActionOutcome::Failed { error, errno: None };
                let turns = if self.has_strangers { Err(cannot) } else { Ok(vec![turn]) };
                self.engine.surveyed(now, Surveyed { key: act.key, turns });
            }
            Command::Act(act) => {
                self.is_held |= act.rung.action == ActionName::Throttle;
                self.was_held |= self.is_held;
                self.looks.extend(act.look.iter().cloned());
                let outcome = ActionOutcome::Done { says: "done".into() };
                self.engine.action_finished(now, ActionResult { key: act.key, outcome });
            }
            Command::Undo(undo) => {
                self.is_held = false;
                let says = "it is as it was".into();
                self.engine.undone(now, &Undone { key: undo.key, says, complete: true });
            }
            Command::Ask(_) | Command::LookAtPeers | Command::Release { .. } => {}
        }
    }
}

/// A leak of 0.8 MiB a second that is throttled; given back, it goes on or does not.
fn throttled(goes_on: bool) -> Vec<String> {
    throttled_in(goes_on, false)
}

fn throttled_in(goes_on: bool, has_strangers: bool) -> Vec<String> {
    let mut set = policies(Mode::Enforce, &[ActionName::Throttle, ActionName::Stop]);
    let policy = &mut set.policies[0];
    let under = Some(Duration::from_secs(60));
    policy.rules[0].when[0] = Condition { time_to_limit_under: under, ..Condition::of(Class::MemoryLeak) };
    policy.verify.stable_for = Duration::from_secs(1);
    let mut lab = Lab { has_strangers, ..Lab::new(set) };
    lab.tell(&registered(99 * SECOND, &lab.web.clone()));
    for look in 0..320 {
        lab.look(100 * SECOND + look * SECOND / 4, goes_on);
    }
    lab.lines
}

#[test]
fn a_leak_that_goes_on_once_it_is_let_go_gets_the_next_rung() {
    let lines = throttled(true);
    count(&lines, "intent throttle", 1);
    has(&lines, "verification unchanged: it came back once what was lent was given back");
    count(&lines, "intent stop", 1);
}

#[test]
fn one_that_does_not_go_on_is_healed() {
    let lines = throttled(false);
    count(&lines, "intent throttle", 1);
    has(&lines, "verification healed: the fault has not come back");
    count(&lines, "intent stop", 0);
}

#[test]
fn where_a_throttle_would_hold_back_others_the_next_rung_follows() {
    let lines = throttled_in(true, true);
    count(&lines, "intent throttle", 0);
    has(&lines, "intent stop");
}

/// Pressure that a throttle ends, and that is there again for so many seconds once it is let go.
fn flares_up(seconds: u64) -> Vec<String> {
    let mut set = policies(Mode::Enforce, &[ActionName::Throttle, ActionName::Stop]);
    set.policies[0].rules[0].when[0] = Condition::of(Class::MemoryPressure);
    set.policies[0].verify.within = Duration::from_secs(60);
    let mut lab = Lab::new(set);
    lab.tell(&registered(99 * SECOND, &lab.web.clone()));
    let mut since = 0;
    for second in 0..150 {
        let is_let_go = lab.was_held && !lab.is_held;
        since += u64::from(is_let_go);
        lab.pressed((100 + second) * SECOND, !lab.was_held || (is_let_go && since <= seconds));
    }
    lab.lines
}

#[test]
fn a_backlog_that_flares_up_once_it_is_let_go_is_waited_for() {
    let lines = flares_up(4);
    count(&lines, "intent throttle", 1);
    has(&lines, "verification healed");
    count(&lines, "intent stop", 0);
    let lines = flares_up(140);
    has(&lines, "verification unchanged");
    has(&lines, "intent stop");
}

#[test]
fn whether_the_culprit_of_pressure_has_given_back_is_looked_at_before_it_is_ended() {
    let is_looked_at = |grew: f64| {
        let mut set = policies(Mode::Enforce, &[ActionName::Stop]);
        set.policies[0].rules[0].when[0] = Condition::of(Class::MemoryPressure);
        let mut lab = Lab { grew, ..Lab::new(set) };
        lab.tell(&registered(99 * SECOND, &lab.web.clone()));
        for second in 0..4 {
            lab.pressed((100 + second) * SECOND, true);
        }
        assert!(!lab.looks.is_empty(), "{:?}", lab.lines);
        lab.looks.iter().any(|look| matches!(look, Look::MemoryShort(_)))
    };
    assert!(is_looked_at(40.0));
    assert!(!is_looked_at(0.0), "who only suffers has nothing to give back");
}
