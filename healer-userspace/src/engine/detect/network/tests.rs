mod beside;
mod cut_off;
mod doubt;
mod hard;
mod hasty;
mod known;
mod local;
mod loss;
mod moved;
mod no_route;
mod no_way;
mod servers;
mod stuck;
mod suffering;

use core::net::SocketAddr;

use super::*;
use crate::{
    engine::{memory::Memory, policy::PolicySet, world::World},
    identity::process::Process,
    signal::network::{ConnectionFailed, FailureCause, Flow, NoRoute, PeerCounts, Retransmitted},
};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

/// What was said, at which millisecond.
type Said = (u64, String);

/// A client that things happen to; deadlines come by themselves.
struct Story {
    detector: Network,
    world: World,
    memory: Memory,
    policies: PolicySet,
    workload: &'static str,
    pid: u32,
    netns: u32,
    /// By a rung of the sensors that concludes, or looks now and then.
    by_lesser_rung: bool,
    said: Vec<Said>,
    sentences: Vec<String>,
}

impl Story {
    fn new() -> Self {
        Self {
            detector: Network::default(),
            world: World::default(),
            memory: Memory::default(),
            policies: PolicySet::default(),
            workload: "api",
            pid: 40,
            netns: 7,
            by_lesser_rung: false,
            said: Vec::new(),
            sentences: Vec::new(),
        }
    }

    fn pass(&mut self, ms: u64) {
        while let Some(due) = self.detector.deadline().filter(|due| due.0 <= ms * 1_000_000) {
            let mut found = Vec::new();
            let Self { world, memory, policies, .. } = self;
            let context = Context { now: due, world, memory, policies, certificate: None };
            self.detector.advance(&context, &mut found);
            self.note(due.0 / 1_000_000, found);
        }
    }

    fn tell(&mut self, ms: u64, fact: Fact) {
        self.pass(ms);
        let at = BootTime(ms * 1_000_000);
        let process = Process {
            pid: self.pid,
            comm: self.workload.to_owned(),
            workload: WorkloadKey(self.workload.to_owned()),
            ..Process::default()
        };
        let mut found = Vec::new();
        let Self { world, memory, policies, .. } = self;
        let context = Context { now: at, world, memory, policies, certificate: None };
        self.detector.observe(&context, &Signal { at, process: Some(process), fact }, &mut found);
        self.note(ms, found);
    }

    fn note(&mut self, ms: u64, found: Vec<Finding>) {
        for finding in found {
            let (diagnosis, mark) = match finding {
                Finding::Raised { diagnosis, .. } => (diagnosis, ""),
                Finding::Restated { diagnosis, .. } => (diagnosis, " anew"),
                Finding::Cleared { class, says, .. } => {
                    self.sentences.push(says);
                    self.said.push((ms, format!("{class} over")));
                    continue;
                }
                Finding::Level { .. } | Finding::Watch(_) | Finding::Unwatch(_) | Finding::Remark { .. } => {
                    continue;
                }
            };
            assert!(!diagnosis.evidence.is_empty(), "{} rests on nothing", diagnosis.sentence);
            let kind = diagnosis.detail.kind.unwrap_or_default();
            self.sentences.push(diagnosis.sentence);
            self.said.push((ms, format!("{} {kind} {}{mark}", diagnosis.class, diagnosis.certainty.name())));
        }
    }

    fn flow(&self, peer: &str, cookie: u64) -> Flow {
        let local = SocketAddr::from(([10, 0, 0, 9], 40_000));
        Flow { peer: peer.parse().unwrap(), local, netns: self.netns, cgroup: 5, cookie }
    }

    fn fails(&mut self, ms: u64, peer: &str, cause: FailureCause, age_ms: u64, streak: u32) {
        let flow = self.flow(peer, ms);
        let age_us = Some(age_ms * 1000);
        let failed =
            ConnectionFailed { flow, cause, connecting: true, age_us, streak, inferred: self.by_lesser_rung };
        self.tell(ms, Fact::ConnectionFailed(failed));
    }

    fn refused(&mut self, ms: u64, peer: &str, streak: u32) {
        self.fails(ms, peer, FailureCause::Refused, 0, streak);
    }

    fn resent(&mut self, ms: u64, peer: &str, cookie: u64, times: u32, connecting: bool, first: u32) {
        let flow = self.flow(peer, cookie);
        let sent = Retransmitted {
            flow,
            connecting,
            retransmits: times,
            unacknowledged: first,
            local_error: None,
            streak: 0,
            sampled: self.by_lesser_rung,
        };
        self.tell(ms, Fact::Retransmitted(sent));
    }

