//! The files themselves, as data.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../healer-userspace/deploy")).join(name)
}

pub fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// As users apply them: what they name must be there.
#[test]
fn what_the_kustomizations_name_is_there() {
    for dir in ["kubernetes/base", "kubernetes/act"] {
        let kustomization = yaml(&format!("{dir}/kustomization.yaml"));
        let resources = kustomization["resources"].as_array().cloned().unwrap_or_default();
        let generated = &kustomization["configMapGenerator"][0]["files"];
        let files = generated.as_array().cloned().unwrap_or_default();
        let patches = kustomization["patches"].as_array().cloned().unwrap_or_default();
        let patches = patches.iter().map(|patch| patch["path"].clone());
        for name in resources.into_iter().chain(files).chain(patches) {
            let name = name.as_str().expect("a name").to_owned();
            assert!(path(dir).join(&name).exists(), "{dir}: {name}");
        }
    }
}

/// The agent's own words: arguments, policies, probes.
#[test]
fn the_daemon_set_speaks_the_agents_language() {
    let set = yaml("kubernetes/base/daemonset.yaml");
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    for probe in ["startupProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["path"], "/readyz");
    }
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    let listen = format!(":{}", container["ports"][0]["containerPort"]);
    let args: Vec<String> = serde_json::from_value(container["args"].clone()).expect("a list of words");
    assert!(args.iter().any(|arg| arg.ends_with(&listen)), "{args:?}");
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    assert_eq!(mounts[2]["name"], "cgroup", "../act makes the third mount writable");
    let policies = path("kubernetes/base/policies.yaml");
    let checked =
        Command::new(healer_tests::binary::healer()).args(["policy", "check"]).arg(policies).output();
    let checked = checked.expect("healer can be started");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
