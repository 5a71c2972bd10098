//! What a pod's own labels and annotations, and its controller, say of it.

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

    /// Who makes it again, such as `Deployment/web`.
    pub fn owner(&self) -> Option<String> {
        let controller = self.controller.as_deref();
        controller.map(|controller| self.behind(controller)).or_else(|| self.owner_by_labels())
    }

    /// The API server names the ReplicaSet alone; one that has the hash in its name is a Deployment's.
    fn behind(&self, controller: &str) -> String {
        let deployment = || {
            let hash = self.label("pod-template-hash")?;
            controller.strip_prefix("ReplicaSet/")?.strip_suffix(hash)?.strip_suffix('-')
        };
        deployment().map_or_else(|| controller.to_owned(), |name| format!("Deployment/{name}"))
    }

    /// As far as the labels of Kubernetes' own controllers tell: the runtime says no more.
    fn owner_by_labels(&self) -> Option<String> {
        let of = |kind: &str, name: Option<&str>| {
            name.filter(|name| !name.is_empty()).map(|name| format!("{kind}/{name}"))
        };
        of("StatefulSet", self.stateful_set())
            .or_else(|| of("Job", self.job()))
            .or_else(|| of("DaemonSet", self.daemon_set()))
            .or_else(|| of("Deployment", self.deployment()))
    }

    /// `web-0`
    fn stateful_set(&self) -> Option<&str> {
        self.label("statefulset.kubernetes.io/pod-name").filter(|name| *name == self.name)?;
        let (set, ordinal) = self.name.rsplit_once('-')?;
        ordinal.bytes().all(|byte| byte.is_ascii_digit()).then_some(set)
    }

    fn job(&self) -> Option<&str> {
        self.label("batch.kubernetes.io/job-name").or_else(|| self.label("job-name"))
    }

    /// `log-x7k2p`. The label is a DaemonSet's alone.
    fn daemon_set(&self) -> Option<&str> {
        self.label("pod-template-generation")?;
        self.made_by()
    }

    /// `web-5d4f8c7b9-x7k2p`, by a ReplicaSet that has the hash in its name.
    fn deployment(&self) -> Option<&str> {
        let hash = self.label("pod-template-hash")?;
        self.made_by()?.strip_suffix(hash)?.strip_suffix('-')
    }

    /// The name before the five letters that were made for it; one that was cut (over 58 bytes) has no dash there
    /// (kubernetes staging/src/k8s.io/apiserver/pkg/storage/names/generate.go).
    fn made_by(&self) -> Option<&str> {
        let (whole, letters) = self.name.rsplit_once('-')?;
        (letters.len() == 5).then_some(whole)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(key: &str, value: &str) -> Pod {
        Pod { annotations: [(key.to_owned(), value.to_owned())].into(), ..Pod::default() }
    }

    fn owner(name: &str, labels: &[(&str, &str)]) -> Option<String> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Pod { name: name.to_owned(), labels, ..Pod::default() }.owner()
    }

    #[test]
    fn whoever_makes_it_again_is_told_from_its_labels() {
        for (name, key, value, told) in [
            ("web-5d4f8c7b9-x7k2p", "pod-template-hash", "5d4f8c7b9", "Deployment/web"),
            ("shop-web-5d4f8c7b9-x7k2p", "pod-template-hash", "5d4f8c7b9", "Deployment/shop-web"),
            ("db-12", "statefulset.kubernetes.io/pod-name", "db-12", "StatefulSet/db"),
            ("log-x7k2p", "pod-template-generation", "3", "DaemonSet/log"),
            ("backup-28000-x7k2p", "batch.kubernetes.io/job-name", "backup-28000", "Job/backup-28000"),
            ("backup-28000-x7k2p", "job-name", "backup-28000", "Job/backup-28000"),
        ] {
            assert_eq!(owner(name, &[(key, value)]).as_deref(), Some(told), "{name}");
        }
    }

    #[test]
    fn labels_that_do_not_fit_the_name_tell_of_nobody() {
        assert_eq!(owner("web-5d4f8c7b9-x7k2p", &[("app", "web")]), None);
        assert_eq!(owner("web", &[("pod-template-hash", "5d4f8c7b9")]), None);
        assert_eq!(owner("web-6c-x7k2p", &[("pod-template-hash", "5d4f8c7b9")]), None);
        assert_eq!(owner("5d4f8c7b9-x7k2p", &[("pod-template-hash", "5d4f8c7b9")]), None);
        assert_eq!(owner("copy-of-db", &[("statefulset.kubernetes.io/pod-name", "db-0")]), None);
    }

    #[test]
    fn what_the_api_server_says_of_its_controller_goes_before_labels() {
        let hash = [("pod-template-hash".to_owned(), "5d4f8c7b9".to_owned())];
        let told = |controller: &str| {
            let controller = Some(controller.to_owned());
            let name = "cut-off-x7k2p".to_owned();
            Pod { name, labels: hash.clone().into(), controller, ..Pod::default() }.owner()
        };
        assert_eq!(told("ReplicaSet/a-long-name-5d4f8c7b9").as_deref(), Some("Deployment/a-long-name"));
        assert_eq!(told("ReplicaSet/by-hand").as_deref(), Some("ReplicaSet/by-hand"));
        assert_eq!(told("CloneSet/web").as_deref(), Some("CloneSet/web"));
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
