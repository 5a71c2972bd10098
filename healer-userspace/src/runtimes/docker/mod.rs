//! Docker's API over its unix socket: what containers are called, their main processes, restart and stop.
//! Podman answers to the same API.

#[cfg(test)]
mod answers;
mod ends;
mod engine;
mod kubelets;
pub(super) mod lent;
mod order;
mod ours;
mod states;
mod watch;

#[cfg(test)]
pub(super) use self::answers::{read_answer, read_event};
use std::path::PathBuf;

use tokio::sync::mpsc;

use self::ours::Ours;
use super::{Done, Learnt, Order, Stopped, settle};
use crate::{
    engine::lease::{Account, Knob},
    identity::process::{Container, Process},
};

/// Questions that wait at most: a storm of new containers is told by events anyway.
const WAITING_MAX: usize = 256;

#[derive(Clone)]
pub(super) struct Handle {
    socket: PathBuf,
    questions: mpsc::Sender<String>,
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    ours: Ours,
}

impl Handle {
    pub(super) fn start(socket: PathBuf, learnt: mpsc::Sender<Learnt>) -> Self {
        let (questions, asked) = mpsc::channel(WAITING_MAX);
        let stopped = Stopped::default();
        let ours = Ours::default();
        tokio::spawn(watch::run(socket.clone(), asked, learnt.clone(), stopped.clone(), ours.clone()));
        Self { socket, questions, learnt, stopped, ours }
    }

    pub(super) fn ask(&self, container: &Container) {
        if super::speaks_docker(&container.runtime) {
            // Full: it is asked for again with its next signal.
            self.questions.try_send(container.id.clone()).ok();
        }
    }

    /// Only of the container's own group.
    pub(super) fn knob(&self, target: &Process, container: &Container, of: Account) -> Option<Knob> {
        let is_its_own = target.cgroup.trim_end_matches(".scope").ends_with(&container.id);
        let is_kept = of != Account::MemoryHigh;
        let socket = self.socket.to_str()?.to_owned();
        (is_its_own && is_kept).then(|| Knob::Container { socket, id: container.id.clone(), of })
    }

    pub(super) async fn restart(&self, id: &str, order: &Order) -> Done {
        settle::within(order, order::who(order), order::restart(self, id, order)).await
    }

    pub(super) async fn stop(&self, id: &str, order: &Order) -> Done {
        settle::within(order, order::who(order), order::stop(self, id, order)).await
    }
}
