//! The files themselves, as data.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use healer_tests::scratch::Scratch;

use serde_json::Value;

const PROFILES: [&str; 4] = ["base", "act", "past-pdb", "probes"];
/// The oldest and the newest that they are for.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];
/// With `before-1.30`; the validator has no older schemas.
const OLD_VERSIONS: [&str; 2] = ["1.25", "1.29"];

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
    for dir in PROFILES.map(|profile| format!("kubernetes/{profile}")) {
        let kustomization = yaml(&format!("{dir}/kustomization.yaml"));
        let resources = kustomization["resources"].as_array().cloned().unwrap_or_default();
        let generated = &kustomization["configMapGenerator"][0]["files"];
        let files = generated.as_array().cloned().unwrap_or_default();
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

/// Of a passing test nothing else is shown.
fn not_checked(why: &str) {
    let says = format!("NOT CHECKED: {why}\n");
    std::io::stderr().write_all(says.as_bytes()).expect("stderr is open");
}

/// What `kubectl apply -k` would send. None: there is no kubectl.
fn rendered(kustomization: &Path, to: &Path) -> Option<PathBuf> {
    let done = Command::new("kubectl").arg("kustomize").arg(kustomization).output().ok()?;
    assert!(done.status.success(), "{}: {}", kustomization.display(), text_of(&done.stderr));
    fs::write(to, done.stdout).expect("the scratch directory can be written");
    Some(to.to_owned())
}

/// Files as they are, where nothing renders them.
fn plain(profile: &str) -> Vec<PathBuf> {
    let dir = path("kubernetes").join(profile);
    let resources = yaml(&format!("kubernetes/{profile}/kustomization.yaml"))["resources"].clone();
    let names = resources.as_array().cloned().unwrap_or_default();
    let files = names.iter().filter_map(|name| Some(dir.join(name.as_str()?)));
    files.filter(|file| file.is_file()).collect()
}

/// None: there is no validator.
fn is_valid(files: &[PathBuf], version: &str) -> Option<()> {
    let check = Command::new(validator()).args(["--strict", "-k", version]).args(files).output();
    let Ok(done) = check else {
        not_checked("manifests against schemas: PyPI had no kubernetes-validate (cargo xtask test --live)");
        return None;
    };
    let said = format!("{}{}", text_of(&done.stdout), text_of(&done.stderr));
    assert!(done.status.success() && !said.contains("ERROR"), "{files:?} in {version}:\n{said}");
    // Of a kind without a schema nothing is known: the operator's, and no other.
    let unknown = said.lines().filter(|line| line.contains("Couldn't find schema"));
    unknown.for_each(|line| assert!(line.contains("PodMonitor"), "{line}"));
    Some(())
}

fn validator() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kubernetes-validate/bin/kubernetes-validate")
}

#[test]
fn every_profile_is_valid_for_the_oldest_and_the_newest_kubernetes() {
    let scratch = Scratch::new();
    for profile in PROFILES {
        let file = scratch.path().join(format!("{profile}.yaml"));
        let rendered = rendered(&path("kubernetes").join(profile), &file);
        if rendered.is_none() {
            not_checked("kubectl kustomize: there is no kubectl here; the files are validated one by one");
        }
        let files = rendered.map_or_else(|| plain(profile), |file| vec![file]);
        if VERSIONS.iter().try_for_each(|version| is_valid(&files, version)).is_none() {
            return;
        }
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
    let Some(file) = rendered(&dir, &dir.join("rendered.yaml")) else {
        return not_checked("kubectl kustomize: there is no kubectl here");
    };
    let set = fs::read_to_string(&file).expect("it was written");
    assert!(set.contains("container.apparmor.security.beta.kubernetes.io/healer: unconfined"), "{set}");
    let files = [file];
    OLD_VERSIONS.iter().try_for_each(|version| is_valid(&files, version));
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
    match Command::new(validator()).args(["--strict", "-k", VERSIONS[1]]).arg(&file).output() {
        Ok(done) => assert!(!done.status.success(), "{}", text_of(&done.stdout)),
        Err(_) => not_checked("that a misspelt manifest is refused: no kubernetes-validate"),
    }
}
