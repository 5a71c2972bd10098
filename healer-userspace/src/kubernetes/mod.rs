//! Kubernetes' API server: what is handed over to it (eviction, cordon, node conditions), what it is told
//! (Events), the policies that it keeps, and what the kubelet has told it of its probes.
//!
//! healer asks as little as it can: names of pods and containers it has from the container runtime. Without credentials
//! nothing here runs; the client is made when it is first needed; a server that hangs costs a time-out with words.

#[cfg(feature = "kube")]
mod api;
#[cfg(feature = "kube")]
mod certificate;
#[cfg(feature = "kube")]
mod cluster;
#[cfg(feature = "kube")]
mod connect;
#[cfg(feature = "kube")]
mod events;
#[cfg(feature = "kube")]
mod evict;
#[cfg(feature = "kube")]
mod follow;
#[cfg(feature = "kube")]
mod insist;
#[cfg(feature = "kube")]
mod node;
#[cfg(not(feature = "kube"))]
mod off;
#[cfg(feature = "kube")]
mod pause;
#[cfg(feature = "kube")]
mod pods;
#[cfg(feature = "kube")]
mod policies;
pub mod rights;
#[cfg(feature = "kube")]
mod status;
#[cfg(feature = "kube")]
mod waiting;
#[cfg(feature = "kube")]
mod watched;

use core::time::Duration;
use std::path::PathBuf;

#[cfg(not(feature = "kube"))]
pub use self::off::{Cluster, Events, Kubelet, Statuses};
#[cfg(feature = "kube")]
pub use self::{cluster::Cluster, events::Events, pods::Kubelet, status::Statuses};
use crate::{engine::command::ActionOutcome, identity::process::Pod, text::printable};

/// `AgentConfig.kubernetes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// None: the service account of the pod that healer runs in, if it has one.
    pub kubeconfig: Option<PathBuf>,
    /// None: NODE_NAME of the environment, else what the machine calls itself.
    pub node: Option<String>,
    /// HealPolicies of the cluster are in force beside the files.
    pub policies: bool,
    /// Notifications and acts are told as Events.
    pub events: bool,
}

impl Settings {
    /// What this machine is called by whoever set healer up; in a pod the kernel's own name for it is the pod's.
    pub fn given_node(&self) -> Option<String> {
        let by_environment = || std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
        self.node.clone().or_else(by_environment)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { kubeconfig: None, node: None, policies: true, events: true }
    }
}

/// A pod that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub pod: Pod,
    /// None: the pod's own.
    pub grace: Option<Duration>,
    /// So long its PodDisruptionBudget is asked again.
    pub limit: Duration,
    /// Then it is deleted.
    pub past_budget: bool,
    /// Also if nobody makes it again.
    pub without_controller: bool,
}

impl Eviction {
    pub fn name(&self) -> String {
        format!("{}/{}", printable(&self.pod.namespace), printable(&self.pod.name))
    }

    /// Why a static pod is not moved.
    pub fn no_move_of_a_static_one(&self) -> ActionOutcome {
        failed(format!("pod {} is a static one: it can live nowhere else", self.name()))
    }
}

fn failed(error: impl Into<String>) -> ActionOutcome {
    ActionOutcome::Failed { error: error.into(), errno: None }
}

fn refused(reason: impl Into<String>) -> ActionOutcome {
    ActionOutcome::Refused { reason: reason.into() }
}
