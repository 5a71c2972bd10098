//! The agent is struck by SIGKILL at each state of the journal while `healer supervise` waits: at its next start
//! nothing happens twice, and nothing is forgotten. Needs root.

use std::os::unix::process::ExitStatusExt as _;

use healer_tests::{
    home::{Home, count, pause, signal_to, until},
    policies::{policy, restarting},
    supervised::{Programs, Supervised, lives, name},
    victim::{Victim, compile},
};
use rustix::process::Signal;

/// Notes each of its lives in the file that is its first argument.
const NOTES_ITS_LIVES: &str = "echo $$ >> \"$0\"; exec sleep 1000";

fn service(home: &Home, name: &str) -> Supervised {
    Supervised::start(home, name, &["sh", "-c", NOTES_ITS_LIVES, &lives_file(home)])
}

fn lives_file(home: &Home) -> String {
    home.path().join("lives").display().to_string()
}

fn lives_so_far(home: &Home) -> usize {
    std::fs::read_to_string(lives_file(home)).unwrap_or_default().lines().count()
}

/// Kills the child; the agent then ends itself at the fail point. Returns the dead child.
fn die_at(home: &Home, service_name: &str, point: &str) -> (Supervised, u32) {
    let mut agent = home.agent_with_fail_point(point);
    let service = service(home, service_name);
    let first = service.child();
    pause(core::time::Duration::from_millis(200));
    signal_to(first, Signal::KILL);
    assert_eq!(agent.end().signal(), Some(libc::SIGKILL));
    (service, first)
}

fn whole(home: &Home) {
    let said = home.healer(&["audit", "verify"]);
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn killed_between_intent_and_act_the_act_happens_once_at_the_next_start() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let (service, first) = die_at(&home, &name, "after_intent");
    assert_eq!(lives_so_far(&home), 1, "nothing was started yet");
    let intent =
        home.of(&service.workload()).into_iter().find(|record| record["record"] == "intent").unwrap();

    let mut agent = home.agent();
    let result = agent.record(&service.workload(), "result", "\"outcome\":\"done\"");
    assert_eq!(result["key"], intent["key"], "the same intent, not a new one");
    let second = service.successor(first);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    let records = home.of(&service.workload());
    assert_eq!(count(&records, "intent", "restart"), 1);
    assert_eq!(count(&records, "result", ""), 1);
    assert_eq!(lives_so_far(&home), 2);
    assert!(lives(second));
    whole(&home);

    // The line goes on: the next death is a new incident.
    signal_to(second, Signal::KILL);
    agent.wait("a second result", |_| {
        (count(&home.of(&service.workload()), "result", "done") == 2).then_some(())
    });
    until("its third life", || (lives_so_far(&home) == 3).then_some(()));
}

#[test]
fn killed_between_act_and_result_the_act_is_not_repeated() {
    for point in ["after_act", "before_result"] {
        let name = name();
        let home = Home::new(&restarting(&name));
        let (service, first) = die_at(&home, &name, point);
        let second = service.successor(first);
        assert_eq!(count(&home.of(&service.workload()), "result", ""), 0, "{point}");

        let mut agent = home.agent();
        let result = agent.record(&service.workload(), "result", "\"outcome\":\"done\"");
        assert!(result["says"].as_str().unwrap().contains("before the agent came back"), "{result}");
        agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
        let records = home.of(&service.workload());
        assert_eq!((count(&records, "intent", ""), count(&records, "result", "")), (1, 1), "{point}");
        assert_eq!(lives_so_far(&home), 2, "{point}: started once by us");
        assert_eq!(service.child(), second);
        whole(&home);
    }
}

#[test]
fn the_successor_died_too_while_the_agent_was_away() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let (service, first) = die_at(&home, &name, "after_act");
    let second = service.successor(first);
    signal_to(second, Signal::KILL);

    let mut agent = home.agent();
    let third = service.successor(second);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert_eq!(lives_so_far(&home), 3);
    assert_eq!(service.child(), third);
    let open: Vec<_> = home.of(&service.workload());
    let of_record = |record: &str| open.iter().filter(|found| found["record"] == record).count();
    assert_eq!(of_record("intent"), of_record("result"), "every intent has its result: {}", agent.log());
}

