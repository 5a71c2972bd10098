//! Where notifications go besides the log: shape and check.

use core::time::Duration;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{key::Key, policy::shape, problem::Fault, value::Period};
use crate::report::webhook::{Host, Target};

const TIMEOUT: Duration = Duration::from_secs(2);

shape! {
    /// Where notifications go besides the log.
    Sinks {
        webhook: Webhook,
    }
}

shape! {
    /// Takes alerts in the format of Alertmanager's API v2.
    Webhook {
        /// http://HOST:PORT/PATH, HOST an address or a name; Alertmanager's path is /api/v2/alerts
        url: String,
        /// Of one post. Default: 2s
        timeout: Period,
    }
}

pub(super) fn webhook(sinks: &Key<Sinks>, faults: &mut Vec<Fault>) -> Option<Target> {
    let webhook = sinks.value()?.webhook.given()?;
    let Some(url) = webhook.value.url.given() else {
        faults.push(Fault::new(webhook.place, "sinks.webhook: a webhook needs a url".to_owned()));
        return None;
    };
    let timeout = webhook.value.timeout.value().map_or(TIMEOUT, |timeout| timeout.0);
    match target(&url.value, timeout) {
        Ok(target) => Some(target),
        Err(why) => {
            faults.push(Fault::new(url.place, format!("sinks.webhook.url: {why}")));
            None
        }
    }
}

fn target(url: &str, timeout: Duration) -> Result<Target, String> {
    let example = "such as http://127.0.0.1:9093/api/v2/alerts";
    if url.starts_with("https://") {
        let instead = "if need be of a proxy that itself speaks https";
        return Err(format!("https is not supported yet; give an http address, {example}, {instead}"));
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(format!("{url:?} is no http address, {example}"));
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    let host = host(authority)
        .filter(|_| is_plain)
        .ok_or_else(|| format!("{authority:?} is no address and no name with a port, {example}"))?;
    let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    Ok(Target { host, authority: authority.to_owned(), path, timeout })
}

fn host(authority: &str) -> Option<Host> {
    if let Ok(address) = authority.parse() {
        return Some(Host::Address(address));
    }
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let port = port.parse().ok()?;
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(Host::Address(SocketAddr::new(ip, port)));
    }
    is_name(host).then(|| Host::Name { name: host.to_owned(), port })
}

/// RFC 1123, and `_`, which some have. What ends in a number would be an address that is none: getaddrinfo(3) reads 10.1
/// as 10.0.0.1.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_plain);
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    host.len() <= 253 && host.split('.').all(is_label) && !host.rsplit('.').next().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_port_and_a_path_are_read() {
        let check = |url: &str, address: &str, path: &str| {
            let target = target(url, TIMEOUT).unwrap();
            let address = Host::Address(address.parse().unwrap());
            assert_eq!((target.host, target.path.as_str()), (address, path));
        };
        check("http://127.0.0.1:9093/api/v2/alerts", "127.0.0.1:9093", "/api/v2/alerts");
        check("http://10.0.0.7/x", "10.0.0.7:80", "/x");
        check("http://10.0.0.7", "10.0.0.7:80", "/");
        check("http://[::1]:9093/", "[::1]:9093", "/");
    }

    #[test]
    fn a_name_is_kept_as_it_is() {
        let check = |url: &str, name: &str, port: u16| {
            let name = name.to_owned();
            assert_eq!(target(url, TIMEOUT).unwrap().host, Host::Name { name, port });
        };
        check("http://localhost:9093", "localhost", 9093);
        check("http://alertmanager.monitoring.svc:9093/api/v2/alerts", "alertmanager.monitoring.svc", 9093);
        check("http://am.monitoring.svc.cluster.local./", "am.monitoring.svc.cluster.local.", 80);
        check("http://am-0.am_peers/", "am-0.am_peers", 80);
    }

    #[test]
    fn what_cannot_be_posted_to_is_refused_in_words() {
        for (url, word) in [
            ("https://127.0.0.1/", "https is not supported yet"),
            ("127.0.0.1:9093", "no http address"),
            ("http://somebody:secret@alertmanager/", "no address and no name"),
            ("http://a..b:9093/", "no address and no name"),
            ("http:///api", "no address and no name"),
            ("http://10.1:9093/", "no address and no name"),
            ("http://127.0.0.1:9093/a b", "no address"),
            ("http://127.0.0.1:99999/", "no address"),
        ] {
            let said = target(url, TIMEOUT).unwrap_err();
            assert!(said.contains(word), "{url}: {said}");
        }
    }
}
