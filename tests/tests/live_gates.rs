//! What holds the hands back, seen live: pause, reload, budget, backoff, breaker. Needs root.
//!
//! mostly waits

use std::collections::BTreeSet;

use healer_tests::{
    home::{Agent, Home, count, pause, signal_to},
    policies::{policy, restarting},
    supervised::{Supervised, lives, name},
    victim::{Victim, compile},
};
use healer_userspace::clock;
use rustix::process::Signal;

const FOREVER: [&str; 2] = ["sleep", "1000"];

fn started(home: &Home, name: &str) -> Supervised {
    let service = Supervised::start(home, name, &FOREVER);
    assert!(lives(service.child()));
    pause(core::time::Duration::from_millis(200));
    service
}

fn holds(agent: &mut Agent<'_>, service: &Supervised, gate: &str) -> String {
    let part = format!("\"gate\":\"{gate}\",\"");
    let record = agent.wait(&format!("gate {gate}"), |agent| {
        let mut records = agent.home().of(&service.workload()).into_iter();
        records.find(|record| record["gate"] == gate && record["verdict"] == "hold")
    });
    assert!(!record["reason"].as_str().unwrap_or_default().is_empty(), "{part}: {record}");
    record["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_pause_holds_and_resume_releases() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let mut agent = home.agent();
    let service = started(&home, &name);
    let paused = home.healer(&["pause"]);
    assert!(paused.status.success(), "{}", String::from_utf8_lossy(&paused.stderr));
    let child = service.child();
    signal_to(child, Signal::KILL);
    let reason = holds(&mut agent, &service, "pause");
    assert!(reason.contains("paused by"), "{reason}");
    pause(core::time::Duration::from_millis(800));
    assert_eq!(service.child_now(), None, "sensed and diagnosed, not touched");
    assert_eq!(count(&home.of(&service.workload()), "intent", ""), 0);
    assert!(home.healer(&["resume"]).status.success());
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert!(lives(service.child()));
}

#[test]
fn in_maintenance_nobody_is_touched_and_afterwards_whoever_is_down_is_healed() {
    const LASTS: i64 = 25;
    let name = name();
    let home = Home::new(&restarting(&name));
    let end = clock::wall().checked_add(jiff::SignedDuration::from_secs(LASTS)).unwrap();
    let window = format!("maintenance: [{{from: 2026-01-01T00:00:00Z, to: {end}}}]");
    let mut agent = home.agent_with_config(&window);
    let service = started(&home, &name);
    signal_to(service.child(), Signal::KILL);
    let reason = holds(&mut agent, &service, "maintenance");
    assert!(reason.contains("maintenance (AgentConfig) for another"), "{reason}");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    let intent = agent.record(&service.workload(), "intent", "");
    let at: jiff::Timestamp = intent["time"].as_str().unwrap().parse().unwrap();
    assert!(end.as_second() <= at.as_second(), "touched at {at}, maintenance was until {end}");
    assert!(lives(service.child()));
}

#[test]
fn what_ended_in_a_maintenance_window_is_not_answered_after_it() {
    const LASTS: i64 = 30;
    let home = Home::new("");
    let program = compile(home.scratch(), &name(), "#include <stdlib.h>\nint main(void) { abort(); }");
    let touched = home.path().join("touched");
    let rules = format!(
        "
  rules:
    - {{name: crashed, when: [{{class: crash}}], escalate: [{{do: run_hook, command: [touch, {}]}}]}}
",
        touched.display()
    );
    home.write_policy(&policy("enforce", &format!("exe: {}", program.display()), &rules));
    let end = clock::wall().checked_add(jiff::SignedDuration::from_secs(LASTS)).unwrap();
    let window = format!("maintenance: [{{from: 2026-01-01T00:00:00Z, to: {end}}}]");
    let mut agent = home.agent_with_config(&window);
    let verdict = |agent: &mut Agent<'_>, gate: &str, verdict: &str| {
        agent.wait(&format!("gate {gate}"), |agent| {
            let mut records = agent.home().audit().into_iter();
            records.find(|record| record["gate"] == gate && record["verdict"] == verdict)
        })
    };
    Victim::start(&program, &[]).wait();
    verdict(&mut agent, "maintenance", "hold");
    let stale = verdict(&mut agent, "stale", "refuse");
    let reason = stale["reason"].as_str().unwrap_or_default();
    assert_eq!(reason, "stale: it happened in a maintenance window (AgentConfig)");
    let audit = home.audit();
    assert_eq!((count(&audit, "intent", "run_hook"), touched.exists()), (0, false), "{}", agent.log());
    // What happens now is news.
    Victim::start(&program, &[]).wait();
    agent.wait("the hook", |_| touched.exists().then_some(()));
}

