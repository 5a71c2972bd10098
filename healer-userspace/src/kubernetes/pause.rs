//! The annotation by which the owner of a pod keeps healer away from it, as it is now.

use serde_json::Value;

use super::{
    api::{Api, Send},
    rights::READ_POD,
};
use crate::identity::process::Pod;

/// A static pod's other self in the API has its uid here.
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) async fn is_paused(api: &Api, pod: &Pod, annotation: &str) -> Result<bool, String> {
    let path = READ_POD.path(&pod.namespace, &pod.name);
    let answer = api.ask(&READ_POD, &path, Send::Nothing).await?;
    match answer.code {
        200 => judge(&answer.body, pod, annotation),
        _other => Err(answer.words()),
    }
}

fn judge(found: &Value, pod: &Pod, annotation: &str) -> Result<bool, String> {
    let meta = &found["metadata"];
    if meta["uid"] != *pod.uid && meta["annotations"][MIRROR] != *pod.uid {
        return Err("another pod has its name now".to_owned());
    }
    Ok(meta["annotations"][annotation].as_str().is_some_and(|value| value != "false"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_this_very_pods_annotation() {
        let pod = Pod { uid: "u".into(), ..Pod::default() };
        let of = |uid: &str, annotations: Value| {
            judge(&json!({"metadata": {"uid": uid, "annotations": annotations}}), &pod, "a/b")
        };
        assert_eq!(of("u", json!({"a/b": ""})), Ok(true));
        assert_eq!(of("u", json!({"a/b": "false", "a/c": "yes"})), Ok(false));
        assert_eq!(of("u", Value::Null), Ok(false));
        assert!(of("v", json!({"a/b": "yes"})).unwrap_err().contains("another pod"));
        assert_eq!(of("v", json!({"a/b": "yes", MIRROR: "u"})), Ok(true));
    }
}
