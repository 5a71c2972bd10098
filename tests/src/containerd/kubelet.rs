//! The CRI's calls that make and end pods, with the messages they need (runtime.v1, by field number).

use core::{
    pin::Pin,
    task::{Context, Poll},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Mutex};

use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Status,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};

use super::image::BUSYBOX;

/// As its owner describes it.
pub struct Pod<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub labels: &'a [(&'a str, &'a str)],
    /// Bytes; 0 = none.
    pub memory: i64,
}

pub(super) struct Kubelet {
    runtime: Runtime,
    channel: Channel,
    sandboxes: Mutex<Vec<(String, PodSandboxConfig)>>,
    attempts: Mutex<BTreeMap<String, u32>>,
}

impl Kubelet {
    pub(super) fn new(socket: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("an event loop");
        let channel = connect(&runtime, socket).expect("the runtime answers");
        Self { runtime, channel, sandboxes: Mutex::default(), attempts: Mutex::default() }
    }

    /// To the runtime's next life. An error: it cannot be asked yet for what the last one has left.
    pub(super) fn connect_anew(&mut self, socket: PathBuf) -> Result<(), Status> {
        let channel = connect(&self.runtime, socket);
        self.channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        self.call::<_, Nothing>("ListPodSandbox", Nothing {}).map(drop)
    }

    pub(super) fn run_pod(&self, pod: &Pod<'_>, cgroup: &str) -> String {
        let metadata = PodSandboxMetadata {
            name: pod.name.to_owned(),
            uid: pod.uid.to_owned(),
            namespace: pod.namespace.to_owned(),
        };
        let own = [
            ("io.kubernetes.pod.name", pod.name),
            ("io.kubernetes.pod.namespace", pod.namespace),
            ("io.kubernetes.pod.uid", pod.uid),
        ];
        let labels = own.iter().chain(pod.labels).map(|(key, value)| (key.to_string(), value.to_string()));
        let options = NamespaceOption { network: NamespaceOption::NODE };
        let config = PodSandboxConfig {
            metadata: Some(metadata),
            labels: labels.collect(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: cgroup.to_owned(),
                security_context: Some(SandboxSecurity { namespace_options: Some(options) }),
            }),
        };
        let asked = RunPodSandboxRequest { config: Some(config.clone()) };
        let answer: Id = self.call("RunPodSandbox", asked).expect("the sandbox starts");
        self.sandboxes.lock().expect("no panic").push((answer.id.clone(), config));
        answer.id
    }

    pub(super) fn container(&self, sandbox: &str, name: &str, memory: i64, command: &[&str]) -> String {
        let sandboxes = self.sandboxes.lock().expect("no panic");
        let (_, of_pod) = sandboxes.iter().find(|(id, _)| id == sandbox).expect("its sandbox");
        let mut attempts = self.attempts.lock().expect("no panic");
        let attempt = attempts.entry(format!("{sandbox}/{name}")).or_default();
        let command = ["/bin/busybox"].iter().chain(command).map(|word| (*word).to_owned());
        let limits = (memory > 0).then_some(Resources { memory, swap: memory });
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: *attempt }),
            image: Some(ImageSpec { image: BUSYBOX.to_owned() }),
            command: command.collect(),
            labels: BTreeMap::from([("io.kubernetes.container.name".to_owned(), name.to_owned())]),
            linux: Some(LinuxContainerConfig { resources: limits }),
        };
        *attempt += 1;
        let asked = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(of_pod.clone()),
        };
        let created: Id = self.call("CreateContainer", asked).expect("the container is created");
        let asked = ById { id: created.id.clone(), timeout: 0 };
        self.call::<_, Nothing>("StartContainer", asked).expect("the container starts");
        created.id
    }

    pub(super) fn stop(&self, container: &str, grace: i64) {
        let asked = ById { id: container.to_owned(), timeout: grace };
        self.call::<_, Nothing>("StopContainer", asked).expect("the container is stopped");
    }

    pub(super) fn stop_pod(&self, sandbox: &str) {
        let asked = ById { id: sandbox.to_owned(), timeout: 0 };
        self.call::<_, Nothing>("StopPodSandbox", asked).expect("the pod is stopped");
    }

    pub(super) fn state(&self, container: &str) -> (i32, i32, String) {
        let asked = ById { id: container.to_owned(), timeout: 0 };
        let answer: StatusAnswer = self.call("ContainerStatus", asked).expect("the container is known");
        let status = answer.status.expect("a status");
        (status.state, status.exit_code, status.reason)
    }

    pub(super) fn remove_all(&self) {
        for (id, _) in self.sandboxes.lock().expect("no panic").drain(..) {
            for method in ["StopPodSandbox", "RemovePodSandbox"] {
                let asked = ById { id: id.clone(), timeout: 0 };
                if let Err(status) = self.call::<_, Nothing>(method, asked) {
                    eprintln!("{method}: {}", status.message());
                }
            }
        }
    }

    fn call<Q, A>(&self, method: &str, asked: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}")).expect("a path");
        let mut grpc = Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = tonic_prost::ProstCodec::<Q, A>::default();
            grpc.unary(tonic::Request::new(asked), path, codec).await.map(tonic::Response::into_inner)
        })
    }
}

fn connect(runtime: &Runtime, socket: PathBuf) -> Result<Channel, tonic::transport::Error> {
    runtime.block_on(async {
        Endpoint::from_static("http://localhost").connect_with_connector(Unix(socket)).await
    })
}

struct Unix(PathBuf);

impl tower_service::Service<Uri> for Unix {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// Answers whose first field is the id of what was made.
#[derive(Clone, PartialEq, prost::Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

/// Requests whose first field is an id, and whose second, if they have one, is a time-out.
#[derive(Clone, PartialEq, prost::Message)]
struct ById {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int64, tag = "2")]
    timeout: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerStatus {
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int32, tag = "7")]
    exit_code: i32,
    #[prost(string, tag = "10")]
    reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(btree_map = "string, string", tag = "6")]
    labels: BTreeMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<SandboxSecurity>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
}

impl NamespaceOption {
    /// The host's: no CNI plugin is needed.
    const NODE: i32 = 2;
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resources {
    #[prost(int64, tag = "4")]
    memory: i64,
    #[prost(int64, tag = "10")]
    swap: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(btree_map = "string, string", tag = "9")]
    labels: BTreeMap<String, String>,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainerConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxContainerConfig {
    #[prost(message, optional, tag = "1")]
    resources: Option<Resources>,
}
