//! Eviction: the pod is looked at, the API server asked, its PodDisruptionBudget waited for.

use core::time::Duration;

use serde_json::{Value, json};

use super::{
    Eviction,
    api::{Answer, Api, Send},
    failed,
    insist::Insistent,
    refused,
    rights::{DELETE_POD, EVICT, READ_POD},
};
use crate::{
    clock,
    engine::{command::ActionOutcome, time::BootTime},
    runtimes::Done,
    text::printable,
};

/// After an answer that says nothing about when to come back: doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The mark of a static pod's image in the API (kubernetes.io/config.mirror).
const MIRROR: &str = "kubernetes.io/config.mirror";

enum Pod {
    /// Nothing of it is left to evict.
    Gone,
    Going,
    Stays,
}

enum Reply {
    Taken,
    /// Not now, for this reason.
    Later(Denied, Option<Duration>),
    /// The server has not answered.
    Nothing(Denied),
}

struct Denied {
    why: String,
    /// The word of a PodDisruptionBudget, and of nobody else.
    by_budget: bool,
}

impl Denied {
    fn otherwise(why: String) -> Self {
        Self { why, by_budget: false }
    }
}

pub(super) async fn evict(api: &Api, eviction: &Eviction) -> Done {
    let until = clock::boot() + eviction.limit;
    if let Some(done) = over_already(&look(api, eviction, until).await?, eviction) {
        return done;
    }
    match insist(api, eviction, until).await {
        Ok(Some(done)) => done,
        Ok(None) => on_its_way(api, eviction, until, "evicted").await,
        Err(Denied { why, by_budget: true }) if eviction.past_budget => {
            delete(api, eviction, until).await?;
            on_its_way(api, eviction, until + FIRST_PAUSE, &format!("deleted, for {why}")).await
        }
        Err(Denied { why, .. }) => Err(failed(why)),
    }
}

/// What is left to say of one that goes without us.
fn over_already(pod: &Pod, eviction: &Eviction) -> Option<Done> {
    match pod {
        Pod::Gone => Some(Err(refused(format!("pod {} is gone already", eviction.name())))),
        Pod::Going => Some(Ok(format!("pod {} was on its way out already", eviction.name()))),
        Pod::Stays => None,
    }
}

/// Asks until the server takes it, or it goes without us, or the time is over; then the error is the server's last
/// reason.
async fn insist(api: &Api, eviction: &Eviction, until: BootTime) -> Result<Option<Done>, Denied> {
    let mut pause = FIRST_PAUSE;
    let mut asked = 0_u32;
    loop {
        asked += 1;
        let (Denied { why, by_budget }, wait) = match ask(api, eviction).await? {
            Reply::Taken => return Ok(None),
            Reply::Nothing(denied) => (denied, pause),
            Reply::Later(denied, wait) => {
                if let Some(done) = look_again(api, eviction, until).await {
                    return Ok(Some(done));
                }
                (denied, wait.unwrap_or(pause))
            }
        };
        if until <= clock::boot() + wait {
            let limit = eviction.limit.as_secs();
            let why = format!(
                "pod {} may not go: asked {asked} times in {limit} s, last answer {why}",
                eviction.name()
            );
            return Err(Denied { why, by_budget });
        }
        tracing::info!("pod {} may not go yet ({why}): asked again in {} s", eviction.name(), wait.as_secs());
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Another one may have its name by now: then the server speaks of that one, by 409 or for its budget. Or it may not be
/// moved any more.
async fn look_again(api: &Api, eviction: &Eviction, until: BootTime) -> Option<Done> {
    let pod = tokio::time::timeout(until.since(clock::boot()), read(api, eviction, until)).await;
    match judge_if_there(&pod.ok()?.ok()?, eviction, api.node()) {
        Ok(pod) => over_already(&pod, eviction),
        Err(outcome) => Some(Err(outcome)),
    }
}

async fn ask(api: &Api, eviction: &Eviction) -> Result<Reply, Denied> {
    let body = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": eviction.pod.namespace, "name": eviction.pod.name},
        "deleteOptions": options(eviction),
    });
    let path = EVICT.path(&eviction.pod.namespace, &eviction.pod.name);
    match api.ask(&EVICT, &path, Send::Json(&body)).await {
        Ok(answer) => reply(&answer),
        Err(error) => Ok(Reply::Nothing(Denied::otherwise(error))),
    }
}

