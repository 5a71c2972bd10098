//! Where notifications go besides the log: shape and check.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{key::Key, policy::shape, problem::Fault, value::Period};
use crate::report::webhook::Target;

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
        /// http://ADDRESS:PORT/PATH; Alertmanager's path is /api/v2/alerts
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
        return Err(format!("https is not supported yet; give an http address, {example}"));
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(format!("{url:?} is no http address, {example}"));
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    let address = address(authority).filter(|_| is_plain).ok_or_else(|| {
        format!("{authority:?} is no address with a port (names are not looked up), {example}")
    })?;
    let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    Ok(Target { address, authority: authority.to_owned(), path, timeout })
}

fn address(authority: &str) -> Option<SocketAddr> {
    if let Ok(address) = authority.parse() {
        return Some(address);
    }
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let ip = match host.trim_start_matches('[').trim_end_matches(']') {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(ip, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_port_and_a_path_are_read() {
        let check = |url: &str, address: &str, path: &str| {
            let target = target(url, TIMEOUT).unwrap();
            assert_eq!((target.address.to_string().as_str(), target.path.as_str()), (address, path));
        };
        check("http://127.0.0.1:9093/api/v2/alerts", "127.0.0.1:9093", "/api/v2/alerts");
        check("http://localhost:9093", "127.0.0.1:9093", "/");
        check("http://10.0.0.7/x", "10.0.0.7:80", "/x");
        check("http://[::1]:9093/", "[::1]:9093", "/");
    }

    #[test]
    fn what_cannot_be_posted_to_is_refused_in_words() {
        for (url, word) in [
            ("https://127.0.0.1/", "https is not supported yet"),
            ("127.0.0.1:9093", "no http address"),
            ("http://alertmanager:9093/", "names are not looked up"),
            ("http://127.0.0.1:9093/a b", "no address"),
            ("http://127.0.0.1:99999/", "no address"),
        ] {
            let said = target(url, TIMEOUT).unwrap_err();
            assert!(said.contains(word), "{url}: {said}");
        }
    }
}
