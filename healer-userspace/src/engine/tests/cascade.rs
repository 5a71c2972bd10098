//! Who counts as failing for those who use it.

use super::*;
use crate::{
    engine::{
        class::Certainty,
        detect::Subject,
        diagnosis::{Detail, Diagnosis},
        policy::{Probe, ProbeAsk, depends::DependsOn},
    },
    signal::{
        network::{Flow, FlowSnapshot, Listens, NoRoute, PeerCounts, Retransmitted, Served},
        syscall_error::SyscallError,
        work::Probed,
    },
};

const DB: &str = "unit/db.service";

fn db() -> Process {
    Process { comm: "db".into(), exe: Some("/usr/bin/db".into()), main: true, ..served(20, SECOND, DB) }
}

fn fails_after(exit: Exit, is_expected: bool) -> bool {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/bin/db".into()], ..Match::default() };
    set.policies[0].expect.running = Some(is_expected);
    let mut engine = Engine::new(BootTime(SECOND), set, Recovered::default());
    engine.observe(BootTime(2 * SECOND), &signal(2 * SECOND, &db(), Fact::Execed));
    engine.observe(BootTime(3 * SECOND), &signal(3 * SECOND, &db(), Fact::Exited(exit)));
    engine.advance(BootTime(90 * SECOND));
    engine.failing_since(&WorkloadKey(DB.into())).is_some()
}

#[test]
fn who_has_done_its_work_does_not_fail_those_who_used_it() {
    let crash = Exit { signal: Some(libc::SIGSEGV), ..Exit::default() };
    assert!(!fails_after(Exit::default(), false));
    assert!(fails_after(Exit::default(), true), "it should run");
    assert!(fails_after(crash, false));
}

fn listens(second: u64, on: bool) -> Signal {
    let address = ADDRESS.parse().unwrap();
    let listens = Listens { cookie: 1, netns: 7, cgroup: 5, address, on };
    signal(second * SECOND, &db(), Fact::Listens(listens))
}

const ADDRESS: &str = "127.0.0.1:80";

#[test]
fn a_guess_at_the_other_end_of_a_connection_hides_nobody_who_is_known() {
    let address = ADDRESS.parse().unwrap();
    let mut engine = Engine::new(BootTime(SECOND), PolicySet::default(), Recovered::default());
    let guessed = Process { pid: 0, ..served(0, SECOND, "program/@<") };
    let told = |server: Process| {
        let served = vec![Served { netns: 7, peer: address, address, server }];
        let fact = Fact::Flows(FlowSnapshot { served, ..FlowSnapshot::default() });
        Signal { at: BootTime(3 * SECOND), process: None, fact }
    };
    let mut is_db = |signal: Signal| {
        engine.observe(signal.at, &signal);
        engine.world().topology().server(7, &address).is_some_and(|server| server.workload.0 == DB)
    };
    assert!(is_db(listens(2, true)) && is_db(told(guessed.clone())));
    assert!(is_db(listens(4, false)), "it has died, and its clients fail for it");
    assert!(is_db(told(db())) && is_db(told(guessed)));
}

/// Who fails its probe is restarted.
fn probed(needs: &[DependsOn]) -> PolicySet {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].rules[0].when[0].class = Class::ProbeFailed;
    set.policies[0].expect.depends_on = needs.to_vec();
    set.policies[0].expect.probe = Some(Probe::each_second(ProbeAsk::Tcp { port: 1 }));
    set
}

fn fails(second: u64) -> Signal {
    let refused = Probed { what: "tcp :1".into(), says: "refused".into(), ..Probed::default() };
    signal(second * SECOND, &supervised(10, SECOND), Fact::Probed(refused))
}

/// Of a policy that says that `web` needs `on`, with a `db` that was killed.
fn is_held(on: &str, port: Option<u16>) -> bool {
    let lines = run(
        &[
            registered(2 * SECOND, &supervised(10, SECOND)),
            signal(2 * SECOND, &db(), Fact::Execed),
            listens(2, true),
            signal(3 * SECOND, &db(), Fact::Exited(Exit { signal: Some(9), ..Exit::default() })),
            fails(20),
        ],
        probed(&[DependsOn { service: on.into(), port }]),
    );
    let held = "gate cascade hold: not its own fault: supervise/web uses unit/db.service";
    lines.iter().any(|line| line.contains(held))
}