fn reply(answer: &Answer) -> Result<Reply, Denied> {
    match answer.code {
        200..300 | 404 => Ok(Reply::Taken),
        // A budget's word or too many requests (429), a race of writers (409), a server in trouble.
        409 | 429 | 500.. => {
            let denied = Denied { why: answer.words(), by_budget: is_by_budget(answer) };
            Ok(Reply::Later(denied, answer.retry_after))
        }
        // Of an admission webhook, for one: it would be asked of no delete.
        _refused => Err(Denied::otherwise(not_let(answer, "create pods/eviction"))),
    }
}

/// A server or webhook with too much to do answers 429 as well; a budget names itself as the cause.
fn is_by_budget(answer: &Answer) -> bool {
    let causes = answer.body["details"]["causes"].as_array();
    answer.code == 429 && causes.into_iter().flatten().any(|cause| cause["reason"] == "DisruptionBudget")
}

async fn delete(api: &Api, eviction: &Eviction, until: BootTime) -> Result<(), ActionOutcome> {
    let path = DELETE_POD.path(&eviction.pod.namespace, &eviction.pod.name);
    let insistent = Insistent::until(api, until);
    let asked = insistent.ask(&DELETE_POD, &path, Send::Json(&options(eviction))).await;
    let answer = asked.map_err(failed)?;
    let refusal = || Err(failed(not_let(&answer, "delete pods")));
    match answer.code {
        200..300 | 404 => Ok(()),
        409 => over_already(&look(api, eviction, until).await?, eviction)
            .map_or_else(refusal, |done| done.map(drop)),
        _refused => refusal(),
    }
}

/// This very pod, and no namesake.
fn options(eviction: &Eviction) -> Value {
    let mut options = json!({"preconditions": {"uid": eviction.pod.uid}});
    if let Some(grace) = eviction.grace {
        options["gracePeriodSeconds"] = json!(grace.as_secs());
    }
    options
}

fn not_let(answer: &Answer, right: &str) -> String {
    match answer.code {
        401 | 403 => format!(
            "Kubernetes does not let healer {right} ({}): give its service account the rights of deploy/kubernetes",
            answer.words()
        ),
        _other => format!("Kubernetes refused to {right}: {}", answer.words()),
    }
}

/// The server's word is read back: a finalizer or another writer may keep the pod.
async fn on_its_way(api: &Api, eviction: &Eviction, until: BootTime, what: &str) -> Done {
    loop {
        match look(api, eviction, until).await {
            Ok(Pod::Gone | Pod::Going) => return Ok(format!("pod {} {what}", eviction.name())),
            Ok(Pod::Stays) if until <= clock::boot() => {
                let reason = format!("pod {} is to go, and shows no sign of it", eviction.name());
                return Err(ActionOutcome::Unknown { reason });
            }
            Err(outcome) if until <= clock::boot() => {
                return Err(ActionOutcome::Unknown { reason: outcome.says().to_owned() });
            }
            Ok(Pod::Stays) | Err(_) => tokio::time::sleep(FIRST_PAUSE).await,
        }
    }
}

async fn look(api: &Api, eviction: &Eviction, until: BootTime) -> Result<Pod, ActionOutcome> {
    judge_if_there(&read(api, eviction, until).await?, eviction, api.node())
}

/// The pod of that name, if there is one.
async fn read(api: &Api, eviction: &Eviction, until: BootTime) -> Result<Option<Value>, ActionOutcome> {
    let path = READ_POD.path(&eviction.pod.namespace, &eviction.pod.name);
    let answer = Insistent::until(api, until).ask(&READ_POD, &path, Send::Nothing).await.map_err(failed)?;
    match answer.code {
        200 => Ok(Some(answer.body)),
        404 => Ok(None),
        _refused => Err(failed(not_let(&answer, "get pods"))),
    }
}

fn judge_if_there(pod: &Option<Value>, eviction: &Eviction, node: &str) -> Result<Pod, ActionOutcome> {
    pod.as_ref().map_or(Ok(Pod::Gone), |pod| judge(pod, eviction, node))
}

