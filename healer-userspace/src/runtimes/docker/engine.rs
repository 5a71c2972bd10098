//! The few requests to the Docker Engine API that healer makes, each with an end.

use core::time::Duration;
use std::{collections::BTreeMap, path::Path};

use bollard::{
    Docker,
    errors::Error,
    models::{ContainerInspectResponse, ContainerUpdateBody, EventMessage},
    query_parameters::{
        EventsOptionsBuilder, ListContainersOptionsBuilder, RestartContainerOptionsBuilder,
        StopContainerOptionsBuilder,
    },
};
use futures_util::Stream;
use jiff::Timestamp;

use super::super::settle::State;
use crate::{identity::process::Container, text::printable};

const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// bollard's own limit for an answer's head, seconds: a stop takes its grace and then some.
const LONGEST_ANSWER: u64 = 600;
/// What `watch` understands; `create` comes before the first process.
const EVENTS: [&str; 7] = ["create", "start", "die", "kill", "stop", "rename", "destroy"];

/// Words for a person.
pub(super) type Result<T> = core::result::Result<T, String>;

#[derive(Clone)]
pub(super) struct Engine(Docker);

/// A container as Docker has it now.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) container: Container,
    pub(super) pid: Option<u32>,
    is_restarting: bool,
    is_running: bool,
}

impl Seen {
    pub(super) fn state(&self) -> State {
        match (self.is_restarting, self.is_running) {
            (true, _) => State::Busy("restarting".to_owned()),
            (false, true) => State::Running(self.pid),
            (false, false) => State::Over,
        }
    }
}

/// What Docker has written down for a container; 0: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) is_running: bool,
    pub(super) is_paused: bool,
    pub(super) nano_cpus: i64,
    pub(super) quota: i64,
    pub(super) period: i64,
    pub(super) shares: i64,
}

impl Engine {
    pub(super) async fn connect(socket: &Path) -> Result<Self> {
        let tried = format!("no Docker at {}", socket.display());
        let path = socket.to_str().ok_or_else(|| format!("{tried}: the path is not text"))?;
        let docker = Docker::connect_with_unix(path, LONGEST_ANSWER, bollard::API_DEFAULT_VERSION);
        let docker = docker.map_err(|error| words(&tried, &error))?;
        Ok(Self(soon(&tried, docker.negotiate_version()).await?))
    }

    pub(super) async fn ping(&self) -> Result<()> {
        soon("ping Docker", self.0.ping()).await.map(drop)
    }

    /// Ids of all containers, running or not.
    pub(super) async fn all(&self) -> Result<Vec<String>> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listed = soon("list the containers", self.0.list_containers(Some(options))).await?;
        Ok(listed.into_iter().filter_map(|one| one.id).collect())
    }

    /// Those of the past since `since`, and then all that come. bollard asks for them when the stream is first polled.
    pub(super) fn events(
        &self,
        since: Timestamp,
    ) -> impl Stream<Item = core::result::Result<EventMessage, Error>> + use<> {
        let owned = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let filters = [("type".to_owned(), owned(&["container"])), ("event".to_owned(), owned(&EVENTS))];
        let options = EventsOptionsBuilder::default()
            .filters(&filters.into_iter().collect())
            .since(&unix(since))
            .build();
        self.0.events(Some(options))
    }

    /// None: there is no such container.
    pub(super) async fn inspect(&self, id: &str) -> Result<Option<Seen>> {
        Ok(self.ask_about(id).await?.map(seen))
    }

    pub(super) async fn restart(&self, id: &str, grace: Duration) -> Result<()> {
        let options = RestartContainerOptionsBuilder::default().t(seconds(grace)).build();
        let done = self.0.restart_container(id, Some(options)).await;
        done.map_err(|error| words("restart through Docker", &error))
    }

    /// None: there is no such container.
    pub(super) async fn limits(&self, id: &str) -> Result<Option<Limits>> {
        Ok(self.ask_about(id).await?.map(limits))
    }

    async fn ask_about(&self, id: &str) -> Result<Option<ContainerInspectResponse>> {
        let inspect = async {
            match self.0.inspect_container(id, None).await {
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                other => other.map(Some),
            }
        };
        soon("inspect a container", inspect).await
    }

    pub(super) async fn pause(&self, id: &str, halt: bool) -> Result<()> {
        match halt {
            true => soon("pause through Docker", self.0.pause_container(id)).await,
            false => soon("unpause through Docker", self.0.unpause_container(id)).await,
        }
    }

    pub(super) async fn weigh(&self, id: &str, shares: i64) -> Result<()> {
        self.update(id, ContainerUpdateBody { cpu_shares: Some(shares), ..Default::default() }).await
    }

    pub(super) async fn give_cpus(&self, id: &str, nanos: i64) -> Result<()> {
        self.update(id, ContainerUpdateBody { nano_cpus: Some(nanos), ..Default::default() }).await
    }

    pub(super) async fn set_quota(&self, id: &str, quota: i64, period: i64) -> Result<()> {
        let body =
            ContainerUpdateBody { cpu_quota: Some(quota), cpu_period: Some(period), ..Default::default() };
        self.update(id, body).await
    }

    async fn update(&self, id: &str, body: ContainerUpdateBody) -> Result<()> {
        soon("update through Docker", self.0.update_container(id, body)).await.map(drop)
    }

    pub(super) async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let options = StopContainerOptionsBuilder::default().t(seconds(grace)).build();
        let done = self.0.stop_container(id, Some(options)).await;
        done.map_err(|error| words("stop through Docker", &error))
    }
}