#[test]
fn what_a_policy_says_that_it_needs_is_healed_first() {
    assert!(is_held("db", None) && is_held("unit/db.service", Some(80)));
    assert!(!is_held("db", Some(81)), "another's port");
    assert!(!is_held("cache", None) && !is_held("web", None), "neither is in the way");
}

/// A probe fails in the first seconds of a service: nobody has read yet whom it uses.
#[test]
fn who_uses_whom_is_read_before_somebody_is_judged_by_it() {
    let mut engine = Engine::new(BootTime(SECOND), probed(&[]), Recovered::default());
    for signal in [registered(2 * SECOND, &supervised(10, SECOND)), listens(2, true), fails(3)] {
        engine.observe(signal.at, &signal);
    }
    assert_eq!(engine.poll_command(), Some(Command::LookAtPeers));
    assert!(!engine.has_journal(), "it is not judged yet");
    assert_eq!(engine.next_deadline(), Some(BootTime(3 * SECOND)));
    engine.advance(BootTime(3 * SECOND));
    assert!(engine.has_journal() && engine.poll_command().is_none(), "nobody waits for ever");
}

#[test]
fn who_listened_long_ago_is_nobodys_server() {
    let address = "10.0.0.1:80".parse().unwrap();
    let mut engine = Engine::new(BootTime(SECOND), PolicySet::default(), Recovered::default());
    let mut tell = |second: u64, on| {
        let listens = Listens { cookie: 1, netns: 7, cgroup: 5, address, on };
        engine.observe(BootTime(second * SECOND), &signal(second * SECOND, &db(), Fact::Listens(listens)));
        let other = signal((second + 1) * SECOND, &served(30, SECOND, "unit/x.service"), Fact::Execed);
        engine.observe(BootTime((second + 1) * SECOND), &other);
        engine.world().topology().server(7, &address).is_some()
    };
    assert!(tell(2, true) && tell(10, false), "its clients may be down for it");
    let later = signal(1000 * SECOND, &served(30, SECOND, "unit/x.service"), Fact::Execed);
    engine.observe(BootTime(1000 * SECOND), &later);
    assert!(engine.world().topology().server(7, &address).is_none());
}

/// Of two peers there is no way to either, which is known within seconds.
#[test]
fn who_is_cut_off_is_not_restarted_because_its_probe_fails() {
    let web = supervised(10, SECOND);
    let told = |ms: u64, fact: Fact| signal(ms * SECOND / 1000, &web, fact);
    let no_way = |ms: u64, peer: &str| {
        let error = SyscallError {
            call: "connect".to_owned(),
            errno: libc::ENETUNREACH,
            address: Some(peer.parse().unwrap()),
            ..SyscallError::default()
        };
        told(ms, Fact::SyscallError(Box::new(error)))
    };
    let made = |ms: u64, peer: &str| {
        let counts = PeerCounts::made(peer, 7, BootTime(ms * SECOND / 1000));
        told(ms, Fact::Peers(vec![counts]))
    };
    let peers = ["10.0.0.1:80", "10.0.0.2:80"];
    let mut signals = vec![registered(2 * SECOND, &web)];
    signals.extend(peers.map(|peer| made(2500, peer)));
    for ms in [3000, 3250, 3500, 3750, 4000] {
        signals.extend(peers.map(|peer| no_way(ms, peer)));
    }
    signals.push(told(4100, Fact::NoRoute(NoRoute { netns: 7, v4: 9, ..NoRoute::default() })));
    let lines = run(&[signals.as_slice(), &[fails(20)]].concat(), probed(&[]));
    has(&lines, "diagnosis network_isolation");
    has(&lines, "gate cascade hold: not its own fault: supervise/web is cut off from its peers");
    has(&run(&[signals[0].clone(), fails(20)], probed(&[])), "result done");
}

