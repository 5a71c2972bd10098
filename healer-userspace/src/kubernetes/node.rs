//! Cordon and conditions of this node, as knobs: read, set, and shown by the server as they were set.

use core::time::Duration;
use std::io;

use serde_json::{Value, json};

use super::{
    api::{Answer, Api, MANAGER, Send, now},
    insist::Insistent,
    rights::{MARK_NODE, NODE_STATUS, READ_NODE, Right},
};
use crate::engine::lease::Knob;

/// Whose cordon it is.
const MARK: &str = "healer.dev/cordoned";
const OPEN: &str = "open";
const OURS: &str = "cordoned by healer (";
const ABSENT: &str = "absent";
const SET: &str = "set by healer (";
const IS_TRUE: &str = "True: ";
const IS_FALSE: &str = "False";
/// The node's other writers are many: the kubelet alone writes its status every 10 s.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn read(api: &Api, knob: &Knob) -> io::Result<Option<String>> {
    Ok(node(&Insistent::new(api), knob).await?.map(|node| value(&node, knob)))
}

pub(super) async fn set(api: &Api, knob: &Knob, value: &str) -> io::Result<()> {
    let api = Insistent::new(api);
    match knob {
        Knob::Cordon { node } => cordon(&api, knob, node, value).await,
        Knob::Taint { node, taint } => set_taint(&api, knob, node, taint, value).await,
        Knob::Condition { node, name } => condition(&api, knob, node, name, value).await,
        Knob::Cgroup { .. }
        | Knob::Running(_)
        | Knob::OpenFiles(_)
        | Knob::OomScoreAdj(_)
        | Knob::Unit { .. }
        | Knob::Container { .. } => Err(io::Error::other("Kubernetes does not have it")),
    }
}

/// None: the cluster has no such node any more.
async fn node(api: &Insistent<'_>, knob: &Knob) -> io::Result<Option<Value>> {
    let (Knob::Cordon { node } | Knob::Taint { node, .. } | Knob::Condition { node, .. }) = knob else {
        return Ok(None);
    };
    let path = READ_NODE.path("", node);
    let answer = api.ask(&READ_NODE, &path, Send::Nothing).await.map_err(io::Error::other)?;
    match answer.code {
        200 => Ok(Some(answer.body)),
        404 => Ok(None),
        _refused => Err(not_let(&READ_NODE, &answer)),
    }
}

fn value(node: &Value, knob: &Knob) -> String {
    match knob {
        Knob::Condition { name, .. } => {
            let all = node["status"]["conditions"].as_array();
            let one = all.into_iter().flatten().find(|one| one["type"] == **name);
            match one.filter(|one| one["status"] == "True") {
                Some(one) => format!("{IS_TRUE}{}", one["message"].as_str().unwrap_or_default()),
                None => IS_FALSE.to_owned(),
            }
        }
        Knob::Taint { taint, .. } => tainted(node, taint),
        Knob::Cordon { .. }
        | Knob::Cgroup { .. }
        | Knob::Running(_)
        | Knob::OpenFiles(_)
        | Knob::OomScoreAdj(_)
        | Knob::Unit { .. }
        | Knob::Container { .. } => cordoned(node),
    }
}

fn cordoned(node: &Value) -> String {
    if node["spec"]["unschedulable"] != true {
        return OPEN.to_owned();
    }
    match node["metadata"]["annotations"][MARK].as_str() {
        Some(key) if is_managed_by_us(node) => format!("{OURS}{key})"),
        Some(_) | None => "cordoned".to_owned(),
    }
}

/// Who opened our cordon and closed it again has taken it over, though our mark is still there.
fn is_managed_by_us(node: &Value) -> bool {
    let Some(managers) = node["metadata"]["managedFields"].as_array() else {
        return true;
    };
    managers
        .iter()
        .any(|one| one["manager"] == MANAGER && one["fieldsV1"]["f:spec"].get("f:unschedulable").is_some())
}

async fn cordon(api: &Insistent<'_>, knob: &Knob, name: &str, wanted: &str) -> io::Result<()> {
    let key = wanted.strip_prefix(OURS).and_then(|rest| rest.strip_suffix(')'));
    let patch = |_before: &Value| {
        json!({
            "metadata": {"annotations": {MARK: key}},
            "spec": {"unschedulable": key.map(|_| true)},
        })
    };
    mark(api, knob, name, wanted, key.map(|_| OPEN), patch).await
}

fn is_taint(one: &Value, taint: &str) -> bool {
    let text = |key: &str| one[key].as_str().unwrap_or_default();
    taint.rsplit_once(':') == Some((text("key"), text("effect")))
}

/// Whose it is, its value tells.
fn tainted(node: &Value, taint: &str) -> String {
    let all = node["spec"]["taints"].as_array();
    match all.into_iter().flatten().find(|one| is_taint(one, taint)) {
        None => ABSENT.to_owned(),
        Some(one) => match one["value"].as_str() {
            Some(value) if !value.is_empty() => format!("{SET}{value})"),
            Some(_) | None => "set".to_owned(),
        },
    }
}

async fn set_taint(
    api: &Insistent<'_>,
    knob: &Knob,
    name: &str,
    taint: &str,
    wanted: &str,
) -> io::Result<()> {
    let value = wanted.strip_prefix(SET).and_then(|rest| rest.strip_suffix(')'));
    // The list is one value to the server: the others go with it as they were read.
    let patch = |before: &Value| {
        let mut all = before["spec"]["taints"].as_array().cloned().unwrap_or_default();
        all.retain(|one| !is_taint(one, taint));
        if let (Some(value), Some((key, effect))) = (value, taint.rsplit_once(':')) {
            all.push(json!({"key": key, "value": value, "effect": effect}));
        }
        json!({"spec": {"taints": if all.is_empty() { Value::Null } else { Value::Array(all) }}})
    };
    mark(api, knob, name, wanted, value.map(|_| ABSENT), patch).await
}

