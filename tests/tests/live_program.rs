//! Programs that nobody supervises, and shadow mode, as users run them. Needs root.

use std::{os::unix::process::ExitStatusExt as _, path::Path};

use healer_tests::{
    home::{Agent, Home, is, signal_to},
    policies::{RESTART, policy},
    supervised::{Programs, Supervised, lives, name},
    victim::{Victim, compile},
};
use rustix::process::Signal;
use serde_json::Value;

const FOREVER: [&str; 2] = ["sleep", "1000"];

/// A server that neither systemd nor a supervisor owns, and the port it listens on.
fn server(home: &Home) -> (Programs, u16) {
    let source = r#"
        #include <arpa/inet.h>
        #include <stdlib.h>
        #include <sys/socket.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            int s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
            struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
            a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
            usleep(argc > 2 ? atoi(argv[2]) : 0);
            if (bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 8)) return 9;
            for (;;) pause();
        }"#;
    let program = compile(home.scratch(), "server", source);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    (Programs(program.canonicalize().unwrap()), free.local_addr().unwrap().port())
}

fn server_policy(mode: &str, program: &Path, port: u16, delay: &str) -> String {
    let path = program.display();
    let rest = format!(
        "
  expect: {{running: true, listen: [{port}/tcp]}}
  rules:
    - name: down
      when: [{{class: down}}]
      escalate: [{{do: restart, command: ['{path}', '{port}', '{delay}']}}, {{do: notify}}]
  verify: {{within: 8s, stableFor: 500ms}}
"
    );
    policy(mode, &format!("exe: {path}"), &rest)
}

/// The record of the workload that runs this program.
fn record_of(agent: &mut Agent<'_>, program: &Path, record: &str, part: &str) -> Value {
    let path = program.display().to_string();
    let diagnosis = agent.wait(&format!("a diagnosis of {path}"), |agent| {
        let mut records = agent.home().audit().into_iter();
        records.find(|found| healer_tests::home::is(found, "diagnosis", &path))
    });
    let workload = diagnosis["workload"].as_str().unwrap().to_owned();
    agent.record(&workload, record, part)
}

