//! Where a name is now. getaddrinfo(3) cannot be ended, and may take many times what a post may: it has a thread of its
//! own, because the runtime's few are the hands', and are waited for when the agent ends.

use core::time::Duration;
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    thread,
};

use anyhow::{Context as _, ensure};
use tokio::sync::oneshot;

use super::Host;
use crate::clock::{self, BootTime};

/// The longest pause between two posts: a resolver that is slower than a post's timeout serves the next one.
const LATE_MAX: Duration = super::LONGEST_PAUSE;

struct Answer {
    found: io::Result<Vec<SocketAddr>>,
    at: BootTime,
}

/// The question that a post gave up waiting for: the next one waits for it, and asks no second.
#[derive(Default)]
pub(super) struct Names(Option<oneshot::Receiver<Answer>>);

impl Names {
    /// # Errors
    /// Nobody knows the name, or the resolver has no answer.
    pub(super) async fn addresses(&mut self, host: &Host) -> anyhow::Result<Vec<SocketAddr>> {
        let (name, port) = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name { name, port } => (name, *port),
        };
        let addresses = match self.late(clock::boot()) {
            Some(addresses) => addresses,
            None => self.looked_up(name, port).await?,
        };
        ensure!(!addresses.is_empty(), "{name} has no address");
        Ok(addresses)
    }

    /// What was answered after the last post had given up. An old answer and a failure are asked for anew.
    fn late(&mut self, now: BootTime) -> Option<Vec<SocketAddr>> {
        let mut answered = self.0.take_if(|asked| !asked.is_empty())?;
        let Answer { found, at } = answered.try_recv().ok()?;
        found.ok().filter(|_| now.since(at) < LATE_MAX)
    }

    async fn looked_up(&mut self, name: &str, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
        let asked = match self.0.take() {
            Some(asked) => asked,
            None => ask(name.to_owned(), port).context("start a thread that looks up a name")?,
        };
        let answer = self.0.insert(asked).await;
        self.0 = None;
        let Answer { found, .. } = answer.with_context(|| format!("the look-up of {name} broke off"))?;
        found.with_context(|| format!("look up {name}"))
    }
}

fn ask(name: String, port: u16) -> io::Result<oneshot::Receiver<Answer>> {
    let (answer, asked) = oneshot::channel();
    let look_up = move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // The sender of alerts ends with the agent: nobody waits then.
        answer.send(Answer { found, at: clock::boot() }).ok();
    };
    thread::Builder::new().name("healer-names".to_owned()).spawn(look_up)?;
    Ok(asked)
}

#[cfg(test)]
mod tests {
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
    async fn a_look_up_that_hangs_is_waited_for_again_and_its_late_answer_is_used_once() {
        let (answer, asked) = oneshot::channel();
        let mut names = Names(Some(asked));
        for _ in 0..3 {
            let hangs = timeout(Duration::from_millis(20), names.addresses(&named("localhost"))).await;
            assert!(hangs.is_err(), "no second question: {hangs:?}");
        }
        let late = SocketAddr::from(([192, 0, 2, 1], 9093));
        assert!(answer.send(Answer { found: Ok(vec![late]), at: clock::boot() }).is_ok());
        assert_eq!(names.addresses(&named("localhost")).await.unwrap(), [late]);
        let found = names.addresses(&named("localhost")).await.unwrap();
        assert!(!found.contains(&late), "{found:?}");
    }

    fn answered(found: io::Result<Vec<SocketAddr>>, at: BootTime) -> Names {
        let (answer, asked) = oneshot::channel();
        assert!(answer.send(Answer { found, at }).is_ok());
        Names(Some(asked))
    }

    #[test]
    fn an_old_answer_and_a_late_failure_are_asked_for_anew() {
        let (at, found) = (BootTime(0), vec![SocketAddr::from(([192, 0, 2, 1], 9093))]);
        let just_fresh = at + LATE_MAX - Duration::from_nanos(1);
        assert_eq!(answered(Ok(found.clone()), at).late(just_fresh), Some(found.clone()));
        let mut old = answered(Ok(found), at);
        assert_eq!((old.late(at + LATE_MAX), old.0.is_none()), (None, true));
        let mut failed = answered(Err(io::Error::other("no server")), at);
        assert_eq!((failed.late(at), failed.0.is_none()), (None, true));
        let (_answer, asked) = oneshot::channel();
        let mut waits = Names(Some(asked));
        assert_eq!((waits.late(at), waits.0.is_some()), (None, true));
    }
}