fn judge(pod: &Value, eviction: &Eviction, node: &str) -> Result<Pod, ActionOutcome> {
    let name = eviction.name();
    let meta = &pod["metadata"];
    // A static pod has another uid in the API than on its node.
    let owners = meta["ownerReferences"].as_array().cloned().unwrap_or_default();
    let owned_by = |kind: &str| owners.iter().any(|owner| owner["kind"] == kind);
    if owned_by("Node") || meta["annotations"].get(MIRROR).is_some() {
        return Err(eviction.no_move_of_a_static_one());
    }
    if meta["uid"] != *eviction.pod.uid {
        return Ok(Pod::Gone);
    }
    if pod["spec"]["nodeName"] != *node {
        let there = printable(pod["spec"]["nodeName"].as_str().unwrap_or("no node")).into_owned();
        return Err(refused(format!("pod {name} is on {there}, and this is {}", printable(node))));
    }
    if meta["deletionTimestamp"].is_string() {
        return Ok(Pod::Going);
    }
    if owned_by("DaemonSet") {
        return Err(failed(format!("pod {name} is of a DaemonSet: it would come back to this node")));
    }
    let is_made_again = owners.iter().any(|owner| owner["controller"] == true);
    if !is_made_again && !eviction.without_controller {
        return Err(failed(format!(
            "pod {name} has no controller that would make it again: it would be gone for good \
             (withoutController: true in the rung says that it may)"
        )));
    }
    Ok(Pod::Stays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::Pod as Named;

    fn eviction() -> Eviction {
        let pod =
            Named { namespace: "prod".into(), name: "web-0".into(), uid: "u".into(), ..Named::default() };
        Eviction { pod, grace: None, limit: Duration::ZERO, past_budget: false, without_controller: false }
    }

    fn of(pod: &Value) -> Result<Pod, ActionOutcome> {
        judge(pod, &eviction(), "n1")
    }

    fn pod(owner: &str) -> Value {
        let owner = json!({"kind": owner, "controller": true});
        json!({"metadata": {"uid": "u", "ownerReferences": [owner]}, "spec": {"nodeName": "n1"}})
    }

    #[test]
    fn only_a_budget_is_passed_by() {
        let answer = |code| Answer { code, body: json!({"message": "no"}), retry_after: None };
        let causes = json!({"causes": [{"reason": "DisruptionBudget", "message": "it needs 2"}]});
        let budget = Answer { body: json!({"message": "no", "details": causes}), ..answer(429) };
        assert!(matches!(reply(&budget), Ok(Reply::Later(Denied { by_budget: true, .. }, _))));
        assert!(matches!(reply(&answer(429)), Ok(Reply::Later(Denied { by_budget: false, .. }, _))));
        assert!(matches!(reply(&answer(503)), Ok(Reply::Later(Denied { by_budget: false, .. }, _))));
        assert!(matches!(reply(&answer(403)), Err(Denied { by_budget: false, .. })));
        assert!(matches!(reply(&answer(409)), Ok(Reply::Later(Denied { by_budget: false, .. }, _))));
        assert!(matches!(reply(&answer(201)), Ok(Reply::Taken)));
    }

    #[test]
    fn only_who_can_live_elsewhere_is_moved() {
        assert!(matches!(of(&pod("ReplicaSet")), Ok(Pod::Stays)));
        for (owner, words) in [("DaemonSet", "come back"), ("Node", "static")] {
            let Err(ActionOutcome::Failed { error, .. }) = of(&pod(owner)) else { panic!("{owner}") };
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn whom_nobody_makes_again_goes_only_if_the_policy_says_so() {
        let mut kept = pod("ConfigMap");
        kept["metadata"]["ownerReferences"][0]["controller"] = json!(false);
        let bare = json!({"metadata": {"uid": "u"}, "spec": {"nodeName": "n1"}});
        for bare in [bare, kept] {
            let Err(ActionOutcome::Failed { error, .. }) = of(&bare) else { panic!("{bare}") };
            assert!(error.contains("gone for good") && error.contains("withoutController"), "{error}");
            let may = Eviction { without_controller: true, ..eviction() };
            assert!(matches!(judge(&bare, &may, "n1"), Ok(Pod::Stays)));
        }
    }

    #[test]
    fn a_namesake_a_stranger_and_one_that_goes_are_left_alone() {
        let mut another = pod("ReplicaSet");
        another["metadata"]["uid"] = json!("v");
        assert!(matches!(of(&another), Ok(Pod::Gone)));
        let mut elsewhere = pod("ReplicaSet");
        elsewhere["spec"]["nodeName"] = json!("n2");
        assert!(matches!(of(&elsewhere), Err(ActionOutcome::Refused { .. })));
        let mut going = pod("ReplicaSet");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(matches!(of(&going), Ok(Pod::Going)));
    }
}
