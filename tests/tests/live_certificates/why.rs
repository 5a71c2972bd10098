//! `healer why` of an end that is nobody's incident.

use healer_tests::{
    home::{Agent, Home},
    policies::restarting,
    supervised::{Supervised, name},
    victim::Victim,
};
use serde_json::Value;

/// The one end that is known of it.
fn end_of(agent: &mut Agent<'_>, target: &str) -> Value {
    agent.wait(&format!("the end of {target}"), |agent| {
        let told = agent.home().healer(&["why", target, "--json"]);
        let known: Value = serde_json::from_slice(&told.stdout).ok()?;
        let end = known["ends"].get(0)?.clone();
        assert_eq!(known["incidents"], Value::Array(Vec::new()), "{known}");
        Some(end)
    })
}

#[test]
fn who_killed_a_process_that_no_policy_names() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    let mut twin = Victim::start("sleep", &["1000"]);

    let mut victim = Victim::start("sleep", &["1000"]);
    let pid = victim.tgid().to_string();
    let mut killer = Victim::start("/bin/bash", &["-c", &format!("kill -9 {pid}; sleep 1")]);
    victim.wait();
    let end = end_of(&mut agent, &pid);
    let says = end["sentence"].as_str().unwrap_or_default();
    let by = format!("killed by SIGKILL from bash[{}]", killer.tgid());
    assert!(says.starts_with(&format!("sleep[{pid}]")) && says.contains(&by), "{says}");
    assert_eq!(end["evidence"][0]["signal"], "signal_sent", "{end}");
    let told = home.healer(&["why", &pid]);
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains(&by) && told.contains("No incident of it is known."), "{told}");
    killer.wait();

    let told = home.healer(&["why", &twin.tgid().to_string()]);
    assert!(!told.status.success(), "who lives has no end: {}", String::from_utf8_lossy(&told.stdout));
    assert!(!agent.log().contains(&format!("sleep[{pid}]")), "it is no line of the log:\n{}", agent.log());
    healer_tests::home::signal_to(twin.tgid(), rustix::process::Signal::KILL);
    twin.wait();
}

#[test]
fn a_wrapper_hands_on_who_killed_its_child() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    let notes = home.path().join("child").display().to_string();
    let script = "sleep 1000 & echo $! > \"$0.new\"; mv \"$0.new\" \"$0\"; wait $!; exit $?";
    let service = Supervised::start(&home, &name, &["bash", "-c", script, &notes]);
    // Forked is not yet sleep: until its exec it is a second bash.
    let is_sleep = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
    };
    let child: u32 = agent.wait("the child", |_agent| {
        std::fs::read_to_string(&notes).ok()?.trim().parse().ok().filter(is_sleep)
    });
    let mut killer = Victim::start("/bin/bash", &["-c", &format!("kill -9 {child}; sleep 1")]);
    let down = agent.record(&service.workload(), "diagnosis", "\"class\":\"down\"");
    let says = down["sentence"].as_str().unwrap_or_default();
    let by = format!(
        "exited with status 137: its child sleep[{child}] was killed by SIGKILL from bash[{}]",
        killer.tgid()
    );
    assert!(says.contains(&by), "{says}");
    killer.wait();
}
