//! An engine, the machine around it, and the eyes of somebody who trusts neither.

use core::time::Duration;
use std::path::Path;

use healer_userspace::{
    config::load,
    engine::{
        Engine,
        command::{ActionKey, Command, JournalEntry, Question, Recovered},
        detect,
        policy::{
            Mode, PolicySet,
            maintenance::{Maintenance, WallClock},
        },
        time::BootTime,
    },
    identity::process::{Place, Process, ProcessId, WorkloadKey},
    signal::{Answer, Exit, Fact, Registration, Ring, Signal, SignalSent, work::Probed},
};

use crate::facts::{ended_by, oom, sent};
use crate::hands::Busy;
use crate::promises::Promises;
use crate::steps::{Disk, End, Hands, Step, WORKLOADS};

/// 2026-11-28 00:00 UTC when the machine booted.
pub(crate) const WALL: WallClock = WallClock { booted: 20_785 * 86_400 * 1_000_000_000 };
const POLICIES: &str = include_str!("policies.yaml");

pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) now: BootTime,
    pub(crate) policies: PolicySet,
    cap: Option<Mode>,
    next_pid: u32,
    pub(crate) living: [Option<Process>; WORKLOADS],
    pub(crate) last_key: [Option<String>; WORKLOADS],
    disk: Disk,
    pub(crate) hands: Hands,
    pub(crate) is_paused: bool,
    pub(crate) is_in_maintenance: bool,
    /// Intents that the disk has not written yet.
    pub(crate) waiting: Vec<ActionKey>,
    /// Acts that the hands are at, with the time at which they end.
    pub(crate) busy: Vec<Busy>,
    pub(crate) questions: Vec<Question>,
    /// What is lent cannot be turned back now.
    pub(crate) knobs_stuck: bool,
    pub(crate) promised: Promises,
}

