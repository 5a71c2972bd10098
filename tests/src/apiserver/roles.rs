//! What the shipped ClusterRoles grant.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

/// Verb, group and resource, as RBAC has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted(pub BTreeSet<(String, String, String)>);

impl Granted {
    /// Of the named folders of `deploy/kubernetes`.
    ///
    /// # Panics
    /// If a role cannot be read.
    #[must_use]
    pub fn to(profiles: &[&str]) -> Self {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../healer-userspace/deploy/kubernetes");
        let mut granted = BTreeSet::new();
        for profile in profiles {
            let path = deploy.join(profile).join("rbac.yaml");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("valid YAML");
            for rule in documents.iter().filter_map(|one| one["rules"].as_array()).flatten() {
                for ((group, resource), verb) in words(rule, "apiGroups")
                    .flat_map(|group| words(rule, "resources").map(move |resource| (group, resource)))
                    .flat_map(|both| words(rule, "verbs").map(move |verb| (both, verb)))
                {
                    granted.insert((verb.to_owned(), group.to_owned(), resource.to_owned()));
                }
            }
        }
        Self(granted)
    }

    pub(super) fn has(&self, verb: &str, group: &str, resource: &str) -> bool {
        self.0.contains(&(verb.to_owned(), group.to_owned(), resource.to_owned()))
    }
}

fn words<'a>(rule: &'a Value, key: &str) -> impl Iterator<Item = &'a str> + Clone {
    rule[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}
