//! The whole line as users run it: a real death, and what the agent makes of it. Needs root.
//!
//! act rights: a_kill_by_somebody_is_down_and_healed

use std::{path::PathBuf, process::Command, time::Duration};

use healer_tests::{
    home::{Agent, Home, count, pause, signal_to},
    policies::restarting,
    supervised::{Supervised, lives, name},
    victim::{Victim, compile},
};
use rustix::process::Signal;
use serde_json::Value;

const FOREVER: [&str; 2] = ["sleep", "1000"];
/// Long enough for a wrong diagnosis to show.
const A_WHILE: Duration = Duration::from_millis(700);

/// A command and a neighbour of the same kind that nobody hurts.
fn with_neighbour(home: &Home, name: &str, argv: &[String]) -> (Supervised, Supervised) {
    let neighbour = Supervised::start(home, &format!("{name}-twin"), &FOREVER);
    (Supervised::start(home, name, argv), neighbour)
}

fn home_for(name: &str) -> Home {
    Home::new(&restarting(&format!("'{name}*'")))
}

/// The first run fails as `fault` says, each later one lives.
fn fails_once(home: &Home, fault: &str) -> PathBuf {
    let source = format!(
        r#"
        #include <fcntl.h>
        #include <pthread.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        static void *rest(void *arg) {{ for (;;) pause(); return arg; }}
        static void *fault(void *arg) {{ usleep(300000); {fault} return arg; }}
        int main(int argc, char **argv) {{
            char mark[4096];
            pthread_t t;
            snprintf(mark, sizeof mark, "%s.ran", argv[0]);
            int first = open(mark, O_CREAT | O_EXCL, 0600) >= 0;
            for (int i = 0; i < 3; i++) pthread_create(&t, 0, rest, 0);
            if (first) pthread_create(&t, 0, fault, 0);
            for (;;) pause();
        }}"#
    );
    compile(home.scratch(), "victim", &source)
}

fn incidents(records: &[Value]) -> Vec<String> {
    let mut ids: Vec<_> = records.iter().map(|record| record["incident"].to_string()).collect();
    ids.dedup();
    ids
}

/// One incident, one act, healed; the neighbour never heard of it.
fn assert_healed_once(agent: &mut Agent<'_>, service: &Supervised, neighbour: &Supervised, says: &str) {
    let workload = service.workload();
    agent.record(&workload, "diagnosis", says);
    agent.record(&workload, "closed", "\"outcome\":\"healed\"");
    let records = agent.home().of(&workload);
    assert_eq!(incidents(&records).len(), 1, "{}", agent.log());
    assert_eq!(count(&records, "diagnosis", "\"class\":\"down\""), 1);
    assert_eq!(count(&records, "intent", "restart"), 1);
    assert_eq!(count(&records, "result", "\"outcome\":\"done\""), 1);
    assert!(lives(service.child()));
    assert_eq!(agent.home().of(&neighbour.workload()), Vec::<Value>::new());
    assert!(lives(neighbour.child()));
}

#[test]
fn a_fault_in_a_worker_thread_is_one_certificate_and_healed() {
    let name = name();
    let home = home_for(&name);
    let program = fails_once(&home, "*(volatile int *)0x1230 = 1;");
    let mut agent = home.agent();
    let (service, neighbour) = with_neighbour(&home, &name, &[program.display().to_string()]);
    let says = "crashed with SIGSEGV at address 0x1230";
    assert_healed_once(&mut agent, &service, &neighbour, says);
    let records = home.of(&service.workload());
    assert_eq!(count(&records, "diagnosis", "\"class\":\"crash\""), 1);
}

#[test]
fn abort_is_a_crash_and_healed() {
    let name = name();
    let home = home_for(&name);
    let program = fails_once(&home, "abort();");
    let mut agent = home.agent();
    let (service, neighbour) = with_neighbour(&home, &name, &[program.display().to_string()]);
    assert_healed_once(&mut agent, &service, &neighbour, "crashed with SIGABRT");
    assert_eq!(count(&home.of(&service.workload()), "diagnosis", "\"class\":\"crash\""), 1);
}

#[test]
fn exit_1_of_a_tracked_main_process_is_a_crash_and_healed() {
    let name = name();
    let home = home_for(&name);
    let program = fails_once(&home, "exit(1);");
    let mut agent = home.agent();
    let (service, neighbour) = with_neighbour(&home, &name, &[program.display().to_string()]);
    assert_healed_once(&mut agent, &service, &neighbour, "exited with status 1");
}

#[test]
fn a_kill_by_somebody_is_down_and_healed() {
    let name = name();
    let home = home_for(&name);
    let mut agent = home.agent();
    let (service, neighbour) = with_neighbour(&home, &name, &FOREVER.map(String::from));
    let mut killer = Victim::start("/bin/sh", &["-c", &format!("kill -9 {}", service.child())]);
    killer.wait();
    assert_healed_once(&mut agent, &service, &neighbour, "killed by SIGKILL from sh[");
    assert_eq!(count(&home.of(&service.workload()), "diagnosis", "\"class\":\"crash\""), 0);
}

#[test]
fn a_command_that_fails_at_once_is_never_called_healed() {
    let name = name();
    let home = home_for(&name);
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["/bin/false"]);
    let workload = service.workload();
    agent.record(&workload, "diagnosis", "\"class\":\"down\"");
    agent.wait("three acts", |_| (3 <= count(&home.of(&workload), "intent", "restart")).then_some(()));
    assert_eq!(count(&home.of(&workload), "verification", "healed"), 0, "{}", agent.log());
}

