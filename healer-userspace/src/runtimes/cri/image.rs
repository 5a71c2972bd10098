//! What a person calls a container's image: a kubelet creates its containers by the id that the node has for it.

use super::proto;

/// What stands in the pod, where it is told: kubelets do from Kubernetes 1.28, and a containerd that is no older hands
/// it on. CRI-O does not.
pub(super) fn named(spec: Option<proto::ImageSpec>) -> String {
    let proto::ImageSpec { image, user_specified_image } = spec.unwrap_or_default();
    if user_specified_image.is_empty() { image } else { user_specified_image }
}

/// A status has a tag of the image in `image`, and a repository with a digest in `image_ref`, if the image has them;
/// so do containerd (internal/cri/server/container_status.go) and CRI-O (server/container_status.go).
pub(super) fn name_in(status: proto::ContainerStatus) -> Option<String> {
    [named(status.image), status.image_ref].into_iter().find(|name| !name.is_empty() && !is_id(name))
}

/// containerd's have `sha256:` before them, CRI-O's have not.
pub(super) fn is_id(image: &str) -> bool {
    let digest = image.strip_prefix("sha256:").unwrap_or(image);
    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    const DIGEST: &str = "2f1c7b6a0d9e8f5c4b3a29181716151413121110f0e0d0c0b0a0908070605040";

    fn id() -> String {
        format!("sha256:{DIGEST}")
    }

    /// A field of bytes by its key, that is its number and the wire type 2.
    fn field(key: &[u8], value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).expect("a value of less than 128 bytes");
        assert!(length < 128);
        [key, &[length], value].concat()
    }

    /// Fields 1, 2 (an annotation, skipped), 18 and 19 (skipped) of the CRI's `ImageSpec`.
    fn image_spec(image: &str, user_specified: &str) -> Vec<u8> {
        [
            field(&[0x0a], image.as_bytes()),
            field(&[0x12], &[field(&[0x0a], b"k"), field(&[0x12], b"v")].concat()),
            field(&[0x92, 0x01], user_specified.as_bytes()),
            field(&[0x9a, 0x01], b"runc"),
        ]
        .concat()
    }

    /// Its field 4 is the image.
    fn listed(image: &str, user_specified: &str) -> String {
        let container = field(&[0x22], &image_spec(image, user_specified));
        named(proto::Container::decode(container.as_slice()).unwrap().image)
    }

    /// Its fields 8 and 9 are image and reference.
    fn in_status(image: &str, reference: &str) -> Option<String> {
        let spec = field(&[0x0a], image.as_bytes());
        let status = [field(&[0x42], &spec), field(&[0x4a], reference.as_bytes())].concat();
        name_in(proto::ContainerStatus::decode(status.as_slice()).unwrap())
    }

    #[test]
    fn what_stands_in_the_pod_goes_before_the_nodes_own_id() {
        assert_eq!(listed("sha256:2f1c", "registry.k8s.io/web:1.2"), "registry.k8s.io/web:1.2");
        assert_eq!(listed("web:1", ""), "web:1");
        assert_eq!(named(None), "");
    }

    #[test]
    fn a_status_has_a_tag_or_a_repository() {
        let by_digest = format!("quay.io/web@{}", id());
        assert_eq!(in_status("quay.io/web:1", &by_digest).as_deref(), Some("quay.io/web:1"));
        assert_eq!(in_status(&id(), &by_digest), Some(by_digest.clone()));
        assert_eq!(in_status("", &by_digest), Some(by_digest));
        assert_eq!(in_status(&id(), DIGEST), None);
        assert_eq!(in_status("", ""), None);
    }

    #[test]
    fn an_id_is_a_digest_and_nothing_else() {
        assert!(is_id(&id()) && is_id(DIGEST));
        let (by_digest, word) = (format!("web@{}", id()), "z".repeat(64));
        for name in ["web", "web:1", "", "sha256:2f1c", by_digest.as_str(), word.as_str()] {
            assert!(!is_id(name), "{name}");
        }
    }
}
