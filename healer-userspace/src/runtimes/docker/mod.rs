//! Docker's API over its unix socket: what containers are called, their main processes, restart and stop.
//! Podman answers to the same API.

#[cfg(test)]
mod answers;
mod ends;
mod engine;
mod kubelets;
pub(super) mod lent;
mod order;
mod ours;
mod states;
mod watch;

#[cfg(test)]
pub(super) use self::answers::{read_answer, read_event};
use std::path::PathBuf;

use tokio::sync::mpsc;

use self::ours::Ours;
use super::{Done, Learnt, Order, Stopped, settle};
use crate::{
    engine::lease::{Account, Knob},
    identity::process::{Container, Process},
};

/// Questions that wait at most: a storm of new containers is told by events anyway.
const WAITING_MAX: usize = 256;

#[derive(Clone)]
pub(super) struct Handle {
    socket: PathBuf,
    questions: mpsc::Sender<String>,
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    ours: Ours,
}

impl Handle {
    pub(super) fn start(socket: PathBuf, learnt: mpsc::Sender<Learnt>) -> Self {
        let (questions, asked) = mpsc::channel(WAITING_MAX);
        let stopped = Stopped::default();
        let ours = Ours::default();
        tokio::spawn(watch::run(socket.clone(), asked, learnt.clone(), stopped.clone(), ours.clone()));
        Self { socket, questions, learnt, stopped, ours }
    }

    pub(super) fn ask(&self, container: &Container) {
        if super::speaks_docker(&container.runtime) {
            // Full: it is asked for again with its next signal.
            self.questions.try_send(container.id.clone()).ok();
        }
    }

    pub(super) fn knob(&self, target: &Process, container: &Container, of: Account) -> Option<Knob> {
        let socket = self.socket.to_str()?.to_owned();
        let is_turned = is_whole(&target.cgroup, &container.id) && is_kept(&container.runtime, of);
        is_turned.then(|| Knob::Container { socket, id: container.id.clone(), of })
    }

    pub(super) async fn restart(&self, id: &str, order: &Order) -> Done {
        settle::within(order, order::who(order), order::restart(self, id, order)).await
    }

    pub(super) async fn stop(&self, id: &str, order: &Order) -> Done {
        settle::within(order, order::who(order), order::stop(self, id, order)).await
    }
}

/// Is that group the container's own, and not one that somebody made in it? A lease of a part is none of the whole.
fn is_whole(cgroup: &str, id: &str) -> bool {
    // crun puts what it runs for podman one below (`run.oci.systemd.subgroup`, crun(1)).
    let of_podman = cgroup.strip_suffix("/container").filter(|above| own_name(above).starts_with("libpod-"));
    own_name(of_podman.unwrap_or(cgroup)).ends_with(id)
}

fn own_name(cgroup: &str) -> &str {
    let name = cgroup.rsplit_once('/').map_or(cgroup, |(_above, name)| name);
    name.strip_suffix(".scope").unwrap_or(name)
}

fn is_kept(runtime: &str, of: Account) -> bool {
    match of {
        Account::Running => true,
        // Only podman's latest versions know an update by Docker's API, and set the restart policy with it, given or not
        // (`UpdateContainer`, pkg/api/handlers/compat/containers.go).
        Account::CpuTime | Account::CpuWeight | Account::MemoryMax | Account::Tasks => runtime != "podman",
        Account::MemoryHigh => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "c0ffee";

    #[test]
    fn a_container_is_its_whole_group_wherever_its_runtime_puts_it() {
        for path in [
            "/docker/c0ffee",
            "/system.slice/docker-c0ffee.scope",
            "/libpod_parent/libpod-c0ffee",
            "/libpod_parent/libpod-c0ffee/container",
            "/machine.slice/libpod-c0ffee.scope",
            "/machine.slice/libpod-c0ffee.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-c0ffee.scope/container",
            "/system.slice/run-1.scope/libpod-payload-c0ffee",
            "/system.slice/run-1.scope/libpod-payload-c0ffee/container",
        ] {
            assert!(is_whole(path, ID), "{path}");
        }
    }

    #[test]
    fn a_group_that_somebody_made_in_a_container_is_a_part_of_it() {
        for path in [
            "/docker/c0ffee/part",
            "/docker/c0ffee/container",
            "/system.slice/docker-c0ffee.scope/container",
            "/system.slice/docker-c0ffee.scope/init.scope",
            "/machine.slice/libpod-c0ffee.scope/part",
            "/machine.slice/libpod-c0ffee.scope/init.scope",
            "/machine.slice/libpod-c0ffee.scope/container/part",
            "/machine.slice/libpod-c0ffee.scope/container/container",
            "/machine.slice/libpod-another.scope/container",
            "/machine.slice/libpod-c0ffee.scope/part/container",
            "/libpod_parent/conmon",
            "",
        ] {
            assert!(!is_whole(path, ID), "{path}");
        }
    }

    #[test]
    fn podman_is_asked_for_what_all_its_versions_can() {
        assert!(is_kept("podman", Account::Running) && is_kept("docker", Account::MemoryMax));
        assert!(!is_kept("podman", Account::MemoryMax) && !is_kept("docker", Account::MemoryHigh));
    }
}