    fn ok(&mut self, ms: u64, peer: &str) {
        let counts = PeerCounts::made(peer, self.netns, BootTime(ms * 1_000_000));
        self.tell(ms, Fact::Peers(vec![counts]));
    }

    /// Requests for connections, one every half second, each asked for again once a second.
    fn silence(&mut self, from_ms: u64, to_ms: u64, peers: &[&str]) {
        for ms in (from_ms + 1000..to_ms).step_by(500) {
            for (number, peer) in peers.iter().enumerate() {
                let cookie = ms / 1000 * 10 + number as u64;
                self.resent(ms, peer, cookie, ((ms - from_ms) / 1000) as u32, true, 0);
            }
        }
    }

    fn words(&self) -> Vec<&str> {
        self.said.iter().map(|(_, text)| text.as_str()).collect()
    }
}

#[test]
fn a_peer_that_refuses_while_another_answers_is_a_failed_dependency_until_it_stays_well() {
    let mut story = Story::new();
    for (streak, ms) in (1000..5000).step_by(500).enumerate() {
        story.ok(ms, B);
        story.refused(ms + 10, A, streak as u32 + 1);
    }
    assert_eq!(story.words(), ["dependency_failure refuses probable"]);
    assert!(story.said[0].0 < 3500, "{:?}", story.said);
    story.ok(6000, A);
    story.pass(10_900);
    assert_eq!(story.said.len(), 1);
    story.pass(11_100);
    assert_eq!(story.words()[1], "dependency_failure over");
}

#[test]
fn an_only_peer_is_suspected_until_another_answers() {
    let mut story = Story::new();
    story.ok(500, A);
    for ms in (1500..9000).step_by(500) {
        story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
    }
    assert_eq!(story.words(), ["dependency_failure no_answer suspected"]);
    for ms in (9000..20_000).step_by(500) {
        story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
        story.ok(ms + 1, B);
    }
    assert_eq!(story.words()[1..], ["dependency_failure no_answer probable"]);
}

/// As in a harness that starts the same client in one namespace after the other.
#[test]
fn one_program_in_two_namespaces_has_two_subjects() {
    let subject = |netns: u32| {
        let who: Who = (WorkloadKey("api".to_owned()), netns);
        let Finding::Cleared { subject, .. } = words::connected(&who, "") else { return None };
        let Finding::Cleared { subject: peers, .. } = words::answers(&(who, A.parse().unwrap()), "") else {
            return None;
        };
        Some((subject, peers))
    };
    let (one, other) = (subject(7).unwrap(), subject(8).unwrap());
    assert!(one.0 != other.0 && one.1 != other.1);
}

#[test]
fn silence_of_one_peer_is_its_failure_silence_of_all_is_isolation() {
    let mut story = Story::new();
    for peer in [A, B, C] {
        story.ok(500, peer);
    }
    for ms in (1500..8000).step_by(500) {
        story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
        story.ok(ms + 1, B);
        story.ok(ms + 2, C);
    }
    assert_eq!(story.words(), ["dependency_failure no_answer probable"]);
    let mut story = Story::new();
    for peer in [A, B, C] {
        story.ok(500, peer);
    }
    story.silence(1000, 9000, &[A, B, C]);
    assert_eq!(story.words(), ["network_isolation netns probable"]);
}

#[test]
fn after_an_isolation_no_ghost_of_a_dependency_is_seen() {
    let mut story = Story::new();
    for peer in [A, B, C] {
        story.ok(500, peer);
    }
    story.silence(1000, 9000, &[A, B, C]);
    story.ok(9100, A);
    story.ok(9600, B);
    story.pass(12_000);
    story.ok(12_000, C);
    story.pass(60_000);
    assert_eq!(story.words(), ["network_isolation netns probable", "network_isolation over"]);
}

#[test]
fn what_still_fails_after_an_isolation_is_said() {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(500, peer);
    }
    story.silence(1000, 9000, &[A, B]);
    for ms in (9100..20_000).step_by(500) {
        story.ok(ms, B);
        story.resent(ms + 1, A, ms / 1000, 3, true, 0);
    }
    let words = story.words();
    assert_eq!(words.len(), 3, "{:?}", story.said);
    assert_eq!(words[2], "dependency_failure no_answer probable");
}

