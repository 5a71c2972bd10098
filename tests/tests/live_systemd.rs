//! A real systemd over D-Bus: units are diagnosed by name and restarted by their owner, which goes first.

use std::{path::Path, thread, time::Duration};

use healer_tests::{
    agent::{Agent, number_after, pids_in},
    machine::Machine,
    policies::units,
    scratch::Scratch,
    victim::built,
};

const START: &str = "ExecStart=/usr/local/bin/fragile";
/// Says that it is ready, and never again that it lives.
const WATCHED: &str = "Type=notify\nNotifyAccess=all\nWatchdogSec=2\n\
    ExecStart=/bin/sh -c 'systemd-notify --ready && exec sleep 1000'";
/// Seconds, of a job: systemd is asked once in five.
const LASTS: &str = "8";

#[test]
fn units_are_healed_by_their_owner_who_goes_first() {
    let dir = Scratch::new();
    let program = built(&dir, "fragile");
    let restarts = format!("{START}\nRestart=always");
    let speaks = format!("ExecStartPre=/bin/echo hello from web\n{START}");
    let job = format!("Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep {LASTS}");
    let services = [
        ("web", speaks.as_str()),
        ("own", &restarts),
        ("stopped", START),
        ("shot", START),
        ("job", &job),
        ("watched", WATCHED),
    ];
    let machine = Machine::boot(&services, &[&program]);
    machine.systemctl(&["stop", "job"]);
    for (unit, _) in &services[..4] {
        until(|| machine.systemctl(&["is-active", unit]) == "active");
    }
    let agent = Agent::start(
        &format!("runtimes: {{systemd: {}}}", machine.bus().display()),
        &units("web.service, own.service, stopped.service, job.service, task.service"),
    );
    jobs_begin(&machine);
    // Told to stop: no failure, and nothing that follows may start it again.
    machine.systemctl(&["stop", "stopped"]);
    crashes_and_is_restarted(&machine, &agent);
    restarts_itself(&machine, &agent);
    is_killed_through_systemd(&machine, &agent);
    is_given_up_by_its_watchdog(&machine, &agent);
    jobs_are_over(&machine, &agent);
    assert_eq!(machine.systemctl(&["is-active", "stopped"]), "inactive");
    assert_eq!(agent.lines(&["stopped.service"]), [""; 0], "{}", agent.log());
}

fn crashes_and_is_restarted(machine: &Machine, agent: &Agent) {
    let before = main_pid("web");
    signal(before, libc::SIGUSR1);
    let crash = agent
        .wait_for(&[&format!("fragile[{before}] of web.service"), "crashed with SIGSEGV at address 0x8"]);
    let evidence = agent.evidence(&crash);
    assert!(
        evidence.contains("the journal of web.service\n") && evidence.contains("| hello from web\n"),
        "{evidence}"
    );
    let done = agent.wait_for(&["systemd restarted web.service: active (running)"]);
    let after = number_after(&done, "main pid ");
    assert_eq!(main_pid("web"), after);
    agent.wait_for(&["closed  healed", &format!("fragile[{after}] has lived")]);
    assert_eq!(machine.systemctl(&["show", "-P", "NRestarts", "web"]), "0", "systemd did not do it");
}

/// Both want to: systemd does, once, and healer says so.
fn restarts_itself(machine: &Machine, agent: &Agent) {
    let before = main_pid("own");
    signal(before, libc::SIGUSR1);
    agent.wait_for(&[&format!("fragile[{before}] of own.service"), "crashed with SIGSEGV"]);
    let said = agent.wait_for(&["second_look refuses", "systemd has restarted it itself"]);
    let after = number_after(&said, "itself: pid ");
    assert_eq!(main_pid("own"), after);
    agent.wait_for(&["closed  recovered alone", &format!("itself: pid {after}")]);
    assert_eq!(machine.systemctl(&["show", "-P", "NRestarts", "own"]), "1", "{}", agent.log());
    assert_eq!(agent.lines(&["systemd restarted own.service"]), [""; 0], "{}", agent.log());
}

/// `systemctl kill` of a unit that no policy names: systemd's own hand, whoever asked.
fn is_killed_through_systemd(machine: &Machine, agent: &Agent) {
    let pid = main_pid("shot");
    machine.systemctl(&["kill", "--signal=KILL", "shot"]);
    let why = agent.why(pid);
    let by = format!("killed by SIGKILL from systemd[{}] (uid 0)", machine.leader());
    assert!(why.contains(&format!("fragile[{pid}] of shot.service {by}")), "{why}");
}

fn is_given_up_by_its_watchdog(machine: &Machine, agent: &Agent) {
    machine.systemctl(&["start", "watched"]);
    let pid = main_pid("watched");
    let killed = format!("killed by SIGABRT from systemd[{}] (uid 0)", machine.leader());
    agent.wait_for(&[
        &format!("[{pid}] of watched.service {killed}"),
        "a watchdog or a time limit gave it up",
    ]);
}

/// No crash, so the owner has its time first; the unit is down until healer acts.
fn killed_is_down(machine: &Machine, agent: &Agent) {
    let before = main_pid("web");
    signal(before, libc::SIGKILL);
    agent.wait_for(&["web.service is down", "killed by SIGKILL from", "no successor in 5"]);
    until(|| machine.systemctl(&["is-active", "web"]) == "active");
    assert_ne!(main_pid("web"), before);
}

/// A oneshot that counts as running once it is over, and a command that somebody has had run: systemd forgets it.
fn jobs_begin(machine: &Machine) {
    machine.systemctl(&["start", "--no-block", "job"]);
    machine.inside("systemd-run", &["--unit=task", "sleep", LASTS]);
}

/// What is down is told after five seconds: by then a service that dies after them has been told.
fn jobs_are_over(machine: &Machine, agent: &Agent) {
    until(|| machine.systemctl(&["show", "-P", "SubState", "job"]) == "exited");
    until(|| machine.systemctl(&["show", "-P", "LoadState", "task"]) == "not-found");
    killed_is_down(machine, agent);
    for job in ["job.service is down", "task.service is down"] {
        assert_eq!(agent.lines(&[job]), [""; 0], "{}", agent.log());
    }
}

fn main_pid(unit: &str) -> u32 {
    let mut pids = Vec::new();
    until(|| {
        pids = pids_in(&format!("/payload/system.slice/{unit}.service"));
        pids.len() == 1
    });
    pids[0]
}

fn signal(pid: u32, signal: i32) {
    let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal with a name");
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("the unit's process is there");
}

fn until(mut check: impl FnMut() -> bool) {
    for _look in 0..600 {
        if check() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not come true");
}

#[test]
fn a_bus_that_hangs_is_a_time_out_with_words() {
    let dir = Scratch::new();
    let path = dir.path().join("bus");
    // Takes the connection and never says a word.
    let _deaf = std::os::unix::net::UnixListener::bind(&path).expect("the scratch directory can be written");
    let agent = Agent::start(&format!("runtimes: {{systemd: {}}}", path.display()), &units("web.service"));
    agent.wait_for(&["no systemd at", "no answer within 2s"]);
    assert!(Path::new(&format!("/proc/{}", agent.pid())).exists());
}
