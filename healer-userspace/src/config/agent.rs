//! AgentConfig: the administrator's limits, which no policy can widen.

use core::time::Duration;
use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    check,
    key::{At, Items, Key, Many},
    policy::{Breaker, Budget, Maintenance, shape},
    problem::Fault,
    read,
    sinks::{self, Sinks},
    source::Node,
    value::{Bytes, ExactPath, ObjectName, Pattern, Percentage, Period},
};
use crate::{
    engine::policy::{self as engine, Mode, Protect},
    kubernetes::Settings,
    report::webhook::Target,
    runtimes::{BUILT, Sockets},
    sense::govern::{self, Wish},
};

shape! {
    /// Limits of the whole node, set by its administrator.
    #[schemars(extend("required" = ["apiVersion", "kind"]))]
    AgentConfig {
        /// healer.dev/v1alpha1
        api_version: String,
        /// AgentConfig
        kind: String,
        /// Caps the mode of every policy. Default: no cap.
        mode: Mode,
        /// Journal, audit and socket. Default: /var/lib/healer
        state_dir: ExactPath,
        /// Address and port of the read-only HTTP server. Default: 127.0.0.1:9469
        listen: String,
        budget: NodeBudget,
        breaker: NodeBreaker,
        storm: Storm,
        /// Nobody is touched meanwhile.
        maintenance: Items<Maintenance>,
        overhead: OverheadBudget,
        sensors: Sensors,
        protect: Protected,
        runtimes: Runtimes,
        kubernetes: Kubernetes,
        sinks: Sinks,
    }
}

shape! {
    NodeBudget {
        /// Acts on the whole node. Default: 10 in 1h.
        node: Budget,
    }
}

shape! {
    NodeBreaker {
        /// So many acts in a row, whatever on, healed nobody: nothing is acted on until one may try again.
        /// Default: 5 within 30m, tried again after 10m.
        node: Breaker,
    }
}

shape! {
    /// More than that at once is one problem of the node: nothing is acted on until it has passed.
    Storm {
        /// Workloads that fail. Default: 5.
        targets: u32,
        /// Of all workloads that are followed. Default: 20.
        percent: u32,
        /// Within this time. Default: 60s.
        window: Period,
    }
}

shape! {
    /// What healer may use: beyond it, it senses less, in the order that ARCHITECTURE.md tells.
    OverheadBudget {
        /// Of one CPU, the agent and its kernel programs. Default: 1.0
        cpu_percent: Percentage,
        /// Resident memory of the agent, such as 64Mi. Default: 64Mi
        memory: Bytes,
    }
}

shape! {
    Sensors {
        /// Errors of system calls: governed, full, sampled, off. Default: governed
        syscall_errors: Wish,
    }
}

shape! {
    /// Where the owners of workloads listen; read at start.
    Runtimes {
        /// The container runtime of a Kubernetes node (CRI). Default: the first that answers of /run/cri-dockerd.sock,
        /// /run/containerd/containerd.sock, /run/crio/crio.sock and /run/k3s/containerd/containerd.sock
        cri: ExactPath,
        /// Docker's unix socket, or podman's. Default: /var/run/docker.sock
        docker: ExactPath,
        /// The D-Bus system bus. Default: /run/dbus/system_bus_socket
        systemd: ExactPath,
    }
}

shape! {
    /// The API server; read at start.
    Kubernetes {
        /// Default: the service account of the pod that healer runs in; without one, healer asks no API server
        kubeconfig: ExactPath,
        /// What the cluster calls this machine. Default: $NODE_NAME, else the host name
        node: ObjectName,
        /// HealPolicies of the cluster are in force beside the files. Default: true
        policies: bool,
        /// Notifications and acts are told as Events on the pod or the node. Default: true
        events: bool,
    }
}

shape! {
    Protected {
        /// systemd units that are never touched, as in `match`; replaces the default list.
        units: Many<Pattern>,
        /// Executables that are never touched; replaces the default list.
        exes: Many<ExactPath>,
    }
}

/// What the administrator has set; None where the command line's default holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    pub mode: Option<Mode>,
    pub state_dir: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    /// At most that many acts on the node, over all workloads.
    pub node_budget: engine::Budget,
    pub node_breaker: engine::Breaker,
    pub storm: engine::Storm,
    pub maintenance: Vec<engine::maintenance::Maintenance>,
    pub overhead: govern::Budget,
    pub syscall_errors: Wish,
    pub protect: Protect,
    pub runtimes: Sockets,
    pub kubernetes: Settings,
    /// Where notifications are posted.
    pub webhook: Option<Target>,
}

impl Default for Agent {
    fn default() -> Self {
        let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        Self {
            mode: None,
            state_dir: None,
            listen: None,
            node_budget: engine::Budget { max: 10, per: Duration::from_secs(3600) },
            node_breaker: engine::Breaker { trip_after: 5, ..engine::Safety::default().breaker },
            storm: engine::Storm { targets: 5, percent: 20, window: Duration::from_secs(60) },
            maintenance: Vec::new(),
            overhead: govern::Budget::default(),
            syscall_errors: Wish::default(),
            protect: Protect { units: owned(PROTECTED_UNITS), exes: owned(PROTECTED_EXES) },
            runtimes: Sockets::default(),
            kubernetes: Settings::default(),
            webhook: None,
        }
    }
}

