//! Needs root: what every rung tells of connections and listeners, and what it lacks. Loopback only.
//!
//! guest: a_refusal_is_told_by_every_program a_listener_that_comes_and_goes_is_told_on_every_rung
//! guest: a_request_without_an_answer_is_told_on_every_rung_and_so_is_giving_up
//! guest: data_without_an_answer_is_told_on_every_rung_and_healthy_talk_is_not
//! old guest: a_refusal_is_told_by_every_program a_listener_that_comes_and_goes_is_told_on_every_rung
//! old guest: a_request_without_an_answer_is_told_on_every_rung_and_so_is_giving_up
//! old guest: data_without_an_answer_is_told_on_every_rung_and_healthy_talk_is_not

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use healer_common::event::{Event, socket_state::SocketState, tcp_retransmit::TcpRetransmit};
use healer_tests::{
    binary::healer,
    eye::Eye,
    ladder::eye_on,
    scratch::Scratch,
    silent::{connection, deafen, listener},
    victim::{Victim, built},
};
use healer_userspace::{clock, sense::Level};

const TICK_NS: u64 = 10_000_000;
/// Longer than the kernel waits before it asks for a connection again.
const PATIENT: Duration = Duration::from_millis(2500);
/// The table of sockets is looked at every second, on slow machines every four.
const MORE_PATIENT: Duration = Duration::from_secs(9);
const BY_PROGRAMS: [Level; 3] = [Level::TpBtf, Level::RawTp, Level::Tracepoint];

fn as_state(event: &Event) -> Option<&SocketState> {
    if let Event::SocketState(state) = event { Some(state) } else { None }
}

fn as_resent(event: &Event, port: u16) -> Option<&TcpRetransmit> {
    if let Event::TcpRetransmit(sent) = event
        && sent.remote_port == u32::from(port)
    {
        return Some(sent);
    }
    None
}

fn own_namespace() -> u32 {
    u32::try_from(fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap()
}

/// Owner and namespace, which every rung finds in its way.
fn is_ours(owner: u32, start: u64, netns: u32, level: Level) {
    assert_eq!((owner, netns), (std::process::id(), own_namespace()), "{level:?}");
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    assert_eq!(start / TICK_NS, ticks, "{level:?}");
}

#[test]
fn a_refusal_is_told_by_every_program() {
    for level in BY_PROGRAMS {
        let mut eye = eye_on(level);
        let (listener, port) = listener();
        drop(listener);
        TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        let failed = eye.wait_for(&format!("a refusal by {level:?}"), |_, event| {
            as_state(event).filter(|state| state.remote_port == u32::from(port)).copied()
        });
        assert_eq!((failed.old_state, failed.new_state), (SocketState::SYN_SENT, SocketState::CLOSE));
        assert_eq!((failed.error, failed.streak), (libc::ECONNREFUSED, 1), "{level:?}");
        assert!(0 < failed.age_ns && failed.age_ns < 5_000_000_000, "{level:?}: {}", failed.age_ns);
        is_ours(failed.owner_tgid, failed.owner_start_boot_ns, failed.netns, level);
    }
}

#[test]
fn a_listener_that_comes_and_goes_is_told_on_every_rung() {
    for level in Level::ALL {
        let mut eye = eye_on(level);
        let (listener, port) = listener();
        let on = eye.wait_for(&format!("a listener by {level:?}"), |_, event| {
            let is_it = |state: &&SocketState| {
                state.local_port == u32::from(port) && state.new_state == SocketState::LISTEN
            };
            as_state(event).filter(is_it).copied()
        });
        is_ours(on.owner_tgid, on.owner_start_boot_ns, on.netns, level);
        drop(listener);
        // By now it has no port any more.
        eye.wait_for(&format!("the end of a listener by {level:?}"), |_, event| {
            as_state(event)
                .filter(|state| (state.cookie, state.new_state) == (on.cookie, SocketState::CLOSE))
                .copied()
        });
    }
}

#[test]
fn a_request_without_an_answer_is_told_on_every_rung_and_so_is_giving_up() {
    let waits = |level: Level| {
        let mut eye = eye_on(level);
        let (listener, port) = listener();
        deafen(&listener);
        let patience = if level == Level::User { MORE_PATIENT } else { PATIENT };
        let client = thread::spawn(move || {
            TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), patience).unwrap_err();
        });
        let sent = eye.wait_for(&format!("a request sent again by {level:?}"), |_, event| {
            as_resent(event, port).copied()
        });
        assert_eq!(sent.state, SocketState::SYN_SENT);
        // How often the kernel has asked before the table is looked at depends on the machine.
        assert!(level == Level::User || sent.retransmits <= 1, "{level:?}: {}", sent.retransmits);
        is_ours(sent.owner_tgid, sent.owner_start_boot_ns, sent.netns, level);
        client.join().unwrap();
        if level == Level::User {
            return;
        }
        let closed = eye.wait_for(&format!("giving up by {level:?}"), |_, event| {
            as_state(event).filter(|state| state.remote_port == u32::from(port)).copied()
        });
        assert_eq!((closed.error, closed.cookie), (0, sent.cookie), "{level:?}");
        assert!(2_000_000_000 < closed.age_ns, "{level:?}: {}", closed.age_ns);
    };
    thread::scope(|scope| {
        for level in Level::ALL {
            scope.spawn(move || waits(level));
        }
    });
}

