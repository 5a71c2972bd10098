//! What the kubelet says of this node's containers: its own probes' results, read instead of asked a second time. Beside
//! them stands who makes a pod again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    api::Api,
    follow::{self, ENDS_WITHIN, Learner, What},
    rights::{LIST_PODS, WATCH_PODS},
};
use crate::{clock, engine::time::BootTime, identity::process::Place, runtimes::Learnt};

/// Seconds, generously: it was a restart of this container that the kubelet told of so late.
const KUBELET_SEES_WITHIN: i64 = 30;

/// Cheap to clone; follows nothing until somebody asks.
#[derive(Clone)]
pub struct Kubelet {
    api: Option<Api>,
    told: Arc<Mutex<Told>>,
    follows: Arc<AtomicBool>,
    learnt: mpsc::Sender<Learnt>,
}

#[derive(Debug)]
enum Known {
    /// Why nothing is known.
    Nothing(String),
    /// By the container's id: who follows in the same pod is somebody else.
    Containers(BTreeMap<String, Ready>),
}

#[derive(Clone, Copy, Debug)]
struct Ready {
    now: bool,
    /// Who has never been is starting, however long that takes.
    once: bool,
}

#[derive(Debug)]
struct Told {
    known: Known,
    /// When the server last said something.
    heard: BootTime,
}

impl Told {
    fn of(&self, place: &Place, at: BootTime) -> Result<bool, String> {
        let (Some(_), Some(container)) = (&place.pod, &place.container) else {
            return Err("it is in no pod".to_owned());
        };
        let containers = match &self.known {
            Known::Nothing(why) => return Err(why.clone()),
            Known::Containers(containers) => containers,
        };
        let silent = at.since(self.heard);
        if ENDS_WITHIN < silent {
            return Err(format!("the API server has told nothing of the pods for {} s", silent.as_secs()));
        }
        match containers.get(&container.id) {
            None => Err("the kubelet has said nothing of it yet".to_owned()),
            Some(Ready { now: false, once: false }) => Err("it has not been ready yet".to_owned()),
            Some(ready) => Ok(ready.now),
        }
    }
}

impl Kubelet {
    pub(super) fn new(api: Option<Api>, learnt: mpsc::Sender<Learnt>) -> Self {
        let why = match &api {
            Some(_) => "the API server has not told of the pods yet".to_owned(),
            None => super::cluster::NOBODY.to_owned(),
        };
        let told = Told { known: Known::Nothing(why), heard: clock::boot() };
        Self { api, told: Arc::new(Mutex::new(told)), follows: Arc::default(), learnt }
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
        tokio::spawn(follow::follow(api, what, Pods::new(self)));
    }

    /// Whether the kubelet has the container for ready.
    ///
    /// # Errors
    /// It is not known, in words.
    pub fn is_ready(&self, place: &Place) -> Result<bool, String> {
        locked(&self.told).of(place, clock::boot())
    }
}

