//! Containers that Docker keeps for a kubelet (cri-dockerd): its labels say whose they are (kubernetes
//! pkg/kubelet/types/labels.go).

use crate::identity::process::{Container, Pod};

/// By the names that Kubernetes has for them. Of a pod Docker knows no labels and no annotations.
pub(super) fn named(container: Container) -> (Container, Option<Pod>) {
    let label = |key: &str| {
        let value = container.labels.get(&format!("io.kubernetes.{key}"));
        value.filter(|value| !value.is_empty()).cloned()
    };
    let (Some(namespace), Some(pod), Some(uid), Some(name)) =
        (label("pod.namespace"), label("pod.name"), label("pod.uid"), label("container.name"))
    else {
        return (container, None);
    };
    let pod = Pod { namespace, name: pod, uid, ..Pod::default() };
    (Container { runtime: "cri".to_owned(), name, ..container }, Some(pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(labels: &[(&str, &str)]) -> Container {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let name = "k8s_app_web-0_prod_u-1_0".to_owned();
        Container {
            runtime: "docker".to_owned(),
            id: "c0ffee".to_owned(),
            name,
            labels,
            ..Container::default()
        }
    }

    #[test]
    fn a_kubelets_container_has_its_names_in_kubernetes() {
        let (container, pod) = named(labelled(&[
            ("io.kubernetes.container.name", "app"),
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.pod.namespace", "prod"),
            ("io.kubernetes.pod.uid", "u-1"),
        ]));
        let pod = pod.expect("its pod");
        assert_eq!((&*container.name, &*container.runtime, &*container.id), ("app", "cri", "c0ffee"));
        assert_eq!((&*pod.namespace, &*pod.name, &*pod.uid), ("prod", "web-0", "u-1"));
    }

    #[test]
    fn another_container_keeps_its_own() {
        let half = [("io.kubernetes.pod.name", "web-0"), ("io.kubernetes.pod.uid", "")];
        for container in [labelled(&half[..0]), labelled(&half)] {
            assert_eq!(named(container.clone()), (container, None));
        }
    }
}