#[test]
fn a_child_that_dies_while_no_agent_runs_is_healed_by_the_next() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let service;
    let first;
    {
        let mut agent = home.agent();
        service = self::service(&home, &name);
        first = service.child();
        pause(core::time::Duration::from_millis(200));
        agent.signal(Signal::KILL);
        agent.end();
    }
    signal_to(first, Signal::KILL);
    pause(core::time::Duration::from_millis(300));
    assert_eq!((lives_so_far(&home), service.child_now()), (1, None));

    let mut agent = home.agent();
    agent.record(&service.workload(), "diagnosis", "\"class\":\"down\"");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert_eq!(lives_so_far(&home), 2);
    assert!(lives(service.successor(first)));
    let records = home.of(&service.workload());
    assert_eq!(count(&records, "intent", "restart"), 1);
}

#[test]
fn an_agent_that_comes_back_leaves_a_healthy_service_alone() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let (service, first);
    {
        let mut agent = home.agent();
        service = self::service(&home, &name);
        first = service.child();
        pause(core::time::Duration::from_millis(200));
        agent.signal(Signal::KILL);
        agent.end();
    }
    let mut agent = home.agent();
    pause(core::time::Duration::from_millis(1500));
    assert_eq!(home.of(&service.workload()), Vec::<serde_json::Value>::new(), "{}", agent.log());
    assert_eq!((service.child(), lives_so_far(&home)), (first, 1));
    // And it knows it again.
    signal_to(first, Signal::KILL);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert_eq!(lives_so_far(&home), 2);
}

#[test]
fn killed_while_it_verified_the_incident_is_closed_at_the_next_start() {
    let name = name();
    let home = Home::new(&restarting(&name).replace("stableFor: 500ms", "stableFor: 4s"));
    let service;
    {
        let mut agent = home.agent();
        service = self::service(&home, &name);
        let first = service.child();
        pause(core::time::Duration::from_millis(200));
        signal_to(first, Signal::KILL);
        agent.record(&service.workload(), "result", "\"outcome\":\"done\"");
        // By now the journal has it too.
        pause(core::time::Duration::from_secs(1));
        agent.signal(Signal::KILL);
        agent.end();
    }
    let mut agent = home.agent();
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert_eq!(lives_so_far(&home), 2);
    let records = home.of(&service.workload());
    assert_eq!((count(&records, "intent", ""), count(&records, "result", "")), (1, 1));
}

/// A program that neither systemd nor a supervisor owns.
fn unowned(home: &Home) -> Programs {
    let source = "#include <unistd.h>\nint main(void) { for (;;) pause(); }";
    let program = compile(home.scratch(), "unowned", source).canonicalize().unwrap();
    let rest = format!(
        "
  expect: {{running: true}}
  rules:
    - name: down
      when: [{{class: down}}]
      escalate: [{{do: restart, command: ['{}']}}, {{do: notify}}]
  verify: {{within: 3s, stableFor: 500ms}}
",
        program.display()
    );
    home.write_policy(&policy("enforce", &format!("exe: {}", program.display()), &rest));
    Programs(program)
}

/// The program dies, the agent dies at the fail point; gives the workload.
fn unowned_dies_at(home: &Home, programs: &Programs, point: &str) -> String {
    let mut agent = home.agent_with_fail_point(point);
    let mut first = Victim::start(&programs.0, &[]);
    pause(core::time::Duration::from_millis(300));
    signal_to(first.tgid(), Signal::KILL);
    first.wait();
    assert_eq!(agent.end().signal(), Some(libc::SIGKILL));
    let intent = home.audit().into_iter().find(|record| {
        record["record"] == "intent" && record.to_string().contains(&programs.0.display().to_string())
    });
    intent.unwrap()["workload"].as_str().unwrap().to_owned()
}

#[test]
fn a_started_program_is_found_again_and_not_started_twice() {
    let home = Home::new("");
    let programs = unowned(&home);
    let workload = unowned_dies_at(&home, &programs, "after_act");
    let started = until("the successor", || Some(programs.pids()).filter(|pids| pids.len() == 1));
    let mut agent = home.agent();
    agent.record(&workload, "result", "\"outcome\":\"unknown\"");
    agent.record(&workload, "closed", "\"outcome\":\"healed\"");
    assert_eq!(programs.pids(), started);
    assert_eq!(count(&home.of(&workload), "intent", ""), 1);
}

#[test]
fn a_program_that_was_not_started_is_told_to_a_person() {
    let home = Home::new("");
    let programs = unowned(&home);
    let workload = unowned_dies_at(&home, &programs, "after_intent");
    let mut agent = home.agent();
    agent.record(&workload, "result", "\"outcome\":\"unknown\"");
    agent.record(&workload, "notify", "no successor appeared");
    agent.record(&workload, "closed", "");
    assert_eq!(programs.pids(), Vec::<u32>::new(), "whether its command had run, nobody knew");
    assert_eq!(count(&home.of(&workload), "intent", ""), 1);
}
