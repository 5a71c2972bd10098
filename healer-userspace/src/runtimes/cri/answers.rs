//! Answers of a container runtime, for whoever feeds us others.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{engine, image, pods, proto};

/// A status, the lists of pods and of containers, one after the other: decoded as any of them.
pub(in crate::runtimes) fn sound_answers() -> Vec<u8> {
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let info = BTreeMap::from([("info".to_owned(), r#"{"pid":4711,"sandboxID":"s"}"#.to_owned())]);
    let spec = proto::ImageSpec { image: "app:1".to_owned(), user_specified_image: "app".to_owned() };
    let status = proto::ContainerStatus {
        state: proto::RUNNING,
        exit_code: 137,
        image: Some(spec.clone()),
        image_ref: "app@sha256:c0ffee".to_owned(),
    };
    let metadata = proto::ContainerMetadata { name: "web".to_owned() };
    let container = proto::Container {
        id: "c".to_owned(),
        pod_sandbox_id: "s".to_owned(),
        metadata: Some(metadata),
        image: Some(spec),
        state: proto::RUNNING,
        labels: labels.clone(),
        ..proto::Container::default()
    };
    let sandbox = proto::PodSandbox { id: "s".to_owned(), labels, ..proto::PodSandbox::default() };
    [
        proto::ContainerStatusResponse { status: Some(status), info }.encode_to_vec(),
        proto::ListPodSandboxResponse { items: vec![sandbox] }.encode_to_vec(),
        proto::ListContainersResponse { containers: vec![container] }.encode_to_vec(),
    ]
    .concat()
}

pub(in crate::runtimes) fn read_answers(bytes: &[u8]) {
    if let Ok(answer) = proto::ContainerStatusResponse::decode(bytes) {
        let name = answer.status.clone().and_then(image::name_in);
        assert!(name.is_none_or(|name| !name.is_empty()));
        assert!(!format!("{:?}", engine::life_of(answer)).is_empty());
    }
    proto::VersionResponse::decode(bytes).ok();
    let sandboxes = proto::ListPodSandboxResponse::decode(bytes).map(|answer| answer.items);
    let containers = proto::ListContainersResponse::decode(bytes).map(|answer| answer.containers);
    let listed = engine::Listed {
        sandboxes: sandboxes.unwrap_or_default(),
        containers: containers.unwrap_or_default(),
    };
    let many = listed.sandboxes.len() + listed.containers.len();
    assert!(pods::all("containerd", listed).len() <= many);
}
