//! The files themselves, as data.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use healer_tests::{
    deploy::{path, text, yaml},
    scratch::Scratch,
};
use serde_json::Value;

const PROFILES: [&str; 5] = ["base", "act", "past-pdb", "probes", "monitoring"];
/// The oldest and the newest that they are for.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];
/// With `before-1.30`; the validator has no older schemas.
const OLD_VERSIONS: [&str; 2] = ["1.25", "1.29"];

/// As users apply them: what they name must be there.
#[test]
fn what_the_kustomizations_name_is_there() {
    for dir in PROFILES.map(|profile| format!("kubernetes/{profile}")) {
        let kustomization = yaml(&format!("{dir}/kustomization.yaml"));
        let resources = kustomization["resources"].as_array().cloned().unwrap_or_default();
        let generators = kustomization["configMapGenerator"].as_array().cloned().unwrap_or_default();
        let files_of = |generator: &Value| generator["files"].as_array().cloned().unwrap_or_default();
        let files: Vec<Value> = generators.iter().flat_map(files_of).collect();
        let patches = kustomization["patches"].as_array().cloned().unwrap_or_default();
        let patches = patches.iter().map(|patch| patch["path"].clone());
        for name in resources.into_iter().chain(files).chain(patches) {
            let name = name.as_str().expect("a name").to_owned();
            assert!(path(&dir).join(&name).exists(), "{dir}: {name}");
        }
    }
}

/// The agent's own words: arguments, policies, probes.
#[test]
fn the_daemon_set_speaks_the_agents_language() {
    let set = yaml("kubernetes/base/daemonset.yaml");
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    for probe in ["startupProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["path"], "/healthz");
    }
    let listen = format!(":{}", container["ports"][0]["containerPort"]);
    let args: Vec<String> = serde_json::from_value(container["args"].clone()).expect("a list of words");
    assert!(args.iter().any(|arg| arg.ends_with(&listen)), "{args:?}");
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    assert_eq!(mounts[2]["name"], "cgroup", "../act makes the third mount writable");
    let agent = mounts.iter().find(|mount| mount["name"] == "agent").expect("the mount of the AgentConfig");
    let directory = agent["mountPath"].as_str().expect("a path");
    assert!(args.contains(&format!("--config={directory}/agent.yaml")), "{args:?}");
    for profile in ["base", "act"] {
        let files = ["base/policies.yaml".to_owned(), format!("{profile}/agent.yaml")];
        let files = files.map(|name| path("kubernetes").join(name));
        let checked =
            Command::new(healer_tests::binary::healer()).args(["policy", "check"]).args(files).output();
        let checked = checked.expect("healer can be started");
        assert!(checked.status.success(), "{}", text_of(&checked.stderr));
    }
}

/// What `kubectl apply -k` would send.
fn rendered(kustomization: &Path, to: &Path) -> PathBuf {
    let done = Command::new("kubectl").arg("kustomize").arg(kustomization).output();
    let done = done.expect("kubectl is in PATH (1.21 or later: it renders with the kustomize inside it)");
    assert!(done.status.success(), "{}: {}", kustomization.display(), text_of(&done.stderr));
    fs::write(to, done.stdout).expect("the scratch directory can be written");
    to.to_owned()
}

fn validate(file: &Path, version: &str) -> Output {
    let check = Command::new(validator()).args(["--strict", "-k", version]).arg(file).output();
    check.expect(
        "kubernetes-validate of PyPI is where HEALER_VALIDATOR says, or in target/kubernetes-validate: \
         cargo xtask test --live puts it there",
    )
}

fn is_valid(file: &Path, version: &str) {
    let done = validate(file, version);
    let said = format!("{}{}", text_of(&done.stdout), text_of(&done.stderr));
    assert!(done.status.success() && !said.contains("ERROR"), "{} in {version}:\n{said}", file.display());
    // Of a kind without a schema nothing is known: the operator's, and no other. A cluster without the operator refuses it.
    let unknown = said.lines().filter(|line| line.contains("Couldn't find schema"));
    let is_operators = file.ends_with("monitoring.yaml");
    unknown.for_each(|line| assert!(is_operators && line.contains("PodMonitor"), "{line}"));
}

