//! What a person does with `systemctl` is left alone: restarts, and a stop that takes its time while a probe already fails.
//!
//! mostly waits

use std::{fs, thread, time::Duration};

use healer_tests::{
    agent::{Agent, number_after, pids_in},
    home::until,
    machine::Machine,
    policies::policy,
    scratch::Scratch,
};
use rustix::process::{Pid, Signal, kill_process};

/// Ends with status 1 when it is told to, after it has drained: no status that anybody would call a success. Only the
/// shell is told (KillMode): what it drains with would end at once.
const DRAINS: &str =
    "KillMode=mixed\nExecStart=/bin/sh -c 'trap \"sleep $DRAIN; exit 1\" TERM; while :; do sleep 0.1; done'";

fn rules(ok: &str) -> String {
    format!(
        "
  expect:
    running: true
    probe: {{exec: {{command: [test, -e, {ok}]}}, period: 5s, timeout: 5s, failures: 1, startGrace: 1s}}
  rules:
    - {{name: restart, when: [{{class: crash}}, {{class: crash_loop}}, {{class: down}}, {{class: probe_failed}}], escalate: [{{do: restart}}]}}
  safety: {{backoff: {{initial: 1s, max: 1s}}}}
  verify: {{within: 20s, stableFor: 500ms}}
"
    )
}

#[test]
fn restarts_and_a_long_stop_by_a_person_are_left_alone() {
    let dir = Scratch::new();
    let ok = dir.path().join("ok");
    fs::write(&ok, "").expect("the scratch directory can be written");
    let quick = format!("StartLimitInterval=0\nEnvironment=DRAIN=0\n{DRAINS}");
    let slow = format!("Environment=DRAIN=15\n{DRAINS}");
    let machine = Machine::boot(&[("quick", &quick), ("slow", &slow)], &[]);
    for unit in ["quick", "slow"] {
        until("both units", || (machine.systemctl(&["is-active", unit]) == "active").then_some(()));
    }
    let agent = Agent::start(
        &format!("runtimes: {{systemd: {}}}", machine.bus().display()),
        &policy("enforce", "unit: [quick, slow]", &rules(&ok.display().to_string())),
    );
    for _time in 0..4 {
        let before = main_pid("quick");
        machine.systemctl(&["restart", "quick"]);
        until("its next process", || (main_pid("quick") != before).then_some(()));
    }
    machine.systemctl(&["stop", "--no-block", "slow"]);
    until("the stop", || (machine.systemctl(&["is-active", "slow"]) == "deactivating").then_some(()));
    fs::remove_file(&ok).expect("it is there");
    // Both fail their probe now. The one that nobody has stopped is healed for it.
    let done = agent.wait_for(&["systemd restarted quick.service"]);
    assert_eq!(number_after(&done, "main pid "), main_pid("quick"));
    fs::write(&ok, "").expect("the scratch directory can be written");
    until("its end", || {
        ["failed", "inactive"].contains(&machine.systemctl(&["is-active", "slow"]).as_str()).then_some(())
    });
    // Longer than a missing one is waited for.
    thread::sleep(Duration::from_secs(8));
    assert_ne!(machine.systemctl(&["is-active", "slow"]), "active", "{}", agent.log());
    assert_eq!(agent.lines(&["systemd restarted slow.service"]), [""; 0], "{}", agent.log());
    for class in ["crashed", "crash loop", "exited with code 1", "is down"] {
        for unit in ["quick.service", "slow.service"] {
            assert_eq!(agent.lines(&[unit, class]), [""; 0], "{}", agent.log());
        }
    }
    // A death that nobody has asked for is one.
    let pid = Pid::from_raw(main_pid("quick").cast_signed()).expect("a pid");
    kill_process(pid, Signal::KILL).expect("the unit's process is there");
    agent.wait_for(&["quick.service is down"]);
}

fn main_pid(unit: &str) -> u32 {
    until("the unit's process", || {
        let pids = pids_in(&format!("/payload/system.slice/{unit}.service"));
        // The others are its children, and have smaller numbers once these begin again.
        pids.iter().copied().find(|pid| parent_of(*pid).is_some_and(|parent| !pids.contains(&parent)))
    })
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