/// One second in which it finds no way to its two peers, in a namespace of its own.
fn loses_all(from_ms: u64, client: &Process, netns: u32) -> Vec<Signal> {
    let told = |ms: u64, fact: Fact| signal(ms * SECOND / 1000, client, fact);
    let mut signals = Vec::new();
    for ms in (from_ms..=from_ms + 1000).step_by(250) {
        signals.extend(PEERS.map(|peer| {
            let address = Some(peer.parse().unwrap());
            let call = "connect".to_owned();
            let error = SyscallError { call, errno: libc::ENETUNREACH, address, ..SyscallError::default() };
            told(ms, Fact::SyscallError(Box::new(error)))
        }));
    }
    signals.push(told(from_ms + 1100, Fact::NoRoute(NoRoute { netns, v4: 9, ..NoRoute::default() })));
    signals
}

const PEERS: [&str; 2] = ["10.0.0.1:80", "10.0.0.2:80"];

/// Of two who were cut off, one is connected again, and the other asks nobody any more. When a third is restarted.
fn restarted_at(is_connected: bool) -> Option<u64> {
    let (x, y) = (served(20, SECOND, "unit/x.service"), served(30, SECOND, "unit/y.service"));
    let made = |second: u64, client: &Process, netns: u32, peer: &str| {
        let counts = PeerCounts::made(peer, netns, BootTime(second * SECOND));
        signal(second * SECOND, client, Fact::Peers(vec![counts]))
    };
    let mut signals = vec![registered(2 * SECOND, &supervised(10, SECOND))];
    for peer in PEERS {
        signals.extend([made(2, &x, 7, peer), made(2, &y, 8, peer)]);
    }
    signals.extend(loses_all(3000, &x, 7));
    signals.extend(loses_all(6000, &y, 8));
    signals.push(fails(20));
    if is_connected {
        signals.push(made(30, &x, 7, PEERS[0]));
    }
    let lines = run(&signals, probed(&[]));
    has(&lines, "diagnosis network_isolation probable: nginx[30] is cut off (node)");
    has(&lines, "gate cascade hold: not its own fault: the whole node is cut off");
    let done = lines.iter().find(|line| line.contains("supervise/web result done"))?;
    done.split('.').next()?.parse().ok()
}

#[test]
fn nobody_is_held_for_the_whole_node_once_somebody_on_it_is_connected() {
    let at = restarted_at(true);
    assert!(at.is_some_and(|second| (32..60).contains(&second)), "{at:?}");
    let at = restarted_at(false);
    assert!(at.is_some_and(|second| (604..620).contains(&second)), "ten minutes after the last try: {at:?}");
}

/// By another workload that was said to be cut off with the node.
fn is_held_with_the_node(certainty: Certainty) -> bool {
    let (web, x) = (supervised(10, SECOND), served(20, SECOND, "unit/x.service"));
    let mut engine = Engine::new(BootTime(SECOND), probed(&[]), Recovered::default());
    let first = registered(2 * SECOND, &web);
    engine.observe(first.at, &first);
    let detail = Detail { kind: Some("node".into()), ..Detail::default() };
    let cut_off = Diagnosis { class: Class::NetworkIsolation, certainty, detail, ..may_hang(&x) };
    engine.raised(BootTime(10 * SECOND), Subject::Network(x.workload.clone(), 7), cut_off);
    engine.observe(BootTime(20 * SECOND), &fails(20));
    engine.advance(BootTime(20 * SECOND));
    let reports = core::iter::from_fn(|| engine.poll_report());
    let lines: Vec<String> = reports.map(|report| line(&report, BootTime(0))).collect();
    lines.iter().any(|line| line.contains("gate cascade hold: not its own fault: the whole node is cut off"))
}

#[test]
fn nobody_is_held_for_a_suspicion_that_the_whole_node_is_cut_off() {
    assert!(is_held_with_the_node(Certainty::Probable));
    assert!(!is_held_with_the_node(Certainty::Suspected));
}

const SILENT: &str = "10.0.0.9:80";

