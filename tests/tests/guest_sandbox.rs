//! The unit of `deploy/`, as it is shipped, under a systemd: it senses and heals within its sandbox, and gives up the
//! rights that only loading needs.
//!
//! systemd guest: all

use std::{fs, path::Path, process::Command};

use healer_tests::{
    home::{signal_to, until},
    policies::units,
    scratch::Scratch,
    victim::built,
};
use rustix::process::Signal;
use serde_json::Value;

const UNIT: &str = include_str!("../../healer-userspace/deploy/systemd/healer.service");
const CONFIG: &str = include_str!("../../healer-userspace/deploy/systemd/agent.yaml");
const UNITS: &str = "/run/systemd/system";
const POLICIES: &str = "/etc/healer/policies";

fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn start(name: &str, text: &str) {
    fs::write(Path::new(UNITS).join(name), text).unwrap();
    systemctl(&["daemon-reload"]);
    systemctl(&["start", name]);
    until("the unit is up", || (systemctl(&["is-active", name]) == "active").then_some(()));
}

/// Whatever becomes of the test.
struct Installed;

impl Installed {
    /// What is installed already is somebody's: by hand this belongs into a guest.
    fn nowhere() -> Self {
        let of_somebody = ["/usr/bin/healer", "/etc/healer", "/var/lib/healer"].map(Path::new);
        assert!(
            !of_somebody.iter().any(|path| path.exists()),
            "healer is installed here: run this in a guest"
        );
        Self
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for unit in ["healer.service", "web.service"] {
            systemctl(&["stop", unit]);
            fs::remove_file(Path::new(UNITS).join(unit)).ok();
        }
        fs::remove_dir_all("/etc/healer").ok();
        fs::remove_dir_all("/var/lib/healer").ok();
        fs::remove_file("/usr/bin/healer").ok();
    }
}

fn asked(args: &[&str]) -> Value {
    let output = Command::new("/usr/bin/healer").args(args).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn audit() -> String {
    fs::read_to_string("/var/lib/healer/audit.jsonl").unwrap_or_default()
}

fn main_pid(unit: &str) -> u32 {
    systemctl(&["show", "-P", "MainPID", unit]).parse().unwrap()
}

#[test]
fn the_shipped_unit_senses_and_heals_in_its_sandbox() {
    let dir = Scratch::new();
    let _installed = Installed::nowhere();
    fs::copy(healer_tests::binary::healer(), "/usr/bin/healer").unwrap();
    fs::create_dir_all(POLICIES).unwrap();
    fs::write(Path::new(POLICIES).join("web.yaml"), units("web.service")).unwrap();
    fs::write("/etc/healer/agent.yaml", CONFIG).unwrap();
    start("web.service", &format!("[Service]\nExecStart={}\n", built(&dir, "fragile").display()));
    start("healer.service", UNIT);

    let sensors = asked(&["sensors", "--json"]);
    let sensors = sensors.as_array().or(sensors["sensors"].as_array()).cloned().unwrap_or_default();
    assert!(!sensors.is_empty());
    // What the kernel lacks is another thing than what the sandbox forbids: ENOENT is what it says without inet_diag.
    let lacks_a_module =
        |sensor: &Value| sensor["reason"].as_str().is_some_and(|why| why.ends_with("(os error 2)"));
    let is_whole = |sensor: &Value| {
        sensor["state"] == "attached" || sensor["missing"].is_array() || lacks_a_module(sensor)
    };
    sensors.iter().for_each(|sensor| assert!(is_whole(sensor), "{sensor}"));
    let tasks = format!("/proc/{}/task", main_pid("healer"));
    for task in fs::read_dir(tasks).unwrap().flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let sets =
            status.lines().filter_map(|line| line.strip_prefix("CapEff:").or(line.strip_prefix("CapPrm:")));
        for set in sets {
            let set = u64::from_str_radix(set.trim(), 16).unwrap();
            assert_eq!(set & (1 << 38 | 1 << 39), 0, "{status}\n{}", audit());
        }
    }

    let before = main_pid("web");
    signal_to(before, Signal::USR1);
    until("healer's word that it is healed", || {
        let healed = |line: &str| line.contains("\"closed\"") && line.contains("\"outcome\":\"healed\"");
        audit().lines().any(healed).then_some(())
    });
    assert!(audit().contains("systemd restarted web.service"), "{}", audit());
    assert_ne!(main_pid("web"), before);
    assert_eq!(systemctl(&["show", "-P", "NRestarts", "healer"]), "0", "it lived through it");
}
