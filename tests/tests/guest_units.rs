//! Units of a systemd that is the first process, on pure cgroup v2: named, healed by their owner, verified.
//! Only a guest is such a machine; tests/tests/live_systemd.rs has more, in a container.
//!
//! systemd guest: a_unit_that_crashes_is_named_healed_over_d_bus_and_verified
//! systemd guest: a_unit_that_outgrows_its_limit_is_named_with_the_limit
//! one systemd guest: units_that_deadlock_or_leak_are_named_and_restarted_by_systemd

use std::{fs, path::Path, process::Command};

use healer_tests::{
    agent::{Agent, number_after},
    home::{signal_to, until},
    policies::units,
    scratch::Scratch,
    victim::built,
};
use rustix::process::Signal;

/// Stopped and removed on drop.
struct Unit(&'static str);

impl Unit {
    fn start(name: &'static str, lines: &str) -> Self {
        let unit = Self(name);
        fs::write(unit.file(), format!("[Service]\n{lines}\n")).unwrap();
        systemctl(&["daemon-reload"]);
        systemctl(&["start", name]);
        until("the unit is up", || (systemctl(&["is-active", name]) == "active").then_some(()));
        unit
    }

    fn file(&self) -> String {
        format!("/run/systemd/system/{}", self.0)
    }

    fn main_pid(&self) -> u32 {
        systemctl(&["show", "-P", "MainPID", self.0]).parse().unwrap()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        systemctl(&["stop", self.0]);
        fs::remove_file(self.file()).ok();
    }
}

fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn agent() -> Agent {
    Agent::start("runtimes: {systemd: /run/dbus/system_bus_socket}", &units("web.service, greedy.service"))
}

#[test]
fn a_unit_that_crashes_is_named_healed_over_d_bus_and_verified() {
    assert!(Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "this guest has pure cgroup v2");
    let dir = Scratch::new();
    let web = Unit::start("web.service", &format!("ExecStart={}", built(&dir, "fragile").display()));
    let agent = agent();
    let before = web.main_pid();
    signal_to(before, Signal::USR1);
    agent.wait_for(&[&format!("fragile[{before}] of web.service"), "crashed with SIGSEGV at address 0x8"]);
    let done = agent.wait_for(&["systemd restarted web.service: active (running)"]);
    let after = number_after(&done, "main pid ");
    assert_eq!(web.main_pid(), after);
    agent.wait_for(&["closed  healed", &format!("fragile[{after}] has lived")]);
    assert_eq!(systemctl(&["show", "-P", "NRestarts", "web"]), "0", "systemd did not do it");
}

#[test]
fn a_unit_that_outgrows_its_limit_is_named_with_the_limit() {
    let dir = Scratch::new();
    let program = built(&dir, "grows");
    let lines =
        format!("ExecStart=/bin/sh -c 'sleep 3; exec {}'\nMemoryMax=32M\nMemorySwapMax=0", program.display());
    let _greedy = Unit::start("greedy.service", &lines);
    let agent = agent();
    agent.wait_for(&["greedy.service", "OOM-killed because its memory cgroup", "of 32.0 MiB used"]);
    agent.wait_for(&["systemd restarted greedy.service: active (running)"]);
}

/// Restarted by healer alone, though the unit has a `Restart=` of its own.
#[test]
fn units_that_deadlock_or_leak_are_named_and_restarted_by_systemd() {
    let dir = Scratch::new();
    let program = built(&dir, "ails");
    let lines = |how: &str| {
        format!("ExecStart={} {how}\nRestart=always\nMemoryMax=256M\nMemorySwapMax=0", program.display())
    };
    let stuck = Unit::start("stuck.service", &lines("stuck"));
    let leak = Unit::start("leak.service", &lines("leak"));
    let twins =
        [Unit::start("turns.service", &lines("turns")), Unit::start("steady.service", &lines("steady"))];
    let policy = units("stuck.service, leak.service, turns.service, steady.service");
    let leaks = "{class: memory_leak, timeToLimit: {under: 20s}}";
    let policy = policy.replace("{class: oom_kill}", &format!("{{class: deadlock}}, {leaks}"));
    let agent = Agent::start("runtimes: {systemd: /run/dbus/system_bus_socket}", &policy);
    let all = [&stuck, &leak, &twins[0], &twins[1]];
    let before = all.map(Unit::main_pid);
    before.iter().for_each(|pid| signal_to(*pid, Signal::USR1));
    for (unit, pid) in all.into_iter().zip(before).take(2) {
        agent.wait_for(&[&format!("ails[{pid}] of {}", unit.0)]);
        let done = agent.wait_for(&[&format!("systemd restarted {}: active (running)", unit.0)]);
        let after = number_after(&done, "main pid ");
        agent.wait_for(&["closed  healed", &format!("ails[{after}] has lived")]);
        assert_eq!(unit.main_pid(), after);
        assert_eq!(systemctl(&["show", "-P", "NRestarts", unit.0]), "0", "systemd did not do it");
    }
    for (twin, pid) in twins.iter().zip(&before[2..]) {
        assert_eq!(twin.main_pid(), *pid, "the healthy one is not touched");
    }
}
