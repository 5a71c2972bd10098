//! Why the kubelet does not start a container now, in its own words.

use serde_json::Value;

use super::{
    api::{Api, Send},
    pods::id,
    rights::READ_POD,
};
use crate::{identity::process::Pod, text::printable};

/// Of the kubelet's message, which ends with the pod's name.
const SHOWN: usize = 100;

pub(super) async fn word(api: &Api, pod: &Pod, container: &str) -> Result<Option<String>, String> {
    let path = READ_POD.path(&pod.namespace, &pod.name);
    let answer = api.ask(&READ_POD, &path, Send::Nothing).await?;
    match answer.code {
        200 => Ok(judge(&answer.body, container)),
        _other => Err(answer.words()),
    }
}

/// None: it does not wait, or its place has another container by now.
fn judge(pod: &Value, container: &str) -> Option<String> {
    let statuses = ["containerStatuses", "initContainerStatuses"];
    let mut all = statuses.iter().filter_map(|key| pod["status"][key].as_array()).flatten();
    let status = all.find(|one| id(one) == container || id(&one["lastState"]["terminated"]) == container)?;
    let waiting = &status["state"]["waiting"];
    let reason = printable(waiting["reason"].as_str()?).into_owned();
    let message: String = waiting["message"].as_str().unwrap_or_default().chars().take(SHOWN).collect();
    if message.is_empty() {
        return Some(reason);
    }
    Some(format!("{reason} ({})", printable(&message)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_that_waits_has_the_kubelets_word() {
        let pod = |state: Value| {
            json!({"status": {"initContainerStatuses": [{"containerID": "containerd://i"}], "containerStatuses": [{
                "containerID": "containerd://a",
                "state": state,
                "lastState": {"terminated": {"containerID": "containerd://b"}},
            }]}})
        };
        let back_off = "back-off 20s restarting failed container=web";
        let waits = pod(json!({"waiting": {"reason": "CrashLoopBackOff", "message": back_off}}));
        for mine in ["a", "b"] {
            assert_eq!(judge(&waits, mine), Some(format!("CrashLoopBackOff ({back_off})")));
        }
        let bare = pod(json!({"waiting": {"reason": "ImagePullBackOff"}}));
        assert_eq!(judge(&bare, "a").as_deref(), Some("ImagePullBackOff"));
        for other in ["c", "i", ""] {
            assert_eq!(judge(&waits, other), None, "{other}");
        }
        assert_eq!(judge(&pod(json!({"running": {}})), "b"), None);
        assert_eq!(judge(&json!({}), "a"), None);
    }
}
