//! What healer says of networks that fail, and of those that only look like it. Each scenario has two namespaces of its
//! own; all run at once under one agent.

use std::{fs, net::TcpStream, path::Path, thread, time::Duration};

use healer_tests::{
    home::{Agent, Home, is},
    network::{Net, SERVERS, run},
    work::{Server, WorkWatch},
};
use healer_userspace::engine::class::{Certainty, Class};
use rustix::process::Signal;
use serde_json::Value;

/// Nothing is done about it; all is told.
const POLICY: &str = "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: network}
spec:
  mode: shadow
  rules:
    - name: tell
      when: [{class: network_isolation}, {class: dependency_failure}, {class: degraded_path}]
      escalate: [{do: notify}]
";
/// Clients must have been well before something breaks.
const WELL_FIRST: Duration = Duration::from_secs(2);

struct Scenario {
    net: Net,
    /// The client that must suffer, and the one beside it that must not.
    patient: String,
    twin: Option<String>,
    class: &'static str,
    kinds: &'static [&'static str],
    /// The host that must be blamed.
    blamed: Option<u8>,
}

struct Row {
    name: &'static str,
    class: &'static str,
    kinds: &'static [&'static str],
    blamed: Option<u8>,
    breaks: fn(&mut Net, u32),
}

/// The third server is a process of its own.
const ROWS: &[Row] = &[
    Row {
        name: "localdrop",
        class: "network_isolation",
        kinds: &["netns"],
        blamed: None,
        breaks: |net, _| {
            let iptables = net.iptables();
            net.on_client(&format!("{iptables} -A OUTPUT -o c0 -j DROP"));
            net.on_client(&format!("{iptables} -A INPUT -i c0 -j DROP"));
        },
    },
    Row {
        name: "farside",
        class: "network_isolation",
        kinds: &["netns"],
        blamed: None,
        breaks: |net, _| net.on_server(&format!("{} -A INPUT -i s0 -j DROP", net.iptables())),
    },
    Row {
        name: "blackhole",
        class: "dependency_failure",
        kinds: &["no_answer"],
        blamed: Some(4),
        breaks: |net, _| net.on_server(&format!("{} -A INPUT -d {} -j DROP", net.iptables(), net.address(4))),
    },
    Row {
        name: "reset",
        class: "dependency_failure",
        kinds: &["refuses"],
        blamed: Some(4),
        breaks: |net, _| {
            let (iptables, address) = (net.iptables(), net.address(4));
            net.on_server(&format!(
                "{iptables} -A INPUT -p tcp -d {address} -j REJECT --reject-with tcp-reset"
            ));
        },
    },
    Row {
        name: "killed",
        class: "dependency_failure",
        kinds: &["refuses"],
        blamed: Some(4),
        breaks: |_, server| run(&format!("kill -KILL {server}")),
    },
    Row {
        name: "icmp",
        class: "dependency_failure",
        kinds: &["unreachable"],
        blamed: Some(4),
        breaks: |net, _| {
            let what = if net.is_v6() { "icmp6-addr-unreachable" } else { "icmp-host-unreachable" };
            let (iptables, address) = (net.iptables(), net.address(4));
            net.on_server(&format!("{iptables} -A INPUT -d {address} -j REJECT --reject-with {what}"));
        },
    },
    Row {
        name: "link",
        class: "network_isolation",
        kinds: &["netns"],
        blamed: None,
        breaks: |net, _| net.on_client("ip link set c0 down"),
    },
    Row {
        name: "cable",
        class: "network_isolation",
        kinds: &["netns"],
        blamed: None,
        breaks: |net, _| net.on_server("ip link set s0 down"),
    },
];

