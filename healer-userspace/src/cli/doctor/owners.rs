//! Who else restarts things here: their sockets, reached by default paths.

use std::os::unix::fs::FileTypeExt as _;

use super::{Check, Root};

/// Name, default paths of its socket, what healer cannot do without it.
const SOCKETS: &[(&str, &[&str], &str)] = &[
    (
        "systemd",
        &["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"],
        "units cannot be restarted",
    ),
    (
        "docker",
        &["/var/run/docker.sock", "/run/docker.sock"],
        "containers of docker have no names and cannot be restarted",
    ),
    (
        "containerd (CRI)",
        &["/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"],
        "containers of Kubernetes have no names and cannot be restarted",
    ),
];

pub(super) fn checks(root: Root<'_>) -> Vec<Check> {
    let sockets = SOCKETS.iter().map(|(name, paths, costs)| socket(root, name, paths, costs));
    sockets.chain([kubernetes(root)]).collect()
}

fn socket(root: Root<'_>, name: &str, paths: &[&str], costs: &str) -> Check {
    let is_socket =
        |path: &&&str| std::fs::metadata(root.at(path)).is_ok_and(|found| found.file_type().is_socket());
    let Some(path) = paths.iter().find(is_socket) else {
        return Check::absent(name, format!("no socket at {}", paths[0]), costs);
    };
    match rustix::fs::access(root.at(path), rustix::fs::Access::WRITE_OK) {
        Ok(()) => Check::ok(name, *path),
        Err(errno) => {
            let fix = "run as root";
            Check::degraded(name, format!("{path}: {errno}"), costs, fix)
        }
    }
}

fn kubernetes(root: Root<'_>) -> Check {
    const NAME: &str = "kubernetes";
    const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    if root.at(TOKEN).exists() {
        return Check::ok(NAME, "this process runs in a pod with a service account");
    }
    Check::absent(NAME, "no service account", "no events, no eviction")
}
