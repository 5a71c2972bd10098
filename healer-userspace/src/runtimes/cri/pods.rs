//! What the runtime lists, in the words of identity: containers, and the pods that they are of.

use std::collections::BTreeMap;

use super::{engine::Listed, image, proto};
use crate::identity::process::{Container, Pod};

/// A pod's first process holds its namespaces; cAdvisor has this name for it, too.
pub(super) const SANDBOX: &str = "POD";

/// One container, or the sandbox of a pod, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) container: Container,
    pub(super) pod: Option<Pod>,
    pub(super) runs: bool,
    pub(super) is_over: bool,
    /// Its pod has been stopped: what ends with it was asked for.
    pub(super) pod_is_over: bool,
}

pub(super) fn all(runtime: &str, listed: Listed) -> BTreeMap<String, Seen> {
    let Listed { sandboxes, containers } = listed;
    let mut seen = BTreeMap::new();
    for sandbox in sandboxes {
        let one = of_sandbox(runtime, sandbox);
        seen.insert(one.container.id.clone(), one);
    }
    for container in containers {
        let pod = seen.get(&container.pod_sandbox_id).cloned();
        let one = of_container(runtime, container, pod.as_ref());
        seen.insert(one.container.id.clone(), one);
    }
    seen
}

fn of_sandbox(runtime: &str, sandbox: proto::PodSandbox) -> Seen {
    let metadata = sandbox.metadata.unwrap_or_default();
    let is_ready = sandbox.state == proto::SANDBOX_READY;
    let pod = Pod {
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        labels: sandbox.labels,
        annotations: sandbox.annotations,
        controller: None,
    };
    let container = Container {
        runtime: runtime.to_owned(),
        id: sandbox.id,
        name: SANDBOX.to_owned(),
        ..Container::default()
    };
    Seen { container, pod: Some(pod), runs: is_ready, is_over: !is_ready, pod_is_over: !is_ready }
}

fn of_container(runtime: &str, container: proto::Container, pod: Option<&Seen>) -> Seen {
    Seen {
        container: Container {
            runtime: runtime.to_owned(),
            id: container.id,
            name: container.metadata.unwrap_or_default().name,
            image: image::named(container.image),
            labels: container.labels,
            log_file: None,
        },
        pod: pod.and_then(|pod| pod.pod.clone()),
        runs: container.state == proto::RUNNING,
        is_over: container.state == proto::EXITED,
        pod_is_over: pod.is_none_or(|pod| pod.pod_is_over),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(state: i32) -> Listed {
        let metadata =
            proto::PodSandboxMetadata { name: "web-0".into(), uid: "u-1".into(), namespace: "prod".into() };
        let sandbox = proto::PodSandbox {
            id: "s".into(),
            metadata: Some(metadata),
            state,
            labels: BTreeMap::from([("app".into(), "web".into())]),
            annotations: BTreeMap::new(),
        };
        let container = proto::Container {
            id: "c".into(),
            pod_sandbox_id: "s".into(),
            metadata: Some(proto::ContainerMetadata { name: "app".into() }),
            state: proto::RUNNING,
            ..proto::Container::default()
        };
        Listed { sandboxes: vec![sandbox], containers: vec![container] }
    }

    #[test]
    fn a_container_has_its_pod_and_its_pods_labels() {
        let seen = all("containerd", listed(proto::SANDBOX_READY));
        let one = &seen["c"];
        let pod = one.pod.as_ref().expect("its pod");
        assert_eq!((one.container.name.as_str(), one.runs, one.pod_is_over), ("app", true, false));
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("prod", "web-0", "u-1"));
        assert_eq!(pod.labels["app"], "web");
        assert_eq!(seen["s"].container.name, SANDBOX);
    }

    #[test]
    fn what_ends_with_its_pod_was_asked_for() {
        let seen = all("containerd", listed(1));
        assert!(seen["c"].pod_is_over && seen["s"].pod_is_over && !seen["s"].runs);
    }
}