#[test]
fn signals_and_the_pause_file_pause_too() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let mut agent = home.agent();
    agent.signal(Signal::USR1);
    agent.says("pause", "paused by SIGUSR1");
    agent.signal(Signal::USR2);
    agent.says("pause", "acting again");
    std::fs::write(home.state().join("pause"), "").unwrap();
    agent.says("pause", "paused by the file");
    let service = started(&home, &name);
    signal_to(service.child(), Signal::KILL);
    holds(&mut agent, &service, "pause");
    std::fs::remove_file(home.state().join("pause")).unwrap();
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
}

#[test]
fn a_reload_takes_a_good_file_and_refuses_a_bad_one() {
    let name = name();
    let home = Home::new(
        &policy("observe", &format!("supervise: {name}"), "  rules: []").replace("  rules: []", ""),
    );
    let mut agent = home.agent();
    let attached = programs(agent.pid());
    assert!(attached.len() > 4, "{attached:?}");
    home.write_policy(&restarting(&name));
    agent.signal(Signal::HUP);
    agent.says("reload", "1 policies");
    home.write_policy(&restarting(&name).replace("do: restart", "do: restrat"));
    let refused = agent.says("reload_refused", "restrat");
    assert!(refused["says"].as_str().unwrap().contains("policy.yaml:"), "with line and column: {refused}");
    // The good one is still in force.
    let service = started(&home, &name);
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    // A file that is changed is taken without a signal.
    let reloads = || home.audit().iter().filter(|record| record["event"] == "reload").count();
    let before = reloads();
    home.write_policy(&restarting(&name).replace("mode: enforce", "mode: shadow"));
    agent.wait("the reload", |_| (before < reloads()).then_some(()));
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "result", "would_do");
    assert_eq!(programs(agent.pid()), attached, "none was detached, none loaded anew");
}

/// Links of kernel programs that the process holds, each with its program. `syscall_error`'s come and go by its budget.
fn programs(pid: u32) -> BTreeSet<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the agent runs").flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let words = texts.filter(|text| text.contains("link_id:") && !text.contains("sys_exit"));
    let is_id = |line: &&str| line.starts_with("link_id:") || line.starts_with("prog_id:");
    words.map(|text| text.lines().filter(is_id).collect::<Vec<_>>().join(" ")).collect()
}

fn with_safety(name: &str, safety: &str) -> String {
    let rest = format!(
        "
  rules:
    - name: down
      when: [{{class: down}}]
      escalate: [{{do: restart, timeout: 20s}}]
  safety:
{safety}
  verify: {{within: 10s, stableFor: 300ms}}
"
    );
    policy("enforce", &format!("supervise: {name}"), &rest)
}

/// Kills the child, and waits until it is healed for the `nth` time.
fn kill_and_heal(agent: &mut Agent<'_>, service: &Supervised, nth: usize) {
    signal_to(service.child(), Signal::KILL);
    agent.wait(&format!("recovery {nth}"), |agent| {
        (count(&agent.home().of(&service.workload()), "closed", "\"outcome\":\"healed\"") == nth)
            .then_some(())
    });
}

