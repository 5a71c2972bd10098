//! The agent's side of the socket.

use core::time::Duration;
use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{Change, Order, Request, Response, SOCKET, socket};
use crate::report::{
    incidents::is_named,
    view::{Shared, View},
    wall::{Now, ReadClock},
};

const CONNECTIONS: usize = 32;
const LINE_LIMIT: u64 = 64 * 1024;
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// A reload reads files; nothing else takes time.
const ORDER_LIMIT: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

pub struct Server {
    listener: UnixListener,
    peers: Peers,
}

#[derive(Clone)]
pub(super) struct Peers {
    shared: Shared,
    clock: ReadClock,
    orders: mpsc::Sender<Order>,
    own_uid: u32,
}

/// Binds the socket; call it after the store's lock is held, inside a tokio runtime.
///
/// # Errors
/// The state directory is missing or cannot be written.
pub fn bind(
    state_dir: &Path,
    shared: Shared,
    clock: ReadClock,
    orders: mpsc::Sender<Order>,
) -> anyhow::Result<Server> {
    let tried = || format!("bind the control socket {}/{SOCKET}", state_dir.display());
    let listener = socket::bind(state_dir, SOCKET).with_context(tried)?;
    listener.set_nonblocking(true).with_context(tried)?;
    let listener = UnixListener::from_std(listener).with_context(tried)?;
    let own_uid = rustix::process::geteuid().as_raw();
    Ok(Server { listener, peers: Peers { shared, clock, orders, own_uid } })
}

impl Server {
    /// Answers until the future is dropped.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let peers = self.peers.clone();
                    tokio::spawn(async move {
                        if let Err(error) = peers.talk(stream).await {
                            tracing::debug!("control socket: {error:#}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("control socket: accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Peers {
    async fn talk(&self, mut stream: UnixStream) -> anyhow::Result<()> {
        let who = stream.peer_cred().context("ask who is there")?;
        if let Some(refusal) = self.refuses(&who) {
            return send(&mut stream, &Response::Error(refusal)).await;
        }
        let (read, mut write) = stream.split();
        let mut read = BufReader::new(read);
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut read).take(LINE_LIMIT);
            timeout(IDLE_LIMIT, limited.read_until(b'\n', &mut line)).await??;
            if line.is_empty() {
                return Ok(());
            }
            let response = match serde_json::from_slice(&line) {
                Ok(Request::Record) => return self.record(read, write).await,
                Ok(request) => self.answer(request, &who).await,
                Err(error) => Response::Error(not_understood(&error)),
            };
            timeout(IDLE_LIMIT, send(&mut write, &response)).await??;
            if !line.ends_with(b"\n") {
                return Ok(());
            }
        }
    }

    fn refuses(&self, who: &UCred) -> Option<String> {
        let allowed = who.uid() == 0 || who.uid() == self.own_uid;
        (!allowed).then(|| format!("uid {} may not ask the agent: use root", who.uid()))
    }

    async fn answer(&self, request: Request, who: &UCred) -> Response {
        let by = |reason: Option<String>| {
            let pid = who.pid().map(|pid| format!(", pid {pid}")).unwrap_or_default();
            let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("healer pause (uid {}{pid}){why}", who.uid())
        };
        let told = match request {
            Request::Status => self.look(|view, peers| json!(view.status((peers.clock)()))),
            Request::Sensors => self.look(|view, _| json!({"sensors": view.sensors})),
            Request::Policies => self.look(|view, _| json!(view.policies)),
            Request::Workloads => {
                self.look(|view, _| json!({"workloads": view.workloads.values().collect::<Vec<_>>()}))
            }
            Request::Dependencies => self.look(|view, _| json!({"dependencies": view.dependencies.list()})),
            Request::Scores => self.look(|view, _| json!({"scores": view.scores.list()})),
            Request::Incidents { id: None } => self.look(|view, _| {
                let list: Vec<_> = view.book.newest().collect();
                json!({"incidents": list})
            }),
            Request::Incidents { id: Some(id) } => match self.shared.read(|view| view.book.get(&id)) {
                Some(incident) => Ok(json!({"incidents": [incident]})),
                None => Err(format!("no incident {id} in memory")),
            },
            Request::Why { target } => {
                // An end of a moment ago may lie in a ring. A busy agent tells what it has read.
                let about = target.parse().ok();
                let told = self.order(Change::CatchUp { about }).await.unwrap_or_default();
                let living = told["says"].as_str().filter(|says| !says.is_empty());
                self.look(|view, peers| why(view, &target, living, (peers.clock)()))
            }
            Request::Pause { reason } => self.order(Change::Pause { by: by(reason) }).await,
            Request::Resume => self.order(Change::Resume).await,
            Request::Reload => self.order(Change::Reload).await,
            Request::Undo { of } => self.order(Change::Undo { of }).await,
            Request::Record => Err("a recording ends the questions".to_owned()),
        };
        match told {
            Ok(value) => Response::Ok(value),
            Err(words) => Response::Error(words),
        }
    }

    fn look(&self, look: impl FnOnce(&View, &Self) -> Value) -> Result<Value, String> {
        Ok(self.shared.read(|view| look(view, self)))
    }

    pub(super) async fn order(&self, what: Change) -> Result<Value, String> {
        let (reply, answer) = oneshot::channel();
        let gone = "the agent is shutting down";
        self.orders.try_send(Order { what, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "the agent is busy: try again".to_owned(),
            mpsc::error::TrySendError::Closed(_) => gone.to_owned(),
        })?;
        match timeout(ORDER_LIMIT, answer).await {
            Ok(Ok(Ok(says))) => Ok(json!({"says": says})),
            Ok(Ok(Err(words))) => Err(words),
            Ok(Err(_)) => Err(gone.to_owned()),
            Err(_) => Err("the agent took the order and has not answered yet".to_owned()),
        }
    }
}

fn why(view: &View, target: &str, living: Option<&str>, now: Now) -> Value {
    let incidents = view.book.about(target);
    let pid = target.parse().ok();
    let workload = view.workloads.values().find(|of| is_named(&of.key, target) || Some(of.pid) == pid);
    let ends = view.deaths.about(target, now);
    json!({"incidents": incidents, "workload": workload, "living": living, "ends": ends})
}

fn not_understood(error: &serde_json::Error) -> String {
    format!("not understood by healer {}: {error}", env!("CARGO_PKG_VERSION"))
}

pub(super) async fn send(
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    response: &Response,
) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(response).context("encode the answer")?;
    line.push(b'\n');
    to.write_all(&line).await.context("send the answer")
}