#[test]
fn every_row_of_the_table_is_found_and_its_neighbours_are_not() {
    let home = Home::new(POLICY);
    let mut agent = home.agent();
    let mut scenarios = Vec::new();
    for row in ROWS {
        for is_v6 in [false, true] {
            scenarios.push(begin(row, is_v6));
        }
    }
    let mut healthy = Net::new("healthy", false);
    healthy.serve("", &SERVERS);
    let undisturbed = healthy.client("--keep", &SERVERS);
    thread::sleep(WELL_FIRST);
    for (scenario, server) in &mut scenarios {
        let row = ROWS.iter().find(|row| scenario.net.name().contains(row.name)).expect("it is of the table");
        (row.breaks)(&mut scenario.net, *server);
    }
    for (scenario, _) in &scenarios {
        find(&mut agent, scenario);
    }
    // Whoever is slow to be blamed wrongly has the time for it.
    thread::sleep(Duration::from_secs(2));
    for (scenario, _) in &scenarios {
        judge(&home, scenario);
    }
    assert_eq!(of(&home, &undisturbed), [] as [Value; 0]);
    shows_the_map(&agent, &scenarios);
    agent.signal(Signal::TERM);
}

/// The command line and HTTP tell the same edges.
fn shows_the_map(agent: &Agent<'_>, scenarios: &[(Scenario, u32)]) {
    let asked = agent.home().healer(&["dependencies", "--json"]);
    let answer: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let edges = answer["dependencies"].as_array().expect("a list");
    for (scenario, _) in scenarios {
        let Some(host) = scenario.blamed else { continue };
        let state = |host: u8| {
            let is_it = |edge: &&Value| {
                edge["workload"].to_string().contains(&scenario.patient)
                    && edge["peer"] == scenario.net.peer(host).as_str()
            };
            edges.iter().find(is_it).map(|edge| edge["state"].as_str().unwrap_or_default())
        };
        assert_eq!(state(host), Some("failing"), "{}", scenario.net.name());
        assert_eq!(state(2), Some("ok"), "{}", scenario.net.name());
    }
    let dot = agent.home().healer(&["dependencies", "--dot"]);
    assert!(dot.stdout.starts_with(b"digraph dependencies {"));
    let served = agent.get("/api/v1/dependencies");
    assert!(served.contains(&scenarios[0].0.patient), "{}", served.len());
}

fn begin(row: &'static Row, is_v6: bool) -> (Scenario, u32) {
    let mut net = Net::new(row.name, is_v6);
    net.serve("", &SERVERS[..2]);
    let server = net.serve("", &SERVERS[2..]);
    let patient = net.client("--keep", &SERVERS);
    let twin = row.blamed.is_some().then(|| net.client("--keep", &SERVERS[..2]));
    (Scenario { net, patient, twin, class: row.class, kinds: row.kinds, blamed: row.blamed }, server)
}

/// Diagnoses about the client in this cgroup.
fn of(home: &Home, cgroup: &str) -> Vec<Value> {
    let is_of = |record: &Value| is(record, "diagnosis", cgroup);
    home.audit().into_iter().filter(is_of).collect()
}

fn find(agent: &mut Agent<'_>, scenario: &Scenario) {
    let what = format!("{} of {}", scenario.class, scenario.net.name());
    agent.wait(&what, |agent| {
        of(agent.home(), &scenario.patient).into_iter().find(|found| found["class"] == scenario.class)
    });
}

fn judge(home: &Home, scenario: &Scenario) {
    let name = scenario.net.name();
    let found = of(home, &scenario.patient);
    let said: Vec<&Value> = found.iter().map(|record| &record["sentence"]).collect();
    for record in &found {
        assert_eq!(record["class"], scenario.class, "{name}: {said:?}");
        let kind = record["detail"]["kind"].as_str().unwrap_or_default();
        assert!(scenario.kinds.contains(&kind), "{name}: {kind}: {said:?}");
        if let Some(host) = scenario.blamed {
            let peer = scenario.net.peer(host);
            assert_eq!(record["detail"]["proof"]["peer"], peer.as_str(), "{name}: {said:?}");
        }
        let comm = &record["target"]["comm"];
        assert_eq!(comm, "python3", "{name}: {said:?}");
    }
    if let Some(twin) = &scenario.twin {
        assert_eq!(of(home, twin), [] as [Value; 0], "{name}: the twin is well");
    }
}

