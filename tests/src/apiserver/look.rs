//! What a test asks most about what is there.

use serde_json::{Value, json};

use super::ApiServer;

impl ApiServer {
    /// `True`, `False` or `absent`, of the node `n1`.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn condition(&self, name: &str) -> String {
        let node = self.get("/api/v1/nodes/n1").expect("the node is there");
        let all = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let one = all.into_iter().find(|one| one["type"] == name).unwrap_or_default();
        one["status"].as_str().unwrap_or("absent").to_owned()
    }

    /// As a controller applies it that keeps a condition of the node `n1` of its own.
    ///
    /// # Panics
    /// If it is another one's.
    pub fn keep_condition(&self, manager: &str, name: &str, is_true: bool) {
        let condition = json!({"type": name, "status": if is_true { "True" } else { "False" },
            "reason": "Monitored", "message": format!("{manager} has looked")});
        let applied = json!({"status": {"conditions": [condition]}});
        self.store().apply("/api/v1/nodes/n1", manager, &applied, false).expect("it is nobody else's");
    }

    #[must_use]
    pub fn events(&self, namespace: &str, reason: &str) -> Vec<Value> {
        let all = self.all(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
        all.into_iter().filter(|event| event["reason"] == reason).collect()
    }

    /// What the node `n1` has written into a policy's status.
    #[must_use]
    pub fn status(&self, policy: &str) -> Option<Value> {
        let nodes = self.policy(policy)?["status"]["nodes"].as_array()?.clone();
        nodes.into_iter().find(|node| node["node"] == "n1")
    }
}
