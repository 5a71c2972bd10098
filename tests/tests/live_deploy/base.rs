//! The DaemonSet of the base, made into what a container runtime runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    slice,
};

use healer_tests::{
    binary::healer,
    containerd::Containerd,
    deploy::{path, rights_of_daemon_set, yaml},
    home::Home,
    rights::{set_of, set_with},
};
use serde_json::{Value, json};

/// The shipped files, and what of the rights in them this machine has to give.
pub(super) struct Base {
    pod: Value,
    pub(super) rights: Vec<String>,
}

impl Base {
    pub(super) fn read() -> Self {
        let set = yaml("kubernetes/base/daemonset.yaml");
        let ours = set_of(std::process::id(), "CapBnd:");
        let is_here = |name: &String| set_with(slice::from_ref(name)) & ours != 0;
        let (rights, lacking): (Vec<_>, Vec<_>) = rights_of_daemon_set(false).into_iter().partition(is_here);
        if !lacking.is_empty() {
            eprintln!("the base gives {lacking:?}, which this machine's root has not");
        }
        Self { pod: set["spec"]["template"]["spec"].clone(), rights }
    }

    pub(super) fn container(&self) -> &Value {
        &self.pod["containers"][0]
    }

    /// As the file has it, but for the rights that this machine has not to give.
    pub(super) fn security_context(&self) -> Value {
        let of_pod = &self.pod["securityContext"];
        assert!(of_pod.is_null(), "nothing here carries out what all of the pod are given: {of_pod}");
        let mut rights: Vec<_> = self.rights.iter().map(|right| right.to_uppercase()).collect();
        rights.sort_unstable();
        let mut context = self.container()["securityContext"].clone();
        context["capabilities"]["add"] = json!(rights);
        context
    }

    pub(super) fn port(&self) -> &Value {
        &self.container()["ports"][0]["containerPort"]
    }

    fn memory(&self) -> u64 {
        let limit = self.container()["resources"]["limits"]["memory"].as_str().expect("a limit");
        limit.strip_suffix("Mi").and_then(|number| number.parse::<u64>().ok()).expect("in Mi") << 20
    }

    /// As a kubelet and its runtime make it of the files.
    pub(super) fn specification(
        &self,
        containerd: &Containerd,
        home: &Home,
        root: &Path,
        name: &str,
    ) -> Value {
        let rights: Vec<_> =
            self.rights.iter().map(|right| format!("CAP_{}", right.to_uppercase())).collect();
        let mut made = containerd.specification(root, &rights, self.memory());
        let words = self.container()["args"].as_array().expect("arguments");
        made["process"]["args"] = [json!("/healer")].into_iter().chain(words.iter().cloned()).collect();
        made["process"]["env"] =
            self.container()["env"].as_array().into_iter().flatten().map(variable).collect();
        let namespaces = made["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|namespace| !self.is_hosts(namespace["type"].as_str().expect("a kind")));
        let mounts = self.container()["volumeMounts"].as_array().expect("mounts");
        let mounts = mounts.iter().map(|mount| self.mount(mount, containerd, home));
        made["mounts"].as_array_mut().expect("a list").extend(mounts);
        made["linux"]["cgroupsPath"] = json!(format!("/{name}"));
        made
    }

    fn is_hosts(&self, namespace: &str) -> bool {
        let keys = [("pid", "hostPID"), ("ipc", "hostIPC"), ("network", "hostNetwork")];
        keys.iter().any(|(kind, key)| *kind == namespace && self.pod[*key] == true)
    }

    fn mount(&self, mount: &Value, containerd: &Containerd, home: &Home) -> Value {
        let mut volumes = self.pod["volumes"].as_array().expect("volumes").iter();
        let volume = volumes.find(|volume| volume["name"] == mount["name"]).expect("the volume of the mount");
        let source = match (volume["hostPath"]["path"].as_str(), volume["configMap"]["name"].as_str()) {
            // What belongs to the node's own agent and runtime: ours instead.
            (Some("/var/lib/healer"), _) => home.state().to_owned(),
            (Some("/run/containerd"), _) => containerd.socket().parent().expect("its directory").to_owned(),
            (Some(path), _) => PathBuf::from(path),
            (None, Some(name)) => config_map(name, home.path()),
            (None, None) => panic!("neither of the host nor a ConfigMap: {volume}"),
        };
        let access = if mount["readOnly"] == true { "ro" } else { "rw" };
        let options = ["rbind", "rprivate", access];
        json!({"type": "bind", "source": source, "destination": mount["mountPath"], "options": options})
    }
}

/// In the words of the file, what `made` amounts to. One that is new in the file has to be carried out, and told here.
pub(super) fn security_context_of(made: &Value) -> Value {
    let (process, linux) = (&made["process"], &made["linux"]);
    let bounding = process["capabilities"]["bounding"].as_array().expect("a list").iter();
    let bounding = bounding.map(|right| right.as_str().expect("a name"));
    let mut rights: Vec<_> = bounding.map(|right| right.trim_start_matches("CAP_")).collect();
    rights.sort_unstable();
    let of_type = |profile: &Value| {
        let is_there = profile.is_object() || profile.as_str().is_some_and(|name| !name.is_empty());
        let name = if is_there { "RuntimeDefault" } else { "Unconfined" };
        json!({"type": name})
    };
    json!({
        "runAsUser": process["user"]["uid"],
        "privileged": linux["maskedPaths"].as_array().is_none_or(Vec::is_empty),
        "allowPrivilegeEscalation": process["noNewPrivileges"] != true,
        "readOnlyRootFilesystem": made["root"]["readonly"] == true,
        "seccompProfile": of_type(&linux["seccomp"]),
        "appArmorProfile": of_type(&process["apparmorProfile"]),
        "capabilities": {"drop": ["ALL"], "add": rights},
    })
}

/// What is a field of the pod is told by the API server: any word will do.
fn variable(variable: &Value) -> Value {
    let name = variable["name"].as_str().expect("a name");
    json!(format!("{name}={}", variable["value"].as_str().unwrap_or("here")))
}

/// Its files, in a directory as a kubelet makes it.
fn config_map(name: &str, at: &Path) -> PathBuf {
    let base = yaml("kubernetes/base/kustomization.yaml");
    let mut generators = base["configMapGenerator"].as_array().expect("generators").iter();
    let generator = generators.find(|generator| generator["name"] == name).expect("it is generated");
    let dir = at.join(name);
    fs::create_dir_all(&dir).expect("the scratch directory can be written");
    for file in generator["files"].as_array().expect("files") {
        let file = file.as_str().expect("a name");
        fs::copy(path("kubernetes/base").join(file), dir.join(file)).expect("the file is there");
    }
    dir
}

/// The image of the Dockerfile: the binary alone. One that is not static brings what it loads.
pub(super) fn image(root: &Path) {
    let loads = Command::new("ldd").arg(healer()).output().expect("this test needs ldd (libc-bin)");
    let loads = String::from_utf8_lossy(&loads.stdout).into_owned();
    let libraries = loads.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries {
        let copy = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().expect("a directory"))
            .expect("the scratch directory can be written");
        fs::copy(file, copy).expect("ldd names files");
    }
    fs::copy(healer(), root.join("healer")).expect("the scratch directory can be written");
}
