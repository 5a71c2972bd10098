//! What healer says of networks that fail, and of those that only look like it. Each scenario has two namespaces of its
//! own; many run at once under one agent.
//!
//! mostly waits

use std::{fs, net::TcpStream, path::Path, thread, time::Duration};

use healer_tests::{
    home::{Agent, Home, is},
    network::{Net, PORT, SERVERS, run},
    scenarios::{ROWS, Row, Scenario},
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
/// Namespaces in which somebody connects are looked at a second later.
const LOOKED_AT: Duration = Duration::from_secs(3);

/// Rows that run at once: the machine may be small.
const AT_ONCE: usize = 3;

#[test]
fn every_row_of_the_table_is_found_and_its_neighbours_are_not() {
    let home = Home::new(POLICY);
    let mut agent = home.agent();
    let mut healthy = Net::new("healthy", false);
    healthy.serve("", &SERVERS);
    let undisturbed = healthy.client("--keep", &SERVERS);
    for rows in chosen().chunks(AT_ONCE) {
        let all: Vec<Scenario> =
            rows.iter().flat_map(|row| [false, true].map(|is_v6| Scenario::begin(row, is_v6))).collect();
        all.iter().for_each(|one| is_well_first(&mut agent, one));
        thread::sleep(LOOKED_AT);
        all.iter().for_each(|one| (one.row.breaks)(one));
        all.iter().for_each(|one| find(&mut agent, one));
        // Whoever is slow to be blamed wrongly has the time for it.
        thread::sleep(Duration::from_secs(2));
        all.iter().for_each(|one| judge(&home, one));
        shows_the_map(&mut agent, &all);
    }
    assert_eq!(of(&home, &undisturbed), [] as [Value; 0]);
    agent.signal(Signal::TERM);
}

/// Those that HEALER_ROWS names, or all.
fn chosen() -> Vec<&'static Row> {
    let named = std::env::var("HEALER_ROWS").unwrap_or_default();
    let is_wanted = |row: &&Row| named.is_empty() || named.split(',').any(|name| name == row.name);
    ROWS.iter().filter(is_wanted).collect()
}

/// Its peers answer, and who they are is known: nothing else could fail.
fn is_well_first(agent: &mut Agent<'_>, one: &Scenario) {
    let server = format!("{}-server", one.net.name());
    agent.wait(&format!("the edges of {}", one.net.name()), |agent| {
        let edges = edges(agent);
        let is_known = |host: &u8| {
            let is_it = |edge: &&Value| {
                edge["workload"].to_string().contains(&one.patient)
                    && edge["peer"] == one.net.peer(*host).as_str()
            };
            edges
                .iter()
                .find(is_it)
                .is_some_and(|edge| edge["state"] == "ok" && edge["server"].to_string().contains(&server))
        };
        let all = one.row.patient.iter().all(is_known);
        // Asking costs a process.
        thread::sleep(Duration::from_millis(if all { 0 } else { 250 }));
        all.then_some(())
    });
}

/// The command line and HTTP tell the same edges. A connection that gets no answer is counted when it is over.
fn shows_the_map(agent: &mut Agent<'_>, all: &[Scenario]) {
    for one in all {
        // The map is one of connections.
        let Some(host) = one.row.blamed.filter(|_| one.row.port == PORT) else { continue };
        let name = one.net.name();
        let edge = |agent: &Agent<'_>, host: u8| {
            let is_it = |edge: &Value| {
                edge["workload"].to_string().contains(&one.patient)
                    && edge["peer"] == one.net.peer(host).as_str()
            };
            edges(agent).into_iter().find(is_it)
        };
        // To one that is frozen, connections are made all the same; without a route they make no edge, and the sensor of
        // failed calls may have been given up.
        if !(one.row.kind == "frozen" || one.row.cause == "route") {
            agent.wait(&format!("a failing edge of {name}"), |agent| {
                edge(agent, host).filter(|edge| edge["state"] == "failing")
            });
        }
        let state = |host: u8| edge(agent, host).map(|edge| edge["state"].clone());
        assert_eq!(state(2), Some("ok".into()), "{name}");
        let server = edge(agent, host).map(|edge| edge["server"].to_string()).unwrap_or_default();
        assert!(server.contains(&format!("{name}-server")), "{name}: {server}");
    }
    let dot = agent.home().healer(&["dependencies", "--dot"]);
    assert!(dot.stdout.starts_with(b"digraph dependencies {"));
    let served = agent.get("/api/v1/dependencies");
    assert!(served.contains(&all[0].patient), "{}", served.len());
}

fn edges(agent: &Agent<'_>) -> Vec<Value> {
    let asked = agent.home().healer(&["dependencies", "--json"]);
    let answer: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    answer["dependencies"].as_array().expect("a list").clone()
}

/// Diagnoses about the client in this cgroup.
fn of(home: &Home, cgroup: &str) -> Vec<Value> {
    let is_of =
        |record: &Value| is(record, "diagnosis", cgroup) && record["target"].to_string().contains(cgroup);
    home.audit().into_iter().filter(is_of).collect()
}

fn find(agent: &mut Agent<'_>, one: &Scenario) {
    let what = format!("{} of {}", one.row.class, one.net.name());
    agent.wait(&what, |agent| {
        of(agent.home(), &one.patient).into_iter().find(|found| found["class"] == one.row.class)
    });
}

fn judge(home: &Home, one: &Scenario) {
    let (row, name) = (one.row, one.net.name());
    let mut found = of(home, &one.patient);
    // As long as only one of its peers is known to fail, it is told with this doubt.
    let doubts = |record: &Value| {
        record["certainty"] == "suspected"
            && record["sentence"].to_string().contains("the client may be cut off")
    };
    found.retain(|record| row.class != "network_isolation" || !doubts(record));
    let said: Vec<&Value> = found.iter().map(|record| &record["sentence"]).collect();
    for record in &found {
        assert_eq!(record["class"], row.class, "{name}: {said:?}");
        let kind = record["detail"]["kind"].as_str().unwrap_or_default();
        assert_eq!(row.kind, kind, "{name}: {said:?}");
        let proof = &record["detail"]["proof"];
        assert_eq!(proof["cause"], row.cause, "{name}: {proof}: {said:?}");
        if let Some(host) = row.blamed {
            let peer = one.net.peer(host).replace(&format!(":{PORT}"), &format!(":{}", row.port));
            assert_eq!(proof["peer"], peer.as_str(), "{name}: {said:?}");
        }
        let comm = &record["target"]["comm"];
        assert_eq!(comm, "python3", "{name}: {said:?}");
    }
    if let Some(twin) = &one.twin {
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
    // `::1` first, where nobody listens.
    let local = format!("::1,{PORT}+{},{PORT}", slow.address(2));
    clients.push(slow.client_beside_servers("--keep", &local));
    // Names are told late, and told.
    let mut names = Net::new("names", false);
    names.serve("--names --delay 1.4", &SERVERS);
    clients.push(names.client(&format!("--keep --names {}", names.address(2)), &SERVERS));
    let mut odd = Net::new("odd", true);
    odd.serve("", &SERVERS);
    // A stream whose tails are probed for, by IPv6.
    clients.push(odd.client("--keep --bytes 400000", &SERVERS[..2]));
    let scanned: Vec<String> = (1..400).map(|port| format!("{},{port}", odd.address(2))).collect();
    clients.push(odd.client_of("--every 1000", &scanned.join(" ")));
    let fallback = format!("fd78::1,{0}+{1},{0}", PORT, odd.address(2));
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
