//! Who else owns workloads: systemd over D-Bus, Docker and the container runtime of a Kubernetes node over their
//! sockets. They tell what they call things and which process is the main one; and they restart what is theirs, so that
//! their own bookkeeping stays true.
//!
//! Everything here runs as tasks that send what they learn through a channel. A socket that is absent costs a look
//! at a path now and then, one that hangs costs a time-out.

#[cfg(feature = "cri")]
mod cri;
#[cfg(feature = "docker")]
mod docker;
pub mod elsewhere;
#[cfg(any(feature = "cri", feature = "docker"))]
mod exit;
#[cfg(all(test, feature = "cri", feature = "docker"))]
mod fuzz;
pub mod lent;
#[cfg(feature = "systemd")]
mod main_pid;
pub mod podman;
#[cfg(any(feature = "cri", feature = "docker", feature = "systemd"))]
mod settle;
#[cfg(feature = "systemd")]
mod systemd;

use core::time::Duration;
use std::path::PathBuf;
#[cfg(any(feature = "docker", feature = "systemd"))]
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use crate::{
    clock,
    engine::{
        command::ActionOutcome,
        lease::{Account, Knob},
        time::BootTime,
    },
    identity::process::{Container, Pod, Process, ProcessId},
    signal::Exit,
};

/// The integrations in this binary, by their keys in `AgentConfig.runtimes`.
pub const BUILT: &[&str] = &[
    #[cfg(feature = "cri")]
    "cri",
    #[cfg(feature = "docker")]
    "docker",
    #[cfg(feature = "systemd")]
    "systemd",
];

/// Where cri-dockerd, containerd, cri-o and k3s have it. The first stands beside Docker's own containerd, which keeps no
/// pods.
pub const CRI_SOCKETS: &[&str] = &[
    "/run/cri-dockerd.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
];

/// Where the owners listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The container runtime interface: the first that answers.
    pub cri: Vec<PathBuf>,
    /// Docker's API, or podman's.
    pub docker: PathBuf,
    /// The D-Bus system bus.
    pub systemd: PathBuf,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            cri: CRI_SOCKETS.iter().map(PathBuf::from).collect(),
            docker: "/var/run/docker.sock".into(),
            systemd: "/run/dbus/system_bus_socket".into(),
        }
    }
}

/// A workload that is not ours, in its owner's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    Unit(String),
    Container { runtime: String, id: String },
}

/// What an owner has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// What a container is called, and the pod that it is of.
    Named(Box<Container>, Option<Pod>),
    /// Who makes a pod again, as Kubernetes' API server has it: `ReplicaSet/web-5d4f8c7b9`.
    Controlled { uid: String, controller: String },
    /// The container's runtime does not know it, or cannot be asked.
    Nameless { id: String },
    /// The main process, by its pid here.
    Runs { owner: Owner, pid: u32 },
    /// A container's PID 1 has ended so; told before its name, and only of those that were asked for.
    Ended { id: String, exit: Exit },
    /// Somebody asked the owner to stop it: its end is no failure.
    StopAsked { owner: Owner },
    /// The owner runs it to do something and end.
    MeantToEnd { owner: Owner },
    /// The owner has given it up; `pid` is what it had, in the owner's own namespace.
    Failed { owner: Owner, pid: u32, exit: Exit },
    /// It had failed before healer first looked, or while its owner was not heard; and its owner leaves it at that.
    FoundDead { owner: Owner, exit: Exit, oom_killed: bool },
}

/// What the hands want of an owner.
#[derive(Clone, Debug)]
pub struct Order {
    pub owner: Owner,
    pub target: ProcessId,
    /// The target is or was the workload's main process, as far as anybody told.
    pub is_main: bool,
    /// The target has ended: the owner's own restart goes first.
    pub is_dead: bool,
    /// Where the target ran; another manager's unit of the same name is not meant.
    pub cgroup: String,
    /// The container's, if it is of one.
    pub pod: Option<Pod>,
    /// From the polite signal to SIGKILL, where the owner lets us choose.
    pub grace: Duration,
    pub limit: Duration,
}

/// What owners did not do, and why; becomes the outcome of the act.
pub type Done = Result<String, ActionOutcome>;

/// The way to all owners. Cheap to clone.
#[derive(Clone)]
pub struct Owners {
    #[cfg(feature = "systemd")]
    systemd: systemd::Handle,
    #[cfg(feature = "docker")]
    docker: docker::Handle,
    #[cfg(feature = "cri")]
    cri: cri::Handle,
}

impl Owners {
    /// Starts the tasks on the current runtime.
    pub fn start(sockets: &Sockets, learnt: &mpsc::Sender<Learnt>) -> Self {
        #[cfg(not(any(feature = "cri", feature = "docker", feature = "systemd")))]
        let _unused = (sockets, learnt);
        Self {
            #[cfg(feature = "systemd")]
            systemd: systemd::Handle::start(sockets.systemd.clone(), learnt.clone()),
            #[cfg(feature = "docker")]
            docker: docker::Handle::start(sockets.docker.clone(), learnt.clone()),
            #[cfg(feature = "cri")]
            cri: cri::Handle::start(sockets.cri.clone(), learnt.clone()),
        }
    }

    /// Units that policies name, globs allowed: these are asked after, the others are not.
    pub fn watch_units(&self, patterns: Vec<String>) {
        #[cfg(feature = "systemd")]
        self.systemd.watch(patterns);
        #[cfg(not(feature = "systemd"))]
        drop(patterns);
    }

