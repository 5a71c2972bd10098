//! Where a name is now. getaddrinfo(3) cannot be ended, and may take many times what a post may: it has a thread of its
//! own, because the runtime's few are the hands', and are waited for when the agent ends.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    thread, vec,
};

use anyhow::{Context as _, ensure};
use tokio::sync::oneshot;

use super::Host;

type Found = io::Result<vec::IntoIter<SocketAddr>>;

/// The question that a post gave up waiting for: the next one waits for it, and asks no second.
#[derive(Default)]
pub(super) struct Names(Option<oneshot::Receiver<Found>>);

impl Names {
    /// # Errors
    /// Nobody knows the name, or the resolver has no answer.
    pub(super) async fn addresses(&mut self, host: &Host) -> anyhow::Result<Vec<SocketAddr>> {
        let (name, port) = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name { name, port } => (name, *port),
        };
        // What was answered since is old.
        let asked = match self.0.take().filter(oneshot::Receiver::is_empty) {
            Some(asked) => asked,
            None => ask(name.clone(), port).context("start a thread that looks up a name")?,
        };
        let answer = self.0.insert(asked).await;
        self.0 = None;
        let found = answer.with_context(|| format!("the look-up of {name} broke off"))?;
        let addresses: Vec<_> = found.with_context(|| format!("look up {name}"))?.collect();
        ensure!(!addresses.is_empty(), "{name} has no address");
        Ok(addresses)
    }
}

fn ask(name: String, port: u16) -> io::Result<oneshot::Receiver<Found>> {
    let (answer, asked) = oneshot::channel();
    let look_up = move || {
        // The sender of alerts ends with the agent: nobody waits then.
        answer.send((name.as_str(), port).to_socket_addrs()).ok();
    };
    thread::Builder::new().name("healer-names".to_owned()).spawn(look_up)?;
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn named(name: &str) -> Host {
        Host::Name { name: name.to_owned(), port: 9093 }
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up_and_a_name_is() {
        let mut names = Names::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 9093));
        assert_eq!(names.addresses(&Host::Address(address)).await.unwrap(), [address]);
        let found = names.addresses(&named("localhost")).await.unwrap();
        assert!(
            found.iter().all(|address| address.ip().is_loopback() && address.port() == 9093),
            "{found:?}"
        );
        assert!(names.0.is_none());
    }

    #[tokio::test]
    async fn a_look_up_that_hangs_is_waited_for_again_and_its_late_answer_is_old() {
        let (answer, asked) = oneshot::channel();
        let mut names = Names(Some(asked));
        for _ in 0..3 {
            let hangs = timeout(Duration::from_millis(20), names.addresses(&named("localhost"))).await;
            assert!(hangs.is_err(), "no second question: {hangs:?}");
        }
        let old = SocketAddr::from(([192, 0, 2, 1], 9093));
        answer.send(Ok(Vec::from([old]).into_iter())).unwrap();
        let found = names.addresses(&named("localhost")).await.unwrap();
        assert!(!found.contains(&old), "{found:?}");
    }
}