pub(super) fn seen(answer: ContainerInspectResponse) -> Seen {
    let state = answer.state.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    Seen {
        container: Container {
            runtime: "docker".to_owned(),
            id: answer.id.unwrap_or_default(),
            name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: config.image.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            log_file: answer.log_path.filter(|path| path.starts_with('/')),
        },
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0),
        is_restarting: state.restarting.unwrap_or_default(),
        is_running: state.running.unwrap_or_default(),
    }
}

pub(super) fn limits(answer: ContainerInspectResponse) -> Limits {
    let state = answer.state.unwrap_or_default();
    let config = answer.host_config.unwrap_or_default();
    Limits {
        is_running: state.running.unwrap_or_default(),
        is_paused: state.paused.unwrap_or_default(),
        nano_cpus: config.nano_cpus.unwrap_or_default(),
        quota: config.cpu_quota.unwrap_or_default(),
        period: config.cpu_period.unwrap_or_default(),
        shares: config.cpu_shares.unwrap_or_default(),
    }
}

/// A container by an event's attributes: its labels stand among the others.
pub(super) fn by_event(id: &str, attributes: impl IntoIterator<Item = (String, String)>) -> Container {
    /// What the engine itself writes there (daemon/events.go).
    const OWN: [&str; 6] = ["exitCode", "signal", "execDuration", "execID", "oldName", "comment"];
    let mut labels: BTreeMap<_, _> = attributes.into_iter().collect();
    let name = labels.remove("name").unwrap_or_default();
    let image = labels.remove("image").unwrap_or_default();
    labels.retain(|key, _| !OWN.contains(&key.as_str()));
    Container { runtime: "docker".to_owned(), id: id.to_owned(), name, image, labels, log_file: None }
}

async fn soon<T>(tried: &str, asked: impl Future<Output = core::result::Result<T, Error>>) -> Result<T> {
    match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
        Ok(answer) => answer.map_err(|error| words(tried, &error)),
        Err(_elapsed) => Err(format!("{tried}: no answer within {} s", ANSWERS_WITHIN.as_secs())),
    }
}

/// Seconds since 1970 with nanoseconds, as the engine reads them.
fn unix(at: Timestamp) -> String {
    format!("{}.{:09}", at.as_second(), at.subsec_nanosecond())
}

fn seconds(grace: Duration) -> i32 {
    i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)
}

/// What we tried, and the error, which may quote whatever the socket sent.
pub(super) fn words(tried: &str, error: &Error) -> String {
    format!("{tried}: {}", printable(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_a_container() {
        let attributes = [("name", "web"), ("image", "app:1"), ("exitCode", "137"), ("tier", "front")];
        let owned = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let container = by_event("c0ffee", owned);
        assert_eq!((container.name.as_str(), container.image.as_str()), ("web", "app:1"));
        assert_eq!(container.labels, BTreeMap::from([("tier".to_owned(), "front".to_owned())]));
    }
}
