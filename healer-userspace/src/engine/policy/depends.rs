//! What a workload is said to need (`expect.dependsOn`).

use core::fmt;

use super::glob;
use crate::identity::process::WorkloadKey;

/// Another workload of this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DependsOn {
    /// As healer calls it, its name alone, or `namespace/name` of what runs as pods; may have *.
    pub service: String,
    /// It listens there.
    pub port: Option<u16>,
}

/// Of which Kubernetes makes the end of a pod's name (`k8s.io/apimachinery/pkg/util/rand`): no vowels, so that no
/// words come of it.
const GENERATED: &str = "bcdfghjklmnpqrstvwxz2456789";

impl DependsOn {
    pub fn is(&self, workload: &WorkloadKey) -> bool {
        let key = workload.0.as_str();
        let given = workload.given_name();
        let forms = [Some(key), given, given.and_then(|name| name.strip_suffix(".service"))];
        forms.into_iter().flatten().any(|form| glob::matches(&self.service, form)) || self.is_pod(key)
    }

    /// `payments/postgres` is every pod of what is called so there: `postgres`, `postgres-0`, `postgres-6d4b75cb6d-hcx8w`.
    fn is_pod(&self, key: &str) -> bool {
        let parts = || {
            let (wanted_namespace, wanted) = self.service.split_once('/')?;
            let mut parts = key.strip_prefix("pod/")?.split('/');
            Some((wanted_namespace, wanted, parts.next()?, parts.next()?))
        };
        parts().is_some_and(|(wanted_namespace, wanted, namespace, pod)| {
            glob::matches(wanted_namespace, namespace)
                && owners(pod).any(|owner| glob::matches(wanted, owner))
        })
    }
}

/// The pod's own name, and of what it may be one: of a StatefulSet, a DaemonSet or Job, a Deployment.
fn owners(pod: &str) -> impl Iterator<Item = &str> {
    let is_generated = |end: &str| !end.is_empty() && end.chars().all(|one| GENERATED.contains(one));
    let is_number = |end: &str| !end.is_empty() && end.bytes().all(|one| one.is_ascii_digit());
    let one = pod.rsplit_once('-').filter(|(_, end)| is_number(end) || end.len() == 5 && is_generated(end));
    let set = one.map(|(set, _)| set);
    let deployment = set.and_then(|set| set.rsplit_once('-')).filter(|(_, end)| is_generated(end));
    [Some(pod), set, deployment.map(|(deployment, _)| deployment)].into_iter().flatten()
}

impl fmt::Display for DependsOn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.service)?;
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(service: &str, workload: &str) -> bool {
        let depends = DependsOn { service: service.to_owned(), port: None };
        depends.is(&WorkloadKey(workload.to_owned()))
    }

    #[test]
    fn a_workload_goes_by_its_key_or_its_name() {
        for service in ["unit/db.service", "db.service", "db", "unit/*", "d*"] {
            assert!(is(service, "unit/db.service"), "{service}");
        }
        assert!(is("db", "supervise/db") && is("db", "container/db"));
        assert!(
            !is("db", "unit/db2.service") && !is("db", "program//usr/bin/db@/<sh") && !is("*", "pod/a/b/c")
        );
    }

    #[test]
    fn pods_go_by_what_they_are_one_of() {
        for pod in ["postgres", "postgres-0", "postgres-12", "postgres-hcx8w", "postgres-6d4b75cb6d-hcx8w"] {
            assert!(is("payments/postgres", &format!("pod/payments/{pod}/main")), "{pod}");
        }
        for pod in ["postgres-exporter-0", "postgres-gateway", "postgres2-0", "postgres-6d4b75cb6d"] {
            assert!(!is("payments/postgres", &format!("pod/payments/{pod}/main")), "{pod}");
        }
        assert!(
            !is("payments/postgres", "pod/shop/postgres-0/main")
                && is("*/postgres", "pod/shop/postgres-0/main")
        );
        assert!(is("pod/shop/postgres-0/main", "pod/shop/postgres-0/main"));
    }
}