fn locked(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Pods {
    told: Arc<Mutex<Told>>,
    /// Containers that have been ready.
    once: BTreeSet<String>,
    learnt: mpsc::Sender<Learnt>,
    /// By the pod's uid, as it was told last.
    controllers: BTreeMap<String, String>,
}

impl Pods {
    fn new(kubelet: &Kubelet) -> Self {
        let (told, learnt) = (Arc::clone(&kubelet.told), kubelet.learnt.clone());
        Self { told, once: BTreeSet::new(), learnt, controllers: BTreeMap::new() }
    }

    async fn tell_controllers(&mut self, known: &BTreeMap<String, Value>) {
        let told = core::mem::take(&mut self.controllers);
        for pod in known.values() {
            let (Some(uid), Some(controller)) = (pod["uid"].as_str(), pod["controller"].as_str()) else {
                continue;
            };
            let (uid, controller) = (uid.to_owned(), controller.to_owned());
            self.controllers.insert(uid.clone(), controller.clone());
            if told.get(&uid) != Some(&controller) {
                // Closed only when the agent is on its way out.
                self.learnt.send(Learnt::Controlled { uid, controller }).await.ok();
            }
        }
    }
}

impl Learner for Pods {
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.told) == 1
    }

    fn keep(&mut self, pod: Value) -> Value {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            // Its readiness is taken back while it drains.
            return json!({"containers": []});
        }
        let statuses = ["containerStatuses", "initContainerStatuses"];
        let all = statuses.iter().filter_map(|key| pod["status"][key].as_array()).flatten();
        let mut kept = Vec::new();
        for one in all {
            // Noted at once: of several changes of one moment only the last is learnt.
            if one["ready"] == true || was_ready(&pod, one) {
                self.once.insert(id(one).to_owned());
            }
            kept.push(json!({"id": id(one), "ready": one["ready"], "runs": runs(one)}));
        }
        json!({"containers": kept, "uid": pod["metadata"]["uid"], "controller": controller(&pod)})
    }

    async fn learn(&mut self, known: &BTreeMap<String, Value>) {
        let all = || known.values().filter_map(|pod| pod["containers"].as_array()).flatten();
        let name = |one: &Value| one["id"].as_str().unwrap_or_default().to_owned();
        let there: BTreeSet<String> = all().map(name).collect();
        self.once.retain(|id| there.contains(id));
        let told = all().filter(|one| one["runs"] == true).map(|one| {
            let id = name(one);
            let once = self.once.contains(&id);
            (id, Ready { now: one["ready"] == true, once })
        });
        locked(&self.told).known = Known::Containers(told.collect());
        self.tell_controllers(known).await;
    }

    fn heard(&mut self, at: BootTime) {
        locked(&self.told).heard = at;
    }

    fn lost(&mut self, why: &str) {
        locked(&self.told).known = Known::Nothing(why.to_owned());
    }
}

/// Of several owners it is the one that makes it again.
fn controller(pod: &Value) -> Option<String> {
    let mut owners = pod["metadata"]["ownerReferences"].as_array()?.iter();
    let controller = owners.find(|owner| owner["controller"] == true)?;
    Some(format!("{}/{}", controller["kind"].as_str()?, controller["name"].as_str()?))
}

/// `containerd://c0ffee…`
pub(super) fn id(status: &Value) -> &str {
    let whole = status["containerID"].as_str().unwrap_or_default();
    whole.split_once("://").map_or(whole, |(_runtime, id)| id)
}

/// Started: its start-up probe is behind it. Who waits or has ended is not ready either, and not sick for that.
fn runs(status: &Value) -> bool {
    status["started"] != false && status["state"]["running"].is_object()
}

