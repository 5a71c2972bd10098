//! What an agent is given to be let in.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{ApiServer, Authority, Proof, TOKEN};
use crate::home::{Agent, Home};

const FILE: &str = "kubeconfig";

impl ApiServer {
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// None: it speaks plain HTTP.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.tls.as_ref().map(|tls| &tls.authority)
    }

    /// As an administrator of the cluster gives it; a test may spoil it.
    #[must_use]
    pub fn kubeconfig(&self) -> Value {
        let (scheme, user) = match &self.tls {
            None => ("http", json!({"token": TOKEN})),
            Some(tls) => match tls.proof {
                Proof::Token => ("https", json!({"token": TOKEN})),
                Proof::Certificate => {
                    let [certificate, key] = tls.authority.client("healer").data();
                    ("https", json!({"client-certificate-data": certificate, "client-key-data": key}))
                }
            },
        };
        let mut cluster = json!({"server": format!("{scheme}://{}", self.address)});
        if let Some(authority) = self.authority() {
            cluster["certificate-authority-data"] = authority.data().into();
        }
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
    }

    /// An agent of the node `n1` that asks it; `config` is the rest of its AgentConfig.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn agent<'home>(&self, home: &'home Home, config: &str) -> Agent<'home> {
        agent_by(home, &self.kubeconfig(), config)
    }
}

/// As [`ApiServer::agent`], with this kubeconfig.
///
/// # Panics
/// If it does not become ready.
#[must_use]
pub fn agent_by<'home>(home: &'home Home, kubeconfig: &Value, config: &str) -> Agent<'home> {
    write_kubeconfig(home, kubeconfig);
    let path = home.path().join(FILE);
    home.agent_with_config(&format!("kubernetes: {{kubeconfig: {}, node: n1}}\n{config}", path.display()))
}

/// That of the home's agents, new or instead of the last one.
///
/// # Panics
/// If it cannot be written.
pub fn write_kubeconfig(home: &Home, kubeconfig: &Value) {
    let new = home.path().join("kubeconfig.new");
    std::fs::write(&new, kubeconfig.to_string()).expect("the scratch directory can be written");
    std::fs::rename(new, home.path().join(FILE)).expect("it can be replaced");
}
