//! The container runtime interface over its unix socket, as a Kubernetes node has it: what containers and pods are
//! called, their main processes, their stop. Starting them again is the kubelet's.

#[cfg(test)]
mod answers;
mod engine;
mod image;
mod nameless;
mod order;
mod places;
mod pods;
mod proto;
mod watch;

#[cfg(test)]
pub(super) use self::answers::{read_answers, sound_answers};
use std::{path::PathBuf, sync::Arc};

use tokio::sync::{Notify, mpsc};

use self::places::Places;
use super::{Done, Learnt, Order, settle};
use crate::identity::process::Container;

/// Questions that wait at most: one list answers all of them.
const WAITING_MAX: usize = 256;

#[derive(Clone)]
pub(super) struct Handle {
    places: Places,
    questions: mpsc::Sender<String>,
    hurry: Arc<Notify>,
}

impl Handle {
    /// The first of `sockets` that answers is asked.
    pub(super) fn start(sockets: Vec<PathBuf>, learnt: mpsc::Sender<Learnt>) -> Self {
        let (questions, asked) = mpsc::channel(WAITING_MAX);
        let (places, hurry) = (Places::new(sockets), Arc::default());
        tokio::spawn(watch::run(places.clone(), asked, Arc::clone(&hurry), learnt));
        Self { places, questions, hurry }
    }

    /// Somebody has failed in a container that nobody has asked for: it is told soon, not with the next list.
    pub(super) fn look_soon(&self) {
        self.hurry.notify_one();
    }

    pub(super) fn speaks(runtime: &str) -> bool {
        matches!(runtime, "containerd" | "cri-o" | "cri")
    }

    /// Is there somebody to ask?
    pub(super) fn ask(&self, container: &Container) -> bool {
        (Self::speaks(&container.runtime) || container.runtime == "unknown")
            && self.places.has_socket()
            && self.questions.try_send(container.id.clone()).is_ok()
    }

    pub(super) async fn restart(&self, id: &str, order: &Order) -> Done {
        settle::within(order, "the container runtime", order::restart(self, id, order)).await
    }

    pub(super) async fn stop(&self, id: &str, order: &Order) -> Done {
        settle::within(order, "the container runtime", order::stop(self, id, order)).await
    }
}