#[test]
fn the_second_act_backs_off_and_the_budget_ends() {
    let name = name();
    let safety =
        "    budget: {max: 2, per: 1h}\n    backoff: {initial: 1500ms, factor: 2, max: 10s, resetAfter: 1m}";
    let home = Home::new(&with_safety(&name, safety));
    let mut agent = home.agent();
    let service = started(&home, &name);
    kill_and_heal(&mut agent, &service, 1);
    kill_and_heal(&mut agent, &service, 2);
    let reason = holds(&mut agent, &service, "backoff");
    assert!(reason.contains("backing off"), "{reason}");
    signal_to(service.child(), Signal::KILL);
    let reason = holds(&mut agent, &service, "budget");
    assert!(reason.contains("2 of 2 acts per 1h"), "{reason}");
    pause(core::time::Duration::from_millis(500));
    assert_eq!(service.child_now(), None);
    assert_eq!(count(&home.of(&service.workload()), "intent", ""), 2);
    agent.record(&service.workload(), "notify", "held by gate budget");
}

#[test]
fn the_breaker_trips_after_acts_that_did_not_heal() {
    let name = name();
    let safety = "    budget: {max: 20, per: 1h}\n    backoff: {initial: 50ms, factor: 1, max: 50ms, resetAfter: 1m}\n    \
                  breaker: {tripAfter: 2, within: 30m, probeAfter: 5s}";
    // On a busy machine a life of 100 ms takes longer: none of them is to pass for healed.
    let policy = with_safety(&name, safety).replace("stableFor: 300ms", "stableFor: 3s");
    let home = Home::new(&policy);
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["sh", "-c", "sleep 0.1; exit 7"]);
    let reason = holds(&mut agent, &service, "breaker");
    assert!(reason.contains("tripped after 2 acts"), "{reason}");
    assert_eq!(count(&home.of(&service.workload()), "intent", ""), 2);
    agent.wait("the probe", |agent| {
        (count(&agent.home().of(&service.workload()), "intent", "") == 3).then_some(())
    });
    assert_eq!(count(&home.of(&service.workload()), "gate", "breaker is probing"), 1);
}

/// Healed once by a hook and a restart; while the hook of the next death waits for the backoff, the supervisor gets this
/// signal. How often the hook had run by then.
fn signalled_while_a_hook_waits(signal: Signal, and_then: impl FnOnce(&mut Agent<'_>, &str)) -> usize {
    let name = name();
    let home = Home::new("");
    let calls = home.path().join("calls");
    let rest = format!(
        "
  rules:
    - name: down
      when: [{{class: down}}]
      escalate: [{{do: run_hook, command: [sh, -c, 'echo >> {}']}}, {{do: restart, timeout: 20s}}]
  safety:
    budget: {{max: 20, per: 1h}}
    backoff: {{initial: 15s, factor: 1, max: 15s, resetAfter: 1m}}
  verify: {{within: 10s, stableFor: 300ms}}
",
        calls.display()
    );
    home.write_policy(&policy("enforce", &format!("supervise: {name}"), &rest));
    let mut agent = home.agent();
    let mut service = started(&home, &name);
    kill_and_heal(&mut agent, &service, 1);
    signal_to(service.child(), Signal::KILL);
    holds(&mut agent, &service, "backoff");
    signal_to(service.pid(), signal);
    service.end();
    and_then(&mut agent, &service.workload());
    std::fs::read_to_string(&calls).expect("the hook has run").lines().count()
}

#[test]
fn a_hook_that_waits_is_not_run_for_whom_a_person_has_stopped() {
    let ran = signalled_while_a_hook_waits(Signal::TERM, |agent, workload| {
        let closed = agent.record(workload, "closed", "nobody wants it to run any more");
        assert_eq!(closed["outcome"], "refused", "{closed}");
        let records = agent.home().of(workload);
        assert_eq!(count(&records, "intent", "run_hook"), 1, "{}", agent.log());
        assert_eq!(count(&records, "notify", ""), 0, "nobody need be told: {}", agent.log());
    });
    assert_eq!(ran, 1);
}

#[test]
fn a_supervisor_that_was_killed_is_nobodys_wish() {
    let ran = signalled_while_a_hook_waits(Signal::KILL, |agent, workload| {
        agent.wait("the hook", |agent| {
            (count(&agent.home().of(workload), "result", "exit status 0") == 2).then_some(())
        });
    });
    assert_eq!(ran, 2);
}