fn validator() -> PathBuf {
    let built = || {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kubernetes-validate/bin/kubernetes-validate")
    };
    std::env::var_os("HEALER_VALIDATOR").map_or_else(built, PathBuf::from)
}

#[test]
fn every_profile_is_valid_for_the_oldest_and_the_newest_kubernetes() {
    let scratch = Scratch::new();
    for profile in PROFILES {
        let file = scratch.path().join(format!("{profile}.yaml"));
        let file = rendered(&path("kubernetes").join(profile), &file);
        VERSIONS.iter().for_each(|version| is_valid(&file, version));
    }
}

/// As an administrator writes it, who has an older server.
#[test]
fn with_its_component_an_older_kubernetes_takes_it_too() {
    let scratch = Scratch::new();
    let dir = scratch.path().canonicalize().expect("it is there");
    let deploy = path("kubernetes").canonicalize().expect("it is there");
    // Kustomize takes no absolute paths.
    let up = "../".repeat(dir.components().count() - 1);
    let of = |name: &str| format!("{up}{}", deploy.join(name).display().to_string().trim_start_matches('/'));
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    let own = format!("{head}resources: [{}]\ncomponents: [{}]\n", of("act"), of("before-1.30"));
    fs::write(dir.join("kustomization.yaml"), own).expect("the scratch directory can be written");
    let file = rendered(&dir, &dir.join("rendered.yaml"));
    let set = fs::read_to_string(&file).expect("it was written");
    assert!(set.contains("container.apparmor.security.beta.kubernetes.io/healer: unconfined"), "{set}");
    OLD_VERSIONS.iter().for_each(|version| is_valid(&file, version));
}

/// The only one that a profile's pods are given.
fn agent_config_of(profile: &str) -> Value {
    let scratch = Scratch::new();
    let file = rendered(&path("kubernetes").join(profile), &scratch.path().join("rendered.yaml"));
    let text = fs::read_to_string(&file).expect("it was written");
    let is_it = |document: &&str| document.contains("kind: ConfigMap") && document.contains("agent.yaml: |");
    let maps: Vec<&str> = text.split("\n---\n").filter(is_it).collect();
    assert_eq!(maps.len(), 1, "{profile}: {maps:?}");
    let map: Value = serde_saphyr::from_str(maps[0]).expect("kubectl writes YAML");
    let name = map["metadata"]["name"].as_str().expect("it has a name");
    assert_eq!(text.matches(name).count(), 2, "it is the pods' volume: {text}");
    serde_saphyr::from_str(map["data"]["agent.yaml"].as_str().expect("a file")).expect("an AgentConfig")
}

/// Whatever a HealPolicy says: the runtime's socket in the base is no lesser one than that of the hands.
#[test]
fn only_the_profiles_with_hands_let_a_policy_enforce() {
    for (profile, mode) in [("base", Value::from("shadow")), ("act", Value::Null), ("past-pdb", Value::Null)]
    {
        assert_eq!(agent_config_of(profile)["mode"], mode, "{profile}");
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// That it can fail at all.
#[test]
fn a_misspelt_manifest_is_refused() {
    let scratch = Scratch::new();
    let file = scratch.path().join("set.yaml");
    let wrong = text("kubernetes/base/daemonset.yaml").replace("hostPID", "hostPid");
    fs::write(&file, wrong).expect("the scratch directory can be written");
    let done = validate(&file, VERSIONS[1]);
    let said = format!("{}{}", text_of(&done.stdout), text_of(&done.stderr));
    assert!(!done.status.success() && said.contains("hostPid"), "{said}");
}