#[test]
fn a_failing_build_is_no_failure_of_the_machine() {
    let home = home_for(&name());
    std::fs::write(home.path().join("Makefile"), "all:\n\t@sh -c 'exit 3'\n\t@true\n").unwrap();
    let mut agent = home.agent();
    for _build in 0..5 {
        let mut make = Command::new("make");
        make.args(["-k", "-C"]).arg(home.path());
        assert_ne!(Victim::spawn(&mut make).wait(), 0);
    }
    // What came before this crash was seen before it.
    let program = compile(home.scratch(), "sentinel", "#include <stdlib.h>\nint main(void) { abort(); }");
    Victim::start(&program, &[]).wait();
    agent.wait("the crash", |agent| agent.log().contains("sentinel[").then_some(()));
    pause(A_WHILE);
    let records = home.audit();
    let of_make = records.iter().filter(|record| {
        let comm = record["target"]["comm"].as_str().unwrap_or_default();
        let parent = record["target"].to_string();
        (comm == "sh" || comm == "make") && parent.contains("make")
    });
    assert_eq!(of_make.count(), 0, "{}", agent.log());
}

#[test]
fn a_leader_that_leaves_its_threads_is_not_down() {
    let name = name();
    let home = home_for(&name);
    let source = r#"
        #include <pthread.h>
        #include <stdlib.h>
        #include <unistd.h>
        static void *work(void *arg) { usleep(2000000); exit(5); return arg; }
        int main(void) { pthread_t t; pthread_create(&t, 0, work, 0); pthread_exit(0); }"#;
    let program = compile(home.scratch(), "leader", source);
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &[&program]);
    pause(Duration::from_millis(1200));
    assert_eq!(home.of(&service.workload()), Vec::<Value>::new(), "{}", agent.log());
    agent.record(&service.workload(), "diagnosis", "exited with status 5");
}

#[test]
fn an_exec_among_threads_is_no_death() {
    let name = name();
    let home = home_for(&name);
    let source = r#"
        #include <pthread.h>
        #include <unistd.h>
        static void *rest(void *arg) { for (;;) pause(); return arg; }
        static void *change(void *arg) {
            usleep(300000);
            execl("/bin/sleep", "sleep", "1000", (char *)0);
            return arg;
        }
        int main(void) {
            pthread_t t;
            for (int i = 0; i < 4; i++) pthread_create(&t, 0, rest, 0);
            pthread_create(&t, 0, change, 0);
            for (;;) pause();
        }"#;
    let program = compile(home.scratch(), "changer", source);
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &[&program]);
    let child = service.child();
    let is_sleep =
        || std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm == "sleep\n");
    healer_tests::home::until("the exec", || is_sleep().then_some(()));
    pause(A_WHILE);
    assert_eq!(home.of(&service.workload()), Vec::<Value>::new(), "{}", agent.log());
    signal_to(child, Signal::KILL);
    agent.record(&service.workload(), "diagnosis", "sleep[");
    agent.record(&service.workload(), "closed", "healed");
}

#[test]
fn a_stop_that_was_asked_for_is_no_failure() {
    let name = name();
    let home = home_for(&name);
    let mut agent = home.agent();
    for (signal, script) in [
        (Signal::TERM, "exec sleep 1000"),
        (Signal::INT, "exec sleep 1000"),
        (Signal::HUP, "exec sleep 1000"),
        (Signal::TERM, "trap 'exit 1' TERM; while :; do sleep 0.02; done"),
    ] {
        let mut service = Supervised::start(&home, &name, &["sh", "-c", script]);
        assert!(lives(service.child()));
        pause(Duration::from_millis(200));
        signal_to(service.pid(), signal);
        service.end();
    }
    // What came before this death was seen before it.
    let service = Supervised::start(&home, &format!("{name}-after"), &FOREVER);
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "closed", "healed");
    let said = home.of(&format!("supervise/{name}"));
    assert_eq!(said, Vec::<Value>::new(), "{}", agent.log());
}

#[test]
fn a_term_sent_straight_to_the_child_is_down() {
    let name = name();
    let home = home_for(&name);
    let mut agent = home.agent();
    let (service, neighbour) = with_neighbour(&home, &name, &FOREVER.map(String::from));
    let mut killer = Victim::start("/bin/sh", &["-c", &format!("kill -TERM {}", service.child())]);
    killer.wait();
    assert_healed_once(&mut agent, &service, &neighbour, "killed by SIGTERM from sh[");
}

#[test]
fn a_supervisor_that_was_asked_to_stop_refuses_the_restart() {
    let name = name();
    let home = home_for(&name);
    let mut agent = home.agent();
    let mut service = Supervised::start(&home, &name, &FOREVER);
    let child = service.child();
    pause(Duration::from_millis(300));
    // Between the decision and the act: the supervisor hears of both at once.
    signal_to(service.pid(), Signal::STOP);
    signal_to(child, Signal::KILL);
    agent.record(&service.workload(), "intent", "restart");
    // The order follows at once; it waits in the stopped supervisor's socket.
    pause(A_WHILE);
    signal_to(service.pid(), Signal::TERM);
    signal_to(service.pid(), Signal::CONT);
    let refusal = agent.record(&service.workload(), "gate", "it was asked to stop");
    assert_eq!((&refusal["gate"], &refusal["verdict"]), (&"second_look".into(), &"refuse".into()));
    assert_eq!(service.end().code(), Some(137));
    agent.record(&service.workload(), "closed", "refused");
}
