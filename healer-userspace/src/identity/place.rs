//! What a cgroup path says: unit, container, pod. Pure text, no runtime is asked.

use super::process::{Container, Place, Pod};

/// Reads a path below the cgroup mount. Names, images and labels stay empty: only a runtime
/// knows them.
///
/// The unit is the one that the nearest systemd started: below `user@1000.service` or a nspawn
/// machine it carries that manager's own unit before a slash, because a user's `sshd.service`
/// is not the system's. Below a container there is no unit.
pub fn place_of(path: &str) -> Place {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let container = container(&parts);
    let pod = container.as_ref().and_then(|_| pod(&parts));
    let unit = match container {
        Some(_) => None,
        None => unit(&parts),
    };
    Place { supervise: None, unit, container, pod }
}

/// The innermost container: a node in a container has containers of its own.
fn container(parts: &[&str]) -> Option<Container> {
    (0..parts.len()).rev().find_map(|at| {
        let above = &parts[..at];
        let (runtime, id) = scope_form(parts[at]).or_else(|| directory_form(parts[at], above))?;
        // By cri-dockerd: Docker keeps it for the kubelet, who alone restarts it.
        let runtime = if runtime == "docker" && is_pod(above) { "cri" } else { runtime };
        Some(Container { runtime: runtime.to_owned(), id: id.to_owned(), ..Container::default() })
    })
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, `nerdctl-ID.scope`: the
/// runtimes' systemd driver. cri-o and podman use the prefix with the cgroupfs driver, too.
fn scope_form(part: &str) -> Option<(&'static str, &str)> {
    // Containers of nerdctl are containerd's, but in a namespace that the CRI does not show.
    const PREFIXES: [(&str, &str); 5] = [
        ("docker-", "docker"),
        ("cri-containerd-", "containerd"),
        ("crio-", "cri-o"),
        ("libpod-", "podman"),
        ("nerdctl-", "nerdctl"),
    ];
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, runtime) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let id = name.strip_prefix(prefix)?;
    is_container_id(id).then_some((*runtime, id))
}

/// `/docker/ID`, `/kubepods/…/podUID/ID` (cgroupfs driver), `…slice:cri-containerd:ID` (drivers
/// of kubelet and containerd differ), `/lxc.payload.NAME`, `/libpod-payload-ID` (podman's `--cgroups=split`).
fn directory_form<'a>(part: &'a str, above: &[&str]) -> Option<(&'static str, &'a str)> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(("lxc", name));
    }
    if let Some((_, id)) = part.rsplit_once(":cri-containerd:") {
        return is_container_id(id).then_some(("containerd", id));
    }
    if let Some(id) = part.strip_prefix("libpod-payload-") {
        // Quadlet's is what its service runs: systemd restarts that, and each time the container is another one.
        let is_services = above.last().is_some_and(|unit| unit.ends_with(".service"));
        return (!is_services && is_container_id(id)).then_some(("podman", id));
    }
    if !is_container_id(part) {
        return None;
    }
    let runtime = match above.last().copied() {
        Some("docker") => "docker",
        Some("libpod_parent") => "podman",
        Some(_) if is_pod(above) => "cri",
        Some(_) | None => "unknown",
    };
    Some((runtime, part))
}

fn is_pod(path: &[&str]) -> bool {
    path.split_last().is_some_and(|(last, above)| pod_uid(last, above).is_some())
}

fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn pod(parts: &[&str]) -> Option<Pod> {
    let uid = (0..parts.len()).rev().find_map(|at| pod_uid(parts[at], &parts[..at]))?;
    Some(Pod { uid, ..Pod::default() })
}

/// `kubepods-besteffort-podUID.slice` with `_` for `-` (systemd driver), or `podUID` somewhere
/// below `kubepods` (cgroupfs driver).
fn pod_uid(part: &str, above: &[&str]) -> Option<String> {
    if let Some(at) = part.find("kubepods") {
        let (_, rest) = part[at..].split_once("-pod")?;
        let (uid, _) = rest.split_once(".slice")?;
        return Some(uid.replace('_', "-"));
    }
    let in_kubepods = above.iter().any(|part| part.starts_with("kubepods"));
    let uid = part.strip_prefix("pod").filter(|_| in_kubepods)?;
    (!uid.is_empty()).then(|| uid.to_owned())
}

/// As systemd's `cg_path_get_unit`: after the slices the first component is the unit, and all
/// below belongs to it, unless it runs a systemd of its own.
fn unit(parts: &[&str]) -> Option<String> {
    let slices = parts.iter().take_while(|part| part.ends_with(".slice")).count();
    let Some(first) = parts.get(slices) else {
        return parts.last().map(|slice| unescape(slice).to_owned());
    };
    if *first == "payload" {
        return unit(&parts[slices + 1..]);
    }
    let first = unescape(first);
    if !is_unit(first) {
        return None;
    }
    let inner = inner_manager(first, &parts[slices + 1..]).and_then(unit);
    Some(match inner.filter(|inner| !inner.ends_with(".slice")) {
        Some(inner) if inner != "init.scope" => format!("{first}/{inner}"),
        Some(_) | None => first.to_owned(),
    })
}

/// What the manager that this unit runs has below itself: `user@UID.service`, or the `payload`
/// of a nspawn machine.
fn inner_manager<'a>(unit: &str, below: &'a [&'a str]) -> Option<&'a [&'a str]> {
    let is_user = unit.starts_with("user@") && unit.ends_with(".service");
    match below.first() {
        Some(&"payload") => Some(&below[1..]),
        Some(_) if is_user => Some(below),
        Some(_) | None => None,
    }
}

fn is_unit(part: &str) -> bool {
    [".service", ".scope", ".socket", ".mount", ".swap"]
        .iter()
        .any(|suffix| part.len() > suffix.len() && part.ends_with(suffix))
}

/// systemd puts `_` before a name that would collide with a file of the kernel (`cg_escape`).
fn unescape(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

#[cfg(test)]
mod tests;