/// Bound to what was read: a mark of somebody else that comes between is not overwritten. `from`: it must be that
/// before; without, a mark of healer's is taken back.
async fn mark(
    api: &Insistent<'_>,
    knob: &Knob,
    name: &str,
    wanted: &str,
    from: Option<&str>,
    patch: impl Fn(&Value) -> Value,
) -> io::Result<()> {
    let mut last = String::new();
    for _ in 0..TRIES {
        let Some(before) = node(api, knob).await? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let now = value(&before, knob);
        // Also by ourselves: the answer to a patch may have been lost, or an error.
        if now == wanted {
            return Ok(());
        }
        match from {
            None if now.starts_with(OURS) || now.starts_with(SET) => {}
            Some(from) if now == from => {}
            None | Some(_) => return Err(io::Error::other(format!("it is {now} by now"))),
        }
        let mut patch = patch(&before);
        patch["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        let path = MARK_NODE.path("", name);
        let answer = api.ask(&MARK_NODE, &path, Send::Merge(&patch)).await.map_err(io::Error::other)?;
        if answer.is_ok() {
            return shows(&answer.body, knob, wanted);
        }
        if answer.code != 409 {
            return Err(not_let(&MARK_NODE, &answer));
        }
        last = answer.words();
        tokio::time::sleep(PAUSE).await;
    }
    Err(io::Error::other(format!("others wrote the node each time in between: {last}")))
}

/// Each condition has a manager of its own: an apply takes back what its manager applied before and leaves out now.
async fn condition(api: &Insistent<'_>, knob: &Knob, node: &str, name: &str, wanted: &str) -> io::Result<()> {
    let message = wanted.strip_prefix(IS_TRUE);
    let applied = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node},
        "status": {"conditions": [{
            "type": name,
            "status": if message.is_some() { "True" } else { "False" },
            "reason": if message.is_some() { "DiagnosedByHealer" } else { "NoDiagnosis" },
            "message": message.unwrap_or("healer has nothing to say of this node"),
            "lastHeartbeatTime": now(),
            "lastTransitionTime": now(),
        }]},
    });
    // Taken back is what was found as we had set it, whoever owns it by now; set is only what nobody else keeps.
    let is_forced = message.is_none();
    let path = format!("{}?fieldManager={MANAGER}-{name}&force={is_forced}", NODE_STATUS.path("", node));
    let answer = api.ask(&NODE_STATUS, &path, Send::Apply(&applied)).await.map_err(io::Error::other)?;
    if answer.is_ok() { shows(&answer.body, knob, wanted) } else { Err(not_let(&NODE_STATUS, &answer)) }
}

fn shows(node: &Value, knob: &Knob, wanted: &str) -> io::Result<()> {
    match value(node, knob) {
        now if now == wanted => Ok(()),
        now => Err(io::Error::other(format!("the API server shows {now} still"))),
    }
}

fn not_let(right: &Right, answer: &Answer) -> io::Error {
    let Right { verb, resource, .. } = right;
    io::Error::other(match answer.code {
        401 | 403 => format!(
            "Kubernetes does not let healer {verb} {resource} ({}): give its service account the rights of \
             deploy/kubernetes",
            answer.words()
        ),
        _other => format!("Kubernetes refused to {verb} {resource}: {}", answer.words()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_cordon_it_is_the_mark_and_its_manager_tell() {
        let mut node = json!({"metadata": {"annotations": {MARK: "k"}}, "spec": {"unschedulable": true}});
        assert_eq!(cordoned(&node), "cordoned by healer (k)");
        let fields =
            |manager: &str| json!([{"manager": manager, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}]);
        node["metadata"]["managedFields"] = fields(MANAGER);
        assert_eq!(cordoned(&node), "cordoned by healer (k)");
        node["metadata"]["managedFields"] = fields("kubectl-cordon");
        assert_eq!(cordoned(&node), "cordoned");
        assert_eq!(cordoned(&json!({"metadata": {"annotations": {MARK: "k"}}, "spec": {}})), OPEN);
        assert_eq!(cordoned(&json!({"spec": {"unschedulable": true}})), "cordoned");
    }

    #[test]
    fn a_taint_is_known_by_key_and_effect_and_whose_it_is_by_its_value() {
        let taint =
            |key: &str, value: Option<&str>| json!({"key": key, "value": value, "effect": "NoSchedule"});
        let node = json!({"spec": {"taints": [taint("a", None), taint("b/c", Some("k-1"))]}});
        assert_eq!(tainted(&node, "a:NoSchedule"), "set");
        assert_eq!(tainted(&node, "b/c:NoSchedule"), "set by healer (k-1)");
        assert_eq!(tainted(&node, "b/c:PreferNoSchedule"), ABSENT);
        assert_eq!(tainted(&json!({}), "a:NoSchedule"), ABSENT);
    }

    #[test]
    fn a_condition_that_was_never_set_is_false() {
        let knob = Knob::Condition { node: "n1".into(), name: "WorkloadStuck".into() };
        let node = |status: &str| json!({"status": {"conditions": [{"type": "WorkloadStuck", "status": status, "message": "m"}]}});
        assert_eq!(value(&node("True"), &knob), "True: m");
        assert_eq!(value(&node("Unknown"), &knob), IS_FALSE);
        assert_eq!(value(&json!({}), &knob), IS_FALSE);
    }
}
