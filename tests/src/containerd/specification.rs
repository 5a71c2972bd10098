//! What containerd would have runc run: asked for, and not run.

use std::path::Path;

use serde_json::Value;

use super::image::ctr;
use crate::scratch::unique_name;

pub(super) fn of(home: &Path, root: &Path, rights: &[String], memory: u64) -> Value {
    let plain = created(home, root, &[]);
    let usual = plain["process"]["capabilities"]["bounding"].as_array().expect("a list of names");
    let usual = usual.iter().map(|name| name.as_str().expect("a name"));
    let unasked = usual.filter(|name| !rights.iter().any(|right| right == name));
    let memory = memory.to_string();
    let mut options = vec!["--read-only", "--seccomp", "--memory-limit", memory.as_str()];
    // Not put in afterwards: what the profile allows depends on them.
    options.extend(rights.iter().flat_map(|name| ["--cap-add", name.as_str()]));
    options.extend(unasked.flat_map(|name| ["--cap-drop", name]));
    created(home, root, &options)
}

fn created(home: &Path, root: &Path, options: &[&str]) -> Value {
    let (name, root) = (unique_name(), root.display().to_string());
    let mut create = vec!["containers", "create", "--rootfs"];
    create.extend(options);
    create.extend([root.as_str(), name.as_str(), "/healer"]);
    said(home, &create);
    let container: Value =
        serde_json::from_str(&said(home, &["containers", "info", &name])).expect("ctr speaks JSON");
    said(home, &["containers", "delete", &name]);
    container["Spec"].clone()
}

fn said(home: &Path, args: &[&str]) -> String {
    let done = ctr(home, args);
    assert!(done.status.success(), "ctr: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
