//! THE RIGHTS TABLE: everything that healer ever asks of the API server. Every request names its line, and a test
//! compares the table with the roles in `deploy/kubernetes/`.

/// One verb on one resource, as RBAC has them.
#[derive(Debug, PartialEq, Eq)]
pub struct Right {
    pub verb: &'static str,
    /// Empty: the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// With its subresource, as in a role: `pods/eviction`.
    pub resource: &'static str,
    pub profile: Profile,
}

/// Who has a right: each has those of the one before, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// `deploy/kubernetes/base`
    Sense,
    /// `deploy/kubernetes/act`
    Act,
    /// `deploy/kubernetes/past-pdb`: for `respectPDB: false`.
    PastBudgets,
    /// `deploy/kubernetes/probes`: for `probe: {kubelet: true}`, beside any of the others.
    Probes,
}

const fn core(verb: &'static str, resource: &'static str) -> Right {
    Right { verb, group: "", version: "v1", resource, profile: Profile::Act }
}

pub const READ_POD: Right = core("get", "pods");
pub const EVICT: Right = core("create", "pods/eviction");
pub const DELETE_POD: Right = Right { profile: Profile::PastBudgets, ..core("delete", "pods") };
pub const LIST_PODS: Right = Right { profile: Profile::Probes, ..core("list", "pods") };
pub const WATCH_PODS: Right = Right { profile: Profile::Probes, ..core("watch", "pods") };
pub const READ_NODE: Right = core("get", "nodes");
pub const MARK_NODE: Right = core("patch", "nodes");
pub const NODE_STATUS: Right = core("patch", "nodes/status");
pub const TELL: Right = Right {
    verb: "create",
    group: "events.k8s.io",
    version: "v1",
    resource: "events",
    profile: Profile::Sense,
};

const fn own(verb: &'static str, resource: &'static str) -> Right {
    Right { verb, group: "healer.dev", version: "v1alpha1", resource, profile: Profile::Sense }
}

pub const LIST_POLICIES: Right = own("list", "healpolicies");
pub const WATCH_POLICIES: Right = own("watch", "healpolicies");
pub const POLICY_STATUS: Right = own("patch", "healpolicies/status");

pub const RIGHTS: &[&Right] = &[
    &READ_POD,
    &EVICT,
    &DELETE_POD,
    &LIST_PODS,
    &WATCH_PODS,
    &READ_NODE,
    &MARK_NODE,
    &NODE_STATUS,
    &TELL,
    &LIST_POLICIES,
    &WATCH_POLICIES,
    &POLICY_STATUS,
];

impl Right {
    /// Of the object `name` (empty: of all), in `namespace` (empty: of the cluster).
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        let (resource, below) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let inside = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let parts = [name, below].into_iter().filter(|part| !part.is_empty());
        parts.fold(format!("{root}{inside}/{resource}"), |path, part| format!("{path}/{part}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(EVICT.path("prod", "web-0"), "/api/v1/namespaces/prod/pods/web-0/eviction");
        assert_eq!(READ_NODE.path("", "n1"), "/api/v1/nodes/n1");
        assert_eq!(NODE_STATUS.path("", "n1"), "/api/v1/nodes/n1/status");
        assert_eq!(TELL.path("default", ""), "/apis/events.k8s.io/v1/namespaces/default/events");
        assert_eq!(LIST_POLICIES.path("", ""), "/apis/healer.dev/v1alpha1/healpolicies");
    }
}
