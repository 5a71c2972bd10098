//! Who else restarts things here: their sockets, where the agent looks for them, and the API server.

use core::slice;
use std::{
    fs::File,
    io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use super::{Check, Root};
use crate::{
    kubernetes::Settings,
    patience::FILES,
    runtimes::{
        Sockets,
        podman::{BY_HOOK, SOCKET as PODMAN},
    },
};

/// A socket's owner, and what healer cannot do without it.
struct Asked<'a> {
    name: &'a str,
    paths: &'a [PathBuf],
    costs: &'a str,
}

pub(super) fn checks(root: Root<'_>, sockets: &Sockets, settings: &Settings) -> Vec<Check> {
    let docker = Asked {
        name: "docker",
        paths: slice::from_ref(&sockets.docker),
        costs: "containers of docker have no names and cannot be restarted",
    };
    let systemd = Asked {
        name: "systemd",
        paths: slice::from_ref(&sockets.systemd),
        costs: "units cannot be restarted",
    };
    let cri = Asked {
        name: "container runtime (CRI)",
        paths: &sockets.cri,
        costs: "containers of Kubernetes have no names and cannot be restarted",
    };
    let mut checks = vec![socket(root, &systemd)];
    checks.push(podman_instead(root, &docker).unwrap_or_else(|| socket(root, &docker)));
    checks.extend(podman_beside(root, &docker));
    checks.extend([first_that_listens(root, &cri), kubernetes(root, settings)]);
    checks
}

fn socket(root: Root<'_>, asked: &Asked<'_>) -> Check {
    let Some(path) = asked.paths.iter().find(|path| is_socket(root, path)) else {
        return no_socket(asked);
    };
    let shown = path.display().to_string();
    match rustix::fs::access(root.at(&shown), rustix::fs::Access::WRITE_OK) {
        Ok(()) => Check::ok(asked.name, shown),
        Err(errno) => Check::degraded(asked.name, format!("{shown}: {errno}"), asked.costs, "run as root"),
    }
}

fn no_socket(asked: &Asked<'_>) -> Check {
    let looked: Vec<String> = asked.paths.iter().map(|path| path.display().to_string()).collect();
    Check::absent(asked.name, format!("no socket at {}", looked.join(", ")), asked.costs)
}

/// In the agent's order, which asks each for its version: one that has died leaves its socket behind.
fn first_that_listens(root: Root<'_>, asked: &Asked<'_>) -> Check {
    const FIX: &str = "run as root, and start it, or name another in the AgentConfig: runtimes: {cri: PATH}";
    let mut said = Vec::new();
    for path in asked.paths.iter().filter(|path| is_socket(root, path)) {
        let shown = path.display().to_string();
        match connect(root, &shown) {
            Ok(()) => return Check::ok(asked.name, shown),
            Err(error) => said.push(format!("{shown}: {error}")),
        }
    }
    match said.is_empty() {
        true => no_socket(asked),
        false => Check::degraded(asked.name, said.join("; "), asked.costs, FIX),
    }
}

/// A full backlog of a runtime that hangs is not waited for.
fn connect(root: Root<'_>, socket: &str) -> io::Result<()> {
    let path = root.at(socket);
    let connected = FILES.ask(socket, move || UnixStream::connect(path).map(drop));
    connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

const PODMANS_COSTS: &str = "containers of podman have no names and cannot be restarted";

/// It speaks Docker's API, and is asked only if the administrator says so.
fn podman_instead(root: Root<'_>, docker: &Asked<'_>) -> Option<Check> {
    if docker.paths.iter().any(|path| is_socket(root, path)) || !is_socket(root, Path::new(PODMAN)) {
        return None;
    }
    let fix = format!("in the AgentConfig: runtimes: {{docker: {PODMAN}}}");
    Some(Check::degraded(docker.name, format!("no docker, but podman at {PODMAN}"), PODMANS_COSTS, &fix))
}

/// One of the two is asked.
fn podman_beside(root: Root<'_>, docker: &Asked<'_>) -> Option<Check> {
    let asked = docker.paths.iter().find(|path| is_socket(root, path))?;
    // /var/run/docker.sock may be a link to it (podman-docker).
    let is_other = is_socket(root, Path::new(PODMAN)) && file(root, asked) != file(root, Path::new(PODMAN));
    let says = format!("at {PODMAN}, but {} is asked", asked.display());
    let fix = format!("match its programs by exe or cgroup, and restart by {BY_HOOK}");
    is_other.then(|| Check::degraded("podman", says, PODMANS_COSTS, &fix))
}

fn file(root: Root<'_>, path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(root.at(&path.to_string_lossy())).ok()?;
    Some((found.dev(), found.ino()))
}

fn is_socket(root: Root<'_>, path: &Path) -> bool {
    let found = std::fs::metadata(root.at(&path.to_string_lossy()));
    found.is_ok_and(|found| found.file_type().is_socket())
}

/// As the agent chooses: the file that the administrator names, else the service account.
fn kubernetes(root: Root<'_>, settings: &Settings) -> Check {
    const NAME: &str = "kubernetes";
    const COSTS: &str = "no events, no eviction";
    const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    if let Some(file) = &settings.kubeconfig {
        let shown = file.display().to_string();
        return match File::open(root.at(&shown)) {
            Ok(_) => Check::ok(NAME, format!("kubeconfig {shown}")),
            Err(error) => {
                let fix = "run as root, or name another kubeconfig in the AgentConfig";
                Check::degraded(NAME, format!("kubeconfig {shown}: {error}"), COSTS, fix)
            }
        };
    }
    if root.at(TOKEN).exists() {
        return Check::ok(NAME, "this process runs in a pod with a service account");
    }
    Check::absent(NAME, "neither a service account nor a kubeconfig (AgentConfig kubernetes)", COSTS)
}
