//! The few requests to the Docker Engine API that healer makes, each with an end.

pub(super) mod account;

use core::time::Duration;
use std::{collections::BTreeMap, path::Path};

use bollard::{
    Docker,
    errors::Error,
    models::{ContainerInspectResponse, EventMessage, SystemVersion},
    query_parameters::{
        EventsOptionsBuilder, ListContainersOptionsBuilder, RestartContainerOptionsBuilder,
        StopContainerOptionsBuilder,
    },
};
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;

use super::{
    super::settle::State,
    ends::{Failure, Remembered, failure, restarts_itself},
    kubelets,
    states::understood,
};
use crate::{
    clock,
    identity::process::{Container, Pod},
    text::printable,
};

const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// bollard's own limit for an answer's head, seconds: a stop takes its grace and then some.
const LONGEST_ANSWER: u64 = 600;
/// What `watch` understands; `create` comes before the first process.
const EVENTS: [&str; 7] = ["create", "start", "die", "kill", "stop", "rename", "destroy"];

/// From `docker stop` to the end, and from there to the event that tells of it.
const STOP_TAKES: Duration = Duration::from_secs(600);
pub(super) const WORD_COMES_WITHIN: Duration = Duration::from_secs(5);

/// Words for a person.
pub(super) type Result<T> = core::result::Result<T, String>;

#[derive(Clone)]
pub(super) struct Engine(Docker);

