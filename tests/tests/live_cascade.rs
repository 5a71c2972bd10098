//! Roots before their clients, and connections that outlive their backend. Needs root.
//!
//! mostly waits

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use healer_tests::{
    home::{Agent, Home, count, is, signal_to, until},
    idle::free_port,
    network::{Net, SERVERS},
    supervised::{Supervised, name},
};
use rustix::process::Signal;
use serde_json::Value;

/// A uses B, B uses C.
struct Chain {
    links: [Supervised; 3],
    ports: [u16; 3],
}

impl Chain {
    fn start(home: &Home, names: &[String; 3], ports: [u16; 3], zombie: bool) -> Self {
        let script = home.path().join("link.py");
        fs::write(&script, include_str!("../src/victims/link.py")).unwrap();
        let link = |at: usize| {
            let mut argv = vec!["python3".to_owned(), script.display().to_string()];
            argv.extend((zombie && at == 1).then(|| "--zombie".to_owned()));
            argv.extend(ports[at..].iter().take(2).map(u16::to_string));
            Supervised::start(home, &names[at], &argv)
        };
        // Whom a zombie once found gone it never forgets: nobody may be asked before he listens.
        let last = link(2);
        until_well(ports[2]);
        let middle = link(1);
        Self { links: [link(0), middle, last], ports }
    }

    fn of(&self, home: &Home, at: usize) -> Vec<Value> {
        home.of(&self.links[at].workload())
    }
}

/// C comes back late, well after the others have had their grace; who fails its probe is restarted.
fn policies(chains: &[([String; 3], [u16; 3])]) -> String {
    let mut text = String::new();
    for (names, ports) in chains {
        for (at, name) in names.iter().enumerate() {
            let probe = format!(
                "{{http: {{port: {}}}, period: 1s, timeout: 900ms, failures: 3, startGrace: 6s}}",
                ports[at]
            );
            let (expect, when) = match at {
                2 => ("{running: true}".to_owned(), "{class: down}"),
                _ => (format!("{{probe: {probe}}}"), "{class: probe_failed}"),
            };
            let first =
                if at == 2 { "{do: run_hook, command: [/bin/sleep, \"14\"], timeout: 30s}, " } else { "" };
            text.push_str(&format!(
                "---
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {{name: {name}}}
spec:
  mode: enforce
  match: {{supervise: {name}}}
  expect: {expect}
  rules:
    - {{name: heal, when: [{when}], escalate: [{first}{{do: restart}}, {{do: notify}}]}}
  verify: {{within: 20s, stableFor: 2s}}
"
            ));
        }
    }
    text
}

#[test]
fn the_root_is_healed_first_and_then_only_who_did_not_recover() {
    let chains = [0, 1].map(|_| ([0, 1, 2].map(|_| name()), [0, 1, 2].map(|_| free_port())));
    let home = Home::new(&policies(&chains));
    let mut agent = home.agent();
    let [sound, zombie] = [0, 1].map(|at| Chain::start(&home, &chains[at].0, chains[at].1, at == 1));
    // At once: nobody has read yet who uses whom.
    for chain in [&sound, &zombie] {
        until_well(chain.ports[0]);
    }
    for chain in [&sound, &zombie] {
        signal_to(chain.links[2].child(), Signal::KILL);
    }
    for at in [0, 1] {
        for chain in [&sound, &zombie] {
            let workload = chain.links[at].workload();
            let held = agent.record(&workload, "gate", "not its own fault");
            let reason = held["reason"].as_str().unwrap_or_default();
            // Whom it uses itself may be known a moment before whom that one uses, and that it refuses before it is said
            // to be down: then it goes by its address.
            let below = chain.links.iter().zip(chain.ports).skip(at + 1);
            let is_named = |(link, port): (&Supervised, u16)| {
                reason.contains(&link.workload())
                    || reason.contains(&format!("127.0.0.1:{port}, which refuses"))
            };
            assert!(below.into_iter().any(is_named), "{reason}");
        }
    }
    for chain in [&sound, &zombie] {
        agent.record(&chain.links[2].workload(), "closed", "\"outcome\":\"healed\"");
    }
    for at in [0, 1] {
        agent.record(&sound.links[at].workload(), "closed", "\"outcome\":\"recovered_alone\"");
    }
    agent.record(&zombie.links[1].workload(), "closed", "\"outcome\":\"healed\"");
    agent.record(&zombie.links[0].workload(), "closed", "\"outcome\":\"recovered_alone\"");
    let acts =
        |chain: &Chain| [0, 1, 2].map(|at| count(&chain.of(&home, at), "intent", "\"action\":\"restart\""));
    assert_eq!(acts(&sound), [0, 0, 1], "only C was touched:\n{}", agent.log());
    assert_eq!(acts(&zombie), [0, 1, 1], "B stayed broken:\n{}", agent.log());
    agent.signal(Signal::TERM);
}

