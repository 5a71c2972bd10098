//! What a pod's own labels and annotations say of it.

use super::process::Pod;

impl Pod {
    /// Its owner says so by this annotation.
    pub fn is_paused_by(&self, annotation: &str) -> bool {
        self.annotations.get(annotation).is_some_and(|value| value != "false")
    }

    /// The kubelet has it from a file or a URL of its own (kubernetes pkg/kubelet/types/pod_update.go).
    pub fn is_static(&self) -> bool {
        const SOURCE: &str = "kubernetes.io/config.source";
        self.annotations.get(SOURCE).is_some_and(|source| matches!(source.as_str(), "file" | "http"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(key: &str, value: &str) -> Pod {
        Pod { annotations: [(key.to_owned(), value.to_owned())].into(), ..Pod::default() }
    }

    #[test]
    fn a_static_pod_is_known_by_where_the_kubelet_has_it_from() {
        let of = |source: &str| annotated("kubernetes.io/config.source", source).is_static();
        assert!(of("file") && of("http"));
        assert!(!of("api") && !Pod::default().is_static());
    }

    #[test]
    fn an_owner_pauses_healer_by_any_word_but_false() {
        let of = |value: &str| annotated("healer.dev/pause", value).is_paused_by("healer.dev/pause");
        assert!(of("") && of("upgrade"));
        assert!(!of("false") && !Pod::default().is_paused_by("healer.dev/pause"));
    }
}