fn made(second: u64) -> Signal {
    let counts = PeerCounts::made(SILENT, 7, BootTime(second * SECOND));
    signal(second * SECOND, &supervised(10, SECOND), Fact::Peers(vec![counts]))
}

/// A request for a connection, sent again and again.
fn asked_again(ms: u64, cookie: u64, retransmits: u32) -> Signal {
    let local = "10.0.0.1:4000".parse().unwrap();
    let sent = Retransmitted {
        flow: Flow { peer: SILENT.parse().unwrap(), local, netns: 7, cgroup: 5, cookie },
        connecting: true,
        retransmits,
        unacknowledged: 0,
        local_error: None,
        streak: 0,
        sampled: false,
    };
    signal(ms * SECOND / 1000, &supervised(10, SECOND), Fact::Retransmitted(sent))
}

fn probe_fails_beside(before: Signal, later: &[Signal]) -> Vec<String> {
    let begins = [registered(2 * SECOND, &supervised(10, SECOND)), made(10), before, fails(20)];
    run(&[begins.as_slice(), later].concat(), probed(&[]))
}

const NOT_KNOWN: &str =
    "gate cascade hold: whose fault it is is not known yet: supervise/web has had no answer";

/// That a peer is silent is known later than that its client is sick.
#[test]
fn who_waits_for_a_silent_peer_is_held_until_it_is_known_to_be_dead() {
    let more = [asked_again(20_500, 1, 2), asked_again(21_500, 2, 1), asked_again(24_500, 2, 3)];
    let lines = probe_fails_beside(asked_again(19_500, 1, 1), &more);
    has(&lines, NOT_KNOWN);
    has(&lines, "gate cascade hold: not its own fault: supervise/web uses 10.0.0.9:80, which no_answer");
    let second = |line: &String| line.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
    let acts = lines.iter().filter(|line| line.contains("result done"));
    assert!(acts.map(second).all(|second| Some(100) < second), "{lines:?}");
}

#[test]
fn who_is_answered_meanwhile_is_healed_at_once_and_nobody_waits_for_long() {
    let lines = probe_fails_beside(asked_again(19_500, 1, 1), &[made(22)]);
    has(&lines, NOT_KNOWN);
    has(&lines, "23.000s i1 supervise/web result done");
    let lines = probe_fails_beside(asked_again(19_500, 1, 1), &[]);
    has(&lines, "32.000s i1 supervise/web result done");
    let lines = probe_fails_beside(made(19), &[]);
    has(&lines, "20.000s i1 supervise/web result done");
    count(&lines, NOT_KNOWN, 0);
}

fn may_hang(web: &Process) -> Diagnosis {
    Diagnosis {
        class: Class::Hang,
        certainty: Certainty::Suspected,
        target: web.clone(),
        related: Vec::new(),
        fault_at: BootTime(15 * SECOND),
        detected_at: BootTime(20 * SECOND),
        sentence: "web may hang".into(),
        evidence: Vec::new(),
        lost: 0,
        from_absence: false,
        detail: Detail::default(),
    }
}

/// A hang and a probe that fails are one incident: what was suspected for two hours is not why the probe fails now.
#[test]
fn who_was_suspected_for_long_is_held_all_the_same() {
    let is_held = |silent_ms: u64| {
        let (web, now) = (supervised(10, SECOND), BootTime(7200 * SECOND));
        let mut engine = Engine::new(BootTime(SECOND), probed(&[]), Recovered::default());
        for signal in [registered(2 * SECOND, &web), made(10)] {
            engine.observe(signal.at, &signal);
        }
        engine.raised(BootTime(20 * SECOND), Subject::Process(web.id(), Class::Hang), may_hang(&web));
        for signal in [asked_again(silent_ms, 1, 1), fails(7200)] {
            engine.observe(signal.at, &signal);
        }
        let mut all = engine.incidents.values();
        all.any(|one| one.plan.as_ref().is_some_and(|plan| engine.awaits(now, one, plan).is_some()))
    };
    assert!(is_held(7_199_500));
    assert!(!is_held(30_000), "that silence was over long before");
}
