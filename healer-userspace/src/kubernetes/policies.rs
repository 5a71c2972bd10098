//! HealPolicies of the cluster. What is learnt is handed on whole, and only when it has changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    api::Api,
    follow::{self, Learner, What},
    rights::{LIST_POLICIES, WATCH_POLICIES},
};
use crate::config::{FromCluster, yaml};

pub(super) async fn follow(api: Api, learnt: mpsc::Sender<Vec<FromCluster>>) {
    let what = What {
        name: "HealPolicies of the cluster",
        list: &LIST_POLICIES,
        watch: &WATCH_POLICIES,
        selector: String::new(),
        absent: "the cluster does not know the kind (deploy/kubernetes/base/crd.yaml)",
        meanwhile: "those known stay in force",
    };
    follow::follow(api, what, Policies { learnt, told: None }).await;
}

struct Policies {
    learnt: mpsc::Sender<Vec<FromCluster>>,
    told: Option<Vec<FromCluster>>,
}

impl Learner for Policies {
    fn is_over(&self) -> bool {
        self.learnt.is_closed()
    }

    fn keep(&mut self, object: Value) -> Value {
        object
    }

    async fn learn(&mut self, known: &BTreeMap<String, Value>) {
        let policies: Vec<FromCluster> = known.values().map(rendered).collect();
        // A status that a node has written is no news.
        if self.told.as_ref() != Some(&policies) {
            self.told = Some(policies.clone());
            self.learnt.send(policies).await.ok();
        }
    }

    fn lost(&mut self, _: &str) {}
}

/// As a file would have it: what the server adds is left out.
fn rendered(object: &Value) -> FromCluster {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let file = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {"name": name},
        "spec": object["spec"],
    });
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    FromCluster { name, generation, text: yaml::text(&file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_adds_is_no_part_of_a_policy() {
        let object = json!({
            "apiVersion": "healer.dev/v1alpha1", "kind": "HealPolicy", "spec": {"mode": "shadow"},
            "metadata": {"name": "web", "generation": 3, "resourceVersion": "9", "labels": {"a": "b"}},
            "status": {"nodes": []},
        });
        let rendered = rendered(&object);
        assert_eq!((rendered.name.as_str(), rendered.generation), ("web", 3));
        for absent in ["resourceVersion", "labels", "status"] {
            assert!(!rendered.text.contains(absent), "{}", rendered.text);
        }
    }
}
