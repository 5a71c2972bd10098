//! What the kubelet says of this node's containers: its own probes' results, read instead of asked a second time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use super::{
    api::Api,
    follow::{self, Learner, What},
    rights::{LIST_PODS, WATCH_PODS},
};
use crate::identity::process::Place;

/// Cheap to clone; follows nothing until somebody asks.
#[derive(Clone)]
pub struct Kubelet {
    api: Option<Api>,
    known: Arc<Mutex<Known>>,
    follows: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Known {
    /// Why nothing is known.
    Nothing(String),
    /// By the pod's uid and the container's name: ready.
    Containers(BTreeMap<(String, String), bool>),
}

impl Kubelet {
    pub(super) fn new(api: Option<Api>) -> Self {
        let why = match &api {
            Some(_) => "the API server has not told of the pods yet".to_owned(),
            None => super::cluster::NOBODY.to_owned(),
        };
        Self { api, known: Arc::new(Mutex::new(Known::Nothing(why))), follows: Arc::default() }
    }

    /// From now on the pods of this node are followed.
    pub fn follow(&self) {
        let Some(api) = self.api.clone().filter(|_| !self.follows.swap(true, Ordering::Relaxed)) else {
            return;
        };
        let what = What {
            name: "pods of this node",
            list: &LIST_PODS,
            watch: &WATCH_PODS,
            selector: format!("fieldSelector=spec.nodeName%3D{}", api.node()),
            absent: "the server has no pods",
            meanwhile: "probes of the kubelet count for nothing meanwhile (deploy/kubernetes/probes grants it)",
        };
        tokio::spawn(follow::follow(api, what, Pods(Arc::clone(&self.known))));
    }

    /// Whether the kubelet has the container for ready.
    ///
    /// # Errors
    /// It is not known, in words.
    pub fn is_ready(&self, place: &Place) -> Result<bool, String> {
        let (Some(pod), Some(container)) = (&place.pod, &place.container) else {
            return Err("it is in no pod".to_owned());
        };
        match &*locked(&self.known) {
            Known::Nothing(why) => Err(why.clone()),
            Known::Containers(known) => known
                .get(&(pod.uid.clone(), container.name.clone()))
                .copied()
                .ok_or_else(|| "the kubelet has said nothing of it yet".to_owned()),
        }
    }
}

fn locked(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Pods(Arc<Mutex<Known>>);

impl Learner for Pods {
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn keep(&self, pod: Value) -> Value {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            // Its readiness is taken back while it drains.
            return json!({"uid": pod["metadata"]["uid"], "containers": []});
        }
        let statuses = ["containerStatuses", "initContainerStatuses"];
        let all = statuses.iter().filter_map(|key| pod["status"][key].as_array()).flatten();
        let kept = all.map(|one| json!({"name": one["name"], "ready": one["ready"], "runs": runs(one)}));
        json!({"uid": pod["metadata"]["uid"], "containers": kept.collect::<Vec<_>>()})
    }

    async fn learn(&mut self, known: &BTreeMap<String, Value>) {
        *locked(&self.0) = Known::Containers(known.values().flat_map(told).collect());
    }

    fn lost(&mut self, why: &str) {
        *locked(&self.0) = Known::Nothing(why.to_owned());
    }
}

/// Started: its start-up probe is behind it. Who waits or has ended is not ready either, and not sick for that.
fn runs(status: &Value) -> bool {
    status["started"] != false && status["state"]["running"].is_object()
}

fn told(pod: &Value) -> impl Iterator<Item = ((String, String), bool)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let containers = pod["containers"].as_array().into_iter().flatten();
    let running = containers.filter(|one| one["runs"] == true);
    running.map(move |one| ((text(&pod["uid"]), text(&one["name"])), one["ready"] == true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::{Container, Pod};

    fn place(container: &str) -> Place {
        Place {
            pod: Some(Pod { uid: "u".into(), ..Pod::default() }),
            container: Some(Container { name: container.into(), ..Container::default() }),
            ..Place::default()
        }
    }

    #[test]
    fn only_of_who_runs_and_has_started_the_kubelet_says_something() {
        let status = |name: &str, ready: bool, started: bool, state: &str| json!({"name": name, "ready": ready, "started": started, "state": {state: {}}});
        let pod = json!({"metadata": {"uid": "u", "namespace": "prod", "name": "web-0"}, "status": {"containerStatuses": [
            status("well", true, true, "running"),
            status("sick", false, true, "running"),
            status("starts", false, false, "running"),
            status("waits", false, false, "waiting"),
        ]}});
        let kubelet = Kubelet::new(None);
        assert!(kubelet.is_ready(&place("well")).unwrap_err().contains("no Kubernetes here"));
        let mut pods = Pods(Arc::clone(&kubelet.known));
        let known = BTreeMap::from([("prod/web-0".to_owned(), pods.keep(pod))]);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(pods.learn(&known));
        assert_eq!(kubelet.is_ready(&place("well")), Ok(true));
        assert_eq!(kubelet.is_ready(&place("sick")), Ok(false));
        for silent in ["starts", "waits", "other"] {
            assert!(kubelet.is_ready(&place(silent)).unwrap_err().contains("said nothing"));
        }
        assert!(kubelet.is_ready(&Place::default()).unwrap_err().contains("no pod"));
        pods.lost("403 no");
        assert_eq!(kubelet.is_ready(&place("well")), Err("403 no".to_owned()));
    }
}
