//! Credentials, and a client made of them when it is first needed.

use core::time::Duration;
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{Settings, api::chain};
use crate::text::printable;

const CONNECTS_WITHIN: Duration = Duration::from_secs(3);
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// Of the pod that healer runs in.
    ServiceAccount,
    File(PathBuf),
}

impl Credentials {
    /// None: this machine is in no cluster that healer knows of. A person's own ~/.kube/config is not taken.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let is_in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists();
        match &settings.kubeconfig {
            Some(file) => Some(Self::File(file.clone())),
            None => is_in_pod.then_some(Self::ServiceAccount),
        }
    }

    pub(super) async fn client(&self) -> Result<Client, String> {
        let mut config = match self {
            Self::ServiceAccount => {
                Config::incluster_env().map_err(|error| said("service account", &error))?
            }
            Self::File(file) => {
                let tried = file.display().to_string();
                let read = Kubeconfig::read_from(file).map_err(|error| said(&tried, &error))?;
                let made = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
                let made = made.map_err(|error| said(&tried, &error))?;
                if made.auth_info.exec.is_some() || made.auth_info.auth_provider.is_some() {
                    let instead = "healer runs no programs for its credentials; use a token, tokenFile or client certificate";
                    return Err(format!("{tried}: {instead}"));
                }
                made
            }
        };
        by_address(&mut config)?;
        config.connect_timeout = Some(CONNECTS_WITHIN);
        // What is tried again, and when, is decided here: a 429 is a PodDisruptionBudget's word.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| said("make the client", &error))
    }
}

/// kube would let getaddrinfo(3) wait in one of the runtime's few threads, which are the hands': a name is looked up in
/// /etc/hosts or refused.
fn by_address(config: &mut Config) -> Result<(), String> {
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let Some(address) = address_in(&hosts, &host) else {
        return Err(format!(
            "the API server is named {}: give its address as a number, or name it in /etc/hosts",
            printable(&host)
        ));
    };
    let address = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    let url = config.cluster_url.to_string().replacen(&host, &address, 1);
    config.cluster_url = url.parse().map_err(|error| said("the API server's address", &error))?;
    config.tls_server_name.get_or_insert(host);
    Ok(())
}

fn address_in(hosts: &str, name: &str) -> Option<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.into_iter().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word == name).then_some(address)
    })
}

fn said(tried: &str, error: &dyn core::error::Error) -> String {
    format!("{}: {}", printable(tried), chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_without_a_resolver() {
        let hosts = "# own\n127.0.0.1 localhost\n10.0.0.9\tapi.test api # here\n::1 six\n";
        assert_eq!(address_in(hosts, "api"), Some([10, 0, 0, 9].into()));
        assert_eq!(address_in(hosts, "six"), "::1".parse().ok());
        for absent in ["here", "own", "10.0.0.9"] {
            assert_eq!(address_in(hosts, absent), None, "{absent}");
        }
    }

    #[test]
    fn a_name_becomes_an_address_and_stays_the_name_in_tls() {
        let mut config = Config::new("https://localhost:6443".parse().expect("a URL"));
        by_address(&mut config).expect("localhost is in /etc/hosts");
        assert!(config.cluster_url.to_string().contains("127.0.0.1:6443"), "{}", config.cluster_url);
        assert_eq!(config.tls_server_name.as_deref(), Some("localhost"));
        let mut config = Config::new("https://no.such.name.test:6443".parse().expect("a URL"));
        let refused = by_address(&mut config).expect_err("nobody knows it");
        assert!(refused.contains("as a number"), "{refused}");
    }
}
