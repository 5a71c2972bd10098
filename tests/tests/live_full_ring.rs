//! Needs root. Alone in its binary: the storm would fill the rings of other tests too.
//!
//! one guest: a_full_ring_is_counted_and_never_silent

use std::{path::PathBuf, time::Duration};

use healer_tests::{
    eye::{Eye, as_exit},
    home::{Home, is, pause, signal_to, until},
    policies::policy,
    scratch::Scratch,
    supervised::Programs,
    victim::{Victim, built},
};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_full_ring_is_counted_and_never_silent() {
    let mut eye = Eye::open();
    let dir = Scratch::new();
    // 256 KiB hold some 1,800 records, and nobody reads meanwhile.
    let mut victim = Victim::start(built(&dir, "storm"), &[]);
    victim.wait();
    let lost = eye.sense.lost();
    assert!(0 < lost.urgent, "{lost:?}");
    eye.look();
    let exits = eye.seen.iter().filter_map(|(_, event)| as_exit(event));
    let told = exits.filter(|exit| exit.task.comm() == b"storm").count();
    assert!(500 < told, "{told}");
}

/// Longer than what is down is given to come back by itself.
const STALL: Duration = Duration::from_millis(5500);

/// healer gets no CPU for a while: a service is restarted meanwhile, and the record of that finds no room.
#[test]
fn after_a_stall_the_lost_count_before_anything_is_judged() {
    let dir = Scratch::new();
    let service = Programs(copied(&dir, "/bin/sleep"));
    let path = service.0.display().to_string();
    let rest = format!(
        "
  expect: {{running: true}}
  rules:
    - name: down
      when: [{{class: down}}]
      escalate: [{{do: restart, command: ['{path}', '1001']}}, {{do: notify}}]
"
    );
    let home = Home::new(&policy("enforce", &format!("exe: {path}"), &rest));
    let mut first = Victim::start(&service.0, &["1000"]);
    let mut agent = home.agent();
    pause(Duration::from_millis(500));
    agent.signal(Signal::STOP);
    signal_to(first.tgid(), Signal::KILL);
    first.wait();
    Victim::start(built(&dir, "storm"), &[]).wait();
    let second = Victim::start(&service.0, &["1000"]);
    until("its exec", || (service.pids() == [second.tgid()]).then_some(()));
    pause(STALL);
    agent.signal(Signal::CONT);
    agent.wait("the lost are counted", |agent| {
        let metrics = agent.get("/metrics");
        let mut lost = metrics.lines().filter(|line| line.starts_with("healer_ring_lost_total"));
        lost.any(|line| !line.ends_with(" 0")).then_some(())
    });
    pause(Duration::from_secs(2));
    let is_about_it = |record: &&Value| record.to_string().contains(&path);
    let audit = home.audit();
    let about: Vec<_> = audit.iter().filter(is_about_it).collect();
    assert!(!about.iter().any(|record| is(record, "intent", "")), "{about:?}\n{}", agent.log());
    assert_eq!(service.pids(), [second.tgid()], "{}", agent.log());
}

fn copied(dir: &Scratch, program: &str) -> PathBuf {
    let copy = dir.path().join("service");
    std::fs::copy(program, &copy).expect("it can be copied");
    copy.canonicalize().expect("it is there")
}