/// What it uses by a socket of no port is seen in no connection.
#[test]
fn what_a_policy_says_that_it_needs_is_healed_first() {
    let [db, web, twin] = [0, 1, 2].map(|_| name());
    let [of_web, of_twin] = [0, 1].map(|_| free_port());
    let policy = |name: &str, expect: &str, when: &str, first: &str| {
        format!(
            "---
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {{name: {name}}}
spec:
  mode: enforce
  match: {{supervise: {name}}}
  expect: {{{expect}}}
  rules:
    - {{name: heal, when: [{{class: {when}}}], escalate: [{first}{{do: restart}}, {{do: notify}}]}}
  verify: {{within: 30s, stableFor: 2s}}
"
        )
    };
    let probe = |port| {
        format!("probe: {{http: {{port: {port}}}, period: 1s, timeout: 900ms, failures: 3, startGrace: 5s}}")
    };
    let needs = format!("{}, dependsOn: [{{service: {db}}}]", probe(of_web));
    let late = "{do: run_hook, command: [/bin/sleep, \"25\"], timeout: 60s}, ";
    let home = Home::new(
        &[
            policy(&db, "running: true", "down", late),
            policy(&web, &needs, "probe_failed", ""),
            policy(&twin, &probe(of_twin), "probe_failed", ""),
        ]
        .concat(),
    );
    let mut agent = home.agent();
    let script = home.path().join("local.py");
    fs::write(&script, include_str!("../src/victims/local.py")).unwrap();
    let socket = home.path().join("db.socket").display().to_string();
    let start = |name: &str, args: &[&str]| {
        let argv: Vec<String> = ["python3", &script.display().to_string()].map(str::to_owned).into();
        let args = args.iter().map(|word| (*word).to_owned());
        Supervised::start(&home, name, &argv.into_iter().chain(args).collect::<Vec<_>>())
    };
    let server = start(&db, &[&socket]);
    let clients = [(&web, of_web), (&twin, of_twin)].map(|(name, port)| {
        let client = start(name, &[&socket, &port.to_string()]);
        until_well(port);
        client
    });
    let [from, to] = [&web, &db].map(|name| format!("supervise/{name}"));
    agent.wait("the declared edge", |agent| {
        let asked = agent.home().healer(&["dependencies"]);
        let shown = String::from_utf8_lossy(&asked.stdout).into_owned();
        let is_it = |line: &str| line.starts_with(&from) && line.contains("declared") && line.contains(&to);
        shown.lines().any(is_it).then_some(())
    });
    signal_to(server.child(), Signal::KILL);
    let held = agent.record(&clients[0].workload(), "gate", "not its own fault");
    assert!(held["reason"].to_string().contains(&server.workload()), "{held}");
    // Of whom nothing is said it is not known.
    agent.record(&clients[1].workload(), "intent", "restart");
    agent.record(&clients[0].workload(), "closed", "\"outcome\":\"recovered_alone\"");
    let acts = |one: &Supervised| count(&home.of(&one.workload()), "intent", "\"action\":\"restart\"");
    assert_eq!((acts(&server), acts(&clients[0])), (1, 0), "only the root was touched");
    agent.signal(Signal::TERM);
}

#[test]
fn connections_that_outlive_their_backend_are_reset_and_idle_ones_are_not() {
    const SERVICE: u8 = 9;
    let mut net = Net::new("pool", false);
    net.serve("", &SERVERS);
    let there =
        |host: u8| format!("-d {} -p tcp -j DNAT --to-destination {}", net.address(SERVICE), net.peer(host));
    let (old, new) = (there(4), there(3));
    let drop = format!("iptables -w -A INPUT -d {} -j DROP", net.address(4));
    net.on_client(&format!("iptables -w -t nat -A OUTPUT {old}"));
    let home = Home::new(&format!(
        "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {{name: pool}}
spec:
  mode: enforce
  match: {{cgroup: \"**/{}-client*\"}}
  rules:
    - name: reset
      when: [{{class: dependency_failure, kind: stale}}]
      escalate: [{{do: reset_connections}}, {{do: notify}}]
  verify: {{within: 30s, stableFor: 2s}}
",
        net.name()
    ));
    let mut agent = home.agent();
    let pool = net.client("--keep --timeout 300", &[2, SERVICE]);
    let idle = net.client("--idle --timeout 300", &[2, SERVICE]);
    thread::sleep(Duration::from_secs(2));
    // The service has another backend; the old one is gone without a word.
    net.on_client(&format!("iptables -w -t nat -R OUTPUT 1 {new}"));
    net.on_server(&drop);
    let closed = record_of(&mut agent, &pool, "closed", "\"outcome\":\"healed\"");
    let all = home.audit();
    let results: Vec<_> = all.iter().filter(|one| is(one, "result", "1 dead connections")).collect();
    assert_eq!(results.len(), 1, "{closed}: {results:?}");
    assert!(!all.iter().any(|one| is(one, "intent", &idle)), "nobody waits on them");
    agent.signal(Signal::TERM);
}

/// Waits until it answers with 200: with all that it uses.
fn until_well(port: u16) {
    let address = format!("127.0.0.1:{port}");
    until(&format!("{address} to answer 200"), || {
        let mut stream = TcpStream::connect(&address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains(" 200 ").then_some(())
    });
}

fn record_of(agent: &mut Agent<'_>, cgroup: &str, record: &str, part: &str) -> Value {
    agent.wait(&format!("{record} of {cgroup}"), |agent| {
        let mut all = agent.home().audit().into_iter();
        all.find(|found| is(found, record, part) && found.to_string().contains(cgroup))
    })
}