/// A container as Docker has it now.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) container: Container,
    /// A kubelet's.
    pub(super) pod: Option<Pod>,
    pub(super) pid: Option<u32>,
    pub(super) failure: Option<Failure>,
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
        let list = async { understood(self.0.list_containers(Some(options)).await) };
        let listed = soon("list the containers", list).await?;
        Ok(listed.into_iter().filter_map(|one| one.id).collect())
    }

    /// Those of the past since `since`, and then all that come. bollard asks for them when the stream is first polled.
    pub(super) fn events(
        &self,
        since: Timestamp,
    ) -> impl Stream<Item = core::result::Result<EventMessage, Error>> + use<> {
        self.0.events(Some(told_of(&[("event", &EVENTS[..])], since).build()))
    }

    /// Was that end its own? Docker remembers its last 256 events, and none from before its own start: who remembers the
    /// end remembers what came after it, the word of a stop. That of `docker kill` comes before the end only, and whoever
    /// is stopped by it may end with a code of its own: an end is its own where nothing of that time is forgotten.
    pub(super) async fn ended_alone(&self, id: &str, failure: &Failure) -> Result<bool> {
        let since = failure.at.checked_sub(STOP_TAKES).unwrap_or(failure.at);
        let until = failure.at.checked_add(WORD_COMES_WITHIN).unwrap_or(failure.at);
        // Docker would wait for what is still to come, and so long nobody waits for an answer.
        tokio::time::sleep(left(until, clock::wall())).await;
        let remembered = self.remembered(id, failure, since, until).await?;
        if !remembered.ended_alone() {
            return Ok(false);
        }
        let all_since = remembered.has_begun || self.remembers_before(since).await?;
        Ok(all_since && (!failure.is_as_of_a_stop || self.tells_of_every_stop().await?))
    }

    async fn remembered(
        &self,
        id: &str,
        failure: &Failure,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Remembered> {
        let filters = [("container", &[id][..]), ("event", &["start", "kill", "stop", "die"][..])];
        let events = self.0.events(Some(told_of(&filters, since).until(&unix(until)).build()));
        let asked = async {
            let mut events = core::pin::pin!(events);
            let mut remembered = Remembered::of(failure);
            while let Some(event) = events.next().await {
                remembered.hear(&event?);
            }
            Ok::<_, Error>(remembered)
        };
        soon("ask for a container's last events", asked).await
    }

    /// Anything, of anybody: then it remembers all that came later.
    async fn remembers_before(&self, at: Timestamp) -> Result<bool> {
        let events = self.0.events(Some(told_of(&[], Timestamp::UNIX_EPOCH).until(&unix(at)).build()));
        let asked = async {
            let mut events = core::pin::pin!(events);
            events.next().await.transpose()
        };
        soon("ask for Docker's oldest events", asked).await.map(|oldest| oldest.is_some())
    }

    async fn tells_of_every_stop(&self) -> Result<bool> {
        soon("ask for Docker's version", self.0.version()).await.map(|version| is_dockers(&version))
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

    async fn ask_about(&self, id: &str) -> Result<Option<ContainerInspectResponse>> {
        let inspect = async {
            match self.0.inspect_container(id, None).await {
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                other => understood(other).map(Some),
            }
        };
        soon("inspect a container", inspect).await
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
    let policy = answer.host_config.and_then(|host| host.restart_policy).unwrap_or_default();
    let is_left_dead = !restarts_itself(&policy, answer.restart_count.unwrap_or_default());
    let (container, pod) = kubelets::named(Container {
        runtime: "docker".to_owned(),
        id: answer.id.unwrap_or_default(),
        name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        log_file: answer.log_path.filter(|path| path.starts_with('/')),
    });
    // The kubelet leaves the dead of a pod lying beside their successors.
    let is_left_dead = is_left_dead && pod.is_none();
    Seen {
        container,
        pod,
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0),
        failure: failure(&state).filter(|_| is_left_dead),
        is_restarting: state.restarting.unwrap_or_default(),
        is_running: state.running.unwrap_or_default(),
    }
}

/// Podman says `Podman Engine`; it does not tell of every stop.
fn is_dockers(version: &SystemVersion) -> bool {
    version.components.iter().flatten().any(|part| part.name == "Engine")
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

/// Events of containers from `since` on.
fn told_of(filters: &[(&str, &[&str])], since: Timestamp) -> EventsOptionsBuilder {
    let owned = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let kind = ("type".to_owned(), owned(&["container"]));
    let others = filters.iter().map(|&(key, words)| (key.to_owned(), owned(words)));
    EventsOptionsBuilder::default().filters(&others.chain([kind]).collect()).since(&unix(since))
}

/// No longer than a word takes: the clock may have been set back since.
fn left(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default().min(WORD_COMES_WITHIN)
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

    #[test]
    fn the_dead_of_a_pod_are_the_kubelets() {
        let of = |labels: &str| {
            let answer = format!(
                r#"{{"Id":"c0ffee","Config":{{"Labels":{{{labels}}}}},
                    "State":{{"FinishedAt":"2026-01-02T03:04:05Z","Status":"exited","ExitCode":3}}}}"#
            );
            seen(serde_json::from_str(&answer).unwrap())
        };
        let labels = ["container.name", "pod.name", "pod.namespace", "pod.uid"]
            .map(|key| format!(r#""io.kubernetes.{key}":"x""#))
            .join(",");
        let kubelets = of(&labels);
        assert!(kubelets.pod.is_some() && kubelets.failure.is_none(), "{kubelets:?}");
        let other = of(r#""io.kubernetes.pod.name":"x""#);
        assert!(other.pod.is_none() && other.failure.is_some(), "{other:?}");
    }

    #[test]
    fn an_end_in_the_future_is_not_waited_for() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(left(at(13), at(10)), Duration::from_secs(3));
        assert_eq!(left(at(10), at(13)), Duration::ZERO);
        assert_eq!(left(at(7200), at(10)), WORD_COMES_WITHIN, "the clock was set back");
    }

    #[test]
    fn podman_is_told_from_docker_by_its_engine() {
        let is = |name: &str| {
            let answer = format!(
                r#"{{"Version":"1","Components":[{{"Name":"{name}","Version":"1"}},{{"Name":"runc","Version":"1"}}]}}"#
            );
            is_dockers(&serde_json::from_str(&answer).unwrap())
        };
        assert!(is("Engine") && !is("Podman Engine") && !is_dockers(&SystemVersion::default()));
    }
}