#[test]
fn without_a_route_nobody_is_reached() {
    let story = |v4, v6, is_reached: bool| {
        let mut story = Story::new();
        for ms in (500..3000).step_by(400) {
            story.ok(ms, A);
            story.ok(ms + 1, B);
        }
        for second in 4..9 {
            if is_reached {
                story.ok(second * 1000 - 100, B);
            }
            story.tell(second * 1000, Fact::NoRoute(NoRoute { netns: 7, v4, v6, since: None }));
        }
        story.pass(20_000);
        story.words().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(story(5, 0, false), ["network_isolation netns probable"]);
    assert_eq!(story(0, 5, false), [""; 0], "somebody tries IPv6 first");
    assert_eq!(story(5, 0, true), [""; 0], "it was for somebody else");
}

#[test]
fn two_workloads_in_one_namespace_have_their_own_fates() {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(500, peer);
    }
    story.silence(1000, 3000, &[A, B]);
    story.workload = "web";
    story.ok(3000, C);
    story.workload = "api";
    story.silence(2000, 9000, &[A, B]);
    assert_eq!(story.words(), ["network_isolation workload probable"]);
}

#[test]
fn nothing_is_said_of_what_is_nobodys_failure() {
    // A port scanner: each address once, none ever answered.
    let mut story = Story::new();
    for port in 1..200_u64 {
        story.refused(port * 50, &format!("10.0.0.1:{port}"), 1);
        story.fails(port * 50, &format!("10.0.1.1:{port}"), FailureCause::TimedOut, 3000, 1);
    }
    assert_eq!(story.words(), [""; 0]);
    // ::1 first, then 127.0.0.1.
    let mut story = Story::new();
    for (streak, ms) in (1000..20_000).step_by(500).enumerate() {
        story.refused(ms, "[::1]:5432", streak as u32 + 1);
        story.ok(ms + 1, "127.0.0.1:5432");
    }
    assert_eq!(story.words(), [""; 0]);
    // A restart with a gap of a second.
    let mut story = Story::new();
    story.ok(900, A);
    for (streak, ms) in (1000..2000).step_by(50).enumerate() {
        story.refused(ms, A, streak as u32 + 1);
    }
    story.ok(2100, A);
    story.pass(60_000);
    assert_eq!(story.words(), [""; 0]);
}

#[test]
fn a_lossy_path_is_degraded_at_most() {
    let mut story = Story::new();
    for second in 1..60_u64 {
        let ms = second * 1000;
        story.resent(ms, A, second, 1, true, 0);
        if second.is_multiple_of(5) {
            story.resent(ms + 100, A, second, 3, true, 0);
        } else {
            story.ok(ms + 400, A);
        }
    }
    assert_eq!(story.words(), ["degraded_path loss probable"]);
}

#[test]
fn a_connection_that_moves_on_is_well() {
    let mut story = Story::new();
    story.ok(900, A);
    for (times, ms) in [(1, 1000), (2, 1400), (3, 2200), (4, 3800)] {
        story.resent(ms, A, 1, times, false, 100);
        story.resent(ms + 1, A, 2, times, false, 100);
    }
    story.resent(5000, A, 1, 1, false, 200);
    story.pass(60_000);
    assert_eq!(story.words(), [""; 0]);
}

#[test]
fn one_connection_that_is_dead_for_long_is_enough() {
    let mut story = Story::new();
    story.ok(900, A);
    for (times, ms) in [(1, 1000), (2, 1400), (3, 2200), (4, 3800), (5, 7000)] {
        story.resent(ms, A, 1, times, false, 100);
    }
    story.pass(60_000);
    assert_eq!(story.words(), ["dependency_failure no_answer suspected"]);
}

/// Cadences that the rules were not made with.
#[test]
fn slow_and_fast_clients_are_seen_too() {
    for (every_ms, streak_told) in [(10_000, 1), (2, 50)] {
        let mut story = Story::new();
        let mut streak = 0;
        for ms in (1000..61_000_u64).step_by(every_ms) {
            streak += 1;
            if streak <= 4 || streak % streak_told == 0 {
                story.ok(ms, B);
                story.refused(ms, A, streak);
            }
        }
        assert_eq!(story.words(), ["dependency_failure refuses probable"], "every {every_ms} ms");
    }
}

#[test]
fn what_speaks_against_a_peer_outlives_a_client_that_gives_up_and_is_started_again() {
    let mut story = Story::new();
    for (life, from) in [(41, 1000), (42, 5000)] {
        story.pid = life;
        for (streak, ms) in (from..from + 1500).step_by(750).enumerate() {
            story.refused(ms, A, streak as u32 + life - 39);
        }
        story.tell(from + 2000, Fact::Exited(crate::signal::Exit::default()));
    }
    story.pass(60_000);
    assert_eq!(story.words(), ["dependency_failure refuses probable"]);
    story.pass(200_000);
    assert_eq!(story.words(), ["dependency_failure refuses probable", "dependency_failure over"]);
    assert!(story.said[1].0 == 7_000 + 180_000, "once nobody has come after it for so long");
}