/// Before healer looked: all containers of the pod were ready until some time after this one's start.
fn was_ready(pod: &Value, status: &Value) -> bool {
    let time = |value: &Value| value.as_str()?.parse::<jiff::Timestamp>().ok();
    let conditions = pod["status"]["conditions"].as_array();
    let all_ready = conditions.into_iter().flatten().find(|one| one["type"] == "ContainersReady");
    let lost =
        all_ready.filter(|one| one["status"] == "False").and_then(|one| time(&one["lastTransitionTime"]));
    let (Some(lost), Some(started)) = (lost, time(&status["state"]["running"]["startedAt"])) else {
        return false;
    };
    KUBELET_SEES_WITHIN < lost.as_second() - started.as_second()
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::identity::process::{Container, Pod};

    fn place(id: &str) -> Place {
        Place {
            pod: Some(Pod::default()),
            container: Some(Container { id: id.into(), ..Container::default() }),
            ..Place::default()
        }
    }

    fn status(id: &str, ready: bool, started: bool, state: &str) -> Value {
        let id = format!("containerd://{id}");
        json!({"containerID": id, "ready": ready, "started": started, "state": {state: {"startedAt": "2026-01-01T00:00:00Z"}}})
    }

    fn pod(statuses: &[Value], ready_until: Option<&str>) -> Value {
        let condition = ready_until
            .map(|time| json!({"type": "ContainersReady", "status": "False", "lastTransitionTime": time}));
        let conditions: Vec<Value> = condition.into_iter().collect();
        json!({"metadata": {"uid": "u"}, "status": {"containerStatuses": statuses, "conditions": conditions}})
    }

    /// What is known after the server has told all of these, one after the other.
    struct Heard {
        kubelet: Kubelet,
        pods: Pods,
        learnt: mpsc::Receiver<Learnt>,
    }

    impl Heard {
        fn new() -> Self {
            let (sender, learnt) = mpsc::channel(8);
            let kubelet = Kubelet::new(None, sender);
            let pods = Pods::new(&kubelet);
            Self { kubelet, pods, learnt }
        }

        fn told(&mut self, pod: Value) {
            let known = BTreeMap::from([("prod/web-0".to_owned(), self.pods.keep(pod))]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(self.pods.learn(&known));
        }

        fn says(&self, id: &str) -> Result<bool, String> {
            self.kubelet.is_ready(&place(id))
        }
    }

    #[test]
    fn only_of_who_runs_and_has_started_the_kubelet_says_something() {
        let mut heard = Heard::new();
        assert!(heard.says("well").unwrap_err().contains("no Kubernetes here"));
        heard
            .told(pod(&[status("well", true, true, "running"), status("sick", true, true, "running")], None));
        heard.told(pod(
            &[
                status("well", true, true, "running"),
                status("sick", false, true, "running"),
                status("starts", false, false, "running"),
                status("waits", false, false, "waiting"),
            ],
            None,
        ));
        assert_eq!((heard.says("well"), heard.says("sick")), (Ok(true), Ok(false)));
        for silent in ["starts", "waits", "other"] {
            assert!(heard.says(silent).unwrap_err().contains("said nothing"));
        }
        assert!(heard.kubelet.is_ready(&Place::default()).unwrap_err().contains("no pod"));
        heard.pods.lost("403 no");
        assert_eq!(heard.says("well"), Err("403 no".to_owned()));
    }

    #[test]
    fn who_makes_a_pod_again_is_told_once_and_when_it_changes() {
        let mut heard = Heard::new();
        let owned_by = |name: &str| {
            let mut pod = pod(&[], None);
            pod["metadata"]["ownerReferences"] = json!([
                {"kind": "Backup", "name": "b"},
                {"kind": "ReplicaSet", "name": name, "controller": true},
            ]);
            pod
        };
        for pod in [pod(&[], None), owned_by("web"), owned_by("web"), owned_by("api")] {
            heard.told(pod);
        }
        let told = core::iter::from_fn(|| heard.learnt.try_recv().ok());
        let of =
            |name: &str| Learnt::Controlled { uid: "u".into(), controller: format!("ReplicaSet/{name}") };
        assert_eq!(told.collect::<Vec<_>>(), [of("web"), of("api")]);
    }

    #[test]
    fn who_has_never_been_ready_starts_and_a_restarted_container_is_somebody_else() {
        let mut heard = Heard::new();
        let unready = |id: &str| pod(&[status(id, false, true, "running")], None);
        heard.told(unready("first"));
        assert!(heard.says("first").unwrap_err().contains("not been ready yet"));
        heard.told(pod(&[status("first", true, true, "running")], None));
        heard.pods.lost("the connection broke");
        heard.told(unready("first"));
        assert_eq!(heard.says("first"), Ok(false));
        heard.told(unready("second"));
        assert!(heard.says("second").unwrap_err().contains("not been ready yet"));
        assert!(heard.says("first").unwrap_err().contains("said nothing"));
    }

    #[test]
    fn who_was_ready_before_healer_looked_is_known_by_the_pods_condition() {
        let mut heard = Heard::new();
        let sick = |ready_until| pod(&[status("a", false, true, "running")], Some(ready_until));
        for starts in ["2025-12-31T23:59:50Z", "2026-01-01T00:00:20Z"] {
            heard.told(sick(starts));
            assert!(heard.says("a").unwrap_err().contains("not been ready yet"), "{starts}");
        }
        heard.told(sick("2026-01-01T00:05:00Z"));
        assert_eq!(heard.says("a"), Ok(false));
    }

    #[test]
    fn what_was_heard_long_ago_is_no_evidence() {
        let mut heard = Heard::new();
        heard.told(pod(&[status("a", true, true, "running")], None));
        heard.told(pod(&[status("a", false, true, "running")], None));
        let at = clock::boot();
        heard.pods.heard(at);
        let after = |seconds| locked(&heard.kubelet.told).of(&place("a"), at + Duration::from_secs(seconds));
        assert_eq!(after(270), Ok(false));
        assert_eq!(after(271), Err("the API server has told nothing of the pods for 271 s".to_owned()));
    }
}