/// sshd is the way in for whoever repairs what healer breaks; Debian names its unit ssh.service.
/// Whoever owns workloads is asked by healer, never struck.
const PROTECTED_UNITS: &[&str] = &[
    "sshd.service",
    "ssh.service",
    "dbus.service",
    "dbus-broker.service",
    "systemd-journald.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-udevd.service",
    "docker.service",
    "containerd.service",
    "crio.service",
    "kubelet.service",
    "k3s.service",
    "k3s-agent.service",
];
/// Debian's docker.io has its daemon in /usr/sbin, Docker's own package in /usr/bin, a bundle in /usr/local.
const PROTECTED_EXES: &[&str] = &[
    "/usr/sbin/sshd",
    "/usr/bin/dockerd",
    "/usr/sbin/dockerd",
    "/usr/local/bin/dockerd",
    "/usr/bin/containerd",
    "/usr/local/bin/containerd",
    "/usr/bin/crio",
    "/usr/local/bin/crio",
    "/usr/bin/kubelet",
    "/usr/local/bin/kubelet",
    "/usr/local/bin/k3s",
];

/// None if the document could not be read at all; its faults are appended either way.
pub(super) fn read(node: &Node, faults: &mut Vec<Fault>) -> Option<Agent> {
    let shape: AgentConfig = read::shape(node, "AgentConfig", faults)?;
    check::header(&shape.api_version, node.place, faults);
    let default = Agent::default();
    let node_budget = shape.budget.value().and_then(|budget| budget.node.value());
    let node_breaker = shape.breaker.value().and_then(|breaker| breaker.node.value());
    Some(Agent {
        mode: shape.mode.value().copied(),
        state_dir: shape.state_dir.value().map(|path| PathBuf::from(&path.0)),
        listen: address(&shape.listen, faults),
        node_budget: match node_budget {
            Some(budget) => check::budget(budget, default.node_budget, faults),
            None => default.node_budget,
        },
        node_breaker: match node_breaker {
            Some(breaker) => check::breaker(breaker, default.node_breaker, faults),
            None => default.node_breaker,
        },
        storm: storm(&shape.storm, default.storm, faults),
        maintenance: check::maintenance::read(&shape.maintenance, faults),
        overhead: overhead(&shape.overhead, default.overhead),
        syscall_errors: shape
            .sensors
            .value()
            .and_then(|sensors| sensors.syscall_errors.value().copied())
            .unwrap_or_default(),
        protect: protect(&shape.protect, default.protect),
        runtimes: runtimes(&shape.runtimes, faults),
        kubernetes: kubernetes(&shape.kubernetes, faults),
        webhook: sinks::webhook(&shape.sinks, faults),
    })
}

fn address(listen: &Key<String>, faults: &mut Vec<Fault>) -> Option<SocketAddr> {
    let given = listen.given()?;
    let parsed = given.value.parse().ok();
    if parsed.is_none() {
        let message = format!("listen: {:?} is no address with a port, such as 127.0.0.1:9469", given.value);
        faults.push(Fault::new(given.place, message));
    }
    parsed
}

fn storm(shape: &Key<Storm>, default: engine::Storm, faults: &mut Vec<Fault>) -> engine::Storm {
    let Some(shape) = shape.value() else {
        return default;
    };
    if let Some(given) = shape.percent.given().filter(|given| 100 < given.value) {
        faults.push(Fault::new(given.place, format!("percent: {} is more than all", given.value)));
    }
    engine::Storm {
        targets: check::count(&shape.targets, "targets", default.targets, faults),
        percent: shape.percent.value().copied().unwrap_or(default.percent),
        window: check::period(&shape.window, "window", default.window, faults),
    }
}

fn overhead(shape: &Key<OverheadBudget>, default: govern::Budget) -> govern::Budget {
    let Some(shape) = shape.value() else {
        return default;
    };
    govern::Budget {
        cpu: shape.cpu_percent.value().map_or(default.cpu, |percent| percent.0),
        memory: shape.memory.value().map_or(default.memory, |bytes| bytes.0),
    }
}

fn protect(shape: &Key<Protected>, default: Protect) -> Protect {
    let Some(shape) = shape.value() else {
        return default;
    };
    let unit = |at: &At<Pattern>| check::who::unit(at.value.0.clone());
    let units = shape.units.value().map(|units| units.0.iter().map(unit).collect());
    let exes = shape.exes.value().map(|exes| exes.0.iter().map(|at| at.value.0.clone()).collect());
    Protect { units: units.unwrap_or(default.units), exes: exes.unwrap_or(default.exes) }
}

fn kubernetes(shape: &Key<Kubernetes>, faults: &mut Vec<Fault>) -> Settings {
    let default = Settings::default();
    let Some(given) = shape.given() else {
        return default;
    };
    if !cfg!(feature = "kube") {
        faults.push(Fault::new(given.place, "kubernetes: this healer is built without kube"));
    }
    let shape = &given.value;
    Settings {
        kubeconfig: shape.kubeconfig.value().map(|path| PathBuf::from(&path.0)),
        node: shape.node.value().map(|name| name.0.clone()),
        policies: shape.policies.value().copied().unwrap_or(default.policies),
        events: shape.events.value().copied().unwrap_or(default.events),
    }
}

fn runtimes(shape: &Key<Runtimes>, faults: &mut Vec<Fault>) -> Sockets {
    let mut sockets = Sockets::default();
    let Some(shape) = shape.value() else {
        return sockets;
    };
    let given = [("cri", &shape.cri), ("docker", &shape.docker), ("systemd", &shape.systemd)];
    for (name, key) in given {
        let Some(given) = key.given() else { continue };
        let path = PathBuf::from(&given.value.0);
        if BUILT.contains(&name) {
            match name {
                "cri" => sockets.cri = vec![path],
                "docker" => sockets.docker = path,
                _systemd => sockets.systemd = path,
            }
        } else {
            let message = format!("runtimes.{name}: this healer is built without it");
            faults.push(Fault::new(given.place, message));
        }
    }
    sockets
}
