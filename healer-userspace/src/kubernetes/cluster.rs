//! The way to the API server, for the hands and the reports.

use std::io;

use tokio::sync::mpsc;

use super::{
    Events, Eviction, Kubelet, Settings, Statuses, api::Api, connect::Credentials, evict, failed, node,
    pause, policies, waiting,
};
use crate::{
    action::host::{Afar, Later},
    config::FromCluster,
    engine::lease::Knob,
    identity::process::Pod,
    runtimes::{Done, Learnt},
};

pub(super) const NOBODY: &str =
    "no Kubernetes here: neither a service account nor a kubeconfig (AgentConfig kubernetes)";

/// Cheap to clone; connects nothing until it is asked.
#[derive(Clone, Default)]
pub struct Cluster(Option<Api>);

impl Cluster {
    pub fn new(settings: &Settings) -> Self {
        Self(Credentials::of(settings).map(|credentials| Api::new(credentials, settings)))
    }

    /// Are there credentials?
    pub fn is_reachable(settings: &Settings) -> bool {
        Credentials::of(settings).is_some()
    }

    /// What Kubernetes calls this machine.
    ///
    /// # Errors
    /// There are no credentials.
    pub fn node(&self) -> Result<String, String> {
        self.api().map(|api| api.node().to_owned())
    }

    /// Returns once the pod is on its way out.
    ///
    /// # Errors
    /// The act's outcome: refused, failed or unknown, in words.
    pub async fn evict(&self, eviction: &Eviction) -> Done {
        evict::evict(self.api().map_err(failed)?, eviction).await
    }

    /// Whether the pod has the annotation now, with any value but `false`.
    ///
    /// # Errors
    /// It is not known, in words.
    pub async fn is_paused(&self, pod: &Pod, annotation: &str) -> Result<bool, String> {
        pause::is_paused(self.api()?, pod, annotation).await
    }

    /// Why the kubelet does not start the pod's container now, such as `CrashLoopBackOff`.
    ///
    /// # Errors
    /// It is not known, in words.
    pub async fn waits_for(&self, pod: &Pod, container: &str) -> Result<Option<String>, String> {
        waiting::word(self.api()?, pod, container).await
    }

    /// Starts the task that tells them. None: there is nobody to tell.
    pub fn tell_events(&self) -> Option<Events> {
        self.0.clone().map(Events::start)
    }

    /// Starts the tasks that follow them and write their status. None: there is nobody who keeps policies.
    pub fn follow_policies(&self, learnt: mpsc::Sender<Vec<FromCluster>>) -> Option<Statuses> {
        let api = self.0.clone()?;
        tokio::spawn(policies::follow(api.clone(), learnt));
        Some(Statuses::start(api))
    }

    /// What the kubelet says of its containers; who makes their pods again is told by the way.
    pub fn kubelet(&self, learnt: mpsc::Sender<Learnt>) -> Kubelet {
        Kubelet::new(self.0.clone(), learnt)
    }

    fn api(&self) -> Result<&Api, String> {
        self.0.as_ref().ok_or_else(|| NOBODY.to_owned())
    }
}

impl Afar for Cluster {
    fn read_afar<'a>(&'a self, knob: &'a Knob) -> Later<'a, io::Result<Option<String>>> {
        Box::pin(async { node::read(self.api().map_err(io::Error::other)?, knob).await })
    }

    fn set_afar<'a>(&'a self, knob: &'a Knob, value: &'a str) -> Later<'a, io::Result<()>> {
        Box::pin(async move { node::set(self.api().map_err(io::Error::other)?, knob, value).await })
    }
}
