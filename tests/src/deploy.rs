//! The files of `deploy/`, read as they are, and the rights that they give.

use std::{fs, path::PathBuf};

use serde_json::Value;

#[must_use]
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../healer-userspace/deploy")).join(name)
}

/// # Panics
/// Without such a file.
#[must_use]
pub fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// # Panics
/// Without such a file, or if it is no YAML.
#[must_use]
pub fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Capabilities as setpriv(1) has them: `bpf`, `perfmon`, …
///
/// # Panics
/// If the DaemonSet is built otherwise.
#[must_use]
pub fn rights_of_daemon_set(with_hands: bool) -> Vec<String> {
    let set = yaml("kubernetes/base/daemonset.yaml");
    let rights = &set["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"];
    assert_eq!(rights["drop"][0], "ALL");
    let mut names: Vec<String> = serde_json::from_value(rights["add"].clone()).expect("a list of names");
    if with_hands {
        let hands = yaml("kubernetes/act/hands.yaml");
        let is_right =
            |patch: &&Value| patch["path"].as_str().is_some_and(|path| path.contains("capabilities"));
        let hands = hands.as_array().expect("patches").iter().filter(is_right);
        names.extend(hands.map(|patch| patch["value"].as_str().expect("a name").to_owned()));
    }
    names.iter().map(|name| name.to_lowercase()).collect()
}

/// As `rights_of_daemon_set`.
///
/// # Panics
/// If the unit has no bounding set.
#[must_use]
pub fn rights_of_unit() -> Vec<String> {
    let unit = text("systemd/healer.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.expect("the unit has a bounding set").split_ascii_whitespace();
    names.map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}
