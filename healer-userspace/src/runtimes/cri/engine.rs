//! The few requests to a container runtime over the CRI, each with an end.

use core::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::path::{Path, PathBuf};

use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};

use super::{super::exit::exit_of, image, proto};
use crate::{signal::Exit, text::printable};

const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// A list of some thousand containers.
const ANSWER_MAX: usize = 16 << 20;

/// Words for a person.
pub(super) type Result<T> = core::result::Result<T, String>;

/// One connection, made anew by its owner when it breaks.
#[derive(Clone)]
pub(super) struct Engine {
    channel: Channel,
    /// As the runtime calls itself, for example `containerd`.
    pub(super) name: String,
}

/// All pods and containers, running or not.
pub(super) struct Listed {
    pub(super) sandboxes: Vec<proto::PodSandbox>,
    pub(super) containers: Vec<proto::Container>,
}

/// What has become of a container's PID 1.
#[derive(Debug)]
pub(super) enum Life {
    /// Its pid in the runtime's own pid namespace.
    Runs(u32),
    Over(Exit),
}

impl Engine {
    pub(super) async fn connect(socket: &Path) -> Result<Self> {
        let tried = format!("no container runtime at {}", socket.display());
        // The address is not used: the connector has the path.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(ANSWERS_WITHIN);
        let connected = endpoint.connect_with_connector(Unix(socket.to_owned()));
        let channel = match tokio::time::timeout(ANSWERS_WITHIN, connected).await {
            Ok(channel) => channel.map_err(|error| format!("{tried}: {}", chain(&error)))?,
            Err(_elapsed) => return Err(format!("{tried}: no answer within {} s", ANSWERS_WITHIN.as_secs())),
        };
        let mut engine = Self { channel, name: String::new() };
        let asked = proto::VersionRequest { version: "v1".to_owned() };
        let version: proto::VersionResponse = engine.ask("Version", &tried, asked).await?;
        engine.name = printable(&version.runtime_name).into_owned();
        Ok(engine)
    }

    /// As the paths of its groups have it: cri-dockerd calls itself `docker`, whose own API it is not.
    pub(super) fn kind(&self) -> &str {
        kind(&self.name)
    }

    pub(super) async fn list(&self) -> Result<Listed> {
        let all = proto::ListPodSandboxRequest { filter: None };
        let sandboxes: proto::ListPodSandboxResponse =
            self.ask("ListPodSandbox", "list the pods", all).await?;
        let containers = self.containers(None).await?;
        Ok(Listed { sandboxes: sandboxes.items, containers })
    }

    /// Of one pod, or all.
    pub(super) async fn containers(&self, sandbox: Option<&str>) -> Result<Vec<proto::Container>> {
        let filter = sandbox.map(|id| proto::ContainerFilter {
            pod_sandbox_id: id.to_owned(),
            ..proto::ContainerFilter::default()
        });
        let all = proto::ListContainersRequest { filter };
        let listed: proto::ListContainersResponse =
            self.ask("ListContainers", "list the containers", all).await?;
        Ok(listed.containers)
    }

    pub(super) async fn container(&self, id: &str) -> Result<Option<proto::Container>> {
        let filter = proto::ContainerFilter { id: id.to_owned(), ..proto::ContainerFilter::default() };
        let one = proto::ListContainersRequest { filter: Some(filter) };
        let listed: proto::ListContainersResponse =
            self.ask("ListContainers", "look for a container", one).await?;
        Ok(listed.containers.into_iter().find(|container| container.id == id))
    }

    pub(super) async fn life(&self, id: &str) -> Result<Option<Life>> {
        let asked = proto::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        Ok(self.status("ask for a container", asked).await?.and_then(life_of))
    }

    /// None: its status has no name of it either, or there is no status.
    pub(super) async fn image(&self, id: &str) -> Result<Option<String>> {
        let asked = proto::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.status("ask for an image", asked).await?;
        Ok(answer.and_then(|answer| answer.status).and_then(image::name_in))
    }

    /// None: it has been removed between the list and the question.
    async fn status(
        &self,
        tried: &str,
        asked: proto::ContainerStatusRequest,
    ) -> Result<Option<proto::ContainerStatusResponse>> {
        match self.call("ContainerStatus", asked, ANSWERS_WITHIN).await {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(words(tried, &status)),
        }
    }

    pub(super) async fn stop(&self, id: &str, grace: Duration, limit: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let asked = proto::StopContainerRequest { container_id: id.to_owned(), timeout };
        let tried = format!("stop through {}", self.name);
        let stopped: core::result::Result<proto::StopContainerResponse, Status> =
            self.call("StopContainer", asked, limit).await;
        stopped.map(drop).map_err(|status| words(&tried, &status))
    }

    async fn ask<Q, A>(&self, method: &'static str, tried: &str, asked: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.call(method, asked, ANSWERS_WITHIN).await.map_err(|status| words(tried, &status))
    }

    async fn call<Q, A>(
        &self,
        method: &'static str,
        asked: Q,
        limit: Duration,
    ) -> core::result::Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"));
        let path = path.map_err(|error| Status::internal(error.to_string()))?;
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX);
        let exchange = async {
            grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
            let codec = tonic_prost::ProstCodec::<Q, A>::default();
            grpc.unary(tonic::Request::new(asked), path, codec).await
        };
        let late = || Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs_f32()));
        let answer = tokio::time::timeout(limit, exchange).await.map_err(|_elapsed| late())?;
        answer.map(tonic::Response::into_inner)
    }
}

fn kind(name: &str) -> &str {
    if matches!(name, "containerd" | "cri-o") { name } else { "cri" }
}

pub(super) fn life_of(answer: proto::ContainerStatusResponse) -> Option<Life> {
    let status = answer.status.unwrap_or_default();
    match status.state {
        proto::RUNNING => answer.info.get("info").and_then(|info| pid_in(info)).map(Life::Runs),
        proto::EXITED => Some(Life::Over(exit_of(status.exit_code))),
        _other => None,
    }
}

/// The runtimes' own JSON beside the status: containerd's and cri-o's both have `pid`.
fn pid_in(info: &str) -> Option<u32> {
    let info: serde_json::Value = serde_json::from_str(info).ok()?;
    let pid = info.get("pid")?.as_u64()?;
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

/// What we tried, and the error, which may quote whatever the socket sent.
fn words(tried: &str, status: &Status) -> String {
    format!("{tried}: {}", printable(status.message()))
}

fn chain(error: &dyn core::error::Error) -> String {
    let mut says = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        says = format!("{says}: {cause}");
        next = cause.source();
    }
    printable(&says).into_owned()
}

struct Unix(PathBuf);

impl tower_service::Service<Uri> for Unix {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = core::result::Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<core::result::Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_answers_here_is_asked_here_again() {
        for (name, meant) in
            [("containerd", "containerd"), ("cri-o", "cri-o"), ("docker", "cri"), ("", "cri")]
        {
            assert_eq!(kind(name), meant);
            assert!(super::super::Handle::speaks(kind(name)), "{name}");
        }
    }

    #[test]
    fn the_pid_is_read_from_the_runtimes_own_words() {
        assert_eq!(pid_in(r#"{"sandboxID":"a","pid":4711,"removing":false}"#), Some(4711));
        for nothing in [r#"{"pid":0}"#, "{}", "not json"] {
            assert_eq!(pid_in(nothing), None, "{nothing}");
        }
    }
}