/// So many connections to this port are counted.
fn made(eye: &mut Eye, port: u16, count: u32, level: Level) {
    until(&format!("{count} connections by {level:?}"), || {
        eye.look();
        let found = eye.sense.peers().into_iter().find(|(key, _)| key.port == u32::from(port));
        found.filter(|(key, counters)| (key.netns, counters.ok) == (own_namespace(), count))
    });
}

#[test]
fn data_without_an_answer_is_told_on_every_rung_and_healthy_talk_is_not() {
    let waits = |level: Level| {
        let mut eye = eye_on(level);
        let (listener, port) = listener();
        let (mut healthy, mut answers) = connection(&listener);
        let (mut client, server) = connection(&listener);
        made(&mut eye, port, 2, level);
        deafen(&server);
        client.write_all(b"anybody there?").unwrap();
        let sent = eye.wait_for(&format!("two time-outs in a row by {level:?}"), |_, event| {
            as_resent(event, port).filter(|sent| 2 <= sent.retransmits).copied()
        });
        assert_eq!(sent.state, SocketState::ESTABLISHED, "{level:?}");
        is_ours(sent.owner_tgid, sent.owner_start_boot_ns, sent.netns, level);
        for _ in 0..20 {
            healthy.write_all(b"hello").unwrap();
            std::io::copy(&mut std::io::Read::take(&mut answers, 5), &mut std::io::sink()).unwrap();
        }
        eye.pause(Duration::from_millis(300));
        let all = eye.seen.iter().filter_map(|(_, event)| as_resent(event, port));
        let ports: Vec<u32> = all.map(|sent| sent.local_port).collect();
        let own = client.local_addr().unwrap().port();
        assert!(ports.iter().all(|local| *local == u32::from(own)), "{level:?}: {ports:?}");
    };
    thread::scope(|scope| {
        for level in Level::ALL {
            scope.spawn(move || waits(level));
        }
    });
}

/// An agent on one rung, with the default policy.
struct Agent {
    child: Child,
    state: Scratch,
    level: Level,
}

impl Agent {
    fn start(level: Level) -> Self {
        let state = Scratch::new();
        let config = state.path().join("agent.yaml");
        // Four agents at once, and perhaps unoptimised ones: none is to give up what this is about.
        let text = "apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\noverhead: {cpuPercent: 50}\n";
        fs::write(&config, text).unwrap();
        let mut command = Command::new(healer());
        command.arg("--state-dir").arg(state.path()).args(["run", "--listen", "127.0.0.1:0", "--config"]);
        command.arg(config);
        command.env("HEALER_SENSE_RUNG", level.name());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), state, level }
    }

    fn ask(&self, what: &str) -> Option<serde_json::Value> {
        let mut command = Command::new(healer());
        let output =
            command.arg("--state-dir").arg(self.state.path()).args([what, "--json"]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Class and certainty of what it says about this port.
    fn found(&self, port: u16) -> Vec<(String, String)> {
        let answer = self.ask("incidents").unwrap_or_default();
        let all = answer["incidents"].as_array().cloned().unwrap_or_default();
        let of_port = all.iter().filter(|one| one.to_string().contains(&format!("127.0.0.1:{port}")));
        let word = |one: &serde_json::Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
        of_port.map(|one| (word(one, "class"), word(one, "certainty"))).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn until<T>(what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::boot() + Duration::from_secs(90);
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(clock::boot() < deadline, "{what}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Answers one byte to whoever comes.
fn serve(listener: &std::net::TcpListener) {
    while let Ok((mut client, _)) = listener.accept() {
        client.write_all(b"y").ok();
    }
}

#[test]
fn a_server_that_falls_silent_is_the_same_class_on_every_rung_and_its_neighbour_is_none() {
    let dir = Scratch::new();
    let asks = built(&dir, "asks");
    let agents = Level::ALL.map(Agent::start);
    for agent in &agents {
        let answer = until("the agent is up", || agent.ask("sensors"));
        let sensors = answer["sensors"].as_array().unwrap();
        let of_sockets = |sensor: &&serde_json::Value| {
            ["socket_state", "tcp_retransmit"].contains(&sensor["name"].as_str().unwrap_or_default())
        };
        let via = if agent.level == Level::User { "sock_diag" } else { agent.level.name() };
        let vias: Vec<_> = sensors.iter().filter(of_sockets).map(|sensor| sensor["via"].clone()).collect();
        assert_eq!(vias, [via, via]);
    }
    let servers = [listener(), listener()];
    let (silent, well) = (servers[0].1, servers[1].1);
    for (listener, _) in &servers {
        let listener = listener.try_clone().unwrap();
        thread::spawn(move || serve(&listener));
    }
    let _clients = [silent, well].map(|port| Victim::start(&asks, &[&port.to_string()]));
    thread::sleep(Duration::from_secs(2));
    deafen(&servers[0].0);
    for agent in &agents {
        // The table of sockets lacks the connections between two looks, and their answers.
        let is_sampled = agent.level == Level::User;
        let certainty = if is_sampled { "suspected" } else { "probable" };
        let wanted = ("dependency_failure".to_owned(), certainty.to_owned());
        let mut last = Vec::new();
        until(&format!("the same by {:?}", agent.level), || {
            last = agent.found(silent);
            last.contains(&wanted).then_some(())
        });
        // It may have been suspected of it before.
        let is_of_it = |(class, _): &(String, String)| *class == wanted.0;
        assert!(last.iter().all(is_of_it), "{:?} {last:?}", agent.level);
        assert!(!is_sampled || last == [wanted], "{:?} {last:?}", agent.level);
        assert_eq!(agent.found(well), [], "{:?}", agent.level);
    }
}