#[test]
fn a_program_without_an_owner_is_started_by_the_command_and_listens_again() {
    let home = Home::new("");
    let (programs, port) = server(&home);
    home.write_policy(&server_policy("enforce", &programs.0, port, "700000"));
    let mut first = Victim::start(&programs.0, &[&port.to_string()]);
    let mut agent = home.agent();
    signal_to(first.tgid(), Signal::KILL);
    first.wait();
    let verified = record_of(&mut agent, &programs.0, "verification", "");
    assert_eq!(verified["outcome"], "healed", "{}", agent.log());
    assert!(verified["says"].as_str().unwrap().contains(&format!("listens on {port}/tcp")), "{verified}");
    assert!(700 <= verified["after_ms"].as_u64().unwrap(), "it listened only after 0.7 s: {verified}");
    assert_eq!(programs.pids().len(), 1);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
fn a_successor_that_never_listens_is_not_healed() {
    let home = Home::new("");
    let (programs, port) = server(&home);
    home.write_policy(&server_policy("enforce", &programs.0, port, "60000000"));
    let mut first = Victim::start(&programs.0, &[&port.to_string()]);
    let mut agent = home.agent();
    signal_to(first.tgid(), Signal::KILL);
    first.wait();
    let verified = record_of(&mut agent, &programs.0, "verification", "");
    assert_eq!(verified["outcome"], "unchanged", "{}", agent.log());
    assert!(
        verified["says"].as_str().unwrap().contains(&format!("does not listen on {port}/tcp")),
        "{verified}"
    );
    record_of(&mut agent, &programs.0, "notify", "the ladder is at its end: server[");
}

#[test]
fn a_successor_between_decision_and_act_is_seen_and_nothing_is_started_twice() {
    let home = Home::new("");
    let (programs, port) = server(&home);
    home.write_policy(&server_policy("enforce", &programs.0, port, "0"));
    let mut first = Victim::start(&programs.0, &[&port.to_string()]);
    let mut agent = home.agent_with_fail_point("after_intent:stop");
    signal_to(first.tgid(), Signal::KILL);
    first.wait();
    agent.wait("the stop", |agent| agent.log().contains("AfterIntent").then_some(()));
    let second = Victim::start(&programs.0, &[&port.to_string()]);
    healer_tests::home::until("its exec", || (programs.pids() == [second.tgid()]).then_some(()));
    agent.signal(Signal::CONT);
    let refusal = record_of(&mut agent, &programs.0, "gate", "a successor lives already: server[");
    assert_eq!((&refusal["gate"], &refusal["verdict"]), (&"second_look".into(), &"refuse".into()));
    record_of(&mut agent, &programs.0, "closed", "\"outcome\":\"recovered_alone\"");
    assert_eq!(programs.pids(), [second.tgid()]);
}

#[test]
fn a_target_that_is_gone_before_the_blow_is_struck_by_nobody() {
    let name = name();
    let home = Home::new("");
    let source = r#"
        #include <pthread.h>
        #include <unistd.h>
        static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
        static void *cross(void *arg) {
            pthread_mutex_lock(&b); usleep(200000); pthread_mutex_lock(&a); return arg;
        }
        int main(void) {
            pthread_t t;
            pthread_create(&t, 0, cross, 0);
            pthread_mutex_lock(&a); usleep(200000); pthread_mutex_lock(&b);
        }"#;
    let program = compile(home.scratch(), "crossed", source);
    let rules = "
  rules:
    - name: stuck
      when: [{class: deadlock}]
      escalate: [{do: stop, grace: 1s}]
";
    home.write_policy(&policy("enforce", &format!("supervise: {name}"), rules));
    let mut agent = home.agent_with_fail_point("after_intent:stop");
    let service = Supervised::start(&home, &name, &[&program]);
    let child = service.child();
    agent.wait("the stop", |agent| agent.log().contains("AfterIntent").then_some(()));
    signal_to(child, Signal::KILL);
    healer_tests::home::until("its end", || (!lives(child)).then_some(()));
    agent.signal(Signal::CONT);
    // Its pid is gone, or its threads have run on to their end: whichever is looked at first.
    let refusal = agent.record(&service.workload(), "gate", "\"verdict\":\"refuse\"");
    assert_eq!(refusal["gate"], "second_look", "{refusal}");
    agent.record(&service.workload(), "closed", "");
    let struck = |record: &Value| is(record, "result", "\"outcome\":\"done\"");
    assert!(!home.of(&service.workload()).iter().any(struck), "{}", agent.log());
}

#[test]
fn shadow_touches_nothing_says_what_it_would_do_and_follows() {
    let name = name();
    let home = Home::new(&policy("shadow", &format!("supervise: {name}"), RESTART).replace("10s", "2s"));
    let mut agent = home.agent();
    let mut service = Supervised::start(&home, &name, &FOREVER);
    signal_to(service.child(), Signal::KILL);
    // Released at once: nobody will restart it.
    assert_eq!(service.end().into_raw() >> 8, 137);
    let workload = service.workload();
    let would = agent.record(&workload, "result", "would_do");
    assert!(would["says"].as_str().unwrap().starts_with("would have supervise/"), "{would}");
    agent.record(&workload, "score", "\"outcome\":\"stayed_sick\"");
    agent.record(&workload, "closed", "stayed_sick");
    assert!(agent.log().contains("(shadow)"), "{}", agent.log());
}

#[test]
fn shadow_sees_that_it_recovered_alone() {
    let home = Home::new("");
    let (programs, port) = server(&home);
    home.write_policy(&server_policy("shadow", &programs.0, port, "0").replace("within: 8s", "within: 20s"));
    let mut first = Victim::start(&programs.0, &[&port.to_string()]);
    let mut agent = home.agent();
    signal_to(first.tgid(), Signal::KILL);
    first.wait();
    record_of(&mut agent, &programs.0, "result", "would_do");
    assert_eq!(programs.pids(), Vec::<u32>::new(), "nothing was started");
    let second = Victim::start(&programs.0, &[&port.to_string()]);
    record_of(&mut agent, &programs.0, "score", "\"outcome\":\"recovered_alone\"");
    assert_eq!(programs.pids(), [second.tgid()]);
}

#[test]
fn a_policy_that_is_loaded_later_covers_what_runs_already() {
    let home = Home::new(&policy("observe", "supervise: nobody", "  rules: []").replace("  rules: []", ""));
    let (programs, port) = server(&home);
    let mut agent = home.agent();
    let mut first = Victim::start(&programs.0, &[&port.to_string()]);
    healer_tests::home::until("its exec", || (programs.pids() == [first.tgid()]).then_some(()));
    home.write_policy(&server_policy("enforce", &programs.0, port, "0"));
    agent.signal(Signal::HUP);
    agent.says("reload", "1 policies");
    signal_to(first.tgid(), Signal::KILL);
    first.wait();
    let verified = record_of(&mut agent, &programs.0, "verification", "");
    assert_eq!(verified["outcome"], "healed", "{}", agent.log());
}
