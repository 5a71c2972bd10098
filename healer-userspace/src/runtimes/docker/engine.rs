//! The few requests to the Docker Engine API that healer makes, each with an end.

pub(super) mod account;

use core::time::Duration;
use std::{collections::BTreeMap, path::Path};

use bollard::{
    Docker,
    errors::Error,
    models::{
        ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, EventMessage, RestartPolicy,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        EventsOptionsBuilder, ListContainersOptionsBuilder, RestartContainerOptionsBuilder,
        StopContainerOptionsBuilder,
    },
};
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;

use super::{
    super::{exit::exit_of, settle::State},
    kubelets,
    states::understood,
    watch::ends,
};
use crate::{
    clock,
    identity::process::{Container, Pod},
    signal::Exit,
    text::printable,
};

const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// bollard's own limit for an answer's head, seconds: a stop takes its grace and then some.
const LONGEST_ANSWER: u64 = 600;
/// What `watch` understands; `create` comes before the first process.
const EVENTS: [&str; 7] = ["create", "start", "die", "kill", "stop", "rename", "destroy"];

/// From `docker stop` to the end, and from there to the event that tells of it.
const STOP_TAKES: Duration = Duration::from_secs(600);
const WORD_COMES_WITHIN: Duration = Duration::from_secs(5);
/// 128 + the signal by which a stop ends a program, whether that listens or not.
const BY_INT: i32 = 128 + libc::SIGINT;
const BY_TERM: i32 = 128 + libc::SIGTERM;
const BY_KILL: i32 = 128 + libc::SIGKILL;

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

/// An end that Docker leaves at that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) at: Timestamp,
    pub(super) oom_killed: bool,
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
    /// end remembers what came after it, the word of a stop.
    pub(super) async fn ended_alone(&self, id: &str, ended: Timestamp) -> Result<bool> {
        let since = ended.checked_sub(STOP_TAKES).unwrap_or(ended);
        let until = ended.checked_add(WORD_COMES_WITHIN).unwrap_or(ended);
        // Docker would wait for what is still to come, and so long nobody waits for an answer.
        let left = until.duration_since(clock::wall());
        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        let filters = [("container", &[id][..]), ("event", &["kill", "stop", "die"][..])];
        let events = self.0.events(Some(told_of(&filters, since).until(&unix(until)).build()));
        let asked = async {
            let mut events = core::pin::pin!(events);
            let mut is_remembered = false;
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) if is_stop(&event) => return Ok(false),
                    Ok(event) => is_remembered |= event.action.as_deref() == Some("die"),
                    Err(error) => return Err(error),
                }
            }
            Ok(is_remembered)
        };
        soon("ask for a container's last events", asked).await
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

/// What a stop leaves behind is none.
fn failure(state: &ContainerState) -> Option<Failure> {
    let code = i32::try_from(state.exit_code?).ok()?;
    // OOMKilled alone says nothing of PID 1: it may have been a child of it.
    let oom_killed = code == BY_KILL && state.oom_killed.unwrap_or_default();
    let is_bad = oom_killed || !matches!(code, 0 | BY_INT | BY_TERM | BY_KILL);
    let is_over = state.status == Some(ContainerStateStatusEnum::EXITED);
    let at: Timestamp = state.finished_at.as_deref()?.parse().ok()?;
    (is_over && is_bad).then(|| Failure { exit: exit_of(code), at, oom_killed })
}

/// Who lies there all the same was stopped, or will be started soon.
fn restarts_itself(policy: &RestartPolicy, restarted: i64) -> bool {
    let most = policy.maximum_retry_count.unwrap_or_default();
    match policy.name {
        Some(RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::UNLESS_STOPPED) => true,
        // 0: for ever.
        Some(RestartPolicyNameEnum::ON_FAILURE) => most <= 0 || restarted < most,
        Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO) | None => false,
    }
}

/// `docker kill` is a stop as well: Docker's own restart policies take it for one.
fn is_stop(event: &EventMessage) -> bool {
    let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    let signal = attributes.and_then(|attributes| attributes.get("signal"));
    match event.action.as_deref() {
        Some("stop") => true,
        Some("kill") => signal.is_some_and(|signal| ends(signal)),
        Some(_) | None => false,
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

/// Events of containers from `since` on.
fn told_of(filters: &[(&str, &[&str])], since: Timestamp) -> EventsOptionsBuilder {
    let owned = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let kind = ("type".to_owned(), owned(&["container"]));
    let others = filters.iter().map(|&(key, words)| (key.to_owned(), owned(words)));
    EventsOptionsBuilder::default().filters(&others.chain([kind]).collect()).since(&unix(since))
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

    fn inspected(state: &str, policy: &str, restarted: u32) -> Option<Exit> {
        let at = "2026-01-02T03:04:05.678901234Z";
        let answer = format!(
            r#"{{"Id":"c0ffee","RestartCount":{restarted},"HostConfig":{{"RestartPolicy":{policy}}},
                "State":{{"FinishedAt":"{at}",{state}}}}}"#
        );
        let failure = seen(serde_json::from_str(&answer).unwrap()).failure?;
        assert_eq!(failure.at, at.parse::<Timestamp>().unwrap());
        let is_of_kill = failure.exit.signal == Some(libc::SIGKILL);
        assert_eq!(failure.oom_killed, is_of_kill, "no other SIGKILL is a failure");
        Some(failure.exit)
    }

    #[test]
    fn a_failure_is_told_from_what_a_stop_leaves_behind() {
        let of = |state: &str| inspected(state, r#"{"Name":"no"}"#, 0);
        assert_eq!(of(r#""Status":"exited","ExitCode":3"#), Some(exit_of(3)));
        assert_eq!(
            of(r#""Status":"exited","ExitCode":139"#).and_then(|exit| exit.signal),
            Some(libc::SIGSEGV)
        );
        assert_eq!(of(r#""Status":"exited","ExitCode":137,"OOMKilled":true"#), Some(exit_of(137)));
        for code in [0, 130, 137, 143] {
            assert_eq!(of(&format!(r#""Status":"exited","ExitCode":{code}"#)), None, "{code}");
        }
        for status in ["created", "running", "restarting", "dead"] {
            assert_eq!(of(&format!(r#""Status":"{status}","ExitCode":3"#)), None, "{status}");
        }
    }

    #[test]
    fn whom_docker_restarts_itself_is_no_failure() {
        let of = |policy: &str, restarted| inspected(r#""Status":"exited","ExitCode":3"#, policy, restarted);
        assert_eq!(of(r#"{"Name":"always"}"#, 0), None);
        assert_eq!(of(r#"{"Name":"unless-stopped"}"#, 0), None);
        assert_eq!(of(r#"{"Name":"on-failure"}"#, 9), None);
        assert_eq!(of(r#"{"Name":"on-failure","MaximumRetryCount":3}"#, 2), None);
        assert_eq!(of(r#"{"Name":"on-failure","MaximumRetryCount":3}"#, 3), Some(exit_of(3)), "given up");
        assert_eq!(of("null", 0), Some(exit_of(3)));
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
    fn a_stop_is_known_among_the_events() {
        let is = |action: &str, signal: &str| {
            let event =
                format!(r#"{{"Action":"{action}","Actor":{{"Attributes":{{"signal":"{signal}"}}}}}}"#);
            is_stop(&serde_json::from_str(&event).unwrap())
        };
        assert!(is("stop", "") && is("kill", "15") && is("kill", "9"));
        assert!(!is("kill", "1") && !is("die", "9") && !is_stop(&EventMessage::default()));
    }
}
