//! The unit of `deploy/`, as it is shipped, under a systemd: it senses and heals within its sandbox, and gives up the
//! rights that only loading needs. `healer doctor` says there what the sandbox keeps back.
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
const DOCTOR: &str = "healer-doctor.service";
const DOCTORS_WORD: &str = "/run/healer-doctor.json";

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
        for unit in ["healer.service", "web.service", DOCTOR] {
            systemctl(&["stop", unit]);
            fs::remove_file(Path::new(UNITS).join(unit)).ok();
        }
        fs::remove_dir_all("/etc/healer").ok();
        fs::remove_dir_all("/var/lib/healer").ok();
        fs::remove_file("/usr/bin/healer").ok();
        fs::remove_file(DOCTORS_WORD).ok();
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

/// A second unit with all of the shipped one's lines, and after them what makes it the doctor: later lines win.
fn doctor() -> Value {
    let command = "ExecStart=\nExecStart=/usr/bin/healer doctor --json --config /etc/healer/agent.yaml";
    let own = format!("Type=oneshot\nRestart=no\n{command}\nStandardOutput=file:{DOCTORS_WORD}");
    fs::write(Path::new(UNITS).join(DOCTOR), format!("{UNIT}\n[Service]\n{own}\n")).unwrap();
    systemctl(&["daemon-reload"]);
    // Of a oneshot it waits for the end, and tells of a failure.
    let ended = Command::new("systemctl").args(["start", DOCTOR]).status().unwrap();
    let said = fs::read_to_string(DOCTORS_WORD).unwrap_or_default();
    assert!(ended.success(), "{}\n{said}", systemctl(&["status", "--no-pager", DOCTOR]));
    serde_json::from_str(&said).unwrap()
}

fn the_doctor_knows_the_sandbox() {
    let found = doctor();
    assert_eq!(found["can_sense"], true, "{found:#}");
    let check = |name: &str| {
        let mut checks = found["checks"].as_array().into_iter().flatten();
        checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {found:#}"))
    };
    for held in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_KILL", "pid namespace", "systemd"] {
        assert_eq!(check(held)["state"], "ok", "{}", check(held));
    }
    // A guest's disk may be too small to be well, but the sandbox lets it be written.
    assert_ne!(check("state directory")["state"], "missing", "{}", check("state directory"));
    let lacks = |name: &str, key: &str, words: &str| {
        let check = check(name);
        let says = check[key].as_str().unwrap_or_default();
        assert!(check["state"] == "absent" && says.contains(words), "{check}");
    };
    lacks("CAP_SYS_ADMIN", "fix", "CapabilityBoundingSet=CAP_SYS_ADMIN");
    lacks("the unit's network", "costs", "IPAddressAllow=");
    lacks("the unit's children", "says", "NoNewPrivileges, ProtectSystem");
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

    the_doctor_knows_the_sandbox();

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