    /// Something has happened to the unit: ask soon and often for a while.
    pub fn look_at_unit(&self, unit: &str) {
        #[cfg(feature = "systemd")]
        self.systemd.look_at(unit);
        #[cfg(not(feature = "systemd"))]
        let _not_built = unit;
    }

    /// What is this container called? True: the answer comes soon as [`Learnt::Named`] or [`Learnt::Nameless`], and is
    /// worth waiting for. Docker tells of a container before it begins, if at all.
    pub fn ask_container(&self, container: &Container) -> bool {
        #[cfg(feature = "docker")]
        self.docker.ask(container);
        #[cfg(feature = "cri")]
        return self.cri.ask(container);
        #[cfg(not(feature = "cri"))]
        {
            let _not_built = container;
            false
        }
    }

    /// Somebody has failed in a container whose group was gone before it could be looked up. Docker tells of it itself.
    pub fn look_for_containers(&self) {
        #[cfg(feature = "cri")]
        self.cri.look_soon();
    }

    /// Has the owner restart it, and reads back what came of it.
    ///
    /// # Errors
    /// The act's outcome: refused, failed or unknown, in words.
    pub async fn restart(&self, order: &Order) -> Done {
        match &order.owner {
            #[cfg(feature = "systemd")]
            Owner::Unit(unit) => self.systemd.restart(unit, order).await,
            #[cfg(not(feature = "systemd"))]
            Owner::Unit(unit) => Err(failed(format!("built without systemd: cannot restart unit {unit}"))),
            #[cfg(feature = "docker")]
            Owner::Container { runtime, id } if speaks_docker(runtime) => {
                self.docker.restart(id, order).await
            }
            #[cfg(feature = "cri")]
            Owner::Container { runtime, id } if cri::Handle::speaks(runtime) => {
                self.cri.restart(id, order).await
            }
            Owner::Container { runtime, id } => Err(no_way(runtime, "restart", id)),
        }
    }

    /// What the owner keeps account of for the target's group, if it is the owner's own and the owner answers.
    pub fn knob(&self, target: &Process, of: Account) -> Option<Knob> {
        let place = &target.place;
        let knob = match (&place.container, &place.unit) {
            #[cfg(feature = "docker")]
            (Some(container), _) if speaks_docker(&container.runtime) => {
                self.docker.knob(target, container, of)
            }
            #[cfg(feature = "systemd")]
            (None, Some(unit)) => self.systemd.knob(target, unit, of),
            _ => None,
        }?;
        matches!(lent::read(&knob), Ok(Some(_))).then_some(knob)
    }

    /// Has the container stopped by its runtime.
    ///
    /// # Errors
    /// As of [`Owners::restart`].
    pub async fn stop(&self, order: &Order) -> Done {
        match &order.owner {
            Owner::Unit(unit) => Err(failed(format!("{unit} is no container"))),
            #[cfg(feature = "docker")]
            Owner::Container { runtime, id } if speaks_docker(runtime) => self.docker.stop(id, order).await,
            #[cfg(feature = "cri")]
            Owner::Container { runtime, id } if cri::Handle::speaks(runtime) => {
                self.cri.stop(id, order).await
            }
            Owner::Container { runtime, id } => Err(no_way(runtime, "stop", id)),
        }
    }
}

fn no_way(runtime: &str, verb: &str, id: &str) -> ActionOutcome {
    failed(format!("this healer has no way to {runtime}: cannot {verb} container {id}"))
}

/// Podman answers to the same API; a bare id may be either's.
#[cfg(feature = "docker")]
fn speaks_docker(runtime: &str) -> bool {
    matches!(runtime, "docker" | "podman" | "unknown")
}

fn failed(error: String) -> ActionOutcome {
    ActionOutcome::Failed { error, errno: None }
}

/// Names that were stopped on purpose and have not run since, and when that was asked for.
#[cfg(any(feature = "docker", feature = "systemd"))]
#[derive(Clone, Default)]
struct Stopped(Arc<Mutex<Heard>>);

#[cfg(any(feature = "docker", feature = "systemd"))]
#[derive(Default)]
struct Heard {
    names: BTreeMap<String, BootTime>,
    /// The owner does not tell at present.
    is_deaf: bool,
}

#[cfg(any(feature = "docker", feature = "systemd"))]
impl Stopped {
    /// Whoever was asked and lives on has not taken it for a stop: the word is about the end that follows soon, and an
    /// owner that takes longer says it again at the end.
    const LASTS: Duration = Duration::from_secs(600);

    fn note(&self, name: &str) {
        let now = clock::boot();
        let names = &mut self.lock().names;
        names.retain(|_, at| now.since(*at) < Self::LASTS);
        names.insert(name.to_owned(), now);
    }

    fn forget(&self, name: &str) {
        self.lock().names.remove(name);
    }

    fn deafen(&self, is_deaf: bool) {
        self.lock().is_deaf = is_deaf;
    }

    fn word(&self, name: &str) -> settle::Word {
        let heard = self.lock();
        let was_asked = heard.names.get(name).is_some_and(|at| clock::boot().since(*at) < Self::LASTS);
        match (was_asked, heard.is_deaf) {
            (true, _) => settle::Word::Stop,
            (false, true) => settle::Word::Unheard,
            (false, false) => settle::Word::Nothing,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