/// Nobody may be called dead or cut off for any of it.
#[test]
fn what_only_looks_like_a_failure_is_none() {
    const LASTS: Duration = Duration::from_secs(20);
    let home = Home::new(POLICY);
    let mut agent = home.agent();
    let mut nets = Vec::new();
    let mut clients = Vec::new();
    for (percent, probability) in [(5, "0.05"), (20, "0.2"), (50, "0.5")] {
        let mut net = Net::new(&format!("loss{percent}"), false);
        net.serve("", &SERVERS);
        clients.push(net.client("--keep", &SERVERS));
        net.on_server(&format!(
            "iptables -w -A INPUT -i s0 -m statistic --mode random --probability {probability} -j DROP"
        ));
        nets.push(net);
    }
    let mut slow = Net::new("slow", false);
    slow.serve("--delay 4", &[2]);
    slow.serve("--delay 60", &[3]);
    let restarted = slow.serve("", &[4]);
    // A long poll, a slow backend, and connections that nobody uses.
    clients.push(slow.client("--keep --timeout 100", &SERVERS[..2]));
    clients.push(slow.client("--idle --every 100", &SERVERS));
    // Not patient enough for any answer.
    clients.push(slow.client("--timeout 0.3", &SERVERS[..2]));
    let rolling = slow.client("--keep", &SERVERS[2..]);
    clients.push(rolling);
    let mut odd = Net::new("odd", true);
    odd.serve("", &SERVERS);
    let scanned: Vec<String> = (1..400).map(|port| format!("{},{port}", odd.address(2))).collect();
    clients.push(odd.client_of("--every 1000", &scanned.join(" ")));
    let fallback = format!("fd78::1,{0}+{1},{0}", healer_tests::network::PORT, odd.address(2));
    odd.on_client("ip route add unreachable fd78::/64");
    clients.push(odd.client_of("", &fallback));
    thread::sleep(Duration::from_secs(3));
    // It says goodbye, and its successor is there within a second.
    run(&format!("kill -TERM {restarted}"));
    thread::sleep(Duration::from_millis(300));
    slow.serve("", &[4]);
    thread::sleep(LASTS);
    for client in &clients {
        let found = of(&home, client);
        let is_wrong = |record: &&Value| record["class"] != "degraded_path";
        let wrong: Vec<_> = found.iter().filter(is_wrong).map(|record| &record["sentence"]).collect();
        assert!(wrong.is_empty(), "{client}: {wrong:?}");
    }
    agent.wait("it still lives", |_| Some(()));
    drop(nets);
}

#[test]
fn a_full_queue_is_the_servers_own_problem() {
    let full = Server::start("full");
    let healthy = Server::start("healthy");
    let mut watch = WorkWatch::default();
    watch.track("full", full.pid());
    watch.track("healthy", healthy.pid());
    watch.look_for(1);
    let _waiting = [full.connect(), full.connect()];
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], full.port));
    TcpStream::connect_timeout(&address, Duration::from_millis(300)).expect_err("its queue is full");
    let _served = [healthy.answered(), healthy.answered()];
    watch.look_for(6);
    if let Ok(dir) = std::env::var("HEALER_RECORD_TRACES") {
        for (name, pid) in [("never_accepts", full.pid()), ("accepts", healthy.pid())] {
            let path = Path::new(&dir).join(format!("{name}.jsonl"));
            fs::write(path, watch.trace(pid)).expect("the directory for traces can be written");
        }
    }
    let said = watch.said(full.pid(), Class::ListenOverflow).expect("its queue is full");
    assert_eq!(said.certainty, Certainty::Proved);
    assert!(said.sentence.contains(&format!("port {}", full.port)), "{}", said.sentence);
    assert_eq!(watch.said(healthy.pid(), Class::ListenOverflow), None);
}
