//! Images of nothing but a static busybox, made without a registry.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

pub(super) const BUSYBOX: &str = "healer.test/busybox:1";
/// What holds the namespaces of a pod.
pub(super) const PAUSE: &str = "healer.test/pause:1";

/// Imports both, as `docker save` would have written them.
pub(super) fn import(home: &Path) {
    let dir = home.join("image");
    fs::create_dir_all(dir.join("root/bin")).expect("the scratch directory can be written");
    fs::copy("/bin/busybox", dir.join("root/bin/busybox")).expect("this test needs busybox-static");
    let layer = dir.join("layer.tar");
    run(Command::new("tar").arg("-C").arg(dir.join("root")).arg("-cf").arg(&layer).arg("."));
    let digest = run(Command::new("sha256sum").arg(&layer));
    let digest = digest.split_whitespace().next().expect("a digest").to_owned();
    let config = serde_json::json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": [BUSYBOX, PAUSE], "Layers": ["layer.tar"]}
    ]);
    for (name, value) in [("config.json", config), ("manifest.json", manifest)] {
        fs::write(dir.join(name), value.to_string()).expect("the scratch directory can be written");
    }
    let archive = home.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    run(Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&archive).args(files));
    let done = ctr(home, &["--namespace", "k8s.io", "images", "import", &archive.display().to_string()]);
    assert!(done.status.success(), "ctr: {}", String::from_utf8_lossy(&done.stderr));
}

pub(super) fn ctr(home: &Path, args: &[&str]) -> Output {
    let socket = home.join("containerd.sock");
    let mut command = Command::new("ctr");
    command.arg("--address").arg(socket).args(args).output().expect("this test needs ctr (containerd)")
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
