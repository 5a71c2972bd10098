//! A service lives on and does not hold the port of its policy any more: it is restarted. Needs root.
//! mostly waits

use healer_tests::{
    home::{Home, count},
    policies::policy,
    silent::listener,
    supervised::{Supervised, lives, name},
};

/// Its first life gives its port up.
const LISTENS_AT_LAST: &str = "
import os, socket, sys, time
server = socket.create_server(('127.0.0.1', int(sys.argv[1])))
if not os.path.exists(sys.argv[2]):
    open(sys.argv[2], 'w').close()
    time.sleep(2)
    server.close()
time.sleep(1000)
";

/// The probe, which is answered all the time, brings the terms.
fn listening(name: &str, port: u16) -> String {
    let rest = format!(
        "
  expect:
    listen: {port}/tcp
    probe: {{exec: {{command: [test, x]}}, period: 1s, timeout: 1s, failures: 2, startGrace: 1s}}
  rules:
    - {{name: deaf, when: [{{class: probe_failed}}], escalate: [{{do: restart, timeout: 20s}}]}}
  safety: {{backoff: {{initial: 100ms, factor: 1, max: 100ms}}}}
  verify: {{within: 20s, stableFor: 500ms}}
"
    );
    policy("enforce", &format!("supervise: {name}"), &rest)
}

#[test]
fn who_loses_its_listener_and_lives_on_is_restarted() {
    let name = name();
    let (free, port) = listener();
    drop(free);
    let home = Home::new(&listening(&name, port));
    let mut agent = home.agent();
    let lived = home.path().join("lived").display().to_string();
    let port = port.to_string();
    let command = ["python3", "-c", LISTENS_AT_LAST, &port, &lived];
    let service = Supervised::start(&home, &name, &command);
    let first = service.child();

    agent.record(&service.workload(), "diagnosis", "did not listen 2 times in a row");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    let successor = service.successor(first);
    // It holds its port, and is asked every five seconds.
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert!(lives(successor));
    assert_eq!(count(&home.audit(), "diagnosis", "did not listen"), 1);
}
