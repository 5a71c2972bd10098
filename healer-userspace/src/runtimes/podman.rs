//! Podman answers to Docker's API, where its socket is on and healer is told to ask there; it runs containers without.

#[cfg(feature = "docker")]
use std::path::{Path, PathBuf};

/// Of root's podman.
pub const SOCKET: &str = "/run/podman/podman.sock";

/// Podman needs nobody to listen for that.
pub const BY_HOOK: &str = "{do: run_hook, command: [podman, restart, NAME]}";

/// What restarts a container of podman in `cgroup` that is not known at the socket `asked`. `None`: podman itself was
/// asked.
#[cfg(feature = "docker")]
pub(super) fn remedy(asked: &Path, cgroup: &str) -> Option<String> {
    let (socket, enable, hook) = match user_of(cgroup) {
        None => (PathBuf::from(SOCKET), "systemctl enable --now podman.socket", BY_HOOK.to_owned()),
        Some(user) => (
            PathBuf::from(format!("/run/user/{user}/podman/podman.sock")),
            "systemctl --user enable --now podman.socket",
            format!(
                "{{do: run_hook, command: \
                 [systemd-run, --user, --machine={user}@.host, --wait, podman, restart, NAME]}}"
            ),
        ),
    };
    (asked != socket).then(|| {
        format!(
            "it is podman's: {hook} restarts it; or have podman asked ({enable}, and in the AgentConfig \
             runtimes: {{docker: {}}})",
            socket.display()
        )
    })
}

/// Whose podman without root it is: it lies below that user's own systemd.
#[cfg(feature = "docker")]
fn user_of(cgroup: &str) -> Option<u32> {
    let users = |part: &str| part.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok();
    cgroup.split('/').find_map(users)
}

#[cfg(all(test, feature = "docker"))]
mod tests {
    use super::*;

    const ROOTS: &str = "/machine.slice/libpod-4f9a.scope/container";
    const USERS: &str =
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-4f9a.scope/container";

    #[test]
    fn where_docker_was_asked_the_way_to_podman_is_told() {
        let docker = Path::new("/var/run/docker.sock");
        let roots = remedy(docker, ROOTS).unwrap();
        assert!(roots.contains("[podman, restart, NAME]"), "{roots}");
        assert!(roots.contains("runtimes: {docker: /run/podman/podman.sock}"), "{roots}");
        let users = remedy(docker, USERS).unwrap();
        assert!(users.contains("--machine=1000@.host, --wait, podman"), "{users}");
        assert!(users.contains("{docker: /run/user/1000/podman/podman.sock}"), "{users}");
        assert!(remedy(Path::new(SOCKET), USERS).is_some(), "root's podman does not know a user's");
    }

    #[test]
    fn where_podman_was_asked_nothing_more_is_to_be_said() {
        assert_eq!(remedy(Path::new(SOCKET), ROOTS), None);
        assert_eq!(remedy(Path::new("/run/user/1000/podman/podman.sock"), USERS), None);
    }
}