fn policies() -> PolicySet {
    match load::check_text(Path::new("policies.yaml"), POLICIES, &detect::is_built) {
        Ok(loaded) => loaded.policies,
        Err(problems) => panic!("{problems}"),
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let now = BootTime(3_600_000_000_000);
        let policies = policies();
        Self {
            engine: Engine::by_the_wall(now, WALL, policies.clone(), Recovered::default()),
            now,
            policies,
            cap: None,
            next_pid: 100,
            living: Default::default(),
            last_key: Default::default(),
            disk: Disk::Writes,
            hands: Hands::SucceedWithSuccessor,
            is_paused: false,
            is_in_maintenance: false,
            waiting: Vec::new(),
            busy: Vec::new(),
            questions: Vec::new(),
            knobs_stuck: false,
            promised: Promises::default(),
        }
    }

    pub(crate) fn take(&mut self, step: &Step) {
        match *step {
            Step::Start(who) => self.start(who),
            Step::End(who, how) => {
                if let Some(process) = self.living[who].take() {
                    self.end(&process, how);
                }
            }
            Step::EndOfAnother(who, how) => {
                let process = self.process(who);
                self.end(&process, how);
            }
            Step::Signal(who, signal, ignored) => self.signalled(who, signal, ignored),
            Step::StopAsked(who) => self.tell_of(who, Fact::StopAsked { signal: libc::SIGTERM }),
            Step::Probed(who, ok) => {
                let probed =
                    Probed { ok, what: "tcp :80".into(), says: "refused".into(), ..Probed::default() };
                self.tell_of(who, Fact::Probed(probed));
            }
            Step::SupervisorGone(who) => self.tell_of(who, Fact::Deregistered),
            Step::SupervisorBack(who, waits) => self.supervisor_back(who, waits),
            Step::Lost(count) => {
                let signal = Signal::lost(self.now, Ring::Bulk, u64::from(count));
                self.observe(&signal);
            }
            Step::Pass(millis) => self.pass(Duration::from_millis(millis.into())),
            Step::LongPass(seconds) => self.pass(Duration::from_secs(u64::from(seconds) / 32)),
            Step::Pause => self.pause(true),
            Step::Resume => self.pause(false),
            Step::Maintenance(on) => self.maintain(on),
            Step::Disk(disk) => self.set_disk(disk),
            Step::Hands(hands) => self.hands = hands,
            Step::Reload(which) => {
                self.cap = [None, None, Some(Mode::Shadow), Some(Mode::Observe)][usize::from(which) % 4];
                self.policies.mode_cap = self.cap;
                self.engine.replace_policy(self.now, self.policies.clone());
                self.drain();
            }
            Step::AgentDies => self.restart_agent(),
            Step::AgentStops => self.stop_agent(),
            Step::UndoAsked => {
                self.engine.give_back_asked(self.now, None);
                self.drain();
            }
            Step::KnobsStuck(stuck) => self.knobs_stuck = stuck,
        }
    }

    /// Everything works again and hours pass: whatever was begun must have come to an end.
    pub(crate) fn finish(&mut self) {
        self.hands = Hands::Succeed;
        self.set_disk(Disk::Writes);
        self.pause(false);
        self.maintain(false);
        self.knobs_stuck = false;
        for _ in 0..8 {
            self.pass(Duration::from_secs(900));
        }
        for key in &self.promised.on_disk {
            assert!(self.promised.results.contains_key(key), "intent {key} never got a result");
        }
        self.promised.nothing_is_lent();
        assert!(self.promised.in_flight.is_empty(), "still under way: {:?}", self.promised.in_flight);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let acts = self.busy.iter().map(|busy| busy.until).min();
            let due = acts.into_iter().chain(self.engine.next_deadline()).min().filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.now = self.now.max(due);
            let now = self.now;
            for busy in self.busy.extract_if(.., |busy| busy.until <= now).collect::<Vec<_>>() {
                self.finished(&busy);
            }
            if self.engine.next_deadline().is_some_and(|due| due <= now) {
                self.engine.advance(now);
            }
            self.drain();
        }
        self.now = end;
    }

    fn pause(&mut self, pause: bool) {
        self.is_paused = pause;
        self.engine.pause(self.now, pause.then(|| "somebody".to_owned()));
        self.drain();
    }

    /// For ever, or never.
    fn maintain(&mut self, on: bool) {
        self.is_in_maintenance = on;
        let always = Maintenance::Once { from: 0, to: i64::MAX / 4 };
        self.policies.maintenance = if on { vec![always] } else { Vec::new() };
        self.engine.replace_policy(self.now, self.policies.clone());
        self.drain();
    }

    fn set_disk(&mut self, disk: Disk) {
        self.disk = disk;
        if let Disk::Writes = disk {
            self.engine.journal_state(self.now, None);
            for key in core::mem::take(&mut self.waiting) {
                self.commit(&key);
            }
        }
        self.drain();
    }

    fn commit(&mut self, key: &ActionKey) {
        self.promised.committed(key);
        self.engine.committed(self.now, key);
    }

    pub(crate) fn drain(&mut self) {
        loop {
            let mut worked = false;
            while let Some(entry) = self.engine.poll_journal() {
                worked = true;
                self.journal(entry);
            }
            // What has ended is told before what begins for it.
            while let Some(report) = self.engine.poll_report() {
                self.promised.report(&report);
            }
            while let Some(command) = self.engine.poll_command() {
                worked = true;
                self.obey(command);
            }
            while self.engine.poll_tracking().is_some() {}
            if !worked {
                return;
            }
        }
    }

    fn journal(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::Intent(intent) => {
                assert!(!self.is_paused && !self.is_in_maintenance, "an intent while paused");
                self.promised.intent(&intent, self.cap);
                let key = intent.act.key;
                match self.disk {
                    Disk::Writes => self.commit(&key),
                    Disk::Refuses => self.engine.commit_failed(self.now, &key),
                    Disk::Hangs => self.waiting.push(key),
                }
            }
            JournalEntry::Result(result) => self.promised.result(self.now, result, &self.policies),
            JournalEntry::Undone { key } => self.promised.given_back(&key),
            JournalEntry::Verified { key, outcome, .. } => self.promised.verified(&key, &outcome),
            JournalEntry::Closed { .. } => {}
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Survey(act) => self.survey(&act),
            Command::Undo(undo) => self.undo(&undo),
            Command::Act(act) => {
                self.promised.act(&act);
                self.begin(*act);
            }
            Command::Ask(question) => self.questions.push(question),
            Command::LookAtPeers | Command::Release { .. } => {}
        }
        for question in core::mem::take(&mut self.questions) {
            let answer = Answer::NotListening(if self.now.0.is_multiple_of(3) {
                vec!["80/tcp".into()]
            } else {
                Vec::new()
            });
            let process =
                self.living.iter().flatten().find(|process| process.id() == question.about).cloned();
            let fact = Fact::Answered { question: question.id, answer };
            self.engine.observe(self.now, &Signal { at: self.now, process, fact });
        }
    }

    fn observe(&mut self, signal: &Signal) {
        self.engine.observe(self.now, signal);
        self.drain();
    }

    pub(crate) fn tell(&mut self, process: Process, fact: Fact) {
        self.observe(&Signal { at: self.now, process: Some(process), fact });
    }

    fn tell_of(&mut self, who: usize, fact: Fact) {
        if let Some(process) = self.living[who].clone() {
            self.tell(process, fact);
        }
    }

    pub(crate) fn process(&self, who: usize) -> Process {
        let supervised = |name: &str| Place { supervise: Some(name.into()), ..Place::default() };
        let unit = |name: &str| Place { unit: Some(name.into()), ..Place::default() };
        let place = match who {
            0 => supervised("web"),
            1 => supervised("api"),
            2 => unit("db.service"),
            3 => unit("guarded.service"),
            5 => supervised("shadow"),
            6 => supervised("observe"),
            8 => supervised("fleet-a"),
            9 => supervised("fleet-b"),
            _ => Place::default(),
        };
        let exe = if who == 4 { "/usr/bin/guarded" } else { "/usr/bin/any" };
        Process {
            pid: self.next_pid,
            start: self.now,
            comm: format!("w{who}"),
            exe: Some(exe.into()),
            workload: WorkloadKey::of(&place, exe, "/", "init"),
            main: !place.is_empty(),
            place,
            ..Process::default()
        }
    }

    pub(crate) fn start(&mut self, who: usize) {
        let process = self.process(who);
        self.next_pid += 1;
        let fact = match process.place.supervise {
            Some(_) => Fact::Registered(self.registration(who, None)),
            None => Fact::Execed,
        };
        self.living[who] = Some(process.clone());
        self.tell(process, fact);
    }

    fn registration(&self, who: usize, waiting: Option<Exit>) -> Registration {
        Registration {
            name: format!("w{who}"),
            supervisor: ProcessId { pid: 50 + who as u32, start: BootTime(1) },
            last_key: self.last_key[who].clone(),
            waiting,
        }
    }

    fn supervisor_back(&mut self, who: usize, waits: bool) {
        if let Some(process) = self.living[who].clone() {
            let exit = Exit { code: 1, ..Exit::default() };
            let fact = Fact::Registered(self.registration(who, waits.then_some(exit)));
            if waits {
                self.living[who] = None;
            }
            self.tell(process, fact);
        }
    }

    fn signalled(&mut self, who: usize, signal: i32, ignored: bool) {
        let sent = SignalSent { ignored, ..sent(signal, 0, true) };
        self.tell_of(who, Fact::SignalSent(sent));
    }

    fn end(&mut self, process: &Process, how: End) {
        self.next_pid += 1;
        let (before, exit): (Vec<Fact>, Exit) = match how {
            End::Status(code) => (Vec::new(), Exit { code: code.into(), ..Exit::default() }),
            End::Fault => (vec![Fact::SignalSent(sent(libc::SIGSEGV, 1, false))], ended_by(libc::SIGSEGV)),
            End::Killed => (vec![Fact::SignalSent(sent(libc::SIGKILL, 0, true))], ended_by(libc::SIGKILL)),
            End::Oom => {
                (vec![Fact::SignalSent(sent(libc::SIGKILL, 128, true)), oom()], ended_by(libc::SIGKILL))
            }
            End::GroupKilled => {
                let other = Process { pid: self.next_pid, ..process.clone() };
                self.next_pid += 1;
                self.tell(other, Fact::SignalSent(sent(libc::SIGTERM, 0, true)));
                (vec![Fact::SignalSent(sent(libc::SIGTERM, 0, true))], ended_by(libc::SIGTERM))
            }
            End::CgroupKilled => {
                (vec![Fact::SignalSent(sent(libc::SIGKILL, 0, false))], ended_by(libc::SIGKILL))
            }
            End::Unseen => (Vec::new(), ended_by(libc::SIGKILL)),
        };
        for fact in before {
            self.tell(process.clone(), fact);
        }
        self.tell(process.clone(), Fact::Exited(exit));
    }
}
